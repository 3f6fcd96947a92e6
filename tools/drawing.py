"""What the documentation's pictures are drawn with: colours, histograms, matrices and curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

import portinit
from portinit import Initializer
from portinit.testing.goodness import scipy_law

BLUE, ORANGE, GREY = "#3b82c4", "#d9772b", "#767676"
SIGNED = LinearSegmentedColormap.from_list(
    "signed", [(ORANGE, 1.0), (GREY, 0.06), (BLUE, 1.0)]
)  # zero is nearly transparent: it looks the same on any page
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "portinit",
    "font.size": 9,
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"],
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
}
KERNEL = (512, 1024)  # Flax's (in, out)


def plain(axes: Axes) -> None:
    axes.set_yticks([])
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.patch.set_alpha(0.0)


def histogram(initializer: Initializer, limits: tuple[float, float] | None) -> Figure:
    values = initializer(portinit.key(0), KERNEL).ravel()
    density = scipy_law(initializer.distribution_of(KERNEL))
    low, high = density.ppf([1e-5, 1 - 1e-5]) if np.isinf(density.a) else density.support()
    start, stop = limits or (low - (high - low) / 12, high + (high - low) / 12)
    x = np.linspace(start, stop, 401)
    figure = Figure(figsize=(4.5, 1.5), layout="constrained")
    axes = figure.add_subplot()
    plain(axes)
    axes.hist(
        values,
        np.linspace(low, high, 61),
        density=True,
        histtype="stepfilled",
        color=BLUE,
        alpha=0.55,
    )
    axes.plot(x, density.pdf(x), color=ORANGE, linewidth=1.3)
    axes.set_xlim(start, stop)
    axes.set_ylim(0)
    return figure


def heat(axes: Axes, values: np.ndarray[Any, Any], reach: float) -> None:
    axes.imshow(
        values, SIGNED, vmin=-reach, vmax=reach, interpolation="none", aspect="auto", zorder=1
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.patch.set_alpha(0.0)
    axes.spines[:].set_color(GREY)


def curves(
    lines: dict[str, Callable[[float], float]],
    x: Sequence[float],
    label: str,
    ticks: Sequence[float] | None = None,
    log: str = "xy",
) -> Figure:
    """Functions of one variable, each with its name at its end.

    Args:
        lines: functions by their names, the highest at the right end first.
        x: where they are computed.
        label: what x is.
        ticks: the numbers along x; all of x if none are given.
        log: the axes that are logarithmic.
    """
    figure = Figure(figsize=(4.5, 1.8), layout="constrained")
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    axes.spines[["right", "top"]].set_visible(False)
    for axis in log:
        getattr(axes, f"set_{axis}scale")("log")
    drawn = {name: [function(value) for value in x] for name, function in lines.items()}
    for (name, y), color in zip(drawn.items(), (BLUE, ORANGE, GREY), strict=False):
        axes.plot(x, y, color=color, linewidth=1.3)
        side = "center" if len(drawn) > 1 and name == list(drawn)[-1] else "bottom"
        end = x[-1], y[-1]
        axes.annotate(f" {name}", end, color=color, va=side, annotation_clip=False)
    axes.set_xlabel(label)
    heights = [value for y in drawn.values() for value in y]
    shown = [min(heights), max(heights)]
    axes.set_xticks(list(ticks or x), [f"{value:g}" for value in ticks or x])
    axes.set_yticks(shown, [f"{value:.3g}" for value in shown])
    axes.minorticks_off()
    axes.set_xlim(x[0], x[-1])
    return figure


def side_by_side(values: dict[str, np.ndarray[Any, Any]]) -> Figure:
    """Matrices with their names, each on its own scale."""
    figure = Figure(figsize=(4.5, 1.7), layout="constrained")
    for axes, (name, matrix_) in zip(
        np.atleast_1d(figure.subplots(1, len(values))), values.items(), strict=True
    ):
        heat(axes, matrix_, np.abs(matrix_).max() or 1.0)
        axes.set_title(name, fontsize=9)
    return figure
