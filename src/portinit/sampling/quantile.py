"""The normal quantile in fixed point, with the same bits on every machine.

A word c, read as signed, stands for the probability u = 1/2 + (c + 1/2) * 2**-bits, and the
quantile is z = Phi^{-1}(u), increasing in c. By symmetry only the tail p = min(u, 1 - u) matters.

* 32 bits: arithmetic, or a table of its results, 28 fraction bits; see
  :mod:`portinit.sampling.quantile32`. Error below 1.0e-7 for every word, values within 6.24
  standard deviations.
* 64 bits: a table, 59 fraction bits; see :mod:`portinit.sampling.quantile64`. Error below 1e-15
  (measured in tests), values within 9.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from portinit.random.words import signed
from portinit.sampling import quantile32, quantile64

FRACTION_BITS = {32: 28, 64: 59}
_SEARCH_BITS = 8


def quantile(xp: Any, c: Any, bits: int, *, by_table: bool = True) -> Any:
    """Phi^{-1}((c + 1/2) / 2**bits + 1/2) in fixed point.

    Args:
        xp: the array's namespace.
        c: int32 or int64 array, read as signed words.
        bits: 32 or 64, the width of the words.
        by_table: whether 32 bits are looked up; the result is the same.

    Returns:
        An integer array of c's shape and dtype with ``FRACTION_BITS[bits]`` fraction bits.
    """
    u = c + signed(1 << (bits - 1), bits)  # the word that p is of, above the median and below it
    above = u >> (bits - 1)
    # p * 2**bits, made odd: the midpoint of a bin of two words.
    m = (u ^ above) | 1
    if bits == 64:
        z = quantile64.magnitude_quantile(xp, m)
    elif by_table:
        z = quantile32.magnitude_quantile_by_table(xp, m)
    else:
        z = quantile32.magnitude_quantile(xp, m)
    return above - (z ^ above)


def rank(z: int, bits: int) -> int:
    """The smallest c whose quantile is at least ``z`` (fixed point); 2**(bits-1) if none is."""
    first = -(1 << (bits - 1))
    counts = np.arange(1, (1 << _SEARCH_BITS) + 1, dtype=np.int64)
    for shift in range(bits - _SEARCH_BITS, -1, -_SEARCH_BITS):
        # Blocks of ranks that follow one another; the quantile of a block's last is its largest.
        last = (first + (counts << shift) - 1).astype(f"int{bits}")
        block = int(np.searchsorted(quantile(np, last, bits), z))
        if block == len(last):
            return 1 << (bits - 1)
        first += block << shift
    return first
