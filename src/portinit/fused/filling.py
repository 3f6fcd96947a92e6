"""Fills in one compiled pass: from counters to values, straight into an array's memory.

The bytes are those of :mod:`portinit.steps`, which takes the same steps array by array. Here they
are taken for a block that stays in the cache, in machine code, on several threads. It needs numba,
which the extra ``fast`` brings.
"""

from __future__ import annotations

from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portinit import threefry
from portinit.fused import loops, vectors
from portinit.fused.rows import Part, Rows, memory_of, rows_of
from portinit.grids import Grid
from portinit.machine import compile_all, find_numba, in_threads, intrinsics
from portinit.quantile import pairs
from portinit.steps import Steps

WORTH_LOADING = 1 << 20  # elements: below, loading numba takes longer than doing without
_WORTH_A_THREAD = 1 << 18  # elements: starting two takes a tenth of a millisecond
DTYPES = frozenset({"float32", "bfloat16"})
_MOST_ROWS = 1 << 14  # at a time: where they begin takes 16 bytes each
_FEW_ROWS = 64  # where they begin is kept

_ready = False


def is_ready(grid: Grid) -> bool:
    """Whether filling a grid's elements, or parts of them, is best done here."""
    if _ready or grid.size < WORTH_LOADING or find_numba() is None:
        return _ready
    _kernel()
    return True


class Plan:
    """A fill without the memory and the key: what can be kept for arrays of one form."""

    def __init__(self, grid: Grid, rows: Rows, steps: Steps | None) -> None:
        self._rows = rows
        self._size = grid.size
        self._arguments = _arguments(steps)
        whole = next(rows.parts(1, _MOST_ROWS))
        self._whole = self._piece(whole) if rows.count <= _FEW_ROWS else None

    def fill(self, out: NDArray[Any], key: tuple[int, int], stream: int, workers: int) -> None:
        """Fill an array of the plan's form; see :func:`fill`."""
        memory, halved = memory_of(out), out.itemsize == 2
        words = _words(key, stream)
        useful = max(1, min(workers, self._size // _WORTH_A_THREAD))
        if useful == 1 and self._whole is not None:
            _kernel()(memory, *self._whole, words, *self._arguments, halved)
            return

        def run(part: Part) -> None:
            _kernel()(memory, *self._piece(part), words, *self._arguments, halved)

        _kernel()  # compiled once, not by each thread
        in_threads(run, self._rows.parts(useful, _MOST_ROWS), useful)

    def thin(
        self, out: NDArray[Any], key: tuple[int, int], stream: int, limits: NDArray[np.int32]
    ) -> None:
        """Zeros in an array of the plan's form; see :func:`thin`."""
        words = _words(key, stream)
        for part in self._rows.parts(1, _MOST_ROWS):
            _machine().thin(memory_of(out), *self._piece(part), words, limits)

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
) -> bool:
    """Fill an array of float32 or bfloat16, or of int32 with raw words.

    Args:
        out: an array of the grid's shape, of any strides; bfloat16 may come as int16.
        key: two words.
        grid: which elements.
        steps: from a word to a value; none for the words themselves.
        stream: as for :func:`portinit.bits.random_words`.
        workers: how many threads.

    Returns:
        Whether it was done; not where the array's elements share memory.
    """
    known = plan(grid, tuple(stride // out.itemsize for stride in out.strides), steps)
    if known is not None:
        known.fill(out, key, stream, workers)
    return known is not None or not out.size


def thin(
    out: NDArray[Any], key: tuple[int, int], grid: Grid, limits: NDArray[np.int32], stream: int
) -> bool:
    """Set to zero what a word of an element's decides on, in float32 or bfloat16.

    Args:
        out: an array of the grid's shape.
        key: two words.
        grid: which elements of a matrix.
        limits: of each of the matrix's columns, the largest word that makes a zero.
        stream: where the words come from.

    Returns:
        Whether it was done, as for :func:`fill`.
    """
    known = plan(grid, tuple(stride // out.itemsize for stride in out.strides), None)
    if known is not None:
        known.thin(out, key, stream, limits)
    return known is not None or not out.size


def _words(key: tuple[int, int], stream: int) -> tuple[Any, Any, Any]:
    return np.uint32(key[0]), np.uint32(key[1]), np.uint32(stream & 0xFFFFFFFF)


def _arguments(steps: Steps | None) -> tuple[Any, ...]:
    s = steps or Steps(scale=1.0)
    size, first = s.span or (0, 0)
    scaling = np.uint64(size), np.int32(first), np.int64(s.factor or 0)
    last = np.int32(s.shift), np.int32(s.offset)
    floats = tuple(np.float32(x) for x in (s.scale, s.low, s.high))
    flags = s.span is not None, s.quantile, s.factor is not None, steps is None
    return scaling, last, floats, flags, pairs()


def _kernel() -> Any:
    return _machine().fill


@cache
def _machine() -> SimpleNamespace:
    global _ready
    functions: list[Any] = [
        *(loops.turn, loops.even, loops.odd, loops.word, loops.ahead, loops.words),
        *(loops.span, loops.locate, loops.look_up, loops.interpolate),
        *(loops.multiply, loops.value, loops.half, loops.finish, loops.finish_half),
        *(loops.put, loops.fitting, loops.draw, loops.fill),
        *(loops.in_line, loops.clear, loops.thin),
    ]
    known = {"bits_of": _bits_of(), "batch": vectors.batch()}
    machine = compile_all(functions, known, depends=(vectors.__file__, threefry.__file__))
    _ready = True
    return SimpleNamespace(**machine)


def _bits_of() -> Any:
    _, reinterpret = intrinsics()
    compiled = find_numba().njit(error_model="numpy")
    return compiled(lambda x: reinterpret(np.float32(x), np.int32(0)))
