"""Sums and norms in the order in which PyTorch's CPU kernels add, in one thread.

A sum of float32 depends on its order. PyTorch moves the reduced axes of a dense tensor to the
front, joins neighbours, and adds in registers of eight float32 or four float64 on every
instruction set (AVX-512 machines take the kernel of AVX2): along a contiguous axis eight lanes
and four accumulators of each, across rows each column by itself, and both in a cascade of
partial sums, so that numbers of like size are added. Norms add squares in eight lanes without a
cascade.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from portinit.replay.torch_math.arithmetic import fma64, fma_exact

Array = np.ndarray[Any, Any]

_LANES = {"float32": 8, "float64": 4}
_LEVELS = 4
_ACCUMULATORS = 4

Axes = Sequence[int] | None


def sum_along(x: Array, axes: Axes, keepdims: bool, order: Axes = None) -> Array:
    """``x.sum(axes, keepdims)`` of a float32 or float64 array.

    Args:
        x: the array.
        axes: the axes that are summed over; all if None.
        keepdims: whether these axes stay, with size 1.
        order: the array's axes from the slowest to the fastest in PyTorch's memory, without gaps;
            row-major order if None.
    """
    return _reduce(_sum, x, axes, keepdims, order)


def norm_along(x: Array, axes: Axes, keepdims: bool, order: Axes = None) -> Array:
    """The Euclidean norm along axes, in float32 for 16-bit floats; see :func:`sum_along`."""
    return _reduce(_norm, x, axes, keepdims, order)


def _reduce(
    function: Callable[[_Loops], Array], x: Array, axes: Axes, keepdims: bool, order: Axes
) -> Array:
    reduced = {*range(x.ndim)} if not axes else {axis % x.ndim for axis in axes}
    values = function(_Loops.over(x, reduced, [*range(x.ndim)] if order is None else order))
    values = values.reshape([1 if i in reduced else n for i, n in enumerate(x.shape)])
    return values if keepdims else values.squeeze(tuple(reduced))


@dataclass(frozen=True)
class _Loops:
    """The loops of a reduction, outermost first, after neighbours in memory were joined.

    Attributes:
        memory: the elements as they lie in memory.
        reduced: sizes and strides of the reduced axes, in the order of memory.
        kept: those of the others, in the order of the result.
    """

    memory: Array
    reduced: list[tuple[int, int]]
    kept: list[tuple[int, int]]

    @classmethod
    def over(cls, x: Array, reduced: set[int], order: Sequence[int]) -> _Loops:
        """The loops of an array's reduction, its axes in this order in memory."""
        strides, stride = {}, 1
        for axis in reversed(order):
            strides[axis] = stride
            stride *= x.shape[axis]
        loops: tuple[list[tuple[int, int]], ...] = ([], [])
        for of, part in zip(loops, (order, range(x.ndim)), strict=True):
            for axis in part:
                if x.shape[axis] != 1 and (axis in reduced) == (of is loops[0]):
                    _join(of, x.shape[axis], strides[axis])
        return cls(np.ascontiguousarray(x.transpose(order)).reshape(-1), *loops)

    def array(self, axes: list[tuple[int, int]]) -> Array:
        """The elements along some loops."""
        sizes = tuple(size for size, _ in axes)
        strides = tuple(stride * self.memory.itemsize for _, stride in axes)
        return np.lib.stride_tricks.as_strided(self.memory, sizes, strides, writeable=False)

    def count(self, axes: list[tuple[int, int]]) -> int:
        """How often the body of some loops runs."""
        return math.prod(size for size, _ in axes)


def _join(loops: list[tuple[int, int]], size: int, stride: int) -> None:
    """Append a loop, or make it part of the last one where the two are one walk through memory."""
    if loops and loops[-1][1] == size * stride:
        size *= loops.pop()[0]
    loops.append((size, stride))


# Sums


def _sum(loops: _Loops) -> Array:
    if not loops.reduced:
        return np.asarray(loops.array(loops.kept) + loops.memory.dtype.type(0))
    lanes = _LANES[loops.memory.dtype.name]
    *outer, (size, stride) = loops.reduced
    rows = loops.array([(size, stride), *outer, *loops.kept])  # the elements of each sum first
    columns, apart = loops.kept[-1] if loops.kept else (1, 0)
    if stride == 1 and size >= lanes:
        sums = _vectorised_row_sums(rows.reshape(size, -1), lanes)
    elif outer or (stride < apart and not (apart == 1 and columns >= lanes)):
        sums = _row_sums(rows.reshape(size, -1))
    else:
        sums = _column_sums(rows.reshape(size, -1, columns), lanes if apart == 1 else 1)
    sums = sums.reshape(loops.count(outer), -1)
    if not outer:
        return sums
    result = np.zeros(sums.shape[1], sums.dtype)
    for row in sums:
        result = result + row
    return result


