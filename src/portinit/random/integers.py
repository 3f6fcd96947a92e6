"""Fixed-point arithmetic on signed words, exact in every namespace, and look-ups.

Where a result needs an offset (a mean, a lower bound), a floating multiply and add could be
fused by one compiler and not by another. So the offset is added to integers, and the one
multiplication that follows is by a power of two.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Any

from array_api_compat import device, is_jax_array

from portinit.random.shifts import logical_shift_right
from portinit.random.words import signed

_SIGNIFICAND_BITS = {32: 23, 64: 52}
_BIAS = {32: 127, 64: 1023}


def _halves(x: Any, half: int) -> tuple[Any, Any]:
    return logical_shift_right(x, half, 2 * half), x & ((1 << half) - 1)


def mulhi(a: Any, b: Any, bits: int) -> Any:
    """The high ``bits`` bits of the product of two unsigned words, modulo 2**bits.

    Args:
        a: an array of words.
        b: an array of words, or an int in [0, 2**bits).
        bits: the width of a word, 32 or 64. No wider integer is needed.
    """
    half = bits // 2
    mask = (1 << half) - 1
    a_high, a_low = _halves(a, half)
    b_high, b_low = _halves(b, half)
    middle = a_high * b_low + logical_shift_right(a_low * b_low, half, bits)
    cross = a_low * b_high + (middle & mask)
    top = logical_shift_right(middle, half, bits) + logical_shift_right(cross, half, bits)
    return a_high * b_high + top


def mulhi_signed(a: Any, b: Any, bits: int) -> Any:
    """The upper half of a product whose first factor is signed: floor(a * b / 2**bits).

    Args:
        a: an array of signed words.
        b: an array of unsigned words, or an int in [0, 2**bits).
        bits: the width of a word, 32 or 64.
    """
    if isinstance(b, int):
        return scale_word(a, b, 0, bits)
    half = bits // 2
    mask = (1 << half) - 1
    a_high, a_low = a >> half, a & mask
    b_high, b_low = _halves(b, half)
    middle = a_high * b_low + logical_shift_right(a_low * b_low, half, bits)
    cross = a_low * b_high + (middle & mask)
    return a_high * b_high + (middle >> half) + logical_shift_right(cross, half, bits)


def scale_rank(a: Any, count: int, first: int, bits: int) -> Any:
    """``first + floor((a + 2**(bits-1)) * count / 2**bits)``: words become ranks, in their order.

    Args:
        a: an array of signed words.
        count: in [0, 2**bits).
        first: the smallest rank; ranks are signed words too.
        bits: the width of a word, 32 or 64.
    """
    # Half of an odd count is not an integer: its fraction rounds up what the product leaves.
    return scale_word(a, count, first + count // 2, bits, nearest=bool(count % 2))


def scale_word(a: Any, factor: int, offset: int, bits: int, *, nearest: bool = False) -> Any:
    """``floor(a * factor / 2**bits) + offset``, modulo 2**bits.

    With the factor read as signed and its low half rounded, a word has room for the sum of the
    products that meet in the middle.

    Args:
        a: an array of signed words.
        factor: in [0, 2**bits).
        offset: an integer.
        bits: the width of a word, 32 or 64. No wider integer is needed.
        nearest: whether the quotient is rounded to nearest, halves up.
    """
    half, size, top = bits // 2, 1 << (bits // 2), 1 << (bits - 1)
    high = (signed(factor, bits) + size // 2) >> half
    low = signed(factor, bits) - (high << half)
    # The sum's parts are products of a's high half and of its low one: each is largest at an end.
    ends = (-size // 2 * low, (size // 2 - 1) * low), (0, (size - 1) * signed(factor, bits) >> half)
    least, most = sum(map(min, ends)), sum(map(max, ends))
    addend = size // 2 if nearest else 0
    moved = 0
    if not -top <= least + addend <= most + addend < top:
        moved = -((least + addend + top) // size)  # the ends are 2**bits - size apart, or less
    a_high, a_low = a >> half, a & (size - 1)
    middle = a_high * low + a_low * high + (a_low * low >> half)
    addend += moved << half
    middle = middle + signed(addend, bits) if addend else middle
    scaled = a_high * high + (middle >> half)
    scaled = scaled + a if factor >> (bits - 1) else scaled
    offset = signed(offset - moved, bits)
    return scaled + offset if offset else scaled


def binary_point(magnitude: float, bits: int) -> int:
    """The most fraction bits with which ``magnitude`` fits in ``bits - 2`` bits.

    Capped where the step would no longer be a normal number, so that no result is denormal:
    some machines flush those to zero and some do not.
    """
    smallest = {32: 126, 64: 1022}[bits]
    return min(bits - 2 - math.frexp(magnitude)[1], smallest)


def to_fixed(value: float, fraction: int) -> int:
    """``value * 2**fraction`` rounded to the nearest integer, exactly, whatever its size."""
    numerator, denominator = value.as_integer_ratio()
    if fraction >= 0:
        numerator <<= fraction
    else:
        denominator <<= -fraction
    return (2 * numerator + denominator) // (2 * denominator)


def constants(xp: Any, columns: Iterable[Any], like: Any) -> list[Any]:
    """NumPy's arrays as arrays of a namespace, where another array lies."""
    # JAX places constants itself; a traced array has no device to ask for.
    place = None if is_jax_array(like) else device(like)
    return [xp.asarray(column, device=place) for column in columns]


def take(xp: Any, values: Any, index: Any) -> Any:
    """The values of a vector at an array of indices of any shape."""
    if is_jax_array(index):  # XLA gathers a reshaped array from all devices that hold a part
        return xp.take(values, index, axis=0)
    return xp.reshape(xp.take(values, xp.reshape(index, (-1,)), axis=0), index.shape)


def float_bits(xp: Any, m: Any, bits: int) -> Any:
    """The bit pattern of a positive integer converted to floating point of the same width."""
    if _can_view_bits(m):  # NumPy, torch, JAX, CuPy; not part of the array API
        return xp.astype(m, getattr(xp, f"float{bits}")).view(m.dtype)
    return _float_bits_by_integers(xp, m, bits)


def _can_view_bits(x: Any) -> bool:
    """Whether ``x.view(dtype)`` reads x's bits; torch.jit.trace has no way to record that."""
    torch = sys.modules.get("torch")
    return hasattr(x, "view") and not (torch is not None and torch.jit.is_tracing())


def _float_bits_by_integers(xp: Any, m: Any, bits: int) -> Any:
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
