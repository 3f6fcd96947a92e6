"""Tests of independence: between a stream's elements, between streams, and between related keys.

Words are tested bit by bit, values by their correlations. All p-values are of hypotheses that
pairs are disjoint: no word is in two pairs.

Source: Schott, "Testing for complete independence in high dimensions", Biometrika 92, 2005 (the
test of all pairs of rows).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tools.streams import children, elements, keys_at, names, positions, second

from portinit.random.keys import Key
from portinit.sampling.distributions import Distribution
from portinit.testing.goodness import chi_squared_tail, two_sided

_Array = np.ndarray[Any, np.dtype[Any]]
_TOP = 5  # bits of each of two words that a table of both is made of


def independence(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> dict[str, float]:
    """P-values of pairs of words under the hypothesis that all are uniform and independent.

    Args:
        x: the first words of the pairs, uint32.
        y: the second words, as many; 2**16 or more.

    Returns:
        P-values by the name of the test: ``"correlation"`` of the words as numbers; ``"top bits"``
        and ``"low bits"``, chi-squared of the 1024 cells that five bits of each make;
        ``"equal bits"``, chi-squared of how often each of the 32 bits agrees; ``"distance"``,
        chi-squared of the number of bits that agree.
    """
    differing = x ^ y
    return {
        "correlation": _correlation(_centred(x), _centred(y)),
        "top bits": _table(x >> np.uint32(32 - _TOP), y >> np.uint32(32 - _TOP)),
        "low bits": _table(x & np.uint32(31), y & np.uint32(31)),
        "equal bits": _equal_bits(differing),
        "distance": _distance(differing),
    }


def serial(words: np.ndarray[Any, Any], lag: int) -> dict[str, float]:
    """P-values for words and the words ``lag`` later, each in one pair only."""
    whole = words[: len(words) // (2 * lag) * 2 * lag].reshape(-1, 2, lag)
    return independence(whole[:, 0].reshape(-1), whole[:, 1].reshape(-1))


def correlations(
    matrix: np.ndarray[Any, Any], law: Distribution, lags: Sequence[int] = (1, 2, 3, 4)
) -> dict[str, float]:
    """P-values of a matrix of values under the hypothesis that they are independent draws.

    Args:
        matrix: two axes of 64 or more; any real dtype that rounds little against the law's std.
        law: the distribution of each value.
        lags: distances in the matrix, read row by row.

    Returns:
        P-values by the name of the test: ``"lag 1"`` and so on, two-sided, of the serial
        correlation; ``"rows"`` and ``"columns"``, one-sided, of the squared correlations of all
        pairs of rows, or of columns.
    """
    z = (matrix.astype(np.float64) - law.mean) / law.std
    flat = z.reshape(-1)
    tests = {f"lag {lag}": _correlation(flat[lag:], flat[:-lag]) for lag in lags}
    return tests | {"rows": _all_pairs(z), "columns": _all_pairs(z.T)}


def _correlation(x: _Array, y: _Array) -> float:
    """For variables of mean 0 and variance 1; products of neighbours are uncorrelated too."""
    return two_sided(float((x * y).sum()) / math.sqrt(len(x)))


def _centred(words: _Array) -> _Array:
    return (words.astype(np.float64) - (2.0**31 - 0.5)) * (math.sqrt(12) / 2.0**32)


def _all_pairs(z: _Array) -> float:
    """Schott's statistic: the sum of the squared sample correlations of all pairs of rows."""
    m, n = z.shape[0], z.shape[1] - 1
    r = np.corrcoef(z)
    excess = float((r**2).sum() - m) / 2 - m * (m - 1) / (2 * n)
    spread = math.sqrt(m * (m - 1) * (n - 1) / (n**2 * (n + 2)))
    return math.erfc(excess / spread / math.sqrt(2)) / 2


