"""Logarithms of uniform numbers, in integers: a value is one conversion and one multiplication."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from portinit.arrays.dtypes import Format
from portinit.random.integers import binary_point, mulhi, to_fixed
from portinit.random.words import signed
from portinit.sampling.distributions import Distribution, check_finite

FRACTION_BITS = {32: 26, 64: 57}
"""Fraction bits of a logarithm to base 2, which is below the number of bits of a word."""


def log2_fixed(xp: Any, n: Any, bits: int) -> Any:
    """log2 of positive integers in fixed point, with ``FRACTION_BITS[bits]`` fraction bits.

    The significand is squared again and again, and each time that it passes 2 it is halved: that
    is the next bit of the logarithm. What a square loses in the word is halved by every later one,
    so the result is exact to its last two bits.

    Args:
        xp: the array's namespace.
        n: int32 or int64 array.
        bits: 32 or 64, the width of the words.
    """
    exponent = xp.full_like(n, bits - 2)
    y = n
    half = bits // 2
    while half:
        small = y < (1 << (bits - 1 - half))
        y = xp.where(small, y << half, y)
        exponent = xp.where(small, exponent - half, exponent)
        half //= 2
    y, log = y << 1, exponent  # y in [1, 2) as unsigned words: their top bit is 1
    for _ in range(FRACTION_BITS[bits]):
        y = mulhi(y, y, bits)
        passed = y < 0
        y = xp.where(passed, y, y << 1)
        log = (log << 1) + xp.astype(passed, log.dtype)
    return log


@dataclass(frozen=True)
class LogUniform(Distribution):
    """``factor`` times the natural logarithm of U[1, b]."""

    b: float
    factor: float = 1.0

    def __post_init__(self) -> None:
        check_finite(b=self.b, factor=self.factor)
        if not 1 <= self.b <= 2.0**24:
            raise ValueError(f"b must be in [1, 2**24], got {self.b}")

    def check(self, fmt: Format) -> None:
        largest = abs(self.factor) * math.log(self.b)
        if largest > fmt.largest:
            raise ValueError(f"values must be within {fmt.largest:g} for {fmt.name}, got {largest}")

    @property
    def mean(self) -> float:
        return self.factor * self._moments()[0]

    @property
    def std(self) -> float:
        first, second = self._moments()
        return abs(self.factor) * math.sqrt(max(0.0, second - first**2))

    def _moments(self) -> tuple[float, float]:
        if self.b == 1:
            return 0.0, 0.0
        log, width = math.log(self.b), self.b - 1
        first = self.b * log / width - 1
        return first, self.b * log**2 / width - 2 * first

    def scaled(self, factor: float) -> LogUniform:
        return replace(self, factor=self.factor * factor)

    def complex_parts(self) -> tuple[Distribution, Distribution]:
        raise TypeError("a logarithm of a uniform number must be real, got a complex dtype")

    def steps(self, fmt: Format) -> None:
        return None

    def sample(self, xp: Any, words: Any, fmt: Format) -> Any:
        point = binary_point(self.b, fmt.bits)
        width = to_fixed(self.b - 1, point)
        # Signed words increase from -2**(bits-1); as unsigned ones they must do so too.
        unsigned = words ^ signed(1 << (fmt.bits - 1), fmt.bits)
        n = mulhi(unsigned, width, fmt.bits) + (1 << point)
        fraction = FRACTION_BITS[fmt.bits]
        log = log2_fixed(xp, n, fmt.bits) - (point << fraction)
        log = -log if self.factor < 0 else log  # of integers: no zero gets a sign
        scale = abs(self.factor) * math.log(2) * 2.0**-fraction
        return xp.astype(log, getattr(xp, fmt.work)) * scale
