"""XLA's arithmetic for random numbers: its roundings, its erf and its inverse erf.

Numbers of a narrower dtype are held in float64 arrays and rounded to the dtype after each step, as
XLA rounds. Where XLA fuses a product and a sum (in float32), the float64 holds the product exactly,
and one rounding follows.

Source: XLA's ``erf`` and ``erf_inv``, the latter after Giles, "Approximating the erfinv function",
GPU Computing Gems, 2011.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from portinit.arrays.dtypes import Format, float_format
from portinit.backends.base import Request
from portinit.random.words import random_words

WORDS = {"float32": (32, 23), "float64": (64, 52), "bfloat16": (8, 7), "float16": (16, 10)}
"""How many of a word's low bits JAX draws a dtype from, and how many of their highest it keeps."""


class Rounding:
    """The arithmetic of one request: float64 arrays of numbers of its dtype."""

    def __init__(self, request: Request) -> None:
        self.request, self.xp, self.dtype = request, request.xp, request.dtype
        self.fmt: Format = float_format(request.dtype)

    def single(self, x: Any) -> Any:
        """Round to float32, in which XLA computes the halves too; float64 stays."""
        if self.dtype == "float64":
            return x
        return self.xp.astype(self.xp.astype(x, self.xp.float32), self.xp.float64)

    def own(self, x: Any) -> Any:
        """Round to the dtype."""
        if self.fmt.precision >= 24:
            return self.single(x)
        single = self.xp.astype(x, self.xp.float32)
        return self.xp.astype(self.request.backend.cast(single, self.dtype), self.xp.float64)

    def host(self, value: float) -> float:
        """Round a number of the host's to the dtype."""
        return rounded(value, self.dtype)

    def result(self, x: Any) -> Any:
        """The values in the dtype, as the request's array."""
        work = self.xp.astype(x, getattr(self.xp, self.fmt.work))
        narrow = self.request.backend.cast(work, self.dtype)
        return self.xp.reshape(narrow, self.request.grid.array_shape)

    def unit(self) -> Any:
        """U[0, 1) at the request's elements: the mantissas of numbers in [1, 2), less 1."""
        width, mantissa = WORDS[self.dtype]
        counters = self.request.grid.counters(self.xp, self.request.device)
        words = random_words(self.xp, self.request.words, counters, max(width, 32))
        kept = (words >> (width - mantissa)) & ((1 << mantissa) - 1)
        return self.xp.astype(kept, self.xp.float64) * 2.0**-mantissa

    def between(self, low: float, high: float) -> Any:
        """``jax.random.uniform(minval, maxval)`` for bounds that are of the dtype."""
        product = self.unit() * self.host(high - low)
        if self.fmt.precision < 24:  # not fused
            product = self.own(product)
        return self.xp.clip(self.own(product + low), low, None)

    def erf_inv(self, x: Any) -> Any:
        """XLA's inverse error function, which is infinite at -1 and 1."""
        xp = self.xp
        inside = xp.where(xp.abs(x) < 1, x, xp.zeros_like(x))
        w = self.single(-xp.log1p(self.single(-inside * inside)))
        value = self._polynomial(w) * inside
        value = xp.where(x == 1, xp.full_like(x, math.inf), value)
        return self.own(xp.where(x == -1, xp.full_like(x, -math.inf), value))

    def _polynomial(self, w: Any) -> Any:
        xp = self.xp
        root = self.single(xp.sqrt(w))
        result = xp.zeros_like(w)
        for piece in _ERF_INV_64 if self.dtype == "float64" else _ERF_INV_32:
            t = self.single((root if piece.of_root else w) - piece.shift)
            p = xp.full_like(w, piece.coefficients[0])
            for coefficient in piece.coefficients[1:]:
                p = self.single(p * t + coefficient)
            result = xp.where(w < piece.limit, p, result)
        return result


def rounded(value: float, dtype: str) -> float:
    """A number rounded to a dtype as ``jax.numpy.array`` rounds it."""
    if dtype == "bfloat16":  # by way of float32
        value = rounded(value, "float32")
    return float_format(dtype).nearest(value)


