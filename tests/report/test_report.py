"""portinit report: what the page holds, and that it stands alone."""

import importlib
import math
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import keras
import mlx.core
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from flax import linen
from torch import nn

import portinit
from portinit.cli.commands import portinit as command_line
from portinit.probes.measured import ProbedParameter
from portinit.probes.moments import Histogram, Moments
from portinit.report import page, study
from portinit.report.figures import _density, histogram, stds_by_layer
from portinit.report.seeding import seeded
from portinit.sampling.distributions import Normal, Uniform
from portinit.sampling.truncated_normal import TruncatedNormal

INPUTS = np.random.default_rng(0).standard_normal((16, 32)).astype(np.float32)
VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}


def chain(depth=12):
    torch.manual_seed(0)
    layers = [nn.Linear(32, 32) for _ in range(depth)]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))


class Page(HTMLParser):
    """The elements of a page; every tag must be closed, in its order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open = [], {}, []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def found():
    return study(chain, INPUTS, title="a <b> & c", against=["kaiming", "unit", "xavier"])


@pytest.fixture(scope="module")
def text(found):
    return page(found)


@pytest.fixture(scope="module")
def parsed(text):
    return Page(text)


def test_the_page_loads_nothing(text, parsed):
    for tag, attributes in parsed.elements:
        for name, value in attributes.items():
            if name in ("href", "src", "srcset", "data", "action", "xlink:href"):
                assert value.startswith("#"), (tag, name, value)
    assert not {"script", "link", "iframe", "img", "object"} & {t for t, _ in parsed.elements}
    assert not re.search(r"https?:|@import|url\((?!#)", text)


def test_the_page_is_the_same_each_time(found, text):
    assert page(found) == text


def test_the_page_is_accessible(parsed):
    assert parsed.all("html") == [{"lang": "en"}]
    assert parsed.texts["title"] == ["Initialisation of a <b> & c"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in parsed.all(
        "meta"
    )
    assert len(parsed.all("h1")) == 1
    for picture in parsed.all("svg"):
        assert picture["role"] == "img"
        assert picture["aria-label"]
        assert "viewbox" in picture
        assert "width" not in picture
    assert all("scope" in heading for heading in parsed.all("th"))
    ids = [attributes["id"] for _, attributes in parsed.elements if attributes.get("id")]
    assert len({*ids}) == len(ids)
    named = {attributes.get("aria-labelledby") for _, attributes in parsed.elements} - {None}
    assert named <= {*ids}


def test_pictures_take_their_colours_from_the_page(text):
    style = text[text.index("<style>") : text.index("</style>")]
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert not re.search(r"(?:fill|stroke): ?#|color: ?#", svg)
        for variable in re.findall(r"var\((--[\w-]+)\)", svg):
            # Once for light and once for dark.
            assert style.count(f"{variable}:") == 2, variable


def test_a_title_is_escaped(text):
    assert "<b> &" not in text
    assert "a &lt;b&gt; &amp; c" in text


def test_each_initialisation_has_its_verdict(found, text, parsed):
    cards = [a["class"].split() for a in parsed.all("article")]
    grades = [card[1] for card in cards if card[0] == "card"]
    assert grades == ["warn", "good", "bad", "good"]  # 6^(-12/2) is what is left of gradients
    assert [column.name for column in found.columns] == ["own", "kaiming", "unit", "xavier"]
    for problem in found.columns[2].found.problems:
        assert str(problem) in text
    head = text[: text.index('id="signals"')]
    assert "activations explode at layer" in head  # at the top


def test_the_table_has_the_probes_numbers(found, text):
    rows = re.findall(r"<tr>\s*<td class=\"dim wide\">(\d+)</td>(.*?)</tr>", text, re.DOTALL)
    assert [int(place) for place, _ in rows] == [*range(1, 25)]
    cells = re.findall(r"<td class=\"num[^>]*>([^<]*)", rows[0][1])
    first = [column.found.layers[0] for column in found.columns]
    wanted = [layer.std for layer in first] + [layer.gradient_std for layer in first]
    assert [float(cell) for cell in cells] == [pytest.approx(x, rel=0.006) for x in wanted]


def test_own_values_are_those_of_torchs_seed(found):
    torch.manual_seed(0)
    own = portinit.probe(chain(), INPUTS)
    assert found.own.layers == own.layers
    assert found.own.parameters[0].expected_std == pytest.approx(1 / np.sqrt(32 * 3))
    assert found.promise == "a trace of the model's constructor"


def test_alternatives_are_drawn_by_their_schemes(found):
    kaiming, unit, xavier = (column.found.parameters[0] for column in found.columns[1:])
    assert kaiming.expected_std == pytest.approx(np.sqrt(2 / 32))
    assert unit.expected_std == 1
    assert xavier.expected_std == pytest.approx(np.sqrt(2 / 64))
    assert all(not column.found.parameters[1].values.mean for column in found.columns[1:])


def test_an_alternative_that_does_not_fit_says_why():
    partial = portinit.Recipe([("0.weight", portinit.normal())])
    shown = study(lambda: chain(1), INPUTS, title="x", against={"partial": partial})
    assert shown.columns[1].found is None
    assert "0.bias (32,): no rule matches it" in page(shown)
    with pytest.raises(portinit.RecipeError, match="no rule matches"):
        study(lambda: chain(1), INPUTS, title="x", recipe=("partial", partial))


def test_a_constructor_that_cannot_be_traced_has_no_promise():
    def build():
        return chain(1 + int(1e6 * float(torch.rand(()))) % 97)

    shown = study(build, INPUTS, title="x", against=[])
    assert "cannot be traced" in shown.promise
    assert shown.own.parameters[0].law is None
    assert "nothing expected" in page(shown)


def test_many_layers_make_a_small_page():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    inputs = INPUTS.reshape(4, 4, 32)
    shown = study(lambda: nn.TransformerEncoder(layer, 12), inputs, title="x", against=["kaiming"])
    text = page(shown)
    assert len(shown.own.parameters) == 144
    assert len(text) < 1_500_000
    parsed = Page(text)
    groups = [a for a in parsed.all("details") if a.get("class") == "many"]
    assert len(groups) == 6  # of twelve histograms each; the constants are in a list
    assert not any("open" in group for group in groups)


def scaled_chain(factor: float, depth: int = 30) -> nn.Module:
    """Layers that each multiply the std by a factor."""
    layers = [nn.Linear(32, 32, bias=False) for _ in range(depth)]
    for layer in layers:
        layer.weight = nn.Parameter(factor * nn.init.orthogonal_(torch.empty(32, 32)))
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("factor", "grade", "verdict", "sentence"),
    [
        (1.0, "good", "steady", "Activations and gradients keep their size through all 30 layers"),
        (0.7, "warn", "fades", "Activations fade from a std of 0."),
        (1.5, "warn", "grows", "Activations grow from a std of 1."),
        (1.8, "bad", "explodes", "Activations explode at layer 24"),
        (0.5, "warn", "vanishes", "Activations vanish at layer 20"),
    ],
)
def test_a_report_opens_with_its_verdict(factor, grade, verdict, sentence):
    text = page(study(lambda: scaled_chain(factor), INPUTS, title="x", against=[]))
    opening = re.search(r'<p class="sentence (\w+)">([^<]*)', text)
    assert opening[1] == grade
    assert opening[2].startswith(sentence)
    card = re.search(r'<article class="card (\w+)">.*?<p class="badge">. ([^<]*)', text, re.DOTALL)
    assert (card[1], card[2].strip()) == (grade, verdict)


def test_a_histogram_shows_its_values_and_not_bounds_that_are_far_away():
    values = 0.02 * np.random.default_rng(0).standard_normal(4000)
    x, _ = _density(TruncatedNormal(0.0, 0.02, -2.0, 2.0), np.histogram_bin_edges(values, 32))
    assert -0.1 < x.min() < x.max() < 0.1


# Flax


def test_flaxs_defaults_are_promised_where_they_fit():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Dense(64, name="usual")(x)
            return linen.Dense(64, kernel_init=linen.initializers.normal(3.0), name="own")(x)

    shown = study(Net, INPUTS, title="x", against=["kaiming"])
    laws = {p.name: p.expected_std for p in shown.own.parameters}
    assert laws["usual/kernel"] == pytest.approx(1 / np.sqrt(32))
    assert laws["own/kernel"] is None
    assert shown.columns[1].found.parameters[1].expected_std == pytest.approx(np.sqrt(2 / 32))
    assert "input float32 16 x 32" in page(shown)


# Pictures


@pytest.mark.parametrize(
    "law", [Normal(1.0, 0.5), Uniform(-2.0, 3.0), TruncatedNormal(0.0, 1.0, -1.0, 2.0)]
)
def test_the_density_drawn_has_an_area_of_one(law):
    x, y = _density(law, np.array([law.mean - 0.1, law.mean + 0.1]))
    assert np.trapezoid(y, x) == pytest.approx(1.0, abs=2e-3)
    if not isinstance(law, Normal):
        assert y[0] == y[-1] == 0  # it drops where its bounds are


def parameter(values, law=None):
    return ProbedParameter(
        "w", values.shape, Moments.of(values), None, Histogram.of(values), "", law
    )


def test_bars_and_density_have_one_scale():
    values = np.random.default_rng(0).standard_normal(4000)
    svg = histogram(parameter(values, Normal(0.0, 1.0)), "both")
    bars, line = (
        np.array(re.findall(r"([\d.]+) ([\d.]+)", path), dtype=float)[:, 1]
        for colour in ("fill: var(--bars)", "stroke: var(--ink)")
        for path in re.findall(rf'<path d="([^"]*)"[^>]*{re.escape(colour)}', svg)
    )
    base = bars.max()  # y points down
    counts, edges = np.histogram(values, bins=32)
    highest = counts.max() / (4000 * (edges[1] - edges[0]))
    ratio = (base - bars.min()) / (base - line.min())
    assert ratio == pytest.approx(highest * np.sqrt(2 * np.pi), rel=0.01)


def test_an_overflow_is_marked_where_it_happens():
    forward = stds_by_layer([[1.0, 1e20, float("inf"), float("nan")]], "forward")
    backward = stds_by_layer([[None, float("nan"), 1e20, 1.0]], "backward")
    steady = stds_by_layer([[1.0, 1.0, 1.0, 0.0]], "steady")
    assert [picture.count("var(--bad)") > 0 for picture in (forward, backward, steady)] == [
        True,
        True,
        False,
    ]


# The command


def run(*arguments):
    return CliRunner().invoke(command_line, ["report", *arguments])


def test_the_command_writes_a_page(tmp_path):
    out = tmp_path / "page.html"
    factory = "portinit_examples.gpt_torch:make_model"
    result = run(factory, "--recipe", "gpt2:layers=2", "--against", "unit", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert result.output.endswith(f"wrote {out}\n")
    text = out.read_text("utf-8")
    assert "the recipe gpt2:layers=2" in text
    assert Page(text).all("article")[0]["class"] == "card good"


def test_the_command_names_problems(tmp_path):
    source = """
