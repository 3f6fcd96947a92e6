"""Initializers of given values: arrays, and tensors out of files."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from portinit.backends import Draw
from portinit.base import Initializer
from portinit.dtypes import numpy_dtype
from portinit.grids import Grid, place
from portinit.layouts import Shape, as_shape


@dataclass(frozen=True)
class assigned(Initializer):
    """Given values; made by :func:`assign`."""

    dtype: str
    shape: Shape
    data: bytes = field(repr=False)
    independent: ClassVar[bool] = False
    on_host: ClassVar[bool] = True  # data is no part of a compiled computation

    def check(self, grid: Grid, dtype: str) -> None:
        _require_shape(self.shape, grid.shape)

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        return place_given(draw, self.array(), factor)

    def __post_init__(self) -> None:
        dtype, count = numpy_dtype(self.dtype), math.prod(as_shape(self.shape))
        if dtype.hasobject or len(self.data) != count * dtype.itemsize:
            raise ValueError(
                f"data must be {count} numbers, got {len(self.data)} bytes of dtype {dtype}"
            )

    def __str__(self) -> str:
        return f"assigned({'x'.join(map(str, self.shape))} {numpy_dtype(self.dtype).name})"

    def array(self) -> np.ndarray[Any, Any]:
        """The values, in PyTorch's order."""
        return np.frombuffer(self.data, dtype=numpy_dtype(self.dtype)).reshape(self.shape)


@dataclass(frozen=True)
class from_safetensors(Initializer):
    """A tensor out of a safetensors file, read when the initializer is called.

    Args:
        file: the file's path.
        name: the tensor's name there. Its values are in PyTorch's order.
    """

    file: str
    name: str
    independent: ClassVar[bool] = False
    on_host: ClassVar[bool] = True

    def check(self, grid: Grid, dtype: str) -> None:
        _require_shape(self._read().shape, grid.shape)

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        return place_given(draw, self._read(), factor)

    def _read(self) -> np.ndarray[Any, Any]:
        from safetensors import safe_open  # an extra: not for the core to need

        with safe_open(self.file, framework="numpy") as tensors:
            names = sorted(tensors.keys())
            if self.name not in names:
                known = ", ".join(names)
                raise ValueError(f"{self.file} holds {known}; got the name {self.name!r}")
            values: np.ndarray[Any, Any] = tensors.get_tensor(self.name)
            return values


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
    if array.dtype.hasobject or array.dtype.kind in "USMm":
        raise TypeError(f"values must be numbers, got dtype {array.dtype}")
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return assigned(array.dtype.name, np.shape(values), array.tobytes())


def _require_shape(given: Shape, wanted: Shape) -> None:
    if tuple(given) != wanted:
        raise ValueError(f"given values must have the shape to fill, {wanted}; got {given}")


def place_given(draw: Draw, array: np.ndarray[Any, Any], factor: float) -> Any:
    """A NumPy array in PyTorch's order as the draw's array, times a factor."""
    if factor != 1:
        array = array * factor
    if array.dtype.kind == "V":  # of ml_dtypes, which not every namespace takes
        array = array.astype(np.float32)
    if array.dtype == np.float64 and draw.dtype != "float64":
        array = array.astype(np.float32)  # what every namespace can hold
    # A copy: nobody may write into the initializer's own values.
    values = draw.backend.cast(draw.xp.asarray(array.copy(), device=draw.device), draw.dtype)
    return place(draw.xp, values, draw.grid)