def erf(x: float, dtype: str) -> float:
    """XLA's error function of a number of the dtype; in float64 the host's own."""
    if dtype == "float64":
        return math.erf(x)
    if abs(x) >= _ERF_IS_ONE:
        return math.copysign(1.0, x)
    square = rounded(x * x, "float32")
    numerator = rounded(x * _horner(square, _ERF_NUMERATOR), "float32")
    return rounded(rounded(numerator / _horner(square, _ERF_DENOMINATOR), "float32"), dtype)


def _horner(x: float, coefficients: Sequence[float]) -> float:
    p = coefficients[0]
    for coefficient in coefficients[1:]:
        p = rounded(p * x + coefficient, "float32")
    return p


class _Piece(NamedTuple):
    """A range of w = -log(1 - x^2): erf_inv(x) = x * polynomial(w or its root, less a shift)."""

    limit: float
    of_root: bool
    shift: float
    coefficients: tuple[float, ...]


def _floats(*values: float) -> tuple[float, ...]:
    return tuple(rounded(value, "float32") for value in values)


_ERF_IS_ONE = 3.832506856900711
_ERF_NUMERATOR = _floats(
    *(0.00022905065861350646, 0.0034082910107109506, 0.050955695062380861),
    *(0.18520832239976145, 1.128379143519084),
)
_ERF_DENOMINATOR = _floats(
    *(-1.1791602954361697e-7, 0.000023547966471313185, 0.0010179625278914885),
    *(0.014070470171167667, 0.11098505178285362, 0.49746925110067538, 1.0),
)

# From the last range to the first: an earlier one takes what is below its limit.
_ERF_INV_32 = (
    _Piece(
        *(math.inf, True, 3.0),
        _floats(
            *(-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773),
            *(-0.0076224613, 0.00943887047, 1.00167406, 2.83297682),
        ),
    ),
    _Piece(
        *(5.0, False, 2.5),
        _floats(
            *(2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087),
            *(-0.00125372503, -0.00417768164, 0.246640727, 1.50140941),
        ),
    ),
)
_ERF_INV_64 = (
    _Piece(
        *(math.inf, True, 5.0),
        (
            *(-2.7109920616438573e-11, -2.5556418169965252e-10, 1.5076572693500548e-09),
            *(-3.789465440126737e-09, 7.61570120807834e-09, -1.496002662714924e-08),
            *(2.9147953450901081e-08, -6.7711997758452339e-08, 2.2900482228026655e-07),
            *(-9.9298272942317e-07, 4.5260625972231537e-06, -1.9681778105531671e-05),
            *(7.5995277030017761e-05, -0.00021503011930044477, -0.00013871931833623122),
            *(1.0103004648645344, 4.8499064014085844),
        ),
    ),
    _Piece(
        *(16.0, True, 3.25),
        (
            *(2.2137376921775787e-09, 9.0756561938885391e-08, -2.7517406297064545e-07),
            *(1.8239629214389228e-08, 1.5027403968909828e-06, -4.013867526981546e-06),
            *(2.9234449089955446e-06, 1.2475304481671779e-05, -4.7318229009055734e-05),
            *(6.8284851459573175e-05, 2.4031110387097894e-05, -0.00035503752036284748),
            *(0.0009532893797373805, -0.0016882755560235047, 0.0024914420961078508),
            *(-0.0037512085075692412, 0.0053709145535900636, 1.0052589676941592),
            3.0838856104922208,
        ),
    ),
    _Piece(
        *(6.25, False, 3.125),
        (
            *(-3.64441206401782e-21, -1.6850591381820166e-19, 1.28584807152564e-18),
            *(1.1157877678025181e-17, -1.3331716628546209e-16, 2.0972767875968562e-17),
            *(6.6376381343583238e-15, -4.0545662729752069e-14, -8.1519341976054722e-14),
            *(2.6335093153082323e-12, -1.2975133253453532e-11, -5.4154120542946279e-11),
            *(1.0512122733215323e-09, -4.1126339803469837e-09, -2.9070369957882005e-08),
            *(4.2347877827932404e-07, -1.3654692000834679e-06, -1.3882523362786469e-05),
            *(0.00018673420803405714, -0.000740702534166267, -0.0060336708714301491),
            *(0.24015818242558962, 1.6536545626831027),
        ),
    ),
)
