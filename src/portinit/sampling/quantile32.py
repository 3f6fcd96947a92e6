"""The normal quantile of 32-bit ranks: arithmetic without look-ups, with the same bits everywhere.

Let p = m * 2**-32 be a tail probability, for an odd m below 2**31, and z(p) = -Phi^{-1}(p). Each
octave of m has 2048 segments, and within a segment z is a straight line. The line's value and its
slope at the segment's middle are computed there:

1. As a function of y = -log2(p) - 4 p, z is so smooth, up to p = 1/2 and beyond, that three
   polynomials serve all of the tail. The bits of float32(m), read as an integer, are log2(m) but
   for a correction, a polynomial in the significand. Bits, correction and 4 p make t = a - y, with
   26 fraction bits, where a is a constant of the piece.
2. z = z(a) - slope * t - t**2 * P(t), with 28 fraction bits. The product with the slope, a small
   integer, is exact. P's term is small, and float32 is enough for it.
3. dz / dp = -1 / (p * h(z)) with the normal's hazard h(z) = phi(z) / Phi(-z), a polynomial of
   degree 5, and two steps of Newton's method for the reciprocal.

Constants serve more than one step where powers of two allow: XLA counts each as an operand, and
fuses no more than 96 into one pass over a GPU's memory.

Integers wrap modulo 2**32. Floats are converted, added and multiplied, each rounded once as
IEEE 754 says. No product meets a sum before its last bit is cleared: a compiler that fused the two
would have to keep a bit that the program removes.

There are 63,489 segments. On a CPU looking up is faster: a table of their lines takes the place of
the arithmetic; it is computed by that arithmetic, in NumPy, when it is first needed. In JAX's
programs for a TPU or a GPU a look-up would be a pass of its own.

``tools/make_quantile.py`` fits the polynomials.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from portinit.random.integers import constants, float_bits, take

FIRST_SEGMENT = 127 << 11
"""The number that the bits of float32(1) have without a segment's position bits."""

POSITION_BITS = 12
_POSITIONS = (1 << POSITION_BITS) - 1
_MIDDLE = 1 << (POSITION_BITS - 1)


class PolynomialPiece(NamedTuple):
    """A part of the tail, and the quantile there.

    Attributes:
        below: the bits of the float32 m that the piece ends at.
        start: a constant such that t is zero at a.
        slope: of the quantile at a, in sixteenths.
        value: the quantile at a, 28 fraction bits.
        curvature: P's coefficients, the highest power's first, 28 fraction bits.
    """

    below: int
    start: int
    slope: int
    value: int
    curvature: tuple[float, ...]


def _bits(m: float) -> int:
    return int(np.float32(m).view(np.int32))


def _single(*numbers: float) -> tuple[float, ...]:
    return tuple(float(np.float32(number)) for number in numbers)


PIECES = (
    PolynomialPiece(
        *(_bits(2**31), -1906167611, 5, 309618234),
        _single(
            *(0.66102475, -4.5339794, 47.440945, -124.30007, -459.8392, 9413.861),
            *(39624.188, -158688.05, 956989.94),
        ),
    ),
    PolynomialPiece(
        *(_bits(15 << 24), -1619343156, 4, 636626084),
        _single(
            *(0.023233673, 0.520244, 4.334154, 8.117673, -172.16681, -2041.9937),
            *(-9183.89, 63321.746, 2262269.5),
        ),
    ),
    PolynomialPiece(
        *(_bits(1 << 20), -423789827, 2, 1441517817),
        _single(
            *(-5.1247937e-08, 1.3655353e-05, 0.00021793925, 0.0056141005, 0.19651526, 6.2365966),
            *(209.90285, 7893.1865, 367219.97),
        ),
    ),
)

[CENTER] = _single(1.442695)
"""1 / log(2), where log2(f) - f has its maximum: the correction begins with (f - CENTER)**2."""

CORRECTION = _single(
    *(372734.3, -780376.3, 1095542.8, -1765831.0, 3092869.5, -5588871.5, 10747800.0, -23258126.0)
)
"""Coefficients of (f - CENTER)**9 to (f - CENTER)**2, 26 fraction bits."""

HAZARD = _single(-0.000100578254, 0.002220091, -0.020653328, 0.10841011, 0.63735276, 0.7978207)
"""The normal's hazard, a polynomial in z of degree 5, the highest power first."""

_HAZARD = tuple(
    h * 2.0**-16 * 4.0**-power for power, h in zip(range(5, -1, -1), HAZARD, strict=True)
)
"""2**-16 times that, a polynomial in 4 z. Powers of two change no other bit."""

_RECIPROCAL = 0x7EF311C3
"""Less the bits of a float, these are the bits of its reciprocal, within 5 %."""


