"""Random words at counters: any subset of a stream's elements, in any order.

The word of element ``i`` under a key is what JAX's partitionable Threefry gives it: both words of
the cipher at the 64-bit counter ``i``, exclusive-ored for 32 bits, side by side for 64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from portinit.random.keys import Key, fold_words
from portinit.random.threefry import threefry2x32

SECOND_STREAM = -(1 << 31)
"""Exclusive-ored to a counter's high word: a second stream for the same elements and key.

A child key's words are the parent's own draws at low counters, so a second stream never comes
from a folded key. Counters with the top bit set belong to no element.
"""


def numbered_stream(number: int) -> int:
    """The stream of the n-th draw that one parameter needs; the first is the elements' own."""
    if not 0 <= number < 1 << 15:
        raise ValueError(f"a parameter can need 32768 draws, got number {number}")
    return signed((1 << 31) | (number << 16), 32) if number else 0


def signed(value: int, bits: int) -> int:
    """The two's-complement reading of the low ``bits`` bits of an integer."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _wrap_ints(x: Any) -> Any:
    # NumPy's scalars would overflow with a warning.
    return signed(int(x), 32) if isinstance(x, int | np.integer) else x


def random_words(
    xp: Any, key: tuple[Any, Any], counter: tuple[Any, Any], bits: int = 32, stream: int = 0
) -> Any:
    """The stream's words at the given counters.

    Args:
        xp: the arrays' namespace.
        key: two words: Python integers, or int32 arrays that broadcast against the counters.
        counter: high and low words of the 64-bit counters; int32 arrays, or an int for the high.
        bits: 32 or 64.
        stream: 0, or :data:`SECOND_STREAM`.

    Returns:
        An int32 or int64 array of the counters' shape, to be read as unsigned bits.
    """
    high, low = _wrap_ints(key[0]), _wrap_ints(key[1])
    a, b = threefry2x32((high, low), (counter[0] ^ stream, counter[1]), _wrap_ints)
    if bits == 32:
        return a ^ b
    low = xp.astype(b, xp.int64) & 0xFFFFFFFF
    return (xp.astype(a, xp.int64) << 32) | low


def fold_in_each(key: Key, names: Sequence[str]) -> tuple[Any, Any]:
    """The words of ``key.fold_in(name)`` for each name: two vectors of int32, in NumPy."""
    child: tuple[Any, Any] = _wrap_ints(key.high), _wrap_ints(key.low)
    folded = np.array([fold_words(name) for name in names], np.uint32).reshape(-1, 2)
    for words in folded.view(np.int32).T:
        child = threefry2x32(child, (0, words), _wrap_ints)
    return child
