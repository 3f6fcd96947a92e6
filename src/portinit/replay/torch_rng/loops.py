"""The engine's loops, one number at a time, in plain Python that numba compiles.

Compiled, the vectoriser turns them back into whole-register instructions. Integers are unsigned
32-bit words throughout, which Python's shifts and sums are not: hence the constants.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from portinit.replay.torch_math.arithmetic import bits_of, float_of, fma
from portinit.replay.torch_rng.cephes import box_muller, unit

Words = NDArray[np.uint32]
Values = NDArray[np.float32]

_SIZE, _AHEAD = 624, 397
_BACK = _SIZE - _AHEAD
PAIRS = 1024  # at a time: their four arrays stay in the cache
_UPPER, _LOWER = np.uint32(0x80000000), np.uint32(0x7FFFFFFF)
_MATRIX = np.uint32(0x9908B0DF)
_ONE = np.uint32(1)
_S7, _S11, _S15, _S18 = (np.uint32(n) for n in (7, 11, 15, 18))
_MASK_B, _MASK_C = np.uint32(0x9D2C5680), np.uint32(0xEFC60000)


def twist(high: np.uint32, low: np.uint32) -> np.uint32:
    """The recurrence's combination of two neighbouring words."""
    odd = np.uint32(0) - (low & _ONE)  # all bits, or none
    return np.uint32((((high & _UPPER) | (low & _LOWER)) >> _ONE) ^ (odd & _MATRIX))


def advance(key: Words) -> None:
    """The next 624 words of state."""
    for i in range(_BACK):
        key[i] = key[i + _AHEAD] ^ twist(key[i], key[i + 1])
    for i in range(_BACK, _SIZE - 1):
        key[i] = key[i - _BACK] ^ twist(key[i], key[i + 1])
    key[_SIZE - 1] = key[_AHEAD - 1] ^ twist(key[_SIZE - 1], key[0])


def temper(key: Words, start: int, out: Words, at: int, count: int) -> None:
    """Some words that are drawn, of as many words of state."""
    for i in range(count):
        y = key[start + i]
        y ^= y >> _S11
        y ^= (y << _S7) & _MASK_B
        y ^= (y << _S15) & _MASK_C
        out[at + i] = y ^ (y >> _S18)


def draw(key: Words, used: int, out: Words) -> int:
    """Fill an array with words; how many of the state are then used."""
    done = 0
    while done < out.size:
        if used == _SIZE:
            advance(key)
            used = 0
        count = min(_SIZE - used, out.size - done)
        temper(key, used, out, done, count)
        done += count
        used += count
    return used


def skip(key: Words, used: int, count: int) -> int:
    """Pass over words; how many of the state are then used."""
    while used + count > _SIZE:
        count -= _SIZE - used
        advance(key)
        used = 0
    return used + count


def uniform(words: Words, low: np.float32, width: np.float32, out: Values) -> None:
    """See ``Engine.uniform``."""
    for i in range(words.size):
        out[i] = fma(unit(words[i]), width, low)


def normal(words: Words, mean: np.float32, std: np.float32, out: Values, scratch: Words) -> None:
    """See ``Engine.normal``. The pairs are laid side by side first: rows do not vectorise."""
    for start in range(0, words.size, 2 * PAIRS):
        rows = min(2 * PAIRS, words.size - start) // 16
        apart(words, start, rows, scratch)
        pairs(scratch, 8 * rows)
        together(scratch, mean, std, out, start, rows)


def apart(words: Words, start: int, rows: int, scratch: Words) -> None:
    """The two halves of each row of 16, each half's words one after the other."""
    for row in range(rows):
        for i in range(8):
            scratch[0, 8 * row + i] = words[start + 16 * row + i]
            scratch[1, 8 * row + i] = words[start + 16 * row + 8 + i]


def pairs(scratch: Words, count: int) -> None:
    """The standard normals of pairs of words, as their bits."""
    for i in range(count):
        cosine, sine = box_muller(scratch[0, i], scratch[1, i])
        scratch[2, i] = bits_of(cosine)
        scratch[3, i] = bits_of(sine)


def together(
    scratch: Words, mean: np.float32, std: np.float32, out: Values, start: int, rows: int
) -> None:
    """Rows of 16 of their two halves, scaled and shifted."""
    for row in range(rows):
        for i in range(8):
            first, second = start + 16 * row + i, start + 16 * row + 8 + i
            out[first] = fma(float_of(scratch[2, 8 * row + i]), std, mean)
            out[second] = fma(float_of(scratch[3, 8 * row + i]), std, mean)


def shuffle(order: NDArray[np.int64], words: Words, start: int) -> None:
    """See ``Engine.shuffle``."""
    for i in range(words.size):
        here = start + i
        there = here + np.int64(words[i] % np.uint32(order.size - here))
        order[here], order[there] = order[there], order[here]


def insert(order: NDArray[np.int64], words: NDArray[np.uint64], start: int) -> None:
    """See ``Engine.insert``."""
    for i in range(words.size):
        here = start + i
        there = np.int64(words[i] % np.uint64(here + 1))
        order[here] = order[there]
        order[there] = here
