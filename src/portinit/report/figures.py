"""Pictures as inline SVG that take their colours from the page."""

from __future__ import annotations

import importlib
import io
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portinit.probes.measured import ProbedParameter
from portinit.sampling.distributions import Distribution
from portinit.testing.goodness import scipy_law

# Each colour stands for a variable of the style sheet, so that one picture serves light and dark.
INK, MUTED, GRID, BARS, BAD = "#010101", "#020202", "#030303", "#040404", "#050505"
SERIES = tuple(f"#0600{n:02x}" for n in range(1, 7))
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", BARS: "bars", BAD: "bad"} | {
    colour: f"series-{n}" for n, colour in enumerate(SERIES, 1)
}
MARKERS = ("o", "s", "^", "D", "v", "P")

_STYLE = {
    "svg.fonttype": "none",  # text stays text: it is searched, read aloud and set in the page's
    "font.size": 12,
    "text.color": MUTED,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.bottom": False,
    "ytick.left": False,
    "ytick.minor.left": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "path.simplify": True,
}

Line = Sequence[float | None]


def stds_by_layer(lines: Sequence[Line], label: str, title: str = "std") -> str:
    """The std of a signal at each layer, on a logarithmic axis, a line an initialisation.

    A cross marks where a line overflows; what is exactly 0 is not drawn.

    Args:
        lines: the stds of each initialisation.
        label: what the picture shows, for those who do not see it.
        title: of the axis of stds.
    """
    with _matplotlib().rc_context(_STYLE):
        figure, axes = _figure(5.4, 2.7)
        axes.set_yscale("log")
        for place, line in enumerate(lines):
            _draw_line(axes, line, SERIES[place % 6], MARKERS[place % 6])
        axes.set_xlabel("layer")
        axes.set_ylabel(title)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        _decades(axes)
        return _inline(figure, label)


def _draw_line(axes: Any, line: Line, colour: str, marker: str) -> None:
    y = np.array([math.nan if value is None else value for value in line], dtype=np.float64)
    x = np.arange(1, len(y) + 1)
    drawn = np.isfinite(y) & (y > 0)
    size = 4.0 if len(y) <= 40 else 0.0
    axes.plot(
        x[drawn], y[drawn], color=colour, marker=marker, markersize=size, linewidth=1.6,
        markeredgewidth=0, clip_on=False,
    )  # fmt: skip
    overflown = {i for i, value in enumerate(line) if not (value is None or math.isfinite(value))}
    for place in np.flatnonzero(drawn).tolist():
        for beside in (place - 1, place + 1):
            if beside in overflown:
                axes.plot(
                    [x[beside]], [y[place]], color=BAD, marker="X", markersize=9,
                    markeredgewidth=0, clip_on=False,
                )  # fmt: skip


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _decades(axes: Any) -> None:
    """At most seven ticks, at whole powers of ten, 1 among them; two decades or more in sight."""
    low, high = (math.log10(bound) for bound in axes.get_ylim())
    low, high = min(math.floor(low), -1), max(math.ceil(high), 1)
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if high - low <= 6 * step)
    exponents = range(math.ceil(low / step) * step, high + 1, step)
    axes.set_ylim(10.0**low, 10.0**high)
    axes.set_yticks([10.0**e for e in exponents])
    axes.set_yticks([], minor=True)
    axes.set_yticklabels([_power(e) for e in exponents])
    axes.xaxis.set_major_locator(
        importlib.import_module("matplotlib.ticker").MaxNLocator(6, integer=True)
    )


def _power(exponent: int) -> str:
    plain = {-2: "0.01", -1: "0.1", 0: "1", 1: "10", 2: "100"}
    return plain.get(exponent, "10" + str(exponent).translate(_SUPERSCRIPTS))


def histogram(parameter: ProbedParameter, label: str) -> str:
    """The values of a parameter as a density, and the expected density as a line over it."""
    assert parameter.histogram is not None
    edges, counts = np.array(parameter.histogram.edges), np.array(parameter.histogram.counts)
    width = edges[1] - edges[0]
    with _matplotlib().rc_context(_STYLE):
        figure, axes = _figure(2.3, 1.15)
        axes.stairs(counts / (counts.sum() * width), edges, fill=True, color=BARS, clip_on=False)
        if parameter.law is not None and parameter.law.std:
            axes.plot(*_density(parameter.law, edges), color=INK, linewidth=1.4, clip_on=False)
        axes.spines["left"].set_visible(False)
        axes.set_yticks([])
        axes.set_ylim(bottom=0)
        axes.set_xticks(_round_ticks(*axes.get_xlim()))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:.2g}")
        return _inline(figure, label)


def _density(law: Distribution, edges: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Points of a law's density, as far as all but a thousandth of it or the values reach."""
    frozen = scipy_law(law)
    low, high = (float(x) for x in frozen.ppf([5e-4, 1 - 5e-4]))
    low, high = min(low, edges[0]), max(high, edges[-1])
    # A bound that is far from all values is out of the picture: trunc_normal's, at 100 stds.
    margin = 0.1 * (high - low)
    bounds = [b for b in frozen.support() if low - margin <= b <= high + margin]
    beside = 1e-6 * (high - low)
    steps = [bound + way for bound in bounds for way in (-beside, beside)]
    x = np.unique([*np.linspace(low, high, 81), *steps])  # a step where the density has one
    return x, frozen.pdf(x)


def _round_ticks(low: float, high: float) -> list[float]:
    """0 and a round number on either side, as far as they are in sight; or the two ends."""
    if not low < 0 < high:
        return [low, high]
    reach = _round_down(0.9 * max(-low, high))
    return [tick for tick in (-reach, 0.0, reach) if low <= tick <= high]


def _round_down(x: float) -> float:
    unit = 10.0 ** math.floor(math.log10(x))
    return math.floor(x / unit) * unit


# SVG


def _figure(width: float, height: float) -> tuple[Any, Any]:
    figure = importlib.import_module("matplotlib.figure").Figure((width, height), layout="tight")
    figure.get_layout_engine().set(pad=0.4)
    return figure, figure.add_subplot()


def _matplotlib() -> Any:
    try:
        return importlib.import_module("matplotlib")
    except ImportError as error:
        message = "a report's pictures need matplotlib: pip install 'portinit[report]'"
        raise ImportError(message) from error


def _inline(figure: Any, label: str) -> str:
    """A figure as an element of a page."""
    text = io.StringIO()
    with _matplotlib().rc_context({"svg.hashsalt": label}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    return in_page(text.getvalue(), label)


def in_page(svg: str, label: str) -> str:
    """An SVG of matplotlib's without what only a file needs, in the page's colours and fonts."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r"(\d+\.\d{2})\d+", r"\1", svg)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    for colour, name in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name})")
    size = re.search(r'viewBox="[^"]*"', svg)
    assert size is not None
    opening = f'<svg {size[0]} role="img" aria-label="{_escaped(label)}">'
    return re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1).replace("xlink:href", "href")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
