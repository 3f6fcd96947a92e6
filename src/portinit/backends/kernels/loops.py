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
    convert_and_store,
    copy,
    interpolate,
    locate,
    multiply,
    scale_to_range,
    words,
    words_at,
)

Integers = NDArray[Any]

_HALF = int64(32)
_LINE = 16  # words


def is_contiguous_batch(counter: Any, step: Any, left: Any) -> Any:
    """Whether a batch is left of the row, and its counters share their high word."""
    last = counter + (BATCH - 1) * step
    return left >= BATCH and (counter >> _HALF) == (last >> _HALF)


def gather_counters(
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


# Where the kernel finds each of a launch's integers and floats.
LENGTH, SPACING, STEP = 0, 1, 2
RANGE_SIZE, RANGE_FIRST, FACTOR, SHIFT, OFFSET = 3, 4, 5, 6, 7
HAS_RANGE, HAS_QUANTILE, HAS_FACTOR, IS_RAW = 8, 9, 10, 11
SCALE, LOW, HIGH = 0, 1, 2


def fill(
    memory: Integers,
    places: Integers,
    starts: Integers,
    integers: Integers,
    floats: NDArray[Any],
    table: Integers,
    k0: Any,
    k1: Any,
    stream: Any,
) -> None:
    """Rows of values, or of raw words, into memory.

    Args:
        memory: int32, or int16 for bfloat16.
        places: where each row begins in the memory.
        starts: the counter of each row's first element.
        integers: a row's length, the distance of its elements in memory and of their counters, and
            the transform's integers, each at the index of its name above.
        floats: the scale, and the smallest and the largest value.
        table: the quantile's, a word for each segment.
        k0: the key's first word.
        k1: the key's second word.
        stream: exclusive-ored to the counters' high word.
    """
    # One function on purpose. Where arrays are passed on, or a name is one or another, numba counts
    # references; that is atomic, and waits until all that was stored has arrived: 0.3 ns a value.
    inner, spacing, step = integers[LENGTH], integers[SPACING], integers[STEP]
    scaling = uint64(integers[RANGE_SIZE]), int32(integers[RANGE_FIRST]), integers[FACTOR]
    last = int32(integers[SHIFT]), int32(integers[OFFSET])
    bounds = floats[SCALE], floats[LOW], floats[HIGH]
    ranged, ranked = integers[HAS_RANGE], integers[HAS_QUANTILE]
    multiplied, raw = integers[HAS_FACTOR], integers[IS_RAW]
    key = uint32(k0), uint32(k1), uint32(stream)
    x, segments = aligned(), aligned()
    counters, values = np.zeros(BATCH, int64), np.empty(BATCH, memory.dtype)
    row, column = 0, 0
    while row < starts.size:
        counter = starts[row] + column * step
        together = is_contiguous_batch(counter, step, inner - column)
        if together:
            n = BATCH
            words(key, counter, step, x, 0)
        else:
            n = gather_counters(starts, inner, step, row, column, counters)
            words_at(key, counters, x, 0)
        if ranged:
            scale_to_range(x, scaling)
        if ranked:
            locate(x, segments)
            interpolate(x, segments, table)
        if multiplied:
            multiply(x, scaling)
        direct = together and spacing == 1
        if direct and raw:
            copy(x, memory, places[row] + column)
        elif direct:
            convert_and_store(x, last, bounds, memory, places[row] + column)
        elif raw:
            for i in range(BATCH):
                values[i] = x[i]
        else:
            convert_and_store(x, last, bounds, values, 0)
        if together and not direct:
            for i in range(BATCH):
                memory[places[row] + (column + i) * spacing] = values[i]
        elif not direct:
            scatter(values, n, places, inner, spacing, row, column, memory)
        column += n
        while column >= inner:
            row, column = row + 1, column - inner


def thresholds(words: Integers, k: Any, out: Integers) -> bool:
    """For each row a number that exactly k words are at most; False where equal words prevent it.

    Random words are spread evenly, so a guess is interpolated between the last two on either side:
    four or five are enough. From the seventeenth on the interval is halved, whatever the words are.
    """
    for row in range(words.shape[0]):
        line = words[row]
        low, high = int64(-(1 << 31) - 1), int64((1 << 31) - 1)
        below, upto = int64(0), int64(line.size)  # how many words are at most low, at most high
        guesses = 0
        while upto > k and high - low > 1:
            share = (k - below + 0.5) / (upto - below + 1.0) if guesses < 16 else 0.5
            guess = low + max(int64(1), min(int64((high - low) * share), high - low - 1))
            limit, count = int32(guess), int32(0)
            for i in range(line.size):
                count += int32(line[i] <= limit)
            if count < k:
                low, below = guess, int64(count)
            else:
                high, upto = guess, int64(count)
            guesses += 1
        if upto > k:
            return False
        out[row] = high
    return True
