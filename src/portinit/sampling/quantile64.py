"""The normal quantile of 64-bit ranks: a table look-up and exact interpolation.

Converting the magnitude of a tail probability to float64 is the cheapest way to find its octave:
the exponent and the top bits of the significand number the segment, the remaining bits are the
position within it. From there on everything is integer arithmetic: quintics, 59 fraction bits.

``tools/make_quantile.py`` computes the table with mpmath.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from portinit.random.integers import constants, float_bits, mulhi_signed, take

_SEGMENT_BITS = 6
_POSITION_BITS = 52 - _SEGMENT_BITS
_BIAS = 1023


def magnitude_quantile(xp: Any, m: Any) -> Any:
    """-Phi^{-1}(m * 2**-64) in fixed point.

    Args:
        xp: the array's namespace.
        m: an int64 array of odd numbers in [1, 2**63).

    Returns:
        An int64 array of m's shape, 59 fraction bits: 0 or more, never increasing with m.
    """
    code = float_bits(xp, m, 64)
    segment = (code >> _POSITION_BITS) - (_BIAS << _SEGMENT_BITS)
    position = code & ((1 << _POSITION_BITS) - 1)
    columns = constants(xp, np.ascontiguousarray(table().T), segment)
    scaled = position << (64 - _POSITION_BITS)  # an unsigned fraction of 64 bits
    z = take(xp, columns[-1], segment)
    for column in reversed(columns[:-1]):
        # mulhi_signed reads its second factor as unsigned, which an array of words is.
        z = take(xp, column, segment) + mulhi_signed(z, scaled, 64)
    return z


@cache
def table() -> np.ndarray[Any, np.dtype[np.int64]]:
    """The shipped rows of coefficients, one for each segment."""
    path = resources.files("portinit.sampling") / "tables" / "quantile64.npy"
    with path.open("rb") as file:
        values: np.ndarray[Any, np.dtype[np.int64]] = np.load(file, allow_pickle=False)
    return values
