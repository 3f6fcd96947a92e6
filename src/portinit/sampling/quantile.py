"""The normal quantile in integers: a table look-up and exact interpolation.

A word c, read as signed, stands for the probability u = 1/2 + (c + 1/2) * 2**-bits, and the
quantile is z = Phi^{-1}(u), increasing in c. By symmetry only the tail p = min(u, 1 - u) is
tabulated. Converting its integer magnitude to floating point is the cheapest way to find its
octave: the exponent and the top bits of the significand number the segment, the remaining bits
are the position within it. From there on everything is integer arithmetic.

* 32 bits: linear interpolation between exact knots, 28 fraction bits. Error below 1.0e-7,
  values within 6.24 standard deviations.
* 64 bits: quintics, 59 fraction bits. Error below 1e-15 (measured in tests), values within 9.1.

``tools/make_quantile_tables.py`` computes both tables with mpmath.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from array_api_compat import device, is_jax_array

from portinit.random.integers import mulhi_signed, take

FRACTION_BITS = {32: 28, 64: 59}
_SEGMENT_BITS = {32: 10, 64: 6}
_SIGNIFICAND_BITS = {32: 23, 64: 52}
_BIAS = {32: 127, 64: 1023}


def quantile(xp: Any, c: Any, bits: int) -> Any:
    """Phi^{-1}((c + 1/2) / 2**bits + 1/2) in fixed point.

    Args:
        xp: the array's namespace.
        c: int32 or int64 array, read as signed words.
        bits: 32 or 64, the width of the words.

    Returns:
        An integer array of c's shape and dtype with ``FRACTION_BITS[bits]`` fraction bits.
    """
    sign = c >> (bits - 1)
    # p * 2**bits, made odd: the midpoint of a bin of two words.
    magnitude = (c ^ sign ^ ((1 << (bits - 1)) - 1)) | 1
    code = _float_code(xp, magnitude, bits)
    position_bits = _SIGNIFICAND_BITS[bits] - _SEGMENT_BITS[bits]
    segment = (code >> position_bits) - (_BIAS[bits] << _SEGMENT_BITS[bits])
    position = code & ((1 << position_bits) - 1)
    interpolate = _linear if bits == 32 else _quintic
    z = interpolate(xp, segment, position, position_bits)
    return (z ^ sign) - sign


def _linear(xp: Any, segment: Any, position: Any, position_bits: int) -> Any:
    knots = _constant(xp, table(32), segment)
    low = take(xp, knots, segment)
    high = take(xp, knots, segment + 1)
    return low + ((high - low) * position >> position_bits)


def _quintic(xp: Any, segment: Any, position: Any, position_bits: int) -> Any:
    columns = [_constant(xp, column, segment) for column in np.ascontiguousarray(table(64).T)]
    scaled = position << (64 - position_bits)  # an unsigned fraction of 64 bits
    z = take(xp, columns[-1], segment)
    for column in reversed(columns[:-1]):
        # mulhi_signed reads its second factor as unsigned, which an array of words is.
        z = take(xp, column, segment) + mulhi_signed(z, scaled, 64)
    return z


def _constant(xp: Any, values: Any, like: Any) -> Any:
    # JAX places constants itself; a traced array has no device to ask for.
    return xp.asarray(values, device=None if is_jax_array(like) else device(like))


def _float_code(xp: Any, m: Any, bits: int) -> Any:
    """The bit pattern of a positive integer converted to floating point of the same width."""
    if _can_view_bits(m):  # NumPy, torch, JAX, CuPy; not part of the array API
        return xp.astype(m, getattr(xp, f"float{bits}")).view(m.dtype)
    return _float_code_by_integers(xp, m, bits)


def _can_view_bits(x: Any) -> bool:
    """Whether ``x.view(dtype)`` reads x's bits; torch.jit.trace has no way to record that."""
    torch = sys.modules.get("torch")
    return hasattr(x, "view") and not (torch is not None and torch.jit.is_tracing())


def _float_code_by_integers(xp: Any, m: Any, bits: int) -> Any:
    kept = _SIGNIFICAND_BITS[bits]
    exponent, rest = xp.zeros_like(m), m
    for step in (32, 16, 8, 4, 2, 1)[0 if bits == 64 else 1 :]:
        large = xp.astype(rest >> step > 0, m.dtype)
        exponent = exponent + large * step
        rest = rest >> (large * step)
    excess = xp.where(exponent > kept, exponent - kept, xp.zeros_like(m))
    floor = m >> excess
    remainder, half = m - (floor << excess), (xp.ones_like(m) << excess) >> 1
    # To nearest, ties to even, as conversion does; nothing is dropped where excess is 0.
    odd_tie = (remainder == half) & ((floor & 1) == 1)
    up = (excess > 0) & ((remainder > half) | odd_tie)
    significand = (floor + xp.astype(up, m.dtype)) << xp.where(
        exponent < kept, kept - exponent, xp.zeros_like(m)
    )
    return ((exponent + _BIAS[bits] - 1) << kept) + significand


def rank(z: int, bits: int) -> int:
    """The smallest c whose quantile is at least ``z`` (fixed point); 2**(bits-1) if none is."""
    low, high = -(1 << (bits - 1)), 1 << (bits - 1)
    dtype = np.int32 if bits == 32 else np.int64
    while low < high:
        middle = (low + high) // 2
        if int(quantile(np, np.asarray([middle], dtype=dtype), bits)[0]) >= z:
            high = middle
        else:
            low = middle + 1
    return low


@cache
def table(bits: int) -> np.ndarray[Any, np.dtype[Any]]:
    """The shipped table: knots (32 bits) or rows of coefficients (64 bits)."""
    path = resources.files("portinit.sampling") / "tables" / f"quantile{bits}.npy"
    with path.open("rb") as file:
        values: np.ndarray[Any, np.dtype[Any]] = np.load(file, allow_pickle=False)
    return values


@cache
def pairs() -> np.ndarray[Any, np.dtype[np.int64]]:
    """Of each of the 32-bit table's segments, the rise to the next knot and the knot, in a word."""
    knots = table(32).astype(np.int64)
    return (np.diff(knots) << 32) | knots[:-1]
