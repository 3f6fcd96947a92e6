"""Fills in one compiled pass: from counters to values, straight into an array's memory.

The bytes are those of :mod:`portinit.steps`, which takes the same steps array by array. Here they
are taken for a block that stays in the cache, in machine code, on several threads. It needs numba,
which the extra ``fast`` brings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portinit import threefry
from portinit.fused import lanes, loops, vectors
from portinit.fused.rows import Part, Rows, memory_of, rows_of
from portinit.grids import Grid
from portinit.machine import compile_all, find_numba, in_threads
from portinit.quantile import table
from portinit.steps import Steps

WORTH_LOADING = 1 << 20  # elements: below, loading numba takes longer than doing without
_WORTH_A_THREAD = 1 << 18  # elements: starting two takes a tenth of a millisecond
DTYPES = frozenset({"float32", "bfloat16"})
_MOST_ROWS = 1 << 14  # at a time: where they begin takes 16 bytes each
_FEW_ROWS = 64  # where they begin is kept
_ALL = 0xFFFFFFFF
_NOT_THINNED = np.uint32(0), np.empty(0, np.int32)

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

    def arguments(self) -> tuple[Any, NDArray[np.int32]]:
        """As the kernel takes them."""
        return np.uint32(self.stream & _ALL), np.asarray(self.limits)


class Plan:
    """A fill without the memory and the key: what can be kept for arrays of one form."""

    def __init__(self, grid: Grid, rows: Rows, steps: Steps | None) -> None:
        self._rows = rows
        self._size = grid.size
        self._arguments = _arguments(steps)
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
        memory, words = memory_of(out), _words(key, stream)
        thinning = _NOT_THINNED if zeros is None else zeros.arguments()
        useful = max(1, min(workers, self._size // _WORTH_A_THREAD))
        if useful == 1 and self._whole is not None:
            _kernel()(memory, *self._whole, words, *self._arguments, thinning)
            return

        def run(part: Part) -> None:
            _kernel()(memory, *self._piece(part), words, *self._arguments, thinning)

        _kernel()  # compiled once, not by each thread
        in_threads(run, self._rows.parts(useful, _MOST_ROWS), useful)

    def _piece(self, part: Part) -> tuple[Any, ...]:
        begin, end, left, right = part
        places, counters = self._rows.starts(begin, end)
        run = self._rows.inner
        places += left * run.spacing
        counters += left * run.step
        return places, counters, (right - left, run.spacing, run.step)


@lru_cache(maxsize=4096)
def plan(grid: Grid, strides: tuple[int, ...], steps: Steps | None) -> Plan | None:
    """The plan for arrays of a grid's shape and of some strides; none where it has no use.

    Args:
        grid: which elements.
        strides: in elements.
        steps: from a word to a value; none for the words themselves.
    """
    rows = rows_of(grid, strides) if grid.size else None
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
        stream: as for :func:`portinit.bits.random_words`.
        workers: how many threads.
        zeros: which elements of a matrix are zero instead.

    Returns:
        Whether it was done; not where the array's elements share memory, nor zeros in a block of
        a matrix's columns.
    """
    if zeros is not None and not zeros.number_columns(grid):
        return False
    known = plan(grid, tuple(stride // out.itemsize for stride in out.strides), steps)
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
        stream: as for :func:`portinit.bits.random_words`.
        k: 1 or more.
        workers: how many threads.

    Returns:
        A word for each row; none if equal words leave no such limit in one of them.
    """
    rows, length = grid.array_shape
    runs = rows_of(grid, (length, 1))
    if runs is None or runs.inner.length != length:
        return None
    words, found = _words(key, stream), np.empty(rows, np.int64)

    def find(part: Part) -> None:
        begin, end, *_ = part
        _, starts = runs.starts(begin, end)
        _machine().divide_rows(starts, length, runs.inner.step, words, k, found[begin:end])

    _machine()  # compiled once, not by each thread
    useful = max(1, min(workers, grid.size // _WORTH_A_THREAD))
    in_threads(find, runs.parts(useful, _MOST_ROWS), useful)
    return found.astype(np.int32) if found.max() <= np.iinfo(np.int32).max else None


def _words(key: tuple[int, int], stream: int) -> tuple[Any, Any, Any]:
    return np.uint32(key[0]), np.uint32(key[1]), np.uint32(stream & _ALL)


def _arguments(steps: Steps | None) -> tuple[Any, ...]:
    s = steps or Steps(scale=1.0)
    size, first = s.span or (0, 0)
    scaling = np.uint64(size), np.int32(first), np.int64(s.factor or 0)
    last = np.int32(s.shift), np.int32(s.offset)
    floats = tuple(np.float32(x) for x in (s.scale, s.low, s.high))
    flags = s.span is not None, s.quantile, s.factor is not None, steps is None
    return scaling, last, floats, flags, table(32)


def _kernel() -> Any:
    return _machine().fill


@cache
def _machine() -> SimpleNamespace:
    global _ready
    emitted = vectors.functions()
    files = vectors.__file__, lanes.__file__, threefry.__file__
    functions: list[Any] = [
        *(loops.follow, loops.in_line, loops.collect, loops.scatter, loops.aligned, loops.fill),
        *(loops.count, loops.divide, loops.divide_rows),
    ]
    machine = compile_all(functions, emitted, depends=files)
    _ready = True
    return SimpleNamespace(**machine)
