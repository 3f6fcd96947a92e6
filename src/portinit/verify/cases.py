"""The cases of the matrix: initializers, dtypes and layouts, and what each cell promises."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import portinit
from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout, Shape, as_layout
from portinit.initializers.base import Initializer
from portinit.random.keys import Key
from portinit.verify.table import (
    CONVOLUTIONS,
    FACTORED_CONVOLUTIONS,
    FACTORED_MATRICES,
    IN_EVERY_LAYOUT,
    MATRICES,
    PLAIN,
    SCHEMES,
)

DTYPES = (
    "float32",
    "float64",
    "bfloat16",
    "float16",
    "float8_e4m3fn",
    "float8_e5m2",
    "complex64",
    "complex128",
)
HEADS = Layout(axis0=(1, 2), axis1=(0,))
"""An attention kernel, (inputs, heads, size): PyTorch's axis 0 is two of the array's axes."""

LAYOUTS: dict[str, Layout | str] = {
    **{name: name for name in ("flax", "torch", "rows", "flax_conv_transpose")},
    "heads": HEADS,
}
TOLERANCE = 1e-6
"""Of cells that do not promise bits. In formats narrower than float32: one unit in the last."""


@dataclass(frozen=True)
class Cell:
    """One initializer in one dtype and one layout.

    Attributes:
        case: the initializer's name in the table.
        initializer: what is called.
        shape: the array's shape.
        dtype: the dtype's name.
        layout: the layout's name in :data:`LAYOUTS`.
    """

    case: str
    initializer: Initializer
    shape: Shape
    dtype: str
    layout: str

    def __str__(self) -> str:
        return f"{self.case}, {self.dtype}, {self.layout}"

    @property
    def bits(self) -> bool:
        """Whether equal bits are promised, and not a tolerance."""
        return not _factors(self.initializer)

    @property
    def refusal(self) -> str | None:
        """Why the initializer is not defined here, in its own words; none if it is."""
        grid = Grid.whole(self.shape, as_layout(LAYOUTS[self.layout]))
        try:
            self.initializer.planned(grid, self.dtype)
        except (TypeError, ValueError) as error:
            return str(error)
        return None

    @property
    def narrow(self) -> bool:
        """Whether the tolerance is a unit in the last place of the format."""
        return float_format(self.dtype).precision < 24


def _factors(initializer: Initializer) -> bool:
    kinds = portinit.orthogonal | portinit.delta_orthogonal
    return isinstance(initializer, kinds) or any(map(_factors, initializer.parts()))


ROOT, PARAMETER = portinit.key(0xC0FFEE), "layers.0.weight"
"""The key of a model and the name of its parameter that the matrix's cells are."""


def key(number: int = 0) -> Key:
    """The key of the matrix's cells; others where a mode draws for several keys at once."""
    first = ROOT.fold_in(PARAMETER)
    return first.fold_in(number) if number else first


@cache
def cells() -> tuple[Cell, ...]:
    """All cells, those that are not defined among them."""
    return tuple(_cells())


def _cells() -> Iterator[Cell]:
    for table, logical in _FAMILIES:
        for case, initializer in table.items():
            for layout in LAYOUTS if case in IN_EVERY_LAYOUT else ("flax",):
                shape = array_shape(layout, logical)
                yield from (Cell(case, initializer, shape, dtype, layout) for dtype in DTYPES)


_FAMILIES: tuple[tuple[dict[str, Initializer], Shape], ...] = (
    (PLAIN | SCHEMES, (66, 61)),
    (MATRICES | FACTORED_MATRICES, (48, 60)),
    (CONVOLUTIONS | FACTORED_CONVOLUTIONS, (16, 12, 5, 3)),
)


def array_shape(layout: str, logical: Shape) -> Shape:
    """The shape in a layout of the matrix's own parameters, by their shape in PyTorch."""
    first, second, *rest = logical
    if layout == "flax":
        return (*rest, second, first)
    if layout == "flax_conv_transpose":
        return (*rest, first, second)
    if layout == "heads":
        heads = math.gcd(first, 12)
        return (second, heads, first // heads, *rest)
    return logical
