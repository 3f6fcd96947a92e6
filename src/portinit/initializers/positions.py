"""Tables of positions that are computed, not drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Shape
from portinit.backends.plan import Hosted, Plan
from portinit.initializers.assigned import times
from portinit.initializers.base import Initializer
from portinit.initializers.matrices import require_dimensions
from portinit.initializers.numbers import as_int, set_floats

Array = np.ndarray[Any, Any]


def _set_longest(table: sinusoids | sinusoids_2d) -> None:
    set_floats(table, "longest")
    if not 1 < table.longest < math.inf:
        raise ValueError(f"longest must be a finite number above 1, got {table.longest}")


@dataclass(frozen=True)
class sinusoids(Initializer):
    """A table of sinusoidal positions: sines in the first half of the columns, cosines behind.

    Row p has sin(p w_i) in column i and cos(p w_i) in column i + width / 2, where the frequencies
    w_i fall from 1 to 1 / longest in equal ratios.

    Args:
        longest: the wavelength of the last frequency over that of the first, above 1.

    Raises:
        ValueError: a shape of other than 2 axes, a width that is odd or below 4, or a ratio that is
            not finite or not above 1.

    Source: Vaswani et al., "Attention is all you need", NeurIPS 2017, section 3.5, in the order of
    Radford et al., "Robust speech recognition via large-scale weak supervision", 2022 (Whisper).

    >>> import portinit
    >>> portinit.sinusoids()(portinit.key(0), (2, 4))[1].round(4).tolist()
    [0.8414999842643738, 9.999999747378752e-05, 0.5403000116348267, 1.0]
    """

    longest: float = 10_000.0
    default_layout: ClassVar[str] = "rows"

    def __post_init__(self) -> None:
        _set_longest(self)

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        float_format(dtype)
        require_dimensions("sinusoids", grid.shape, (2,))
        if grid.shape[1] % 2 or grid.shape[1] < 4:
            raise ValueError(f"sinusoids need an even width of 4 or more, got {grid.shape}")
        return Hosted(_sinusoids, (*grid.shape, self.longest, factor))


def _sinusoids(rows: int, width: int, longest: float, factor: float) -> Array:
    half = width // 2
    frequencies = np.exp(-math.log(longest) / (half - 1) * np.arange(half))
    angles = np.arange(rows)[:, None] * frequencies
    return times(np.concatenate([np.sin(angles), np.cos(angles)], axis=1), factor)


@dataclass(frozen=True)
class sinusoids_2d(Initializer):
    """A table of sinusoidal positions of a grid, row by row: of the column, and then of the row.

    Position (y, x) of a grid with c columns is row c y + x of the table. Of its d features the
    first half speaks of x, the second of y, and each half has sines and then cosines of the
    frequencies w_i = longest^(-4 i / d), 0 <= i < d / 4.

    Args:
        longest: the wavelength of the lowest frequency is nearly ``longest`` times that of the
            highest; above 1.
        columns: c, 1 or more; None means a square grid.

    Raises:
        ValueError: a shape other than (positions, d) or (1, positions, d), d that 4 does not
            divide, positions that make no grid, or a ``longest`` that is not finite or not above 1.

    Source: Chen, Xie, He, "An empirical study of training self-supervised vision transformers"
    (MoCo v3), ICCV 2021, in the order of MAE's and DiT's code.

    >>> import portinit
    >>> portinit.sinusoids_2d()(portinit.key(0), (4, 4))[1].round(4).tolist()  # y = 0, x = 1
    [0.8414999842643738, 0.5403000116348267, 0.0, 1.0]
    """

    longest: float = 10_000.0
    columns: int | None = None
    default_layout: ClassVar[str] = "rows"

    def __post_init__(self) -> None:
        _set_longest(self)
        if self.columns is not None:
            object.__setattr__(self, "columns", as_int("columns", self.columns))
            if self.columns < 1:
                raise ValueError(f"columns must be 1 or more, got {self.columns}")

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        float_format(dtype)
        require_dimensions("sinusoids_2d", grid.shape, (2, 3))
        *first, positions, width = grid.shape
        if first not in ([], [1]) or width % 4 or not width:
            raise ValueError(
                "sinusoids_2d need the shape (positions, d) or (1, positions, d), d a multiple of "
                f"4; got {grid.shape}"
            )
        columns = math.isqrt(positions) if self.columns is None else self.columns
        rows = columns if self.columns is None else positions // columns
        if rows * columns != positions:
            number = "a square number" if self.columns is None else f"a multiple of {columns}"
            raise ValueError(f"sinusoids_2d need {number} of positions, got {grid.shape}")
        return Hosted(_sinusoids_2d, (grid.shape, columns, self.longest, factor))


def _sinusoids_2d(shape: Shape, columns: int, longest: float, factor: float) -> Array:
    rows, quarter = np.arange(shape[-2]), shape[-1] // 4
    frequencies = longest ** -(np.arange(quarter) / quarter)
    angles = [axis[:, None] * frequencies for axis in (rows % columns, rows // columns)]
    halves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return times(np.concatenate(halves, axis=1).reshape(shape), factor)
