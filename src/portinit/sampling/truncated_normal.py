"""The truncated normal: the words whose quantile lies within the bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from portinit.arrays.dtypes import Format, float_format
from portinit.random.integers import to_fixed
from portinit.sampling.distributions import Distribution, Normal, check_finite, check_non_negative
from portinit.sampling.quantile import FRACTION_BITS, rank
from portinit.sampling.transform import Transform, affine_fields, at_least, at_most, flushed


@dataclass(frozen=True)
class TruncatedNormal(Distribution):
    """N(loc, scale^2) conditioned on [a, b]; the bounds are absolute."""

    loc: float
    scale: float
    a: float
    b: float

    def __post_init__(self) -> None:
        check_finite(mean=self.loc)
        check_non_negative(std=self.scale)
        if math.isnan(self.a) or math.isnan(self.b) or self.a > self.b:
            raise ValueError(f"a must be at most b, got a={self.a}, b={self.b}")

    def check(self, fmt: Format) -> None:
        if max(self.a, -self.b) > fmt.largest:
            raise ValueError(
                f"bounds must let numbers within {fmt.largest:g} through for {fmt.name}, "
                f"got a={self.a}, b={self.b}"
            )
        Normal(self.loc, self.scale).check(float_format(fmt.work))
        if self.scale and self.a < self.b:
            low, high = _ranks(*self._bounds, fmt.bits)
            if high - low < 1 << 8:
                raise ValueError(
                    f"the bounds must hold at least 2**-{fmt.bits - 8} of the distribution, got "
                    f"a={self.a}, b={self.b} for mean={self.loc}, std={self.scale}"
                )

    @property
    def _bounds(self) -> tuple[float, float]:
        return (self.a - self.loc) / self.scale, (self.b - self.loc) / self.scale

    def _moments(self) -> tuple[float, float]:
        low, high = self._bounds
        if low > 0:  # far above the mean differences of probabilities near 1 would cancel
            first, variance = replace(self, loc=0.0, scale=1.0, a=-high, b=-low)._moments()
            return -first, variance
        mass = _cdf(high) - _cdf(low)
        if mass <= 0:  # beyond what doubles can tell apart: all at the nearer bound
            return min(max(0.0, low), high), 0.0
        first = (_pdf(low) - _pdf(high)) / mass
        second = 1 + (_edge(low) - _edge(high)) / mass
        return first, second - first**2

    @property
    def mean(self) -> float:
        return self.loc + self.scale * self._moments()[0] if self.scale else self.loc

    @property
    def std(self) -> float:
        return self.scale * math.sqrt(self._moments()[1]) if self.scale else 0.0

    def scaled(self, factor: float) -> TruncatedNormal:
        if factor == 0:
            return TruncatedNormal(0.0, 0.0, 0.0, 0.0)
        low, high = sorted((self.a * factor, self.b * factor))
        return replace(self, loc=self.loc * factor, scale=self.scale * abs(factor), a=low, b=high)

    def complex_parts(self) -> tuple[TruncatedNormal, TruncatedNormal]:
        if self.loc:
            raise TypeError(f"a complex truncated normal must have mean 0, got {self.loc}")
        part = self.scaled(math.sqrt(0.5))
        return part, part

    def transform(self, fmt: Format) -> Transform | float:
        if self.scale == 0:
            return min(max(self.loc, self.a), self.b)
        low, high = at_least(self.a, fmt), at_most(self.b, fmt)
        if low > high:  # no number of the format lies between
            return flushed(min(max(self.loc, self.a), self.b), fmt)
        first, stop = _ranks(*self._bounds, fmt.bits)
        span = None if stop - first == 1 << fmt.bits else (stop - first, first)
        last = affine_fields(self.loc, self.scale, fmt)
        return Transform(span=span, quantile=True, **last, low=low, high=high)


@lru_cache(maxsize=1024)
def _ranks(low: float, high: float, bits: int) -> tuple[int, int]:
    """The words whose quantile lies in [low, high]: a half-open range, never empty."""
    fraction = FRACTION_BITS[bits]
    limit = 16.0
    first = rank(to_fixed(max(-limit, min(low, limit)), fraction), bits)
    last = rank(to_fixed(max(-limit, min(high, limit)), fraction) + 1, bits)
    top = (1 << (bits - 1)) - 1
    first = min(first, top)
    return first, max(last, first + 1)


def _cdf(z: float) -> float:
    return math.erfc(-z / math.sqrt(2)) / 2


def _pdf(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _edge(z: float) -> float:
    return 0.0 if math.isinf(z) else z * _pdf(z)