def _column_sums(rows: Array, lanes: int) -> Array:
    """Sums down columns: four registers of columns at a time, then single columns."""
    size, blocks, columns = rows.shape
    wide = _ACCUMULATORS * (lanes if columns >= lanes else 1)
    together = columns // wide * wide
    first = _cascade(rows[..., :together])
    rest = _row_sums(rows[..., together:].reshape(size, blocks * (columns - together)))
    return np.concatenate([first, rest.reshape(blocks, -1)], axis=-1)


def _vectorised_row_sums(rows: Array, lanes: int) -> Array:
    """Sums along contiguous rows, given with the elements of each sum along the first axis."""
    count = rows.shape[0] // lanes * lanes
    partial = _row_sums(rows[:count].reshape(-1, lanes * rows.shape[1])).reshape(lanes, -1)
    result = np.zeros(rows.shape[1], rows.dtype)
    for row in (*rows[count:], *partial):
        result += row
    return result


def _row_sums(rows: Array) -> Array:
    """Sums along the first axis, of every fourth element and then of the four."""
    count = rows.shape[0] // _ACCUMULATORS
    fours = rows[: count * _ACCUMULATORS].reshape(count, _ACCUMULATORS, rows.shape[1])
    partial = _cascade(fours)
    for row in (*rows[count * _ACCUMULATORS :], *partial[1:]):
        partial[0] += row
    first: Array = partial[0]
    return first


def _cascade(rows: Array) -> Array:
    """The sum along the first axis: of runs of sixteen or more, and of those again."""
    size = rows.shape[0]
    power = max(4, _ceil_log2(size) // _LEVELS)
    step = 1 << power
    levels = [np.zeros(rows.shape[1:], rows.dtype) for _ in range(_LEVELS)]
    done = 0
    while done + step <= size:
        for row in rows[done : done + step]:
            levels[0] += row
        done += step
        for level in range(1, _LEVELS):
            levels[level] += levels[level - 1]
            levels[level - 1][...] = 0
            if done & ((step - 1) << (level * power)):
                break
    for row in rows[done:]:
        levels[0] += row
    for partial in levels[1:]:
        levels[0] += partial
    return levels[0]


def _ceil_log2(size: int) -> int:
    return 1 if size <= 2 else (size - 1).bit_length()


# Norms


def _norm(loops: _Loops) -> Array:
    size = loops.count(loops.reduced)
    rows = loops.array([*loops.reduced, *loops.kept]).reshape(size, -1)
    dtype = rows.dtype.name
    rows = rows if dtype in _LANES else rows.astype(np.float32)
    if len(loops.reduced) == 1 and loops.reduced[0][1] == 1 and dtype != "float16":
        registers = 2 if dtype == "bfloat16" else 1  # it loads two at a time
        return np.sqrt(_squares_in_lanes(rows.T, registers))
    squares = np.zeros(rows.shape[1], rows.dtype)
    for row in rows:
        squares = squares + row * row
    return np.sqrt(squares)


def _squares_in_lanes(rows: Array, registers: int) -> Array:
    """The sum of the squares of each contiguous row."""
    lanes = _LANES[rows.dtype.name]
    count = rows.shape[1] // (registers * lanes) * (registers * lanes)
    sums = np.zeros((rows.shape[0], lanes), rows.dtype)
    for start in range(0, count, lanes):
        part = rows[:, start : start + lanes]
        sums += part * part
    result = sums[:, 0]
    for lane in range(1, lanes):
        result = result + sums[:, lane]
    # The compiler made of what remains: of four float32 together the squares, then the sum; else
    # fused multiply-adds, where the instruction set has them.
    rest = rows.shape[1] - count
    alone = rest // 4 * 4 if rows.dtype == np.float32 else 0
    for i in range(rest):
        x = rows[:, count + i]
        result = _fused_square(x, result) if i >= alone and _has_fma() else result + x * x
    return result


def _fused_square(x: Array, y: Array) -> Array:
    if x.dtype == np.float32:
        return np.asarray(fma_exact(x, x, y))
    return np.asarray(fma64(x, x, y))


def _has_fma() -> bool:
    """Whether PyTorch here runs its kernels of AVX2, or those for processors without it."""
    return os.environ.get("ATEN_CPU_CAPABILITY") != "default" and _processor_has_fma()


@cache
def _processor_has_fma() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    line = next((line for line in flags.splitlines() if line.startswith("flags")), "avx2 fma")
    return {"avx2", "fma"} <= {*line.split()}
