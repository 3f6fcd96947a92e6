"""Streams of raw words for batteries of tests: a key's own, and those across related keys.

A battery reads one long stream. What a model uses is many short ones, one a parameter, so the
words of neighbouring keys are laid out as one stream too: position p is word ``p % each`` of
the child, name or key number ``p // each``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from portinit.random.keys import Key, fold_words
from portinit.random.threefry import threefry2x32
from portinit.random.words import SECOND_STREAM, random_words, signed

_Array = np.ndarray[Any, np.dtype[Any]]
_Words = tuple[Any, Any]


def elements(key: Key, positions: _Array, each: int = 1) -> _Array:
    """The key's own words: those of its elements. ``each`` changes nothing."""
    return _unsigned(random_words(np, key.words, _pair(positions)))


def second(key: Key, positions: _Array, each: int = 1) -> _Array:
    """The words of the second stream, for masks and imaginary parts."""
    return _unsigned(random_words(np, key.words, _pair(positions), stream=SECOND_STREAM))


def children(key: Key, positions: _Array, each: int = 1) -> _Array:
    """The first words of ``key.fold_in(0)``, ``key.fold_in(1)``, ... modulo 2**32.

    After the last of 2**32 children come the first one's next words.
    """
    number, within = np.divmod(positions, np.uint64(each))
    within += (number >> np.uint64(32)) * np.uint64(each)
    return _unsigned(random_words(np, _fold(_signed(key), number), _pair(within)))


def names(key: Key, positions: _Array, each: int = 1) -> _Array:
    """The first words of ``key.fold_in("layers.0.weight")``, ``"layers.1.weight"``, ..."""
    number, within = np.divmod(positions, np.uint64(each))
    first, last = int(number[0]), int(number[-1])
    folded = [fold_words(f"layers.{i}.weight") for i in range(first, last + 1)]
    words = np.asarray(folded, dtype=np.uint64)[number - np.uint64(first)]
    child = _fold(_fold(_signed(key), words[:, 0]), words[:, 1])
    return _unsigned(random_words(np, child, _pair(within)))


def keys(key: Key, positions: _Array, each: int = 1) -> _Array:
    """The first words of the keys of neighbouring seeds, this key's seed first."""
    number, within = np.divmod(positions, np.uint64(each))
    return keys_at(number + np.uint64(key.high << 32 | key.low), within)


def family(key: Key, positions: _Array, each: int = 1) -> _Array:
    """In turn: the key's own words, and the first words of its children of the same numbers."""
    number, which = np.divmod(positions, np.uint64(2))
    return np.where(which, children(key, number, each), elements(key, number))


STREAMS: dict[str, Callable[[Key, _Array, int], _Array]] = {
    f.__name__: f for f in (elements, second, children, names, keys, family)
}


def keys_at(seeds: _Array, counters: _Array) -> _Array:
    """A word of each of many keys."""
    return _unsigned(random_words(np, _pair(seeds), _pair(counters)))


def positions(start: int, size: int) -> _Array:
    """The numbers from ``start`` on, modulo 2**64."""
    return np.uint64(start) + np.arange(size, dtype=np.uint64)


def _pair(numbers: _Array) -> _Words:
    """High and low words of 64-bit numbers, as signed arrays."""
    high, low = numbers >> np.uint64(32), numbers & np.uint64(0xFFFFFFFF)
    return high.astype(np.uint32).view(np.int32), low.astype(np.uint32).view(np.int32)


def _signed(key: Key) -> _Words:
    return signed(key.high, 32), signed(key.low, 32)


def _fold(words: _Words, numbers: _Array) -> _Words:
    return threefry2x32(words, (0, _pair(numbers)[1]))


def _unsigned(words: Any) -> _Array:
    return np.asarray(words).view(np.uint32)
