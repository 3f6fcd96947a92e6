"""Initializers made of others: scaled, blocks, where."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Shape
from portinit.backends.base import Request
from portinit.backends.plan import Mask, Piece, Pieces, Plan, Select
from portinit.initializers.base import Initializer, Parameter
from portinit.initializers.numbers import as_int, set_floats


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
        set_floats(self, "factor")
        if not math.isfinite(self.factor):
            raise ValueError(f"factor must be a finite number, got {self.factor}")

    def draws_with(self, parameter: Parameter) -> str | None:
        return self.initializer.draws_with(parameter)

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        return self.initializer.planned(grid, dtype, self.factor * factor)


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
            sizes = tuple(as_int("sizes", size) for size in self.sizes)
            if len(sizes) != len(self.initializers) or min(sizes) < 0:
                raise ValueError(
                    f"sizes must be {len(self.initializers)} numbers, 0 or more; got {sizes}"
                )
            object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "axis", as_int("axis", self.axis))

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Pieces:
        pieces = []
        for initializer, start, stop in self.extents(grid):
            block = grid.frame(self.axis, start, stop)
            pieces.append(Piece(start, stop, initializer.planned(block, dtype, factor)))
        return Pieces(self.axis, tuple(pieces))

    def extents(self, grid: Grid) -> Iterator[tuple[Initializer, int, int]]:
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


@dataclass(frozen=True)
class InRanges(Mask):
    """The elements whose coordinates lie in a range ``start <= coordinate < stop`` on each axis.

    Attributes:
        ranges: of PyTorch's first axes; the others are whole.
    """

    ranges: tuple[tuple[int, int], ...]

    def at(self, request: Request) -> Any:
        grid, xp, device = request.grid, request.xp, request.device
        mask: Any = xp.ones((1,) * len(grid.axes), dtype=xp.bool, device=device)
        for axis, (start, stop) in enumerate(self.ranges):
            coordinate = grid.coordinate(xp, axis, device)
            mask = mask & (coordinate >= start) & (coordinate < stop)
        return mask


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

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Select:
        mask = self.mask(grid.shape)
        plans = (i.planned(grid, dtype, factor) for i in (self.inside, self.outside))
        return Select(mask, *plans)

    def mask(self, shape: Shape) -> InRanges:
        """Which elements of a parameter of PyTorch's shape are inside."""
        if len(self.index) > len(shape):
            raise ValueError(f"an index of {len(self.index)} axes is too long for shape {shape}")
        pairs = zip(self.index, shape, strict=False)
        return InRanges(tuple(_range(bound, size) for bound, size in pairs))


def _bound(item: Any) -> Bound:
    if isinstance(item, slice):
        if item.step not in (None, 1):
            raise ValueError(f"a slice must have no step, got {item}")
        return _end(item.start), _end(item.stop)
    if isinstance(item, tuple) and len(item) == 2:
        return _end(item[0]), _end(item[1])
    return as_int("index", item)


def _end(value: Any) -> int | None:
    return None if value is None else as_int("index", value)


def _range(bound: Bound, size: int) -> tuple[int, int]:
    if isinstance(bound, tuple):
        return slice(*bound).indices(size)[:2]
    if not -size <= bound < size:
        raise ValueError(f"index {bound} is out of bounds for a size of {size}")
    return bound % size, bound % size + 1


def _check_initializer(value: Any) -> None:
    if not isinstance(value, Initializer):
        raise TypeError(f"a portinit initializer is needed, got {type(value).__name__}")
