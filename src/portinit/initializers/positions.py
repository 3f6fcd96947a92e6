"""Tables of positions that are computed, not drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid
from portinit.backends.plan import Hosted, Plan
from portinit.initializers.assigned import times
from portinit.initializers.base import Initializer
from portinit.initializers.matrices import require_dimensions
from portinit.initializers.numbers import set_floats


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
        set_floats(self, "longest")
        if not 1 < self.longest < math.inf:
            raise ValueError(f"longest must be a finite number above 1, got {self.longest}")

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        float_format(dtype)
        require_dimensions("sinusoids", grid.shape, (2,))
        if grid.shape[1] % 2 or grid.shape[1] < 4:
            raise ValueError(f"sinusoids need an even width of 4 or more, got {grid.shape}")
        return Hosted(_sinusoids, (*grid.shape, self.longest, factor))


def _sinusoids(rows: int, width: int, longest: float, factor: float) -> np.ndarray[Any, Any]:
    half = width // 2
    frequencies = np.exp(-math.log(longest) / (half - 1) * np.arange(half))
    angles = np.arange(rows)[:, None] * frequencies
    return times(np.concatenate([np.sin(angles), np.cos(angles)], axis=1), factor)
