"""Initializers of given values: arrays, and tensors out of files."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from portinit.arrays.convert import Array, converted, overflows, to_numpy
from portinit.arrays.dtypes import FORMATS, REAL_FORMATS, numpy_dtype
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout, Shape, as_layout, as_shape, layout_or_name
from portinit.arrays.weight_files import read_tensor, stored_tensor, verify_tensor
from portinit.backends.plan import Hosted
from portinit.initializers.base import Initializer


class Given(Initializer):
    """Values that are there already, in PyTorch's order, whatever the key."""

    lasting: ClassVar[bool] = True
    """Whether the values stay what they are."""

    def given_shape(self) -> Shape:
        """The values' shape in PyTorch; a ValueError if there are no such values."""
        raise NotImplementedError

    def array(self) -> Array:
        """The values, in PyTorch's order."""
        raise NotImplementedError

    def verify(self, dtype: str) -> None:
        """Raise a ValueError if the values cannot be read, or are not numbers of the dtype."""
        raise NotImplementedError

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Hosted:
        given = self.given_shape()
        if given != grid.shape:
            raise ValueError(f"given values must have the shape to fill, {grid.shape}; got {given}")
        self.verify(dtype)
        return Hosted(scaled_array, (self, factor), lasting=self.lasting)


def scaled_array(given: Given, factor: float) -> Array:
    """Given values in PyTorch's order, times a factor in double precision."""
    return times(given.array(), factor)


def times(array: Array, factor: float) -> Array:
    """An array times a factor, in double precision unless the factor is 1."""
    if factor == 1:
        return array
    with np.errstate(over="ignore"):
        return np.asarray(array * np.result_type(array.dtype, np.float64).type(factor))


@dataclass(frozen=True)
class assigned(Given):
    """Given values; made by :func:`assign`."""

    dtype: str
    shape: Shape
    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        dtype, count = numpy_dtype(self.dtype), math.prod(as_shape(self.shape))
        if dtype.hasobject or len(self.data) != count * dtype.itemsize:
            raise ValueError(
                f"data must be {count} numbers, got {len(self.data)} bytes of dtype {dtype}"
            )

    def __str__(self) -> str:
        return f"assigned({'x'.join(map(str, self.shape))} {numpy_dtype(self.dtype).name})"

    def given_shape(self) -> Shape:
        return tuple(self.shape)

    def array(self) -> Array:
        return np.frombuffer(self.data, dtype=numpy_dtype(self.dtype)).reshape(self.shape)

    def verify(self, dtype: str) -> None:
        if dtype not in FORMATS or self.array().dtype.kind == "c":  # others are always converted
            converted(self.array(), dtype)


@dataclass(frozen=True)
class from_file(Given):
    """A tensor out of a weight file, read when the initializer is called.

    The file may be safetensors, NumPy's ``.npz`` or ``torch.save``'s; its first bytes tell. Nothing
    in it is executed: a pickle that holds more than tensors in plain containers is refused.

    Args:
        file: the file's path.
        name: the tensor's name there.
        layout: how the tensor lies in the file: ``"torch"``, ``"flax"`` for a kernel that was saved
            from Flax, or another :class:`portinit.Layout`.
        section: for ``torch.save``'s, the keys that lead to the state_dict: ``"model"``,
            ``"trainer.state_dict"``.

    Raises:
        ValueError: when called with another shape than the tensor's; for a dtype that cannot hold
            its values (complex numbers for a real dtype, 1e300 for float32); or if the file does
            not hold the tensor, is damaged, or would have to be executed.
        OSError: when called, if the file cannot be read.

    >>> import tempfile
    >>> import portinit
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/weights.npz", **{"fc.weight": np.ones((2, 3))})
    ...     weight = from_file(f"{folder}/weights.npz", "fc.weight")
    ...     weight(portinit.key(0), (2, 3), layout="torch").shape
    (2, 3)
    """

    file: str
    name: str
    layout: Layout | str = "torch"
    section: str = ""
    lasting: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", os.fspath(self.file))
        object.__setattr__(self, "layout", layout_or_name(self.layout))

    def given_shape(self) -> Shape:
        shape = stored_tensor(self.file, self.name, self.section).shape
        return as_layout(self.layout).logical_shape(shape)

    def array(self) -> Array:
        values = read_tensor(self.file, self.name, self.section)
        return np.asarray(as_layout(self.layout).to_torch(values))

    def verify(self, dtype: str) -> None:
        state = os.stat(self.file)
        _verify_once(self, dtype, state.st_mtime_ns, state.st_size)


