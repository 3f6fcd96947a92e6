"""An array's elements as rows: where each begins, and which counters its elements have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from portinit.arrays.grids import Grid

_INTEGERS: dict[int, Any] = {2: np.dtype(np.int16), 4: np.dtype(np.int32)}

Part = tuple[int, int, int, int]
"""Rows and columns, begin and end of each."""


@dataclass(frozen=True)
class Run:
    """Elements at equal distances: how many, in memory and in counters."""

    length: int
    spacing: int
    step: int

    def joins(self, inner: Run) -> bool:
        """Whether stepping through ``inner`` to its end is one step of this."""
        whole = inner.spacing * inner.length, inner.step * inner.length
        return (self.spacing, self.step) == whole


@dataclass(frozen=True)
class Rows:
    """The elements of an array as equal rows.

    Attributes:
        first: the place, in elements from the lowest address, and the counter that runs begin at.
        outer: the runs of whole rows, slowest first.
        inner: the run within a row.
    """

    first: tuple[int, int]
    outer: tuple[Run, ...]
    inner: Run

    @property
    def count(self) -> int:
        """The number of rows."""
        return int(np.prod([run.length for run in self.outer], dtype=np.int64))

    def starts(self, begin: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places in memory, and counters, of the first elements of some rows."""
        number = np.arange(begin, end, dtype=np.int64)
        places, counters = (np.full(end - begin, start, np.int64) for start in self.first)
        for run in reversed(self.outer):
            number, index = np.divmod(number, run.length)
            places += index * run.spacing
            counters += index * run.step
        return places, counters

    def parts(self, pieces: int, most: int) -> Iterator[Part]:
        """Pieces of about the same size.

        A piece has at most ``most`` rows.
        """
        rows, length = self.count, self.inner.length
        if rows >= pieces:
            height, width = min(most, -(-rows // pieces)), length
        else:
            height, width = 1, -(-length * rows // pieces)
        for row in range(0, rows, height):
            for column in range(0, length, width):
                yield row, min(row + height, rows), column, min(column + width, length)


@lru_cache(maxsize=4096)
def rows_of(grid: Grid, strides: tuple[int, ...]) -> Rows | None:
    """The rows of an array of the grid's shape; none where elements share memory.

    Args:
        grid: which elements the array holds.
        strides: the distance of neighbours in memory along each axis, in elements.
    """
    runs, counter = [], grid.offset
    for axis, spacing in zip(grid.axes, strides, strict=True):
        length = len(axis.indices)
        step = axis.indices.step * axis.weight * grid.strides[axis.of]
        counter += axis.indices.start * axis.weight * grid.strides[axis.of]
        if spacing < 0:  # counted from the lowest address
            counter += (length - 1) * step
            spacing, step = -spacing, -step
        if length > 1:
            runs.append(Run(length, spacing, step))
    merged = _merged(sorted(runs, key=lambda run: -run.spacing)) or [Run(1, 1, 0)]
    *outer, inner = merged
    apart = all(a.spacing >= b.spacing * b.length for a, b in pairwise(merged)) and inner.spacing
    return Rows((0, counter), tuple(outer), inner) if apart or not grid.size else None


def _merged(runs: list[Run]) -> list[Run]:
    merged: list[Run] = []
    for run in runs:
        if merged and merged[-1].joins(run):
            run = Run(merged.pop().length * run.length, run.spacing, run.step)
        merged.append(run)
    return merged


def memory_of(array: NDArray[Any]) -> NDArray[Any]:
    """All the memory of an array, from its lowest address, as integers of its width."""
    words: NDArray[Any] = array.view(_INTEGERS[array.itemsize])
    if words.flags.c_contiguous:
        return words if words.ndim == 1 else words.reshape(-1)
    forwards = tuple(slice(None, None, -1 if stride < 0 else 1) for stride in words.strides)
    words = words[forwards]
    reach = sum((n - 1) * s for n, s in zip(words.shape, words.strides, strict=True))
    lowest = words[tuple(slice(0, 1) for _ in words.shape)].reshape(-1)
    return as_strided(lowest, (reach // words.itemsize + 1,), (words.itemsize,))
