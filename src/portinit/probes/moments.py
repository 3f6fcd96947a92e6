"""Summary statistics of an array: its moments and a histogram."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

MOST_BINS = 48


@dataclass(frozen=True)
class Histogram:
    """How many values lie in each of some bins of equal width.

    Attributes:
        edges: the bins' bounds, one more than there are bins.
        counts: the values in each bin; the last bin holds its upper bound.
    """

    edges: tuple[float, ...] = field(repr=False)
    counts: tuple[int, ...] = field(repr=False)

    @classmethod
    def of(cls, array: Any) -> Self | None:
        """The histogram of the finite values from the least to the greatest; none if all equal.

        There are 2 n^(1/3) bins for n values (Rice's rule), and at most 48.
        """
        x = np.asarray(array).astype(np.float64).reshape(-1)
        x = x[np.isfinite(x)]
        if not x.size or x.min() == x.max():
            return None
        counts, edges = np.histogram(x, bins=min(MOST_BINS, math.ceil(2 * np.cbrt(x.size))))
        return cls(tuple(edges.tolist()), tuple(counts.tolist()))


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of an array, over all its elements, and what is not finite.

    Attributes:
        size: the number of elements.
        mean: the mean; NaN if any element is not finite.
        std: the root of the mean squared distance from the mean; NaN if any element is NaN, and
            inf if any is infinite. Computed in float64: a float32 near its largest has no square.
        zeros: the share of elements that are exactly 0.
        nan: how many elements are NaN.
        inf: how many elements are infinite.
    """

    size: int
    mean: float
    std: float
    zeros: float
    nan: int = 0
    inf: int = 0

    @classmethod
    def of(cls, array: Any) -> Self:
        """The moments of a NumPy array of real numbers, of at least one."""
        x = np.asarray(array).astype(np.float64)
        zeros = float(np.mean(x == 0))
        nan, inf = int(np.isnan(x).sum()), int(np.isinf(x).sum())
        if nan or inf:
            return cls(x.size, math.nan, math.nan if nan else math.inf, zeros, nan, inf)
        return cls(x.size, float(x.mean()), float(x.std()), zeros)

    def to_data(self) -> dict[str, Any]:
        """The moments as JSON-compatible data; numbers that are not finite are null."""
        return {
            "size": self.size,
            "mean": finite(self.mean),
            "std": finite(self.std),
            "zeros": self.zeros,
            "nan": self.nan,
            "inf": self.inf,
        }


def finite(value: float | None) -> float | None:
    """A number that JSON can hold, or none."""
    return value if value is not None and math.isfinite(value) else None