def _table(a: _Array, b: _Array) -> float:
    counts = np.bincount((a << np.uint32(_TOP) | b).astype(np.int64), minlength=1 << (2 * _TOP))
    expected = len(a) / len(counts)
    return chi_squared_tail(float(((counts - expected) ** 2).sum()) / expected, len(counts) - 1)


def _equal_bits(differing: _Array) -> float:
    ones = np.asarray([((differing >> np.uint32(i)) & np.uint32(1)).sum() for i in range(32)])
    n = len(differing)
    return chi_squared_tail(float(((ones - n / 2) ** 2).sum()) / (n / 4), 32)


def _distance(differing: _Array) -> float:
    """Below 8 and above 24 of 32 bits are one bin each: 2**16 pairs expect 57 in the outermost."""
    counts = np.bincount(np.bitwise_count(differing).clip(7, 25), minlength=26)[7:]
    chances = np.asarray([math.comb(32, k) for k in range(33)]) / 2.0**32
    chances = np.concatenate([[chances[:8].sum()], chances[8:25], [chances[25:].sum()]])
    expected = chances * len(differing)
    return chi_squared_tail(float(((counts - expected) ** 2 / expected).sum()), len(counts) - 1)


# Pairs of words that a relation between keys or counters might tie together


def _neighbours(key: Key, n: int) -> tuple[_Array, _Array]:
    words = elements(key, positions(0, 2 * n))
    return words[0::2], words[1::2]


def _far_counters(key: Key, n: int) -> tuple[_Array, _Array]:
    return elements(key, positions(0, n)), elements(key, positions(1 << 32, n))


def _second_stream(key: Key, n: int) -> tuple[_Array, _Array]:
    return elements(key, positions(0, n)), second(key, positions(0, n))


def _parent_and_first_words(key: Key, n: int) -> tuple[_Array, _Array]:
    return elements(key, positions(0, n)), children(key, positions(0, n))


def _parent_and_child(key: Key, n: int) -> tuple[_Array, _Array]:
    return elements(key, positions(0, n)), elements(key.fold_in(0), positions(0, n))


def _siblings(key: Key, n: int) -> tuple[_Array, _Array]:
    return elements(key.fold_in(0), positions(0, n)), elements(key.fold_in(1), positions(0, n))


def _first_words_of_siblings(key: Key, n: int) -> tuple[_Array, _Array]:
    words = children(key, positions(0, 2 * n))
    return words[0::2], words[1::2]


def _names(key: Key, n: int) -> tuple[_Array, _Array]:
    words = names(key, positions(0, 2 * n), 16).reshape(-1, 2, 16)
    return words[:, 0].reshape(-1), words[:, 1].reshape(-1)


def _weight_and_bias(key: Key, n: int) -> tuple[_Array, _Array]:
    weight, bias = (key.fold_in(f"layers.0.{kind}") for kind in ("weight", "bias"))
    return elements(weight, positions(0, n)), elements(bias, positions(0, n))


def _keys_a_bit_apart(key: Key, n: int) -> tuple[_Array, _Array]:
    """All 64 bits of the key in turn, along the counters."""
    at = positions(0, n)
    seed = np.uint64(key.high << 32 | key.low)
    return elements(key, at), keys_at(seed ^ np.uint64(1) << at % np.uint64(64), at)


RELATIONS: dict[str, Callable[[Key, int], tuple[_Array, _Array]]] = {
    "neighbouring elements": _neighbours,
    "counters 2**32 apart": _far_counters,
    "first and second stream": _second_stream,
    "parent and child": _parent_and_child,
    "parent and its children's first words": _parent_and_first_words,
    "two children": _siblings,
    "first words of neighbouring children": _first_words_of_siblings,
    "neighbouring names": _names,
    "weight and bias": _weight_and_bias,
    "keys a bit apart": _keys_a_bit_apart,
}


def relations(key: Key, n: int = 1 << 20) -> dict[str, dict[str, float]]:
    """P-values of :func:`independence` for ``n`` pairs of words of each related pair of streams."""
    return {name: independence(*pairs(key, n)) for name, pairs in RELATIONS.items()}
