"""Grids: the elements of a parameter that an array, or a part of one, holds.

A grid knows, for each axis of an array, which coordinates of the logical parameter its positions
have. Everything an initializer needs follows: the counters of its random words, coordinates for
structured fills, and the way to place a matrix computed in logical order. A slice of an array, a
flipped axis and a block of a packed parameter are grids again, with the same counters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from array_api_compat import device, is_jax_array

from portinit.arrays.layouts import Layout, Shape
from portinit.random.integers import mulhi
from portinit.random.words import signed


@dataclass(frozen=True)
class Axis:
    """One axis of an array: position ``i`` adds ``indices[i] * weight`` to logical axis ``of``.

    An axis along which elements are repeated is of no logical axis: ``of`` is -1, the weight 0.
    """

    indices: range
    of: int
    weight: int


@dataclass(frozen=True)
class Grid:
    """The logical elements at the positions of an array.

    Attributes:
        shape: the logical shape that fans and structure are defined on.
        axes: the array's axes, in its own order.
        strides: counter distance between neighbours along each logical axis.
        offset: counter of the logical element at the origin.
        layout: where the array's axes and the roles of PyTorch's come from.
    """

    shape: Shape
    axes: tuple[Axis, ...]
    strides: tuple[int, ...]
    layout: Layout
    offset: int = 0

    @classmethod
    def whole(cls, shape: Shape, layout: Layout) -> Grid:
        """All elements of an array of ``shape``."""
        return _whole(shape, layout)

    @cached_property
    def _hash(self) -> int:
        return hash((self.shape, self.axes, self.strides, self.offset))

    def __hash__(self) -> int:
        return self._hash  # of nested ranges: worth keeping where one grid serves many calls

    @cached_property
    def array_shape(self) -> Shape:
        """The shape of the array."""
        return tuple([len(axis.indices) for axis in self.axes])

    @cached_property
    def size(self) -> int:
        """The number of the array's elements."""
        return math.prod(self.array_shape)

    @property
    def kernel_shape(self) -> Shape:
        """The shape on which in_axis, out_axis and batch_axis are named."""
        return self.layout.kernel_shape(self.shape)

    def logical(self) -> Grid:
        """The whole parameter in logical order, with this grid's counters."""
        return self if self.is_logical else replace(self, axes=_logical_axes(self.shape))

    @property
    def is_logical(self) -> bool:
        """Whether it is the whole parameter in logical order."""
        return self.axes == _logical_axes(self.shape)

    def part(self, axis: int, positions: slice) -> Grid:
        """The elements at some positions along one of the array's axes."""
        axes = list(self.axes)
        axes[axis] = replace(axes[axis], indices=axes[axis].indices[positions])
        return replace(self, axes=tuple(axes))

    def repeated(self, count: int) -> Grid:
        """The same elements ``count`` times along a new axis 0, for the draws of several keys."""
        return replace(self, axes=(Axis(range(count), -1, 0), *self.axes))

    def transposed(self, order: Sequence[int]) -> Grid:
        """The same elements with the array's axes in another order."""
        return replace(self, axes=tuple(self.axes[axis] for axis in order))

    def can_start(self, logical: int, start: int) -> bool:
        """Whether the array can be the part of a parameter that begins at ``start`` of an axis."""
        return start % self.axes[self.members(logical)[0]].weight == 0

    def within(self, size: int, start: int, logical: int = 0) -> Grid:
        """This array as the part of a packed parameter that begins at ``start`` of ``size``.

        Args:
            size: the packed parameter's length along the axis.
            start: where the part begins.
            logical: the axis, one of PyTorch's.
        """
        number = self.members(logical)[0]
        axis = self.axes[number]
        if start % axis.weight:
            raise ValueError(f"a part must start at a multiple of {axis.weight}, got {start}")
        moved, axes = start // axis.weight, list(self.axes)
        r = axis.indices
        axes[number] = replace(axis, indices=range(r.start + moved, r.stop + moved, r.step))
        shape = (*self.shape[:logical], size, *self.shape[logical + 1 :])
        return replace(self, shape=shape, axes=tuple(axes), strides=row_major(shape))

    def tiles(
        self, limit: int, whole: int | None = None
    ) -> Iterator[tuple[tuple[slice, ...], Grid]]:
        """The array in parts of at most ``limit`` elements: their positions and grids.

        Args:
            limit: how many elements.
            whole: a logical axis that is not cut, even if a part has more elements then.
        """
        yield from self._tiles(limit, whole, 0, ())

    def _tiles(
        self, limit: int, whole: int | None, axis: int, done: tuple[slice, ...]
    ) -> Iterator[tuple[tuple[slice, ...], Grid]]:
        if self.size <= limit or axis == len(self.axes):
            yield done, self
            return
        length = len(self.axes[axis].indices)
        step = length if self.axes[axis].of == whole else max(1, limit * length // self.size)
        for start in range(0, length, step):
            positions = slice(start, min(start + step, length))
            part = self.part(axis, positions)
            yield from part._tiles(limit, whole, axis + 1, (*done, positions))

    def block(self, logical: int, start: int, stop: int) -> tuple[Grid, int, slice]:
        """The part of the array within ``start <= coordinate < stop`` of a logical axis.

        Returns:
            A grid whose logical shape is the block's; the array's axis it was cut along; and the
            block's positions there.
        """
        framed, number = self.frame(logical, start, stop), self.members(logical)[0]
        last = (stop - start) // self.axes[number].weight
        indices = framed.axes[number].indices
        inside = [i for i, index in enumerate(indices) if 0 <= index < last]
        positions = slice(inside[0], inside[-1] + 1) if inside else slice(0, 0)
        return framed.part(number, positions), number, positions

    def frame(self, logical: int, start: int, stop: int) -> Grid:
        """The whole array seen from the block ``start <= coordinate < stop`` of a logical axis.

        The logical shape is the block's; positions outside have coordinates outside.
        """
        number = self.members(logical)[0]
        axis = self.axes[number]
        if start % axis.weight or stop % axis.weight:
            raise ValueError(
                f"blocks along axis {logical} must start and stop at multiples of {axis.weight} "
                f"in this layout; got {start} to {stop}"
            )
        first, r = start // axis.weight, axis.indices
        axes, shape = list(self.axes), list(self.shape)
        axes[number] = replace(axis, indices=range(r.start - first, r.stop - first, r.step))
        shape[logical] = stop - start
        offset = self.offset + start * self.strides[logical]
        return replace(self, shape=tuple(shape), axes=tuple(axes), offset=offset)

    def coordinate(self, xp: Any, logical: int, device: Any) -> Any:
        """Coordinates along one logical axis, int32, broadcastable against the array."""
        if self.shape[logical] > 1 << 31:
            raise ValueError(
                f"coordinates must be below 2**31, got an axis of {self.shape[logical]}"
            )
        total = xp.zeros((1,) * len(self.axes), dtype=xp.int32, device=device)
        for number, axis in enumerate(self.axes):
            if axis.of == logical:
                indices = self.positions(xp, number, device) * axis.indices.step
                total = total + (indices + axis.indices.start) * axis.weight
        return total

    def counters(self, xp: Any, device: Any) -> tuple[Any, Any]:
        """High and low words of the elements' 64-bit counters; high is 0 where none reaches it.

        The words come in an array of at least one axis: 0-d arrays overflow with a warning in
        NumPy.
        """
        first, distances, wide = self.progression
        shape = (1,) * max(1, len(distances))
        low = xp.full(shape, signed(first, 32), dtype=xp.int32, device=device)
        high = first >> 32 if wide else 0
        for axis, distance in enumerate(distances):
            positions = self.positions(xp, axis, device)
            added = positions * signed(distance, 32)
            low = low + added
            if wide:
                carry = xp.astype((low ^ _LOWEST) < (added ^ _LOWEST), xp.int32)
                above = mulhi(positions, distance & _WORD, 32)
                high = high + above + positions * signed(distance >> 32, 32) + carry
        return high, low

    @cached_property
    def progression(self) -> tuple[int, tuple[int, ...], bool]:
        """The first element's counter, its distance along each axis; whether one passes 2^32."""
        strides = [a.weight * self.strides[a.of] if a.weight else 0 for a in self.axes]
        along = [(axis.indices, stride) for axis, stride in zip(self.axes, strides, strict=True)]
        first = self.offset + sum(indices.start * stride for indices, stride in along)
        distances = tuple(indices.step * stride for indices, stride in along)
        return first, distances, self._last_counter() >> 32 != 0

    def positions(self, xp: Any, axis: int, device: Any) -> Any:
        """0, 1, ... along one of the array's axes, int32, broadcastable against the array."""
        shape, along = self.array_shape, [1] * len(self.axes)
        along[axis] = shape[axis]
        return xp.reshape(xp.arange(shape[axis], dtype=xp.int32, device=device), tuple(along))

    def moved(self, counters: int) -> Grid:
        """The same elements with counters that lie further on."""
        return replace(self, offset=self.offset + counters)

    def indices(self, axis: int) -> Any:
        """The indices of one of the array's axes, as a vector of int32."""
        r = self.axes[axis].indices
        return np.arange(r.start, r.stop, r.step, dtype=np.int32)

    def lines(self, logical: int) -> Grid:
        """The whole lines along a logical axis in which the array has elements.

        Their array has the axes of this one that belong to other logical axes, and then the line.
        """
        kept = [n for n, axis in enumerate(self.axes) if axis.of != logical]
        line = Axis(range(self.shape[logical]), logical, 1)
        return self._with_axes((*(self.axes[n] for n in kept), line), (*kept, None))

    def _with_axes(self, axes: tuple[Axis, ...], numbers: tuple[int | None, ...]) -> Grid:
        """A grid of other axes: the number that each has here; None if it is new and whole."""
        return replace(self, axes=axes)

    def to_lines(self, xp: Any, values: Any, logical: int) -> Any:
        """This array's values as a matrix with a row for each of :meth:`lines`, which it holds."""
        own = self.members(logical)
        kept = [n for n in range(len(self.axes)) if n not in own]
        return xp.reshape(xp.permute_dims(values, (*kept, *own)), (-1, self.shape[logical]))

    def from_lines(self, xp: Any, values: Any, logical: int) -> Any:
        """One value for each of :meth:`lines`, as an array that broadcasts against this one."""
        own = self.members(logical)
        shape = [1 if n in own else size for n, size in enumerate(self.array_shape)]
        return xp.reshape(values, tuple(shape))

    def _last_counter(self) -> int:
        ends = zip(self.shape, self.strides, strict=True)
        return self.offset + sum(max(0, n - 1) * stride for n, stride in ends)

    def members(self, logical: int) -> list[int]:
        """The array's axes that form a logical axis, slowest first."""
        numbers = [i for i, axis in enumerate(self.axes) if axis.of == logical]
        return sorted(numbers, key=lambda i: -self.axes[i].weight)


_LOWEST = -(1 << 31)
_WORD = 0xFFFFFFFF


@lru_cache(maxsize=4096)
def _logical_axes(shape: Shape) -> tuple[Axis, ...]:
    return tuple(Axis(range(n), i, 1) for i, n in enumerate(shape))


@lru_cache(maxsize=4096)
def _whole(shape: Shape, layout: Layout) -> Grid:
    axes: dict[int, Axis] = {}
    for logical, group in enumerate(layout.groups(len(shape))):
        weight = 1
        for axis in reversed(group):
            indices = range(shape[axis])
            flipped = layout.flip and logical >= 2
            axes[axis] = Axis(indices[::-1] if flipped else indices, logical, weight)
            weight *= shape[axis]
    logical_shape = layout.logical_shape(shape)
    ordered = tuple(axes[axis] for axis in range(len(shape)))
    return Grid(logical_shape, ordered, row_major(logical_shape), layout)


def row_major(shape: Shape) -> tuple[int, ...]:
    """Strides, in elements, of a row-major array."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def place(xp: Any, values: Any, grid: Grid) -> Any:
    """Arrange values computed in logical order, of shape ``grid.shape``, as the grid's array."""
    if grid.is_logical:
        return xp.reshape(values, grid.shape)
    order: list[int] = []
    for logical, size in enumerate(grid.shape):
        members = grid.members(logical)
        index: Any = np.zeros(1, dtype=np.int32)
        for number in members:
            steps = grid.indices(number) * grid.axes[number].weight
            index = (index[:, None] + steps).reshape(-1)
        if not (isinstance(index, np.ndarray) and np.array_equal(index, np.arange(size))):
            where = xp.asarray(index, device=None if is_jax_array(values) else device(values))
            values = xp.take(values, where, axis=logical)
        order += members
    values = xp.reshape(values, tuple(len(grid.axes[i].indices) for i in order))
    return xp.permute_dims(values, tuple(order.index(i) for i in range(len(order))))
