"""Fills in one compiled pass: from counters to values, straight into an array's memory.

The bytes are those of :mod:`portinit.sampling.transform`, which takes the same steps array by
array. Here they are taken for a block that stays in the cache, in machine code, on several threads.
It needs numba, which the extra ``fast`` brings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portinit.arrays.grids import Grid
from portinit.backends.kernels import lanes, loops, vectors
from portinit.backends.kernels.rows import Part, Rows, memory_of, rows_of
from portinit.backends.threads import (
    compile_all,
    discard_kept,
    find_numba,
    in_threads,
    warn_of_arrays,
)
from portinit.random import shifts, threefry
from portinit.sampling.quantile32 import pairs
from portinit.sampling.transform import Transform

WORTH_LOADING = 1 << 20  # elements of one array: of fewer, others may not follow
WORTH_LOADING_AT_LAST = 1 << 22  # elements drawn without: a quarter of what loading numba takes
_WORTH_A_THREAD = 1 << 18  # elements: starting two takes a tenth of a millisecond
DTYPES = frozenset({"float32", "bfloat16"})
_WORTH_COUNTING = 1 << 14  # words: of fewer, a partition is as fast
_MOST_ROWS = 1 << 14  # at a time: where they begin takes 16 bytes each
_FEW_ROWS = 64  # where they begin is kept
_ALL = 0xFFFFFFFF

_ready = False
_failed = False
_drawn_without = 0  # elements of 32 bits, by array operations on the CPU


def is_ready(grid: Grid, *, draws: bool = False) -> bool:
    """Whether filling a grid's elements, or parts of them, is best done here.

    Loading numba takes half a second, so it waits for an array that is large, or for many that are
    not.

    Args:
        grid: the elements.
        draws: whether array operations draw them at once if not.
    """
    global _drawn_without
    if _ready or _failed:
        return _ready
    is_worth_it = grid.size >= WORTH_LOADING or _drawn_without >= WORTH_LOADING_AT_LAST
    if not is_worth_it or find_numba() is None:
        _drawn_without += grid.size if draws else 0
        return False
    try:
        _kernel()
    except Exception as error:
        _give_up(error)
    return not _failed


class KernelLaunch:
    """A fill without its memory and its key: what can be kept for arrays of one form."""

    def __init__(self, grid: Grid, rows: Rows, transform: Transform | None) -> None:
        self._rows = rows
        self._useful = max(1, grid.size // _WORTH_A_THREAD)
        self._integers, self._floats = _numbers(transform)
        whole = next(rows.parts(1, _MOST_ROWS))
        self._whole = self._piece(whole) if rows.count <= _FEW_ROWS else None

    def fill(
        self,
        out: NDArray[Any],
        key: tuple[int, int],
        stream: int,
        workers: int,
    ) -> bool:
        """Fill an array of the launch's form, and say so; see :func:`fill`."""
        memory, kernel = memory_of(out), _kernel()
        last = *key, stream & _ALL
        useful = min(workers, self._useful)
        if useful == 1 and self._whole is not None:
            kernel(memory, *self._whole, *last)
            return True

        def run(part: Part) -> None:
            kernel(memory, *self._piece(part), *last)

        in_threads(run, self._rows.parts(useful, _MOST_ROWS), useful)
        return True

    def _piece(self, part: Part) -> tuple[Any, ...]:
        begin, end, left, right = part
        places, counters = self._rows.starts(begin, end)
        run = self._rows.inner
        places += left * run.spacing
        counters += left * run.step
        numbers = np.asarray([right - left, run.spacing, run.step, *self._integers], np.int64)
        return places, counters, numbers, self._floats, pairs()


@lru_cache(maxsize=4096)
def launch_for(
    grid: Grid, strides: tuple[int, ...], itemsize: int, transform: Transform | None
) -> KernelLaunch | None:
    """The launch for arrays of a grid's shape and of some strides, or None if no kernel can run.

    Args:
        grid: which elements.
        strides: in bytes.
        itemsize: the bytes of an element.
        transform: from a word to a value; None for the words themselves.
    """
    distances = tuple(stride // itemsize for stride in strides)
    rows = rows_of(grid, distances) if grid.size else None
    return KernelLaunch(grid, rows, transform) if rows else None


def fill(
    out: NDArray[Any],
    key: tuple[int, int],
    grid: Grid,
    transform: Transform | None,
    stream: int = 0,
    workers: int = 1,
) -> bool:
    """Fill an array of float32 or bfloat16, or of int32 with raw words.

    Args:
        out: an array of the grid's shape, of any strides; bfloat16 may come as int16.
        key: two words.
        grid: which elements.
        transform: from a word to a value; None for the words themselves.
        stream: as for :func:`portinit.random.words.random_words`.
        workers: how many threads.

    Returns:
        Whether it was done: False where the array's elements share memory, for a logarithm, or
        where the machine code cannot be had, which a warning says once.
    """
    if transform is not None and transform.log2:
        return False
    launch = launch_for(grid, out.strides, out.itemsize, transform)
    if launch is None:
        return not out.size
    return _run(launch.fill, out, key, stream, workers)


def thresholds(words: NDArray[np.int32], k: int) -> NDArray[np.int32] | None:
    """For each row of a matrix a number that exactly ``k`` of its words are at most.

    None where equal words prevent it, for few words, or where no machine code is loaded.
    """
    if not _ready or words.size < _WORTH_COUNTING:
        return None
    limits = np.empty(len(words), np.int32)
    return limits if _run(lambda: _machine()["thresholds"](words, k, limits)) else None


def _run(function: Callable[..., bool], *arguments: Any) -> bool:
    """Call a function that runs machine code; False where the code cannot be had."""
    try:
        return function(*arguments)
    except MemoryError:
        raise
    except Exception:
        return _run_anew(function, *arguments)


def _run_anew(function: Callable[..., bool], *arguments: Any) -> bool:
    """Call it with code that is made anew: what was kept on disk may be damaged."""
    try:
        for kept in _machine().values():
            discard_kept(kept)
        _machine.cache_clear()
        _kernel.cache_clear()
        return function(*arguments)
    except MemoryError:
        raise
    except Exception as error:
        _give_up(error)
        return False


def _give_up(error: Exception) -> None:
    global _failed, _ready
    _failed, _ready = True, False
    warn_of_arrays(f"its machine code cannot be had ({type(error).__name__}: {error})")


def _numbers(transform: Transform | None) -> tuple[list[int], NDArray[np.float32]]:
    """A transform's integers, in the order of the kernel's indices, and its floats."""
    t = transform or Transform(scale=1.0)
    present = t.span is not None, t.quantile, t.factor is not None, transform is None
    integers = *(t.span or (0, 0)), t.factor or 0, t.shift, t.offset, *map(int, present)
    return [*integers], np.asarray([t.scale, t.low, t.high], np.float32)


@cache
def _kernel() -> Any:
    global _ready
    kernel = _machine()["fill"]
    _ready = True
    return kernel


@cache
def _machine() -> dict[str, Any]:
    """The kernel and the functions that it calls, by name."""
    emitted = vectors.functions()
    files = vectors.__file__, lanes.__file__, threefry.__file__, shifts.__file__
    functions: list[Any] = [
        *(loops.is_contiguous_batch, loops.gather_counters, loops.scatter),
        *(loops.aligned, loops.fill, loops.thresholds),
    ]
    machine = compile_all(functions, emitted, depends=files)
    return {function.__name__: machine[function.__name__] for function in functions}
