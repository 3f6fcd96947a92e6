"""Distributions, sampled exactly: integers, then one conversion and one multiplication.

Each distribution turns words into values by a map that increases with the word. No step on the
way rounds differently on two machines: see docs/exactness.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from portinit.arrays.dtypes import Format
from portinit.random.integers import binary_point, to_fixed
from portinit.sampling.transform import (
    Transform,
    affine_fields,
    at_least,
    at_most,
    flushed,
    is_normal,
)

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

    def transform(self, fmt: Format) -> Transform | float:
        """The way from a word to a value in ``fmt.work``, or the only value there is.

        The values stay within bounds when they are rounded to ``fmt``.
        """
        raise NotImplementedError

    def sample(self, xp: Any, words: Any, fmt: Format) -> Any:
        """Values in ``fmt.work`` for an array of words."""
        transform = self.transform(fmt)
        if isinstance(transform, Transform):
            return transform.apply(xp, words, fmt)
        return xp.full_like(words, transform, dtype=getattr(xp, fmt.work))


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

    def transform(self, fmt: Format) -> float:
        return self.value


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

    def transform(self, fmt: Format) -> Transform | float:
        if self.a == self.b:
            return self.a
        low, high = at_least(self.a, fmt), at_most(fmt.below(self.b), fmt)
        if low > high:
            return flushed(fmt.floor(self.a), fmt)  # no number of the format lies between
        return Transform(**self._integers(fmt), low=low, high=high)

    def _integers(self, fmt: Format) -> dict[str, Any]:
        mantissa = _MANTISSA[fmt.bits]
        dropped = fmt.bits - mantissa
        if self.a == -self.b and is_normal(scale := self.b * 2.0 ** (1 - mantissa), fmt):
            return {"shift": dropped, "scale": scale}
        if self.a == 0 and is_normal(scale := self.b * 2.0**-mantissa, fmt):
            # Signed words increase from -2**(bits-1); the offset makes unsigned ones do so too.
            return {"shift": dropped, "offset": 1 << (mantissa - 1), "scale": scale}
        point = binary_point(max(abs(self.a), abs(self.b)), fmt.bits)
        low, high = to_fixed(self.a, point), to_fixed(self.b, point)
        return {"span": (high - low, low), "scale": 2.0**-point}


@dataclass(frozen=True)
class Normal(Distribution):
    """N(mean, std^2), given as ``loc`` and ``scale``."""

    loc: float
    scale: float

    def __post_init__(self) -> None:
        check_finite(mean=self.loc)
        check_non_negative(std=self.scale)

    def check(self, fmt: Format) -> None:
        if max(abs(self.loc), self.scale) > fmt.largest:
            raise ValueError(
                f"mean and std must be within {fmt.largest:g} for {fmt.name}, "
                f"got mean={self.loc}, std={self.scale}"
            )

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

    def transform(self, fmt: Format) -> Transform | float:
        if self.scale == 0:
            return self.loc
        largest = fmt.largest  # not infinity, which not every format has
        bound = largest if abs(self.loc) + 10 * self.scale > largest else math.inf
        last = affine_fields(self.loc, self.scale, fmt)
        return Transform(quantile=True, **last, low=-bound, high=bound)
