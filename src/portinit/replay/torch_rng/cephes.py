"""Box-Muller in float32, as torch's AVX2 kernel computes it.

The polynomials are Cephes', from ``avx_mathfun.h``, contracted to FMAs as torch's compiler does.
Every formula works on arrays, and, compiled, on one number at a time: one source for both.
"""

from __future__ import annotations

import math

import numpy as np

from portinit.replay.torch_math.arithmetic import (
    Floats,
    as_float,
    as_int,
    bits_of,
    choose,
    float_of,
    fma,
    sqrt,
)

_ONE, _HALF, _MINUS_TWO = np.float32(1), np.float32(0.5), np.float32(-2)
_ZERO = np.float32(0)
_UNIT = np.float32(2**-24)
_UNIT_MASK = np.uint32((1 << 24) - 1)

_SQRT_HALF = np.float32(0.707106781186547524)
_LOG_P0 = np.float32(7.0376836292e-2)
_LOG_P1 = np.float32(-1.1514610310e-1)
_LOG_P2 = np.float32(1.1676998740e-1)
_LOG_P3 = np.float32(-1.2420140846e-1)
_LOG_P4 = np.float32(1.4249322787e-1)
_LOG_P5 = np.float32(-1.6668057665e-1)
_LOG_P6 = np.float32(2.0000714765e-1)
_LOG_P7 = np.float32(-2.4999993993e-1)
_LOG_P8 = np.float32(3.3333331174e-1)
_LOG_Q1 = np.float32(-2.12194440e-4)
_LOG_Q2 = np.float32(0.693359375)
_MANTISSA = np.int32(0x007FFFFF)
_HALF_BITS = np.int32(0x3F000000)
_EXPONENT_SHIFT = np.int32(23)
_EXPONENT_OF_HALF = np.int32(126)

_TWO_PI = np.float32(2 * math.pi)
_FOUR_OVER_PI = np.float32(1.27323954473516)
_MINUS_DP1 = np.float32(-0.78515625)
_MINUS_DP2 = np.float32(-2.4187564849853515625e-4)
_MINUS_DP3 = np.float32(-3.77489497744594108e-8)
_SIN_P0 = np.float32(-1.9515295891e-4)
_SIN_P1 = np.float32(8.3321608736e-3)
_SIN_P2 = np.float32(-1.6666654611e-1)
_COS_P0 = np.float32(2.443315711809948e-5)
_COS_P1 = np.float32(-1.388731625493765e-3)
_COS_P2 = np.float32(4.166664568298827e-2)
_I1, _I2, _I4 = np.int32(1), np.int32(2), np.int32(4)
_EVEN = np.int32(-2)
_SIGN_SHIFT = np.int32(29)


def unit(word: Floats) -> Floats:
    """A uniform float32 in [0, 1) of a 32-bit word: its low 24 bits."""
    return as_float(word & _UNIT_MASK) * _UNIT


def log(x: Floats) -> Floats:
    """The natural logarithm of float32 in (0, 1]."""
    bits = bits_of(x)
    m = float_of((bits & _MANTISSA) | _HALF_BITS)
    e = as_float((bits >> _EXPONENT_SHIFT) - _EXPONENT_OF_HALF)
    small = m < _SQRT_HALF
    e = e - choose(small, _ONE, _ZERO)
    m = (m - _ONE) + choose(small, m, _ZERO)
    z = m * m
    y = fma(fma(_LOG_P0, m, _LOG_P1), m, _LOG_P2)
    y = fma(fma(fma(y, m, _LOG_P3), m, _LOG_P4), m, _LOG_P5)
    y = fma(fma(fma(y, m, _LOG_P6), m, _LOG_P7), m, _LOG_P8) * m
    y = fma(y, z, e * _LOG_Q1) - z * _HALF
    return (m + y) + e * _LOG_Q2


def sine_cosine(x: Floats) -> tuple[Floats, Floats]:
    """Sine and cosine of float32 in [0, 2 pi)."""
    octant = (as_int(x * _FOUR_OVER_PI) + _I1) & _EVEN
    y = as_float(octant)
    x = fma(y, _MINUS_DP3, fma(y, _MINUS_DP2, fma(y, _MINUS_DP1, x)))
    z = x * x
    cosine = fma(fma(_COS_P0, z, _COS_P1), z, _COS_P2) * z
    cosine = fma(cosine, z, -(z * _HALF)) + _ONE
    sine = fma(fma(_SIN_P0, z, _SIN_P1), z, _SIN_P2) * z
    sine = fma(sine, x, x)
    plain = (octant & _I2) == 0
    sine, cosine = choose(plain, sine, cosine), choose(plain, cosine, sine)
    return (
        _with_sign(sine, (octant & _I4) << _SIGN_SHIFT),
        _with_sign(cosine, (~(octant - _I2) & _I4) << _SIGN_SHIFT),
    )


def _with_sign(x: Floats, sign: Floats) -> Floats:
    return float_of(bits_of(x) ^ sign)


def box_muller(word1: Floats, word2: Floats) -> tuple[Floats, Floats]:
    """Two standard normals of two 32-bit words."""
    radius = sqrt(_MINUS_TWO * log(_ONE - unit(word1)))
    sine, cosine = sine_cosine(_TWO_PI * unit(word2))
    return radius * cosine, radius * sine
