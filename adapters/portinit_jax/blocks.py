"""Blocks of arrays whose place is known only while the computation runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from portinit.arrays.grids import Axis, Grid
from portinit.arrays.layouts import Shape


@dataclass(frozen=True, eq=False)
class Block(Grid):
    """The part of an array of a fixed size that begins at positions of int32, traced or not.

    Its axes' indices are those of the array's first positions; ``origin`` moves them.
    """

    origin: tuple[Any, ...] = ()

    def logical(self) -> Grid:
        return Grid(self.shape, self.axes, self.strides, self.layout, self.offset).logical()

    def positions(self, xp: Any, axis: int, device: Any) -> Any:
        return super().positions(xp, axis, device) + self.origin[axis]

    def indices(self, axis: int) -> Any:
        r = self.axes[axis].indices
        along = jnp.arange(len(r), dtype=jnp.int32) + self.origin[axis]
        return along * r.step + r.start

    def _with_axes(self, axes: tuple[Axis, ...], numbers: tuple[int | None, ...]) -> Grid:
        return _moved(self, axes, tuple(0 if n is None else self.origin[n] for n in numbers))


def block_of(grid: Grid, origin: Sequence[Any], sizes: Shape) -> Block:
    """The positions of an array from ``origin`` on, ``sizes`` of them along its axes."""
    axes = tuple(
        replace(axis, indices=axis.indices[:size])
        for axis, size in zip(grid.axes, sizes, strict=True)
    )
    before = grid.origin if isinstance(grid, Block) else (0,) * len(axes)
    return _moved(grid, axes, tuple(a + b for a, b in zip(before, origin, strict=True)))


def _moved(grid: Grid, axes: tuple[Axis, ...], origin: tuple[Any, ...]) -> Block:
    return Block(grid.shape, axes, grid.strides, grid.layout, grid.offset, origin)