@dataclass(frozen=True)
class from_safetensors(Given):
    """A tensor out of a safetensors file; :class:`from_file` does more.

    Args:
        file: the file's path.
        name: the tensor's name there. Its values are in PyTorch's order.

    Raises:
        ValueError, OSError: when called, as for :class:`from_file`.

    >>> import tempfile
    >>> import portinit
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file({"bias": np.ones(3, np.float32)}, f"{folder}/w.safetensors")
    ...     from_safetensors(f"{folder}/w.safetensors", "bias")(portinit.key(0), (3,)).tolist()
    [1.0, 1.0, 1.0]
    """

    file: str
    name: str
    lasting: ClassVar[bool] = False

    def given_shape(self) -> Shape:
        return from_file(self.file, self.name).given_shape()

    def array(self) -> Array:
        return from_file(self.file, self.name).array()

    def verify(self, dtype: str) -> None:
        from_file(self.file, self.name).verify(dtype)


@lru_cache(maxsize=4096)
def _verify_once(tensor: from_file, dtype: str, *_: int) -> None:
    """Verify a tensor of a file; further arguments tell one state of the file from another."""
    place = tensor.file, tensor.name, tensor.section
    verify_tensor(*place)
    stored = stored_tensor(*place).dtype
    if stored == dtype or (stored in FORMATS and stored in _HOLDS.get(dtype, ())):
        return
    values = read_tensor(*place)
    try:
        converted(values, dtype)
    except ValueError as error:
        raise ValueError(f"{tensor.file}: {tensor.name}, of {stored}: {error}") from error
    if count := overflows(values, dtype):
        raise ValueError(
            f"{tensor.file}: {tensor.name}, of {stored}, has {count} numbers that are too large "
            f"for {dtype}"
        )


_HOLDS = {
    "float64": REAL_FORMATS,
    "float32": REAL_FORMATS - {"float64"},
    "complex128": frozenset(FORMATS),
    "complex64": frozenset(FORMATS) - {"float64", "complex128"},
}
"""Which formats' numbers the wider ones hold, however large."""


def assign(values: Any, layout: Layout | str = "torch") -> Initializer:
    """Make an initializer that gives these values, whatever the key: another layer's, for one.

    They are converted to the dtype that is asked for, each rounded once; a number that is too large
    for it becomes its largest.

    Args:
        values: an array of any framework, a parameter of PyTorch's or Flax's, or nested lists of
            numbers. They are copied.
        layout: how they lie: as in PyTorch, ``"flax"`` for a Flax kernel, or another
            :class:`portinit.Layout`.

    Returns:
        The initializer, which holds a copy of the values.

    Raises:
        TypeError: values that are no numbers, or a PyTorch tensor that is not dense.
        ValueError: when called with another shape than the values', or for a dtype that lacks them:
            complex numbers for a real one, fractions for integers.

    >>> import portinit
    >>> portinit.assign([[1, 2], [3, 4]])(portinit.key(0), (2, 2), layout="torch")
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    array = np.asarray(as_layout(layout).to_torch(to_numpy(values)))
    if array.dtype.hasobject or array.dtype.kind in "USMm":
        raise TypeError(f"values must be numbers, got dtype {array.dtype}")
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return assigned(array.dtype.name, array.shape, array.tobytes())
