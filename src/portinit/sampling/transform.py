"""From a word to a value: integer steps, one conversion, one multiplication, bounds.

A distribution says which steps its draws take. Here they are taken in array operations, for any
namespace; :mod:`portinit.backends.kernels` takes the same steps in one compiled pass.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from portinit.arrays.dtypes import Format
from portinit.random.integers import binary_point, mulhi_signed, scale_rank, to_fixed
from portinit.sampling.log2 import log2_fixed
from portinit.sampling.quantile import FRACTION_BITS
from portinit.sampling.quantile import quantile as normal_quantile

Quantile = Callable[[Any, Any, int], Any]
"""The normal quantile of a namespace's words of so many bits, as :func:`quantile` gives it."""

_SMALLEST = {32: 2.0**-126, 64: 2.0**-1022}


@dataclass(frozen=True)
class Transform:
    """What is done to a word, in the order of the attributes; what is absent is not done.

    Attributes:
        span: (count, first): the word is scaled to a rank in first, ..., first + count - 1.
        log2: 1 or -1: the integer becomes plus or minus its logarithm to base 2, in fixed point.
        quantile: whether the integer is a rank whose normal quantile is taken, in fixed point.
        factor: the integer becomes the high half of its product with this.
        shift: low bits that are dropped.
        offset: added then.
        scale: what the integer, converted to floating point, is multiplied by.
        low: the smallest value that is let through; none if infinite.
        high: the largest.
    """

    scale: float
    span: tuple[int, int] | None = None
    quantile: bool = False
    factor: int | None = None
    shift: int = 0
    offset: int = 0
    low: float = -math.inf
    high: float = math.inf
    log2: int = 0

    def apply(self, xp: Any, words: Any, fmt: Format, quantile: Quantile = normal_quantile) -> Any:
        """Values in ``fmt.work`` of an array of words; a backend may have its own quantile."""
        x = self.integers(xp, words, fmt.bits, quantile)
        with np.errstate(over="ignore"):  # what overflows is out of bounds
            values = xp.astype(x, getattr(xp, fmt.work)) * rounded(self.scale, fmt)
        return xp.clip(values, self.low, self.high) if self.is_bounded else values

    @property
    def is_bounded(self) -> bool:
        """Whether values are clipped at the end."""
        return not (math.isinf(self.low) and math.isinf(self.high))

    def integers(self, xp: Any, words: Any, bits: int, quantile: Quantile = normal_quantile) -> Any:
        """The words' integers, before they are converted and multiplied."""
        x = words
        if self.span is not None:
            x = scale_rank(x, *self.span, bits)
        if self.log2:
            x = log2_fixed(xp, x, bits)
            x = -x if self.log2 < 0 else x
        if self.quantile:
            x = quantile(xp, x, bits)
        if self.factor is not None:
            x = mulhi_signed(x, self.factor, bits)
        if self.shift:
            x = x >> self.shift
        return x + self.offset if self.offset else x


def rounded(value: float, fmt: Format) -> float:
    """A constant in the arithmetic that samples are computed in."""
    return float(np.float32(value)) if fmt.bits == 32 else value


def is_normal(scale: float, fmt: Format) -> bool:
    """Whether a machine that flushes denormal numbers keeps the constant."""
    return abs(scale) >= _SMALLEST[fmt.bits]


def at_least(value: float, fmt: Format) -> float:
    """The smallest number of the format from ``value`` on that no machine flushes to zero."""
    smallest = _SMALLEST[fmt.bits]
    if abs(value) < smallest:
        return smallest if value > 0 else 0.0
    return max(fmt.ceil(value), -fmt.largest) + 0.0  # minus zero becomes zero


def at_most(value: float, fmt: Format) -> float:
    """The largest number of the format up to ``value`` that no machine flushes to zero."""
    return 0.0 - at_least(-value, fmt)  # and not minus zero


def flushed(value: float, fmt: Format) -> float:
    """The value, or zero where a machine might flush it."""
    return value if is_normal(value, fmt) else 0.0


def affine_fields(loc: float, scale: float, fmt: Format) -> dict[str, Any]:
    """The last steps of loc + scale * z for a fixed-point quantile z, rounded once."""
    fraction = FRACTION_BITS[fmt.bits]
    step = math.ldexp(scale, -fraction)
    if loc == 0 and is_normal(step, fmt):
        return {"scale": step}
    reach = abs(loc) + 16 * scale
    point = binary_point(reach if math.isfinite(reach) else sys.float_info.max, fmt.bits)
    factor = to_fixed(scale, point + fmt.bits - fraction)
    return {"scale": 2.0**-point, "factor": factor, "offset": to_fixed(loc, point)}
