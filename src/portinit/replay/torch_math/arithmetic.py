"""Fused multiply-adds in NumPy, which has none, and the bits of floats.

torch's kernels are compiled with FMA: one rounding where NumPy's ``x * y + z`` has two. Without
it half of all uniforms differ in the last bit. A float32 product is exact in float64, and so the
float32 FMA is a float64 multiply-add and a cast; only a float64 sum that is rounded onto a tie
between two float32 numbers needs care. The float64 FMA is Boldo and Melquiond's: Dekker's exact
product and a sum rounded to odd.

The names here are those that the formulas in ``cephes`` use, and that ``compiled`` replaces by
machine instructions: arrays here, one number at a time there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_SPLIT = float(2**27 + 1)
_DROPPED = (1 << 29) - 1  # the bits of a float64 that a float32 has no room for
_TIE = 1 << 28

Floats = Any  # a NumPy array, or one number


def fma(x: Floats, y: Floats, z: Floats) -> Floats:
    """The float32 x * y + z, by way of float64.

    Wrong by double rounding once in 2**29 cases at most; the formulas that use it were run over
    all their 2**24 arguments and are not.
    """
    total = np.multiply(x, y, dtype=np.float64)
    return np.add(total, z, out=total).astype(np.float32)


def fma_exact(x: Floats, y: Floats, z: Floats) -> Floats:
    """The float32 x * y + z, rounded once."""
    product = np.multiply(x, y, dtype=np.float64)
    total = np.asarray(product + z)
    ties = np.flatnonzero((total.view(np.int64) & _DROPPED) == _TIE)
    if ties.size:
        flat = total.reshape(-1)
        products, terms = (np.broadcast_to(t, total.shape).reshape(-1)[ties] for t in (product, z))
        flat[ties] = _nudged(flat[ties], _sum_error(products, terms, flat[ties]))
    return total.astype(np.float32)


def fma64(x: Floats, y: Floats, z: Floats) -> Floats:
    """The float64 x * y + z, rounded once."""
    if np.ndim(z) == 0 and z == 0:
        return x * y + z
    product = x * y
    product_rest = _product_error(x, np.float64(y), product)
    low = z + product_rest
    low_rest = _sum_error(product_rest, np.float64(z), low)
    high = product + low
    high_rest = _sum_error(product, low, high)
    return high + _sum_to_odd(low_rest, high_rest)


def _product_error(x: Floats, y: Floats, product: Floats) -> Floats:
    x_high, y_high = _upper_half(x), _upper_half(y)
    x_low, y_low = x - x_high, y - y_high
    return x_low * y_low - (((product - x_high * y_high) - x_low * y_high) - x_high * y_low)


def _upper_half(x: Floats) -> Floats:
    scaled = _SPLIT * x
    return scaled - (scaled - x)


def _sum_error(x: Floats, y: Floats, total: Floats) -> Floats:
    y_part = total - x
    return (x - (total - y_part)) + (y - y_part)


def _sum_to_odd(x: Floats, y: Floats) -> Floats:
    total = x + y
    rest = _sum_error(x, y, total)
    even = total.view(np.int64) & 1 == 0
    return np.where(even & (rest != 0), _nudged(total, rest), total)


def _nudged(x: Floats, rest: Floats) -> Floats:
    """The neighbour of x on rest's side; x itself where rest is 0."""
    return np.where(rest == 0, x, np.nextafter(x, np.copysign(np.inf, rest)))


def bits_of(x: Floats) -> Floats:
    """The bits of float32 numbers as int32."""
    return x.view(np.int32)


def float_of(bits: Floats) -> Floats:
    """The float32 numbers of int32 bits."""
    return bits.view(np.float32)


def as_float(x: Floats) -> Floats:
    """Integers below 2**24 in size to float32."""
    return x.astype(np.float32)


def as_int(x: Floats) -> Floats:
    """Float32 numbers truncated to int32."""
    return x.astype(np.int32)


def choose(condition: Floats, x: Floats, y: Floats) -> Floats:
    """Where the condition holds x, else y."""
    return np.where(condition, x, y)


def sqrt(x: Floats) -> Floats:
    """The square root, rounded to nearest as IEEE demands."""
    return np.sqrt(x)