import torch

def make():
    return torch.nn.Sequential(*[torch.nn.Linear(9, 9) for _ in range(30)])

def given():
    return torch.ones(4, 9)
"""
    (tmp_path / "deep.py").write_text(source, "utf-8")
    target, given = f"{tmp_path}/deep.py:make", f"{tmp_path}/deep.py:given"
    out = str(tmp_path / "page.html")
    result = run(target, "--input", given, "--against", "unit", "--out", out)
    assert result.exit_code == 0, result.output
    assert "unit: activations explode at layer" in result.output
    result = run(target, "--out", out)
    assert result.exit_code == 1
    assert "needs an example input" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "kaimng"], "one of"),
        (["--out", "nowhere/page.html"], "no folder"),
        (["--recipe", "gpt2:layers=0"], "layers must be 1 or more"),
        (["--names", __file__], "a table of names must be JSON"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("portinit_examples.convnet_torch:make_model", *arguments)
    assert result.exit_code != 0
    assert message in result.output
    assert not [*Path(tmp_path).iterdir()]


# Other frameworks

OTHERS = {
    "equinox": ("Equinox", "the defaults of Equinox's layers, where they fit", ("conv/weight",)),
    "haiku": ("Haiku", "unknown: Haiku does not say it", ()),
    "mlx": ("MLX", "the defaults of MLX's layers, where they fit", ("conv/weight",)),
}


@pytest.mark.parametrize("framework", OTHERS)
def test_models_of_other_frameworks_have_a_page(framework, tmp_path):
    target = f"tests.cli.twins.patches_{framework}:make_model"
    called, promise, laws = OTHERS[framework]
    out = tmp_path / "report.html"
    done = CliRunner().invoke(command_line, ["report", target, "--out", str(out)])
    assert done.exit_code == 0, done.output
    text = " ".join(out.read_text("utf-8").split())
    assert f"<span>{called}</span>" in text
    assert promise.replace("'", "&#39;") in text
    module = importlib.import_module(f"tests.cli.twins.patches_{framework}")
    found = study(module.make_model, module.example_input(), title="", against=["unit"])
    own, unit = (column.found for column in found.columns)
    known = {p.name: p.law for p in own.parameters if p.law is not None}
    assert {name: laws_width(known[name]) for name in laws} == {
        name: pytest.approx(2 / math.sqrt(27)) for name in laws
    }
    assert bool(known) == bool(laws)
    kernels = [p for p in unit.parameters if p.name in ("conv/weight", "conv/w")]
    assert [p.expected_std for p in kernels] == [1.0]


def laws_width(law):
    return law.b - law.a


def test_a_keras_model_has_a_page():
    def make():
        layers = [keras.layers.Dense(64, "relu"), keras.layers.Dense(64)]
        return keras.Sequential([keras.Input((32,)), *layers])

    found, again = (study(make, INPUTS, title="", against=["unit"], seed=s) for s in (3, 3))
    assert found.framework == "Keras"
    law = {p.name: p.law for p in found.own.parameters}["dense/kernel"]
    assert law.b == pytest.approx(math.sqrt(6 / (32 + 64)))
    assert [p.values for p in found.own.parameters] == [p.values for p in again.own.parameters]


def test_generators_are_as_they_were():
    mlx.core.random.seed(9)
    states = random.getstate(), torch.get_rng_state(), np.asarray(mlx.core.random.state[0]).tolist()
    with seeded(5):
        drawn = random.random(), torch.rand(1), mlx.core.random.normal((1,)).item()
    with seeded(5):
        again = random.random(), torch.rand(1), mlx.core.random.normal((1,)).item()
    assert drawn == again
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert np.asarray(mlx.core.random.state[0]).tolist() == states[2]
