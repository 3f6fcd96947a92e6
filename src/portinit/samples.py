"""Distributions, sampled exactly: integers, then one conversion and one multiplication.

Each distribution turns words into values by a map that increases with the word. No step on the
way rounds differently on two machines: see docs/exactness.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from portinit.bits import signed
from portinit.dtypes import Format
from portinit.fixed import binary_point, mulhi, mulhi_signed, to_fixed
from portinit.quantile import FRACTION_BITS, quantile

_MANTISSA = {32: 24, 64: 53}


@dataclass(frozen=True)
class Distribution:
    """A distribution on the reals, with a way to sample it from words."""

    @property
    def mean(self) -> float:
        """The expected value."""
        raise NotImplementedError

    @property
    def std(self) -> float:
        """The standard deviation."""
        raise NotImplementedError

    def scaled(self, factor: float) -> Distribution:
        """The distribution of ``factor`` times a draw."""
        raise NotImplementedError

    def check(self, fmt: Format) -> None:
        """Raise a ValueError if the format has no room for the distribution."""

    def complex_parts(self) -> tuple[Distribution, Distribution]:
        """The independent real and imaginary parts of a complex draw; as torch defines them."""
        return self, self

    def sample(self, xp: Any, words: Any, fmt: Format) -> Any:
        """Values in ``fmt.work`` that stay within bounds when rounded to ``fmt``."""
        raise NotImplementedError


def check_finite(**arguments: float) -> None:
    """A ValueError for the first argument that is infinite or no number."""
    for name, value in arguments.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value}")


def check_non_negative(**arguments: float) -> None:
    """A ValueError for the first argument that is not finite or below 0."""
    check_finite(**arguments)
    for name, value in arguments.items():
        if value < 0:
            raise ValueError(f"{name} must be 0 or more, got {value}")


def _to_float(xp: Any, integers: Any, scale: float, fmt: Format) -> Any:
    work = getattr(xp, fmt.work)
    return xp.astype(integers, work) * _rounded(scale, fmt)


def _rounded(value: float, fmt: Format) -> float:
    return float(np.float32(value)) if fmt.bits == 32 else value


_SMALLEST = {32: 2.0**-126, 64: 2.0**-1022}
_LARGEST = {32: float(np.finfo(np.float32).max), 64: float(np.finfo(np.float64).max)}


def _is_normal(scale: float, fmt: Format) -> bool:
    return scale == 0 or abs(scale) >= _SMALLEST[fmt.bits]


def normal_bound(value: float, fmt: Format) -> float:
    """A bound that machines which flush denormal numbers compare alike."""
    return value if abs(value) >= _SMALLEST[fmt.bits] else 0.0


@dataclass(frozen=True)
class Constant(Distribution):
    """All the mass at one value."""

    value: float

    @property
    def mean(self) -> float:
        return self.value

    @property
    def std(self) -> float:
        return 0.0

    def scaled(self, factor: float) -> Constant:
        return Constant(self.value * factor)

    def sample(self, xp: Any, words: Any, fmt: Format) -> Any:
        return xp.full_like(words, self.value, dtype=getattr(xp, fmt.work))


@dataclass(frozen=True)
class Uniform(Distribution):
    """U[a, b): ``a`` can be drawn, ``b`` cannot, whatever the dtype rounds to."""

    a: float
    b: float

    def __post_init__(self) -> None:
        check_finite(a=self.a, b=self.b)
        if self.a > self.b:
            raise ValueError(f"a must be at most b, got a={self.a}, b={self.b}")

    def check(self, fmt: Format) -> None:
        if max(abs(self.a), abs(self.b)) > fmt.largest:
            raise ValueError(
                f"bounds must be within {fmt.largest:g} for {fmt.name}, got a={self.a}, b={self.b}"
            )

    @property
    def mean(self) -> float:
        return self.a / 2 + self.b / 2

    @property
    def std(self) -> float:
        return (self.b - self.a) / math.sqrt(12)

    def scaled(self, factor: float) -> Uniform:
        low, high = sorted((self.a * factor, self.b * factor))
        return Uniform(low, high)

    def sample(self, xp: Any, words: Any, fmt: Format) -> Any:
        if self.a == self.b:
            return Constant(self.a).sample(xp, words, fmt)
        x = _to_float(xp, *self._integers(words, fmt), fmt)
        low, high = normal_bound(fmt.ceil(self.a), fmt), normal_bound(fmt.below(self.b), fmt)
        return xp.clip(x, low, high) if low <= high else xp.full_like(x, fmt.floor(self.a))

    def _integers(self, words: Any, fmt: Format) -> tuple[Any, float]:
        mantissa = _MANTISSA[fmt.bits]
        top = words >> (fmt.bits - mantissa)
        if self.a == -self.b and _is_normal(scale := self.b * 2.0 ** (1 - mantissa), fmt):
            return top, scale
        # Signed words increase from -2**(bits-1); the offset makes unsigned ones do so too.
        if self.a == 0 and _is_normal(scale := self.b * 2.0**-mantissa, fmt):
            return top + (1 << (mantissa - 1)), scale
        point = binary_point(max(abs(self.a), abs(self.b)), fmt.bits)
        low, high = to_fixed(self.a, point), to_fixed(self.b, point)
        unsigned = words ^ signed(1 << (fmt.bits - 1), fmt.bits)
        return mulhi(unsigned, high - low, fmt.bits) + low, 2.0**-point


@dataclass(frozen=True)
class Normal(Distribution):
    """N(mean, std^2), given as ``loc`` and ``scale``."""

    loc: float
    scale: float

    def __post_init__(self) -> None:
        check_finite(mean=self.loc)
        check_non_negative(std=self.scale)

    @property
    def mean(self) -> float:
        return self.loc

    @property
    def std(self) -> float:
        return self.scale

    def scaled(self, factor: float) -> Normal:
        # A negative factor mirrors the distribution: the same law, not the negated draws.
        return Normal(self.loc * factor, self.scale * abs(factor))

    def complex_parts(self) -> tuple[Normal, Normal]:
        part = self.scale * math.sqrt(0.5)
        return Normal(self.loc, part), Normal(self.loc, part)

    def sample(self, xp: Any, words: Any, fmt: Format) -> Any:
        if self.scale == 0:
            return Constant(self.loc).sample(xp, words, fmt)
        x = affine(xp, quantile(xp, words, fmt.bits), self.loc, self.scale, fmt)
        largest = _LARGEST[fmt.bits]
        overflows = abs(self.loc) + 10 * self.scale > largest
        return xp.clip(x, -largest, largest) if overflows else x


def affine(xp: Any, z: Any, loc: float, scale: float, fmt: Format) -> Any:
    """Loc + scale * z for a fixed-point z, rounded once."""
    fraction = FRACTION_BITS[fmt.bits]
    step = math.ldexp(scale, -fraction)
    if loc == 0 and _is_normal(step, fmt):
        return _to_float(xp, z, step, fmt)
    point = binary_point(abs(loc) + 16 * scale, fmt.bits)
    factor = to_fixed(scale, point + fmt.bits - fraction)
    return _to_float(xp, mulhi_signed(z, factor, fmt.bits) + to_fixed(loc, point), 2.0**-point, fmt)
