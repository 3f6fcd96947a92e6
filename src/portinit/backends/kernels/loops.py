"""The loops of a fused fill, which numba compiles: which elements come next, and where they go.

Elements that follow one another in a row go from counters to values a batch at a time, by
:mod:`portinit.backends.kernels.vectors`. The few others (rows' ends, short rows, counters that
carry into their high word) are collected until they are a batch, which goes the same way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import int32, int64, uint32, uint64
from numpy.typing import NDArray

from portinit.backends.kernels.vectors import (
    BATCH,
    clear,
    finish,
    interpolate,
    locate,
    multiply,
    span,
    words,
    words_at,
)

Integers = NDArray[Any]

_HALF = int64(32)
_ALL = int64(0xFFFFFFFF)
_LEAST = -int64(1 << 31)
_LINE = 16  # words


def follow(counter: Any, step: Any, left: Any) -> Any:
    """Whether a batch is left of the row, and its counters share their high word."""
    last = counter + (BATCH - 1) * step
    return left >= BATCH and (counter >> _HALF) == (last >> _HALF)


def collect(
    starts: Integers, inner: Any, step: Any, row: Any, column: Any, counters: Integers
) -> Any:
    """The counters of the next elements, row after row; how many, if not a batch."""
    n = 0
    while n < BATCH and row < starts.size:
        first, some = starts[row] + column * step, min(BATCH - n, inner - column)
        for i in range(some):
            counters[n + i] = first + i * step
        n, row, column = n + some, row + 1, 0
    return n


def scatter(
    values: Integers,
    n: Any,
    places: Integers,
    inner: Any,
    spacing: Any,
    row: Any,
    column: Any,
    memory: Integers,
) -> None:
    """Values to the places of the next elements."""
    done = 0
    while done < n:
        first, some = places[row] + column * spacing, min(n - done, inner - column)
        if spacing == 1:
            for i in range(some):
                memory[first + i] = values[done + i]
        else:
            for i in range(some):
                memory[first + i * spacing] = values[done + i]
        done, row, column = done + some, row + 1, 0


def aligned() -> Integers:
    """Room for a batch of words, each vector in one line of the cache."""
    memory = np.empty(BATCH + _LINE, int32)
    first = (-memory.ctypes.data % (4 * _LINE)) // 4
    return memory[first : first + BATCH]


def fill(
    memory: Integers,
    places: Integers,
    starts: Integers,
    numbers: Integers,
    bounds: NDArray[Any],
    knots: Integers,
    k0: Any,
    k1: Any,
    stream: Any,
    thinning: Any,
    limits: Integers,
) -> None:
    """Rows of values, or of raw words, into memory.

    Args:
        memory: what is written to: int32, or int16 for bfloat16.
        places: where each row begins there.
        starts: the counter of each row's first element.
        numbers: a row's length, the distance of its elements in memory, and of their counters;
            size and first of the span, factor, shift, offset; whether there is a span, a quantile,
            a factor; whether words stay words.
        bounds: the scale, and the smallest and the largest value.
        knots: the quantile's table.
        k0: a word of the key.
        k1: the other.
        stream: exclusive-ored to the counters' high word.
        thinning: likewise, for the words that decide which elements are zero.
        limits: for each of a matrix's columns the largest word that does. None of them, no zeros.
    """
    # One function on purpose. Where arrays are passed on, or a name is one or another, numba counts
    # references; that is atomic, and waits until all that was stored has arrived: 0.3 ns a value.
    inner, spacing, step = numbers[0], numbers[1], numbers[2]
    scaling = uint64(numbers[3]), int32(numbers[4]), numbers[5]
    last, floats = (int32(numbers[6]), int32(numbers[7])), (bounds[0], bounds[1], bounds[2])
    spread, ranked, multiplied, raw = numbers[8], numbers[9], numbers[10], numbers[11]
    key = uint32(k0), uint32(k1), uint32(stream)
    other = uint32(k0), uint32(k1), uint32(thinning)
    x, segments = aligned(), aligned()
    counters, values = np.zeros(BATCH, int64), np.empty(BATCH, memory.dtype)
    row, column, number, along = 0, 0, int64(0), int64(0)
    if limits.size:
        along = step % limits.size
    while row < starts.size:
        counter = starts[row] + column * step
        together = follow(counter, step, inner - column)
        if limits.size and together:  # and in one column, or in columns that follow one another
            number = counter % limits.size
            together = along == 0 or (along == 1 and number + BATCH <= limits.size)
        if together:
            n = BATCH
            words(key, counter, step, x, 0)
        else:
            n = collect(starts, inner, step, row, column, counters)
            words_at(key, counters, x, 0)
        if spread:
            span(x, scaling)
        if ranked:
            locate(x, segments)
            interpolate(x, segments, knots)
        if multiplied:
            multiply(x, scaling)
        direct = together and spacing == 1
        if direct and raw:
            for i in range(BATCH):
                memory[places[row] + column + i] = x[i]
        elif direct:
            finish(x, last, floats, memory, places[row] + column)
        elif raw:
            for i in range(BATCH):
                values[i] = x[i]
        else:
            finish(x, last, floats, values, 0)
        if limits.size:
            if together:
                words(other, counter, step, x, 0)
            else:
                words_at(other, counters, x, 0)
            if direct and along:
                clear(x, limits, number, memory, places[row] + column)
            else:
                for i in range(BATCH):
                    segments[i] = limits[
                        number + i * along if together else counters[i] % limits.size
                    ]
                if direct:
                    clear(x, segments, 0, memory, places[row] + column)
                else:
                    clear(x, segments, 0, values, 0)
        if together and not direct:
            for i in range(BATCH):
                memory[places[row] + (column + i) * spacing] = values[i]
        elif not direct:
            scatter(values, n, places, inner, spacing, row, column, memory)
        column += n
        while column >= inner:
            row, column = row + 1, column - inner


def count(x: Integers, n: Any, limit: Any) -> Any:
    """How many of the first n are at most the limit."""
    found = int32(0)
    for i in range(n):
        found = int32(found + int32(x[i] <= limit))
    return found


def divide(x: Integers, n: Any, k: Any) -> Any:
    """A limit that k of the first n words are at most; 2**31 where equal words leave none.

    It is guessed as if the words between two known limits were evenly spread, as they nearly are;
    every eighth time it is halfway.
    """
    low, high, below, upto, steps = _LEAST - 1, -1 - _LEAST, 0, n, 0
    while upto != k:
        if high - low == 1:
            return -_LEAST
        steps += 1
        share = (k + 0.5 - below) / (upto + 1 - below) if steps % 8 else 0.5
        ahead = int64((high - low) * share)
        guess = low + max(int64(1), min(ahead, high - low - 1))
        reached = count(x, n, int32(guess))
        if reached < k:
            low, below = guess, reached
        else:
            high, upto = guess, reached
    return high


def divide_rows(
    starts: Integers,
    length: Any,
    step: Any,
    k0: Any,
    k1: Any,
    stream: Any,
    k: Any,
    out: Integers,
) -> None:
    """Of the words of each row a limit, as :func:`divide` says."""
    key = uint32(k0), uint32(k1), uint32(stream)
    x, counters = np.empty(-(-length // BATCH) * BATCH, int32), np.empty(BATCH, int64)
    for row in range(starts.size):
        for i in range(0, length, BATCH):
            counter = starts[row] + i * step
            if follow(counter, step, BATCH):
                words(key, counter, step, x, i)
            else:
                for j in range(BATCH):
                    counters[j] = counter + j * step
                words_at(key, counters, x, i)
        out[row] = divide(x, length, k)
