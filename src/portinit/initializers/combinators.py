"""Initializers made of others: scaled, blocks, where."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from portinit.arrays.dtypes import FORMATS, float_format
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Shape
from portinit.backends.base import Draw
from portinit.initializers.base import Initializer
from portinit.sampling.distributions import Distribution


@dataclass(frozen=True)
class scaled(Initializer):
    """``factor`` times an initializer's values.

    The factor joins the initializer's own constants, so the result is rounded once: a residual
    projection divided by sqrt(2 * layers) is bit-identical everywhere. A negative factor mirrors a
    random initializer's distribution.

    Args:
        initializer: what to scale.
        factor: a finite number.

    >>> import portinit
    >>> half = portinit.scaled(portinit.normal(std=0.02), 0.5)
    >>> half(portinit.key(0), (2,)) == portinit.normal(std=0.01)(portinit.key(0), (2,))
    array([ True,  True])
    """

    initializer: Initializer
    factor: float

    def __post_init__(self) -> None:
        _check_initializer(self.initializer)
        if not math.isfinite(self.factor):
            raise ValueError(f"factor must be a finite number, got {self.factor}")

    def check(self, grid: Grid, dtype: str) -> None:
        self.initializer.check(grid, dtype)
        law = self.element_law(grid, dtype)
        if law is not None and dtype in FORMATS:
            law.check(float_format(dtype))

    def element_law(self, grid: Grid, dtype: str, factor: float = 1.0) -> Distribution | None:
        return self.initializer.element_law(grid, dtype, self.factor * factor)

    def settled(self, draw: Draw) -> Initializer:
        return replace(self, initializer=self.initializer.settled(draw))

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        return self.initializer.values(draw, self.factor * factor)


@dataclass(frozen=True)
class blocks(Initializer):
    """One initializer for each block of a packed parameter, along one of PyTorch's axes.

    Each block is initialised as a parameter of its own shape (its fans are its own), with the
    random words that its elements have in the whole.

    Args:
        initializers: one for each block: the gates of an LSTM, or query, key and value.
        sizes: the blocks' sizes along the axis; equal ones if not given.
        axis: PyTorch's axis that is packed.

    Raises:
        ValueError: sizes that do not add up to the axis, or cut an axis that the layout splits.

    >>> import portinit
    >>> qkv = blocks((portinit.xavier_uniform(),) * 3)  # of a (3 * E, E) weight
    """

    initializers: tuple[Initializer, ...]
    sizes: tuple[int, ...] | None = None
    axis: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "initializers", tuple(self.initializers))
        for initializer in self.initializers:
            _check_initializer(initializer)
        if not self.initializers:
            raise ValueError("blocks needs at least one initializer, got none")
        if self.sizes is not None:
            sizes = tuple(map(operator.index, self.sizes))
            if len(sizes) != len(self.initializers) or min(sizes) < 0:
                raise ValueError(
                    f"sizes must be {len(self.initializers)} numbers, 0 or more; got {sizes}"
                )
            object.__setattr__(self, "sizes", sizes)

    def check(self, grid: Grid, dtype: str) -> None:
        for initializer, block, _, _ in self.pieces(grid):
            initializer.check(block, dtype)

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        if not draw.backend.cuts:
            return self._selected(draw, factor)
        parts = list(self.pieces(draw.grid))
        # A flipped axis holds the blocks in reverse.
        parts.sort(key=lambda part: part[3].start)
        pieces = [initializer.values(draw.on(block), factor) for initializer, block, *_ in parts]
        return draw.xp.concat(pieces, axis=parts[0][2])

    def _selected(self, draw: Draw, factor: float) -> Any:
        """As :meth:`values`, from as many whole arrays as there are blocks."""
        values: Any = None
        for initializer, start, stop in self._extents(draw.grid):
            block = initializer.values(draw.on(draw.grid.frame(self.axis, start, stop)), factor)
            from_here = draw.grid.coordinate(draw.xp, self.axis, draw.device) >= start
            values = block if values is None else draw.xp.where(from_here, block, values)
        return values

    def pieces(self, grid: Grid) -> Iterator[tuple[Initializer, Grid, int, slice]]:
        """Each block's initializer and grid, the array's axis it lies along, and where there."""
        for initializer, start, stop in self._extents(grid):
            yield initializer, *grid.block(self.axis, start, stop)

    def _extents(self, grid: Grid) -> Iterator[tuple[Initializer, int, int]]:
        """Each block's initializer, where it starts and where it stops."""
        if not 0 <= self.axis < len(grid.shape):
            raise ValueError(f"blocks along axis {self.axis} need that axis, got {grid.shape}")
        start = 0
        sizes = self._sizes(grid.shape[self.axis])
        for initializer, size in zip(self.initializers, sizes, strict=True):
            yield initializer, start, start + size
            start += size

    def _sizes(self, total: int) -> tuple[int, ...]:
        count = len(self.initializers)
        sizes = self.sizes
        if sizes is None and total % count == 0:
            sizes = (total // count,) * count
        if sizes is None or sum(sizes) != total:
            wanted = f"{count} equal blocks" if self.sizes is None else f"blocks of {self.sizes}"
            raise ValueError(f"{wanted} must fill axis {self.axis}, got a size of {total}")
        return sizes


Bound = int | tuple[int | None, int | None]


@dataclass(frozen=True)
class where(Initializer):
    """One initializer inside a slice of the parameter, another outside.

    Both are initialised as if they were the whole parameter: the slice only selects.

    Args:
        index: integers and slices (``start:stop``, no step) along PyTorch's axes, as in NumPy:
            ``0`` for a padding row, ``np.s_[:, 4:8]`` for columns.
        inside: for the elements of the slice.
        outside: for the others.

    Raises:
        TypeError, ValueError: something else in the index, or more axes than the shape has.

    >>> import portinit
    >>> portinit.where(0, portinit.zeros, portinit.normal())  # an embedding with a padding row
    where(index=(0,), inside=zeros(), outside=normal(mean=0.0, std=1.0))
    """

    index: Any
    inside: Initializer
    outside: Initializer

    def __post_init__(self) -> None:
        _check_initializer(self.inside)
        _check_initializer(self.outside)
        index = self.index if isinstance(self.index, tuple) else (self.index,)
        object.__setattr__(self, "index", tuple(map(_bound, index)))

    def check(self, grid: Grid, dtype: str) -> None:
        self._ranges(grid.shape)
        self.inside.check(grid, dtype)
        self.outside.check(grid, dtype)

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        inside, outside = (i.values(draw, factor) for i in (self.inside, self.outside))
        return draw.xp.where(self.mask(draw), inside, outside)

    def mask(self, draw: Draw) -> Any:
        """Whether each element lies inside; broadcastable against the array."""
        ones = (1,) * len(draw.grid.axes)
        mask: Any = draw.xp.ones(ones, dtype=draw.xp.bool, device=draw.device)
        for axis, (start, stop) in enumerate(self._ranges(draw.grid.shape)):
            coordinate = draw.grid.coordinate(draw.xp, axis, draw.device)
            mask = mask & (coordinate >= start) & (coordinate < stop)
        return mask

    def _ranges(self, shape: Shape) -> list[tuple[int, int]]:
        if len(self.index) > len(shape):
            raise ValueError(f"an index of {len(self.index)} axes is too long for shape {shape}")
        return [_range(bound, size) for bound, size in zip(self.index, shape, strict=False)]


def _bound(item: Any) -> Bound:
    if isinstance(item, slice):
        if item.step not in (None, 1):
            raise ValueError(f"a slice must have no step, got {item}")
        return _end(item.start), _end(item.stop)
    if isinstance(item, tuple) and len(item) == 2:
        return _end(item[0]), _end(item[1])
    return operator.index(item)


def _end(value: Any) -> int | None:
    return None if value is None else operator.index(value)


def _range(bound: Bound, size: int) -> tuple[int, int]:
    if isinstance(bound, tuple):
        return slice(*bound).indices(size)[:2]
    if not -size <= bound < size:
        raise ValueError(f"index {bound} is out of bounds for a size of {size}")
    return bound % size, bound % size + 1


def _check_initializer(value: Any) -> None:
    if not isinstance(value, Initializer):
        raise TypeError(f"a portinit initializer is needed, got {type(value).__name__}")
