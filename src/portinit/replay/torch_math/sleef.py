"""expm1 and log1p of float32 as torch's CPU kernels compute them: SLEEF's (u10, with FMA).

They work in pairs of float32 whose sum is the number meant. A vector's last elements go through
the same code as the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from portinit.replay.torch_math.arithmetic import Floats, fma_exact
from portinit.replay.torch_math.functions import rounded

Singles = NDArray[np.float32]
Pair = tuple[Floats, Floats]

_ONE, _HALF = np.float32(1), np.float32(0.5)

_OVER_LN2 = np.float32(1.442695040888963407)
_LN2_HIGH = np.float32(0.693145751953125)
_LN2_LOW = np.float32(1.428606765330187045e-06)
_EXP = [np.float32(c) for c in (0.1980960224e-3, 0.1394256484e-2, 0.8333456703e-2, 0.4166637361e-1)]
_SIXTH = np.float32(0.166666659414234244790680580464)
_EXPM1_LARGEST = np.float32(88.72283172607421875)
_EXPM1_SMALLEST = np.float32(-16.635532333438687426013570)

_LN2 = (np.float32(0.69314718246459960938), np.float32(-1.904654323148236017e-09))
_LOG1P_LARGEST = np.float32(1e38)  # beyond which 4/3 of it overflows
_LOG = [np.float32(c) for c in (0.3027294874, 0.3996108174, 0.6666694880)]


def expm1(x: Singles) -> Singles:
    """exp(x) - 1; bit for bit, tried on all floats in [-1, -1e-4]."""
    with np.errstate(all="ignore"):
        high, low = _plus(_exp((x, np.float32(0))), -_ONE)
        values = np.where(x > _EXPM1_LARGEST, np.float32(np.inf), high + low)
    values = np.where(x < _EXPM1_SMALLEST, -_ONE, values)
    result: Singles = np.where(x == 0, x, values)  # of -0 too
    return result


def log1p(x: Singles) -> Singles:
    """log(1 + x); bit for bit up to 1e38, tried on all floats in [1e-4, 1]."""
    with np.errstate(all="ignore"):
        values = _log1p(x)
    values = np.where(x > _LOG1P_LARGEST, rounded("log", x), values)
    values = np.where(x < -_ONE, np.float32(np.nan), values)
    values = np.where(x == -_ONE, np.float32(-np.inf), values)
    result: Singles = np.where(x == 0, x, values)
    return result


def _exp(d: Pair) -> Pair:
    q = np.rint((d[0] + d[1]) * _OVER_LN2)
    s = _plus(_plus(d, q * -_LN2_HIGH), q * -_LN2_LOW)
    t = _plus(_scaled(s, _horner(_EXP, s[0])), _SIXTH)
    t = _plus(_product(s, t), _HALF)
    t = _sum(s, _product(_square(s), t))
    high = _ONE + t[0]
    low = ((_ONE - high) + t[0]) + t[1]
    return np.ldexp(high, q.astype(np.int32)), np.ldexp(low, q.astype(np.int32))


def _log1p(x: Singles) -> Floats:
    e = np.frexp((x + _ONE) * np.float32(1.0 / 0.75))[1] - 1
    t = np.ldexp(_ONE, -e)
    m = fma_exact(x, t, t - _ONE)
    divisor = np.float32(2) + m
    r = _quotient((m, np.float32(0)), (divisor, (np.float32(2) - divisor) + m))
    square = r[0] * r[0]
    s = _scaled(_LN2, e.astype(np.float32))
    s = _sum_ordered(s, (r[0] * np.float32(2), r[1] * np.float32(2)))
    s = _plus_ordered(s, (square * r[0]) * _horner(_LOG, square))
    return s[0] + s[1]


def _horner(coefficients: list[np.float32], x: Floats) -> Floats:
    value: Floats = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = fma_exact(value, x, coefficient)
    return value


# Pairs. A sum is "ordered" where its first term is known to be the larger.


def _plus(x: Pair, y: Floats) -> Pair:
    high = x[0] + y
    v = high - x[0]
    return high, ((x[0] - (high - v)) + (y - v)) + x[1]


def _plus_ordered(x: Pair, y: Floats) -> Pair:
    high = x[0] + y
    return high, ((x[0] - high) + y) + x[1]


def _sum(x: Pair, y: Pair) -> Pair:
    high = x[0] + y[0]
    v = high - x[0]
    return high, ((x[0] - (high - v)) + (y[0] - v)) + (x[1] + y[1])


def _sum_ordered(x: Pair, y: Pair) -> Pair:
    high = x[0] + y[0]
    return high, (((x[0] - high) + y[0]) + x[1]) + y[1]


def _scaled(x: Pair, y: Floats) -> Pair:
    high = x[0] * y
    return high, fma_exact(x[1], y, fma_exact(x[0], y, -high))


def _product(x: Pair, y: Pair) -> Pair:
    high = x[0] * y[0]
    low = fma_exact(x[1], y[0], fma_exact(x[0], y[0], -high))
    return high, fma_exact(x[0], y[1], low)


def _square(x: Pair) -> Pair:
    high = x[0] * x[0]
    return high, fma_exact(x[0] + x[0], x[1], fma_exact(x[0], x[0], -high))


def _quotient(n: Pair, d: Pair) -> Pair:
    t = _ONE / d[0]
    high = n[0] * t
    rest = fma_exact(-d[1], t, fma_exact(-d[0], t, _ONE))
    return high, fma_exact(high, rest, fma_exact(n[1], t, fma_exact(t, n[0], -high)))
