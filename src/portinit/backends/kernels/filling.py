"""Fills in one compiled pass: from counters to values, straight into an array's memory.

The bytes are those of :mod:`portinit.sampling.transform`, which takes the same steps array by
array. Here they are taken for a block that stays in the cache, in machine code, on several threads.
It needs numba, which the extra ``fast`` brings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portinit.arrays.grids import Grid
from portinit.backends.kernels import lanes, loops, vectors
from portinit.backends.kernels.rows import Part, Rows, memory_of, rows_of
from portinit.backends.threads import compile_all, find_numba, in_threads
from portinit.random import threefry
from portinit.sampling.quantile import table
from portinit.sampling.transform import Steps

WORTH_LOADING = 1 << 20  # elements: below, loading numba takes longer than doing without
_WORTH_A_THREAD = 1 << 18  # elements: starting two takes a tenth of a millisecond
DTYPES = frozenset({"float32", "bfloat16"})
_MOST_ROWS = 1 << 14  # at a time: where they begin takes 16 bytes each
_FEW_ROWS = 64  # where they begin is kept
_ALL = 0xFFFFFFFF
_NOT_THINNED = 0, np.empty(0, np.int32)

_ready = False


def is_ready(grid: Grid) -> bool:
    """Whether filling a grid's elements, or parts of them, is best done here."""
    if _ready or grid.size < WORTH_LOADING or find_numba() is None:
        return _ready
    _kernel()
    return True


@dataclass(frozen=True, eq=False)
class Zeros:
    """Which elements of a matrix are zero: those whose word is at most their column's limit.

    Attributes:
        stream: where the words come from.
        limits: a word for each of the matrix's columns.
    """

    stream: int
    limits: Any

    def number_columns(self, grid: Grid) -> bool:
        """Whether the remainder of a counter is the number of its column."""
        columns = len(self.limits)
        return grid.strides == (columns, 1) and grid.offset % columns == 0

    def arguments(self) -> tuple[int, NDArray[np.int32]]:
        """As the kernel takes them."""
        return self.stream & _ALL, np.asarray(self.limits)


class Plan:
    """A fill without the memory and the key: what can be kept for arrays of one form."""

    def __init__(self, grid: Grid, rows: Rows, steps: Steps | None) -> None:
        self._rows = rows
        self._size = grid.size
        self._integers, self._floats = _numbers(steps)
        whole = next(rows.parts(1, _MOST_ROWS))
        self._whole = self._piece(whole) if rows.count <= _FEW_ROWS else None

    def fill(
        self,
        out: NDArray[Any],
        key: tuple[int, int],
        stream: int,
        workers: int,
        zeros: Zeros | None = None,
    ) -> None:
        """Fill an array of the plan's form; see :func:`fill`."""
        memory, kernel = memory_of(out), _kernel()
        last = *key, stream & _ALL, *(_NOT_THINNED if zeros is None else zeros.arguments())
        useful = max(1, min(workers, self._size // _WORTH_A_THREAD))
        if useful == 1 and self._whole is not None:
            kernel(memory, *self._whole, *last)
            return

        def run(part: Part) -> None:
            kernel(memory, *self._piece(part), *last)

        in_threads(run, self._rows.parts(useful, _MOST_ROWS), useful)

    def _piece(self, part: Part) -> tuple[Any, ...]:
        begin, end, left, right = part
        places, counters = self._rows.starts(begin, end)
        run = self._rows.inner
        places += left * run.spacing
        counters += left * run.step
        numbers = np.asarray([right - left, run.spacing, run.step, *self._integers], np.int64)
        return places, counters, numbers, self._floats, table(32)


@lru_cache(maxsize=4096)
def plan(grid: Grid, strides: tuple[int, ...], itemsize: int, steps: Steps | None) -> Plan | None:
    """The plan for arrays of a grid's shape and of some strides; none where it has no use.

    Args:
        grid: which elements.
        strides: in bytes.
        itemsize: of an element.
        steps: from a word to a value; none for the words themselves.
    """
    distances = tuple(stride // itemsize for stride in strides)
    rows = rows_of(grid, distances) if grid.size else None
    return Plan(grid, rows, steps) if rows else None


def fill(
    out: NDArray[Any],
    key: tuple[int, int],
    grid: Grid,
    steps: Steps | None,
    stream: int = 0,
    workers: int = 1,
    zeros: Zeros | None = None,
) -> bool:
    """Fill an array of float32 or bfloat16, or of int32 with raw words.

    Args:
        out: an array of the grid's shape, of any strides; bfloat16 may come as int16.
        key: two words.
        grid: which elements.
        steps: from a word to a value; none for the words themselves.
        stream: as for :func:`portinit.random.words.random_words`.
        workers: how many threads.
        zeros: which elements of a matrix are zero instead.

    Returns:
        Whether it was done; not where the array's elements share memory, nor zeros in a block of
        a matrix's columns.
    """
    if zeros is not None and not zeros.number_columns(grid):
        return False
    known = plan(grid, out.strides, out.itemsize, steps)
    if known is not None:
        known.fill(out, key, stream, workers, zeros)
    return known is not None or not out.size


def limits(
    grid: Grid, key: tuple[int, int], stream: int, k: int, workers: int = 1
) -> NDArray[np.int32] | None:
    """For each row of a matrix's grid, a limit that exactly k of its words are at most.

    Args:
        grid: the elements.
        key: two words.
        stream: as for :func:`portinit.random.words.random_words`.
        k: 1 or more.
        workers: how many threads.

    Returns:
        A word for each row; none if equal words leave no such limit in one of them.
    """
    rows, length = grid.array_shape
    runs = rows_of(grid, (length, 1))
    if runs is None or runs.inner.length != length:
        return None
    words, found = (*key, stream & _ALL), np.empty(rows, np.int64)

    def find(part: Part) -> None:
        begin, end, *_ = part
        _, starts = runs.starts(begin, end)
        _machine().divide_rows(starts, length, runs.inner.step, *words, k, found[begin:end])

    _machine()  # compiled once, not by each thread
    useful = max(1, min(workers, grid.size // _WORTH_A_THREAD))
    in_threads(find, runs.parts(useful, _MOST_ROWS), useful)
    return found.astype(np.int32) if found.max() <= np.iinfo(np.int32).max else None


def _numbers(steps: Steps | None) -> tuple[list[int], NDArray[np.float32]]:
    """A plan's numbers as the kernel takes them, but for the geometry."""
    s = steps or Steps(scale=1.0)
    given = s.span is not None, s.quantile, s.factor is not None, steps is None
    integers = *(s.span or (0, 0)), s.factor or 0, s.shift, s.offset, *map(int, given)
    return [*integers], np.asarray([s.scale, s.low, s.high], np.float32)


def _kernel() -> Any:
    return _machine().fill


@cache
def _machine() -> SimpleNamespace:
    global _ready
    emitted = vectors.functions()
    files = vectors.__file__, lanes.__file__, threefry.__file__
    functions: list[Any] = [
        *(loops.follow, loops.collect, loops.scatter, loops.aligned, loops.fill),
        *(loops.count, loops.divide, loops.divide_rows),
    ]
    machine = compile_all(functions, emitted, depends=files)
    _ready = True
    return SimpleNamespace(**machine)