def magnitude_quantile(xp: Any, m: Any) -> Any:
    """z(m * 2**-32) in fixed point, by arithmetic.

    Args:
        xp: the array's namespace: NumPy, JAX or another whose arrays have ``view``.
        m: an int32 array of odd numbers in [1, 2**31).

    Returns:
        An int32 array of m's shape, 28 fraction bits: 0 or more, never increasing with m.
    """
    code = float_bits(xp, m, 32)
    middle = _middle(code)
    z, fall = _at_middle(xp, middle)
    return z + (fall * (middle - code) >> (POSITION_BITS - 1))


def magnitude_quantile_by_table(xp: Any, m: Any) -> Any:
    """The same values in any namespace, by the table."""
    code = float_bits(xp, m, 32)
    number = (code >> POSITION_BITS) - FIRST_SEGMENT
    values, halves = constants(xp, table(), m)
    value, half = take(xp, values, number), take(xp, halves, number)
    return value + (half * (code & _POSITIONS) >> (POSITION_BITS - 1))


def line(xp: Any, code: Any) -> tuple[Any, Any]:
    """The line that z is within a segment: its value at the start, and half of what it rises.

    Args:
        xp: the array's namespace: NumPy, JAX or another whose arrays have ``view``.
        code: an int32 array, the bits of float32 numbers in [1, 2**31].

    Returns:
        Two int32 arrays of the shape of ``code``, 28 fraction bits.
    """
    z, fall = _at_middle(xp, _middle(code))
    return z + fall, -fall


def _middle(code: Any) -> Any:
    """The middle of the segment that the bits of a float32 lie in."""
    return (code & ~_POSITIONS) | _MIDDLE


def _at_middle(xp: Any, middle: Any) -> tuple[Any, Any]:
    """The value at a segment's middle, and how much z falls on either side of it."""
    f = ((middle & 0x7FFFFF) | 0x3F800000).view(xp.float32)
    x = f - CENTER
    correction = _magnitude(xp, _polynomial(xp, CORRECTION, x) * x * x)  # of a negative number
    four_p = _magnitude(xp, middle.view(xp.float32) * 2.0**-4)

    piece = _piece(xp, middle)
    t = (middle << 3) - correction + four_p + piece.start
    x = xp.astype(t, xp.float32) * 2.0**-26
    curved = _magnitude(xp, _polynomial(xp, piece.curvature, x) * x * x)
    z = piece.value - (t * piece.slope >> 2) - curved

    hazard = _polynomial(xp, _HAZARD, xp.astype(z, xp.float32) * 2.0**-26)
    return z, _magnitude(xp, _reciprocal(xp, hazard * f))


def _magnitude(xp: Any, x: Any) -> Any:
    """The integer part of a number whose sign is known.

    Rounding towards zero takes a TPU five instructions, and two where it need not look at signs.
    """
    return xp.astype(xp.abs(x), xp.int32)


def _polynomial(xp: Any, coefficients: Iterable[Any], x: Any) -> Any:
    """By Horner's rule."""
    total, *rest = coefficients
    for coefficient in rest:
        total = _cleared(xp, x * total) + coefficient
    return total


def _reciprocal(xp: Any, x: Any) -> Any:
    guess = (_RECIPROCAL - x.view(xp.int32)).view(xp.float32)
    for _ in range(2):
        guess = guess * (2.0 - _cleared(xp, x * guess))
    return guess


def _cleared(xp: Any, product: Any) -> Any:
    """A product without its last bit, which no fused operation could have left out."""
    return (product.view(xp.int32) & -2).view(xp.float32)


def _piece(xp: Any, code: Any) -> PolynomialPiece:
    """Each element's own piece, in arrays."""
    masks = [code < piece.below for piece in PIECES[1:]]

    def choose(values: Iterable[float], dtype: Any) -> Any:
        chosen, *others = (xp.asarray(value, dtype=dtype) for value in values)
        for mask, value in zip(masks, others, strict=True):
            chosen = xp.where(mask, value, chosen)
        return chosen

    columns = zip(*(piece.curvature for piece in PIECES), strict=True)
    return PolynomialPiece(
        PIECES[0].below,
        choose([piece.start for piece in PIECES], xp.int32),
        choose([piece.slope for piece in PIECES], xp.int32),
        choose([piece.value for piece in PIECES], xp.int32),
        tuple(choose(column, xp.float32) for column in columns),
    )


@cache
def table() -> NDArray[np.int32]:
    """All segments' lines: a row of values at their starts, and of halves of what they rise."""
    codes = np.arange(FIRST_SEGMENT << POSITION_BITS, PIECES[0].below + 1, 1 << POSITION_BITS)
    return np.stack(line(np, codes.astype(np.int32)))


@cache
def pairs() -> NDArray[np.int64]:
    """The table with each segment in a word: half of the rise above the value."""
    values, halves = table().astype(np.int64)
    words: NDArray[np.int64] = (halves << 32) | values  # which are 0 or more
    return words
