"""The page: what the template shows, as plain values."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from portinit import __version__
from portinit.probes.measured import ProbedLayer
from portinit.probes.result import Probe
from portinit.probes.verdicts import drift
from portinit.recipes.display import in_shape
from portinit.report.figures import stds_by_layer
from portinit.report.parameters import groups
from portinit.report.study import Column, Study
from portinit.report.words import NONE, number


def page(study: Study) -> str:
    """A study as one HTML page, which loads nothing.

    Raises:
        ImportError: Jinja2, matplotlib or SciPy is not installed.
    """
    try:
        jinja2 = importlib.import_module("jinja2")
    except ImportError as error:
        message = "a report's page needs Jinja2: pip install 'portinit[report]'"
        raise ImportError(message) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    markup = importlib.import_module("markupsafe").Markup
    environment.filters["svg"] = markup
    environment.filters["breakable"] = lambda name: markup("<wbr>").join(
        re.split(r"(?<=[./_:])", name)
    )
    cards = [_card(column) for column in study.columns]
    text: str = environment.get_template("page.html").render(
        study=study,
        version=__version__,
        cards=cards,
        sentence=_sentence(cards[0]),
        charts=[*_charts(study)],
        rows=[*_rows(study)],
        groups=[*groups(study.own)],
        count=f"{sum(p.values.size for p in study.own.parameters):,}",
        limit=number(study.own.limit),
    )
    return text


# The verdicts


@dataclass(frozen=True)
class Card:
    """The verdict on one initialisation."""

    column: Column
    grade: str  # "good", "warn" or "bad"
    verdict: str
    facts: tuple[str, ...]
    problems: tuple[str, ...]


_BAD = ("nan", "inf", "exploding")
_WORDS = {
    "nan": "turns NaN",
    "inf": "overflows",
    "exploding": "explodes",
    "vanishing": "vanishes",
    "zero": "has zeros",
    "off": "not as expected",
    "growing": "grows",
    "fading": "fades",
}


def _card(column: Column) -> Card:
    if column.found is None:
        reason = column.reason.splitlines()
        return Card(column, "warn", "does not fit", (), tuple(reason[:6]))
    found = column.found
    drifts = list(_drifts(found))
    kinds = [problem.verdict for problem in found.problems] + [kind for kind, _ in drifts]
    worst = next((kind for kind in _WORDS if kind in kinds), "")
    grade = "bad" if worst in _BAD else "warn" if worst else "good"
    problems = (*map(str, found.problems), *(text for _, text in drifts))
    return Card(column, grade, _WORDS.get(worst, "steady"), tuple(_facts(found)), problems[:8])


def _drifts(found: Probe) -> Iterator[tuple[str, str]]:
    """Signals that fade or grow over all layers with no layer beyond the limit: how, in words."""
    told = {problem.signal for problem in found.problems}
    for name, stds in _signals(found):
        way = stds if name == "activations" else stds[::-1]
        kind = drift(way)
        if kind and name not in told:
            ends = [std for std in way if std and math.isfinite(std)]
            verb = {"fading": "fade", "growing": "grow"}[kind]
            yield (
                kind,
                (
                    f"{name} {verb} from a std of {number(ends[0])} to {number(ends[-1])} over "
                    f"{len(ends)} layers"
                ),
            )


def _sentence(card: Card) -> str:
    """The verdict on the model's own initialisation, in a sentence."""
    found = card.column.found
    if found is None:
        return f"{card.column.name} does not fit the model."
    if card.problems:
        more = len(card.problems) - 1
        rest = (
            ""
            if not more
            else " There is 1 more finding."
            if more == 1
            else (f" There are {more} more findings.")
        )
        return f"{card.problems[0][0].upper()}{card.problems[0][1:]}.{rest}"
    measured = sum(p.law is not None for p in found.parameters)
    drawn = f", and all {measured} parameters with a known distribution are drawn from it"
    return (
        f"Activations and gradients keep their size through all {len(found.layers)} layers"
        f"{drawn if measured else ''}."
    )


def _facts(found: Probe) -> Iterator[str]:
    for name, stds in _signals(found):
        positive = [std for std in stds if std and math.isfinite(std)]
        if positive:
            yield f"{name}: std {number(min(positive))} to {number(max(positive))}"


def _signals(found: Probe) -> tuple[tuple[str, list[float | None]], ...]:
    """The signals of both passes: for each, its name and its std at each layer."""
    return (
        ("activations", [layer.std for layer in found.layers]),
        ("gradients", [layer.gradient_std for layer in found.layers]),
    )


# The pictures by layer


def _charts(study: Study) -> Iterator[tuple[str, str, str]]:
    """Heading, explanation and picture of the two signals."""
    shown = [(column.name, column.found) for column in study.columns if column.found]
    names = ", ".join(name for name, _ in shown)
    texts = (
        "The std of each layer's output, from the first layer to the last.",
        "The std of the gradient at each layer's output; it runs from right to left.",
    )
    for place, (heading, text) in enumerate(zip(("Forward", "Backward"), texts, strict=True)):
        label = f"{heading}: std by layer under {names}; the table below has the numbers"
        lines = [_signals(found)[place][1] for _, found in shown]
        yield heading, text, stds_by_layer(lines, label, f"std of the {_ENDS[place]}")


_ENDS = ("output", "gradient")

# The table


@dataclass(frozen=True)
class SignalCell:
    """A number of the table and what is said of it."""

    text: str
    verdict: str = ""


@dataclass(frozen=True)
class LayerRow:
    """One layer under every initialisation."""

    place: int
    layer: ProbedLayer
    shape: str
    forward: tuple[SignalCell, ...]
    backward: tuple[SignalCell, ...]


def _rows(study: Study) -> Iterator[LayerRow]:
    known = [_by_name(column.found) for column in study.columns]
    for place, layer in enumerate(study.own.layers, 1):
        pairs = [cells.get(layer.name, (SignalCell(NONE), SignalCell(NONE))) for cells in known]
        forward, backward = zip(*pairs, strict=True)
        yield LayerRow(place, layer, in_shape(layer.shape), forward, backward)


def _by_name(found: Probe | None) -> dict[str, tuple[SignalCell, SignalCell]]:
    if found is None:
        return {}
    return {
        layer.name: (
            SignalCell(number(layer.std), forward),
            SignalCell(number(layer.gradient_std), backward),
        )
        for layer, (forward, backward) in zip(found.layers, found.verdicts, strict=True)
    }
