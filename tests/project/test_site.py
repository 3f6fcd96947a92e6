"""The documentation's site: built strictly, complete, in need of no network; and its pictures."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from sphinx.util.inventory import InventoryFile
from tools import make_pictures

import portinit
from portinit import Initializer

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PUBLIC = ["portinit", "portinit.checkpoints", "portinit.testing"]
PUBLIC += ["portinit_torch", "portinit_jax", "portinit_flax", "portinit_keras"]
PUBLIC += ["portinit_equinox", "portinit_haiku", "portinit_mlx"]
NOT_DRAWN = {
    "portinit.initializers.base",
    "portinit.initializers.combinators",
    "portinit.initializers.assigned",
}
"""Where the type of all initializers is, what is made of others, and values from elsewhere."""
OTHER_NAMES = {"zeros_init", "ones_init", "like_jax"}


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-E"]
    command += ["-d", str(target / "doctrees"), str(source), str(target / "html")]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    built = build(DOCS, target)
    assert built.returncode == 0, built.stderr
    return target / "html"


def test_each_page_is_there(site: Path) -> None:
    for page in DOCS.rglob("*.md"):
        assert (site / page.relative_to(DOCS).with_suffix(".html")).exists()


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("[nowhere](missing.md)", "missing"),
        ("[no heading](#missing)", "missing"),
        ("![no picture](missing.svg)", "missing.svg"),
        ("```{eval-rst}\n:func:`portinit.missing`\n```", "portinit.missing"),
    ],
    ids=["page", "heading", "picture", "function"],
)
def test_a_broken_reference_fails_the_build(page: str, complaint: str, tmp_path: Path) -> None:
    shutil.copy(DOCS / "conf.py", tmp_path)
    shutil.copytree(DOCS / "_static", tmp_path / "_static")
    (tmp_path / "index.md").write_text(f"# Title\n\n{page}\n", "utf-8")
    built = build(tmp_path, tmp_path / "built")
    assert built.returncode == 1
    assert complaint in built.stderr


@pytest.mark.parametrize("name", PUBLIC)
def test_the_reference_has_every_public_name(site: Path, name: str) -> None:
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    documented = {entry for entries in inventory.data.values() for entry in entries}
    package = importlib.import_module(name)
    public = {f"{name}.{n}" for n in dir(package) if is_public(n, getattr(package, n))}
    assert public
    assert public <= documented


def is_public(name: str, value: object) -> bool:
    return not name.startswith("_") and not isinstance(value, ModuleType)


def test_a_browser_is_told_the_language(site: Path) -> None:
    assert '<html class="no-js" lang="en"' in (site / "porting.html").read_text("utf-8")
    assert '<html class="no-js" lang="zh-CN"' in (site / "zh" / "porting.html").read_text("utf-8")


def test_chinese_lines_are_joined_without_a_space(site: Path) -> None:
    html = (site / "zh" / "porting.html").read_text("utf-8")
    assert "写出对应的 Flax 模型，给两者同样的权重" in html  # noqa: RUF001
    assert not re.search("[，。：；、]\n", html)  # noqa: RUF001


def test_the_site_needs_no_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        for tag in re.findall(r"<(?:script|link|img)[^>]*>", page.read_text("utf-8")):
            assert not re.search(r"(src|href)=\"(https?:)?//", tag), f"{page.name}: {tag}"


def pictured() -> list[str]:
    """The public initializers by name: classes, their instances, and what makes instances."""
    kinds = (Initializer.__name__, portinit.variance_scaling.__name__)
    return [
        name
        for name, value in vars(portinit).items()
        if name not in OTHER_NAMES
        and getattr(value, "__module__", "") not in NOT_DRAWN
        and (
            isinstance(value, Initializer)
            or (isinstance(value, type) and issubclass(value, Initializer))
            or getattr(value, "__annotations__", {}).get("return") in kinds
        )
    ]


def test_each_initializer_has_its_section_and_its_picture() -> None:
    page = "".join((DOCS / name).read_text("utf-8") for name in ("initializers.md", "schemes.md"))
    assert {"kaiming_normal", "he_normal", "zeros", "sparse"} <= {*pictured()}
    for name in pictured():
        assert re.search(rf"^### {name}\n\n!\[.*\]\(pictures/{name}\.svg\)$", page, re.MULTILINE)
        assert name in make_pictures.DRAWINGS


@pytest.mark.parametrize("name", make_pictures.DRAWINGS)
def test_a_picture_is_what_would_be_drawn_now(name: str, tmp_path: Path) -> None:
    drawn = make_pictures.save(name, tmp_path)
    assert drawn.read_bytes() == (make_pictures.PICTURES / drawn.name).read_bytes()


def test_the_readmes_picture_shows_equal_bits_and_unequal_ones() -> None:
    pairs = make_pictures.pairs((6, 32)).values()
    ours, theirs = ({values.tobytes() for _, values in side} for side in zip(*pairs, strict=True))
    assert len(ours) == 1
    assert len(theirs) == 3
