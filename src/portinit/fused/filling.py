"""Fills in one compiled pass: from counters to values, straight into an array's memory.

The bytes are those of :mod:`portinit.steps`, which takes the same steps array by array. Here they
are taken for a block that stays in the cache, in machine code, on several threads. It needs numba,
which the extra ``fast`` brings.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portinit.fused import loops
from portinit.fused.rows import Rows, rows_of
from portinit.grids import Grid
from portinit.machine import compile_all, find_numba, intrinsics
from portinit.quantile import table
from portinit.steps import Steps

WORTH_LOADING = 1 << 20  # elements: below, loading numba takes longer than doing without
_WORTH_A_THREAD = 1 << 16
_MOST_ROWS = 1 << 14  # at a time: where they begin takes 16 bytes each

_ready = False


def is_ready(size: int) -> bool:
    """Whether filling ``size`` elements is best done here."""
    return _ready or (size >= WORTH_LOADING and find_numba() is not None)


def threads() -> int:
    """How many threads numba is set to use."""
    count: int = find_numba().get_num_threads()
    return count


def fill(
    out: NDArray[Any],
    key: tuple[int, int],
    grid: Grid,
    steps: Steps | None,
    stream: int = 0,
    workers: int = 1,
) -> bool:
    """Fill an array of float32, or of int32 with raw words.

    Args:
        out: an array of the grid's shape, of any strides.
        key: two words.
        grid: which elements.
        steps: from a word to a value; none for the words themselves.
        stream: as for :func:`portinit.bits.random_words`.
        workers: how many threads.

    Returns:
        Whether it was done; not where the array's elements share memory.
    """
    rows = rows_of(out, grid) if out.size else None
    if rows is None:
        return not out.size
    call = _Call(rows, (key[0], key[1], stream & 0xFFFFFFFF), steps)
    useful = min(workers, -(-out.size // _WORTH_A_THREAD))
    parts = list(rows.parts(useful, _MOST_ROWS))
    if useful == 1 or len(parts) == 1:
        for part in parts:
            call(part)
    else:
        with ThreadPoolExecutor(useful) as pool:
            list(pool.map(call, parts))
    return True


class _Call:
    """A fill of some of the rows."""

    def __init__(self, rows: Rows, key: tuple[int, int, int], steps: Steps | None) -> None:
        self._rows = rows
        self._key = tuple(map(np.uint32, key))
        self._arguments = _arguments(steps)

    def __call__(self, part: tuple[int, int, int, int]) -> None:
        begin, end, left, right = part
        places, counters = self._rows.starts(begin, end)
        run = self._rows.inner
        places += left * run.spacing
        counters += left * run.step
        geometry = (right - left, run.spacing, run.step)
        _kernel()(self._rows.memory, places, counters, geometry, self._key, *self._arguments)


def _arguments(steps: Steps | None) -> tuple[Any, ...]:
    s = steps or Steps(scale=1.0)
    size, first = s.span or (0, 0)
    scaling = np.uint64(size), np.int32(first), np.int64(s.factor or 0)
    last = np.int32(s.shift), np.int32(s.offset)
    floats = tuple(np.float32(x) for x in (s.scale, s.low, s.high))
    flags = s.span is not None, s.quantile, s.factor is not None, steps is None
    return scaling, last, floats, flags, _pairs()


@cache
def _pairs() -> NDArray[np.int64]:
    """The quantile's knots, and the rise to the next, in one word each."""
    knots = table(32).astype(np.int64)
    return (np.diff(knots) << 32) | knots[:-1]


@cache
def _kernel() -> Any:
    global _ready
    functions: list[Any] = [
        *(loops.turn, loops.even, loops.odd, loops.word, loops.ahead, loops.words),
        *(loops.span, loops.locate, loops.look_up, loops.interpolate),
        *(loops.multiply, loops.value, loops.finish, loops.put, loops.fitting),
        *(loops.draw, loops.fill),
    ]
    bits_of = _bits_of()
    kernel = compile_all(functions, {"bits_of": bits_of})["fill"]
    _ready = True
    return kernel


def _bits_of() -> Any:
    _, reinterpret = intrinsics()
    compiled = find_numba().njit(error_model="numpy")
    return compiled(lambda x: reinterpret(np.float32(x), np.int32(0)))
