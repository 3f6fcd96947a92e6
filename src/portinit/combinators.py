"""Initializers made of others: blocks, scaled, where, assign."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from portinit.backends import Draw
from portinit.base import Initializer
from portinit.grids import place
from portinit.layouts import Shape


@dataclass(frozen=True)
class scaled(Initializer):
    """``factor`` times an initializer's values.

    The factor joins the initializer's own constants, so the result is rounded once: a residual
    projection divided by sqrt(2 * layers) is bit-identical everywhere. A negative factor mirrors a
    random initializer's distribution.

    Args:
        initializer: what to scale.
        factor: a finite number.

    >>> scaled(normal(std=0.02), 0.5)(portinit.key(0), (2,)) == normal(std=0.01)(portinit.key(0), (2,))
    array([ True,  True])
    """

    initializer: Initializer
    factor: float

    def __post_init__(self) -> None:
        _check_initializer(self.initializer)
        if not math.isfinite(self.factor):
            raise ValueError(f"factor must be a finite number, got {self.factor}")

    @property
    def elementwise(self) -> bool:  # type: ignore[override]
        return self.initializer.elementwise

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

    @property
    def elementwise(self) -> bool:  # type: ignore[override]
        return all(initializer.elementwise for initializer in self.initializers)

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        shape = draw.grid.shape
        if not 0 <= self.axis < len(shape):
            raise ValueError(f"blocks along axis {self.axis} need that axis, got shape {shape}")
        pieces, start, along = [], 0, 0
        for initializer, size in zip(
            self.initializers, self._sizes(shape[self.axis]), strict=True
        ):
            grid, along, positions = draw.grid.block(self.axis, start, start + size)
            piece = initializer.values(draw.on(grid), factor)
            pieces.append((positions.start, piece))
            start += size
        # A flipped axis holds the blocks in reverse.
        ordered = [piece for _, piece in sorted(pieces, key=operator.itemgetter(0))]
        return draw.xp.concat(ordered, axis=along)

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

    @property
    def elementwise(self) -> bool:  # type: ignore[override]
        return self.inside.elementwise and self.outside.elementwise

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        mask = self._mask(draw)
        inside, outside = (i.values(draw, factor) for i in (self.inside, self.outside))
        return draw.xp.where(mask, inside, outside)

    def _mask(self, draw: Draw) -> Any:
        shape = draw.grid.shape
        if len(self.index) > len(shape):
            raise ValueError(f"an index of {len(self.index)} axes is too long for shape {shape}")
        mask: Any = draw.xp.ones((1,) * len(shape), dtype=draw.xp.bool, device=draw.device)
        for axis, bound in enumerate(self.index):
            chosen = slice(*bound) if isinstance(bound, tuple) else _row(bound, shape[axis])
            start, stop, _ = chosen.indices(shape[axis])
            coordinate = draw.grid.coordinate(draw.xp, axis, draw.device)
            mask = mask & (coordinate >= start) & (coordinate < stop)
        return mask


def _bound(item: Any) -> Bound:
    if isinstance(item, slice):
        if item.step not in (None, 1):
            raise ValueError(f"a slice must have no step, got {item}")
        return item.start, item.stop
    if isinstance(item, tuple) and len(item) == 2:
        return item[0], item[1]
    return operator.index(item)


def _row(number: int, size: int) -> slice:
    if not -size <= number < size:
        raise ValueError(f"index {number} is out of bounds for a size of {size}")
    return slice(number % size, number % size + 1)


@dataclass(frozen=True)
class assigned(Initializer):
    """Given values; made by :func:`assign`."""

    dtype: str
    shape: Shape
    data: bytes = field(repr=False)
    elementwise: ClassVar[bool] = False

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        return _place_given(draw, self.array(), factor)

    def array(self) -> np.ndarray[Any, Any]:
        """The values, in PyTorch's order."""
        return np.frombuffer(self.data, dtype=self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class from_safetensors(Initializer):
    """A tensor out of a safetensors file, read when the initializer is called.

    Args:
        file: the file's path.
        name: the tensor's name there. Its values are in PyTorch's order.
    """

    file: str
    name: str
    elementwise: ClassVar[bool] = False

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        from safetensors.numpy import safe_open  # noqa: PLC0415 (an extra, not for the core)

        with safe_open(self.file, framework="numpy") as tensors:
            if self.name not in tensors.keys():  # noqa: SIM118 (not a mapping)
                names = ", ".join(sorted(tensors.keys()))
                raise ValueError(f"{self.file} holds {names}; got the name {self.name!r}")
            return _place_given(draw, tensors.get_tensor(self.name), factor)


def assign(values: Any) -> Initializer:
    """An initializer that gives these values, in PyTorch's shape and order, whatever the key.

    Args:
        values: an array or nested lists of numbers.

    Raises:
        ValueError, when called: another shape than the values'.

    >>> import portinit
    >>> portinit.assign([[1, 2], [3, 4]])(portinit.key(0), (2, 2), layout="torch")
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    array = np.ascontiguousarray(values)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"values must be numbers, got dtype {array.dtype}")
    return assigned(array.dtype.str, np.shape(values), array.tobytes())


def _place_given(draw: Draw, array: np.ndarray[Any, Any], factor: float) -> Any:
    if array.shape != draw.grid.shape:
        raise ValueError(f"given values have shape {array.shape}, got {draw.grid.shape} to fill")
    if factor != 1:
        array = array * factor
    if array.dtype == np.float64 and draw.dtype != "float64":
        array = array.astype(np.float32)  # what every namespace can hold
    values = draw.backend.cast(draw.xp.asarray(array, device=draw.device), draw.dtype)
    return place(draw.xp, values, draw.grid)


def _check_initializer(value: Any) -> None:
    if not isinstance(value, Initializer):
        raise TypeError(f"a portinit initializer is needed, got {type(value).__name__}")
