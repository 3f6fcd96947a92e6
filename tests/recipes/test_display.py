"""How recipes read in a terminal and in a notebook."""

from html.parser import HTMLParser

import pytest

import portinit
from portinit import Layout, Recipe, Rule
from portinit.recipes.display import SHOWN

RECIPE = Recipe(
    [
        Rule("fc.weight", portinit.xavier_normal(gain=1 / 3), kind="linear", shape=(64, 32)),
        Rule("fc.bias", portinit.zeros, shape=(64,), source="model.py:7"),
        Rule("scale", portinit.ones, Layout(roles="as is"), shape=()),
    ]
)


class Cells(HTMLParser):
    """The text of a page's table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.inside = tag in ("td", "th")
        if self.inside:
            self.found.append("")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.found[-1] += data


def test_a_recipe_prints_as_an_aligned_table():
    lines = str(RECIPE).splitlines()
    wanted = "name of shape initializer layout in Flax std fans written at"
    assert lines[0].split() == wanted.split()
    assert len(lines) == 4
    # sqrt(2 / (64 + 32)) / 3
    assert [lines[1].index(text) for text in ("linear", "64 x 32", "xavier", "0.04811")] == [
        lines[0].index(heading) for heading in ("of", "shape", "initializer", "std")
    ]
    assert "32 in, 64 out" in lines[1]
    assert "model.py:7" in lines[2]
    assert "scalar" in lines[3]


def test_columns_that_say_nothing_are_left_out():
    assert str(Recipe([("*", portinit.zeros)])) == "name  initializer\n*     zeros()"


def test_a_prompt_shows_the_ends_of_a_long_recipe():
    recipe = Recipe([(f"layer{i}", portinit.zeros) for i in range(SHOWN + 7)])
    shown = repr(recipe).splitlines()
    assert shown[0] == f"Recipe of {SHOWN + 7} rules"
    assert len(shown) == 1 + 1 + SHOWN + 1
    assert next(line for line in shown if line.startswith("...")).startswith("... 7 more")
    assert shown[-1].startswith(f"layer{SHOWN + 6} ")
    assert len(str(recipe).splitlines()) == 1 + SHOWN + 7


def test_an_empty_recipe_prints():
    assert repr(Recipe([])) == "Recipe of 0 rules"
    assert str(Recipe([])) == ""


def test_a_notebook_shows_the_same_cells():
    cells = Cells(RECIPE._repr_html_()).found
    headings, *rows = str(RECIPE).splitlines()
    assert " ".join(cells).split() == " ".join([headings, *rows]).split()


def test_html_is_escaped():
    hostile = Recipe([("<script>alert(1)</script>", portinit.zeros)])
    assert "<script>" not in hostile._repr_html_()
    assert "<script>alert(1)</script>" in Cells(hostile._repr_html_()).found


@pytest.mark.parametrize(
    "initializer", [portinit.kaiming_normal(), portinit.blocks((portinit.zeros,))]
)
def test_an_initializer_prints_as_its_call(initializer):
    assert eval(repr(initializer), vars(portinit)) == initializer
