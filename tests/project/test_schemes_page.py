"""The pages of schemes and of families are complete: nothing public lacks what they promise.

Each scheme has a formula, a source, a picture or the reason for none, and an example in PyTorch
and Flax, which test_docs.py runs. Each family has its reference and its differences.
"""

import inspect
import re
from pathlib import Path

import pytest
from tools import make_pictures

import portinit
from portinit import recipes

DOCS = Path(__file__).parents[2] / "docs"
NOT_A_NAME = {"finer": "uniform", "fourier_features": "normal"}
"""Schemes that are another initializer with particular arguments."""
ON_OTHER_PAGES = {"packed_experts"}  # experts.md
OF_ISOLATED_LAYERS = ("sine", "positions", "state_space", "upsampling", "hadamard")
"""The modules of initializers that are a scheme each."""


def recipes_of(*modules: str) -> set[str]:
    """The public functions of some modules of ready recipes."""
    homes = {f"portinit.recipes.ready.{module}" for module in modules}
    return {
        name
        for name, value in vars(recipes).items()
        if inspect.isfunction(value) and value.__module__ in homes
    }


def schemes() -> set[str]:
    homes = {f"portinit.initializers.{module}" for module in OF_ISOLATED_LAYERS}
    layers = {
        name
        for name in portinit.__all__
        if getattr(getattr(portinit, name), "__module__", "") in homes
    }
    parts = recipes_of("depth", "width", "parts") - ON_OTHER_PAGES
    more = {"dirac", "delta_orthogonal", "gpt2", "irnn", "chrono_lstm"}
    return layers | parts | more | NOT_A_NAME.keys()


SECTION = re.compile(r"^### (\w+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
SECTIONS = dict(SECTION.findall((DOCS / "schemes.md").read_text("utf-8")))


def missing_in(name: str, section: str) -> list[str]:
    """What a scheme's section lacks of what every section has."""
    text = re.sub(r"^```.*?^```$", "", section, flags=re.MULTILINE | re.DOTALL)
    code = "".join(re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))
    formula, _, source = text.partition("Source:")
    picture = re.search(r"^!\[[^\]]{6,}\]\(pictures/(\w+)\.svg\)$", text, re.MULTILINE)
    called = rf"\b(portinit|recipes)\.{NOT_A_NAME.get(name, name)}\("
    has = {
        "a formula": re.search(r"\S (=|~) \S", re.sub(r"`[^`]*`", "", formula)),
        "a source with its year": re.search(r"\b(19|20)\d\d\b", source),
        "a picture, or the reason for none": re.search(r"^No picture: \w.*\.$", text, re.MULTILINE)
        or (picture and picture[1] == name and name in make_pictures.DRAWINGS),
        "an example in PyTorch": re.search(r"portinit_torch\.\w+\(", code),
        "an example in Flax": re.search(r"linen\.\w+\(|portinit_flax\.\w+\(|\(jax_key", code),
        "a call of it": re.search(called, code),
    }
    return [part for part, found in has.items() if not found]


def test_every_scheme_has_its_section() -> None:
    assert schemes() == SECTIONS.keys()
    assert len(SECTIONS) > 25


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_a_section_is_complete(name: str) -> None:
    assert not missing_in(name, SECTIONS[name])


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_the_list_at_the_top_leads_to_every_section(name: str) -> None:
    assert f"[{name}](#{name})" in (DOCS / "schemes.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("part", "without"),
    [
        ("a formula", lambda text: re.sub(r"`siren.*?Source", "Source", text, flags=re.DOTALL)),
        ("a source with its year", lambda text: text.replace("2020", "")),
        ("a picture, or the reason for none", lambda text: text.replace("siren.svg", "hippo.svg")),
        ("an example in PyTorch", lambda text: text.replace("portinit_torch.", "")),
        ("an example in Flax", lambda text: text.replace("linen.", "").replace("jax_key", "key")),
        ("a call of it", lambda text: text.replace("portinit.siren(", "portinit.normal(")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_missing_part_is_seen(part, without) -> None:
    assert missing_in("siren", without(SECTIONS["siren"])) == [part]


# Families


def rows(page: str) -> list[str]:
    return re.findall(r"^\| (.*) \|$", (DOCS / page).read_text("utf-8"), re.MULTILINE)


FAMILIES = sorted(recipes_of("text", "vision", "audio", "diffusion"))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_has_its_rows(name: str) -> None:
    """What it gives, with its arguments; and its reference, with the differences."""
    table = rows("recipes.md")
    assert [row for row in table if re.search(rf"`{name}\(", row) and row.count(" | ") == 1]
    references = [row for row in table if row.count(" | ") == 2 and f"`{name}" in row]
    assert references
    for row in references:
        _, reference, differences = row.split(" | ")
        assert re.search(r"\d|authors|\.py", reference)
        assert differences


def test_every_ready_recipe_is_on_a_page() -> None:
    pages = "".join((DOCS / name).read_text("utf-8") for name in ("recipes.md", "schemes.md"))
    for name, value in vars(recipes).items():
        if inspect.isfunction(value):
            assert f"{name}(" in pages, name
