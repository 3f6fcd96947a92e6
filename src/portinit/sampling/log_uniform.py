"""The logarithm of a uniform number."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from portinit.arrays.dtypes import Format
from portinit.random.integers import binary_point, to_fixed
from portinit.sampling.distributions import Distribution, check_finite
from portinit.sampling.log2 import FRACTION_BITS
from portinit.sampling.transform import Transform


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

    def transform(self, fmt: Format) -> Transform:
        point, fraction = binary_point(self.b, fmt.bits), FRACTION_BITS[fmt.bits]
        sign = -1 if self.factor < 0 else 1  # of integers: no zero gets a sign
        return Transform(
            scale=abs(self.factor) * math.log(2) * 2.0**-fraction,
            span=(to_fixed(self.b - 1, point), 1 << point),
            log2=sign,
            offset=-sign * (point << fraction),
        )
