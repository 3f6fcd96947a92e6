"""Draws docs/pictures/: each initializer's distribution, and the README's picture.

What is shown is drawn by portinit itself. The files are text, the same for the same versions of
portinit and matplotlib, and fit a light and a dark page: no background, colours of middle tone.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

import portinit
import portinit_torch
from portinit import Initializer

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.drawing import BLUE, STYLE, heat, histogram
from tools.scheme_pictures import CURVES, FIGURES

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
DRAWN: dict[str, Initializer] = {
    "uniform": portinit.uniform(),
    "normal": portinit.normal(),
    "trunc_normal": portinit.trunc_normal(a=-1.0, b=2.0),
    "truncated_normal": portinit.truncated_normal(1.0),
}
SCHEMES: dict[str, Initializer] = {
    "xavier_uniform": portinit.xavier_uniform(),
    "xavier_normal": portinit.xavier_normal(),
    "kaiming_uniform": portinit.kaiming_uniform(),
    "kaiming_normal": portinit.kaiming_normal(),
    "variance_scaling": portinit.variance_scaling(1.0, "fan_geo_avg", "truncated_normal"),
    "glorot_uniform": portinit.glorot_uniform(),
    "glorot_normal": portinit.glorot_normal(),
    "lecun_uniform": portinit.lecun_uniform(),
    "lecun_normal": portinit.lecun_normal(),
    "he_uniform": portinit.he_uniform(),
    "he_normal": portinit.he_normal(),
}
"""Shown on one scale, so that they can be compared."""
MATRICES: dict[str, tuple[Initializer, tuple[int, ...]]] = {
    "constant": (portinit.constant(0.5), (12, 36)),
    "zeros": (portinit.zeros, (12, 36)),
    "ones": (portinit.ones, (12, 36)),
    "eye": (portinit.eye(), (12, 36)),
    "dirac": (portinit.dirac(), (12, 12, 3)),
    "orthogonal": (portinit.orthogonal(), (12, 36)),
    "delta_orthogonal": (portinit.delta_orthogonal(), (12, 12, 3)),
    "sparse": (portinit.sparse(0.75, std=1.0), (12, 36)),
    "siren": (portinit.siren(), (12, 36)),
    "spectral": (portinit.spectral(), (12, 36)),
    "hadamard": (portinit.hadamard(), (12, 8, 3)),
    "icnr": (portinit.icnr(portinit.normal(), scale=4), (12, 12, 3)),
    "bilinear_upsampling": (portinit.bilinear_upsampling(), (12, 12, 4)),
    "hippo": (portinit.hippo(), (16, 16)),
    "progression": (portinit.progression(), (12, 36)),
    "mamba_a_log": (portinit.mamba_a_log(), (12, 36)),
    "mamba_dt_bias": (portinit.mamba_dt_bias(), (12, 36)),
    "sinusoids": (portinit.sinusoids(), (36, 36)),
    "sinusoids_2d": (portinit.sinusoids_2d(), (36, 36)),
}
"""Shown element by element, in PyTorch's shape; the taps of a kernel side by side."""


def matrix(initializer: Initializer, shape: tuple[int, ...]) -> Figure:
    values = initializer(portinit.key(0), shape, layout="torch")
    taps = [values] if values.ndim == 2 else list(np.moveaxis(values, -1, 0))
    figure = Figure(figsize=(4.5, 1.5), layout="constrained")
    reach = 1.0 if len(np.unique(values)) < 3 else np.abs(values).max()
    for axes, tap in zip(np.atleast_1d(figure.subplots(1, len(taps))), taps, strict=True):
        heat(axes, tap, reach)
    return figure


def pairs(shape: tuple[int, int]) -> dict[str, list[tuple[str, Any]]]:
    """For each framework a call with portinit's key, one with its own seed, and what they draw."""
    key = portinit.key(0)
    weight = portinit_torch.normal_(torch.empty(shape), key=key)
    torch.manual_seed(0)
    return {
        "NumPy": [
            ("portinit.normal()(key(0), shape)", portinit.normal()(key, shape, layout="torch")),
            ("default_rng(0).normal(size=shape)", np.random.default_rng(0).normal(size=shape)),
        ],
        "PyTorch": [
            ("portinit_torch.normal_(w, key=key(0))", weight.numpy()),
            ("torch.manual_seed(0); torch.randn(shape)", torch.randn(shape).numpy()),
        ],
        "JAX": [
            (
                "portinit.normal()(jax.random.key(0), shape)",
                np.asarray(portinit.normal()(jax.random.key(0), shape, layout="torch")),
            ),
            (
                "jax.random.normal(jax.random.key(0), shape)",
                np.asarray(jax.random.normal(jax.random.key(0), shape)),
            ),
        ],
    }


def readme() -> Figure:
    figure = Figure(figsize=(10.8, 4.3))
    grid = figure.add_gridspec(3, 2, left=0.075, right=0.99, top=0.83, bottom=0.02, hspace=0.45)
    heads = ("portinit: one key, the same bits", "one seed, each framework by itself")
    notes = ("SHA-256", "")
    for row, (name, sides) in enumerate(pairs((6, 32)).items()):
        for column, (call, values) in enumerate(sides):
            axes = figure.add_subplot(grid[row, column])
            heat(axes, values, 2.5)
            axes.set_title(call, loc="left", fontsize=10, family="monospace", pad=5)
            if row == 0:
                axes.text(0, 1.55, heads[column], transform=axes.transAxes, fontsize=16)
                axes.text(1, 1.55, notes[column], transform=axes.transAxes, color=BLUE, ha="right")
            if column == 0:
                digest = hashlib.sha256(values.tobytes()).hexdigest()
                axes.set_title(digest[:8], loc="right", fontsize=10, family="monospace", color=BLUE)
                axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=13)
    return figure


DRAWINGS: dict[str, Callable[[], Figure]] = {
    **{name: lambda i=i: histogram(i, None) for name, i in DRAWN.items()},
    **{name: lambda i=i: histogram(i, (-0.25, 0.25)) for name, i in SCHEMES.items()},
    **{name: lambda row=row: matrix(*row) for name, row in MATRICES.items()},
    **CURVES,
    **FIGURES,
    "readme": readme,
}


def save(name: str, folder: Path) -> Path:
    path = folder / f"{name}.svg"
    with mpl.rc_context(STYLE):
        metadata = {"Date": None, "Creator": None, "Title": name}
        DRAWINGS[name]().savefig(path, transparent=True, metadata=metadata)
    return path


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or DRAWINGS:
        print(save(name, PICTURES))


if __name__ == "__main__":
    main()
