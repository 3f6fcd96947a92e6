"""Counters of an array's elements, in the form that XLA compiles fastest."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax import lax

from portinit.arrays.grids import Grid, row_major
from portinit.random.words import signed
from portinit_jax.blocks import Block


def flat_counters(grid: Grid) -> Any:
    """The low words of a grid's counters, from the elements' numbers in memory's order.

    Along the last axis a counter is a multiple of the number; along each other axis a multiple of
    the position is added. So no vector lies along the last axis, which are the lanes of a TPU's
    registers: :meth:`Grid.counters` has one, and with it the compiler for TPUs chooses a loop that
    takes it twice as long to compile.

    Returns:
        An int32 array, or None where there are no elements, or a counter passes 2**32.
    """
    first, distances, wide = grid.progression
    shape = grid.array_shape
    if wide or not shape or not grid.size or grid.size > 1 << 31:
        return None
    last = max(axis for axis, size in enumerate(shape) if size > 1 or axis == 0)
    low = lax.iota(np.int32, grid.size).reshape(shape)
    low = _times(low, distances[last])
    start = _word(first)
    if isinstance(grid, Block):
        for origin, distance in zip(grid.origin, distances, strict=True):
            start = start + origin * _word(distance)
    low = low + start
    for axis, (distance, number) in enumerate(zip(distances, row_major(shape), strict=True)):
        along = distance - distances[last] * number
        if shape[axis] > 1 and along:
            low = low + _times(lax.broadcasted_iota(np.int32, shape, axis), along)
    return low


def _word(value: int) -> Any:
    return np.int32(signed(value, 32))


def _times(x: Any, factor: int) -> Any:
    return x if factor == 1 else x * _word(factor)
