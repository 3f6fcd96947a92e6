"""Logarithms to base 2 in integers: fixed point in, fixed point out."""

from __future__ import annotations

from typing import Any

from portinit.random.integers import mulhi

FRACTION_BITS = {32: 26, 64: 57}
"""Fraction bits of a logarithm to base 2, which is below the number of bits of a word."""


def log2_fixed(xp: Any, n: Any, bits: int) -> Any:
    """log2 of positive integers in fixed point, with ``FRACTION_BITS[bits]`` fraction bits.

    The significand is squared again and again, and each time that it passes 2 it is halved: that
    is the next bit of the logarithm. What a square loses in the word is halved by every later one,
    so the result is exact to its last two bits.

    Args:
        xp: the array's namespace.
        n: int32 or int64 array.
        bits: 32 or 64, the width of the words.
    """
    exponent = xp.full_like(n, bits - 2)
    y = n
    half = bits // 2
    while half:
        small = y < (1 << (bits - 1 - half))
        y = xp.where(small, y << half, y)
        exponent = xp.where(small, exponent - half, exponent)
        half //= 2
    y, log = y << 1, exponent  # y in [1, 2) as unsigned words: their top bit is 1
    for _ in range(FRACTION_BITS[bits]):
        y = mulhi(y, y, bits)
        passed = y < 0
        y = xp.where(passed, y, y << 1)
        log = (log << 1) + xp.astype(passed, log.dtype)
    return log
