"""Arrays of any framework in NumPy, and numbers of one dtype in another."""

from __future__ import annotations

from typing import Any

import numpy as np

from portinit.arrays.dtypes import FORMATS, dtype_name, is_dtype, numpy_dtype

Array = np.ndarray[Any, Any]


def to_numpy(array: Any) -> Array:
    """Convert an array of any framework to NumPy, bit for bit; bfloat16 and float8 by ml_dtypes.

    Raises:
        TypeError: a PyTorch tensor that is not dense, or of a dtype that NumPy and ml_dtypes lack.
        ValueError: a PyTorch tensor without values, on the meta device.
    """
    if hasattr(array, "detach"):
        return _from_torch(array)
    framework = type(array).__module__.partition(".")[0]
    if framework == "cupy":
        array = array.get()  # cupy converts nothing to NumPy unasked
    if framework == "mlx" and dtype_name(array.dtype) == "bfloat16":
        import mlx.core as mx  # whose buffers have no letter for it

        return np.asarray(array.view(mx.uint16)).view(numpy_dtype("bfloat16"))
    return np.asarray(array)


def _from_torch(tensor: Any) -> Array:
    import torch

    require_values(tensor)
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    dtype = numpy_dtype(dtype_name(tensor.dtype))
    if dtype.isbuiltin == 1:
        return np.asarray(plain.numpy())
    integers = {1: torch.uint8, 2: torch.int16}[dtype.itemsize]
    return np.asarray(plain.view(integers).numpy()).view(dtype)


def require_values(tensor: Any) -> None:
    """Raise what :func:`to_numpy` would of a PyTorch tensor, reading none of its values."""
    import torch

    name = dtype_name(tensor.dtype)
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        kind = "quantized" if tensor.is_quantized else dtype_name(tensor.layout)
        kind = "nested" if tensor.is_nested else kind
        raise TypeError(f"a tensor must be dense, got a {kind} one; call .to_dense() and the like")
    if not is_dtype(name):
        raise TypeError(f"a tensor must be of a dtype that NumPy or ml_dtypes has, got {name}")
    if tensor.is_meta:
        raise ValueError("a tensor must have values, got one on the meta device")


def converted(array: Array, dtype: str) -> Array:
    """Convert numbers to a dtype, each rounded once; what overflows is the largest number.

    Args:
        array: numbers of any dtype.
        dtype: the name of the dtype to convert to. For complex32, which NumPy lacks, the numbers
            are complex64 and within its range.

    Returns:
        The array itself if it is of the dtype, else a new one.

    Raises:
        ValueError: complex numbers for a real dtype, or numbers that an integer dtype lacks.
    """
    if dtype == "complex32":
        return _within(converted(array, "complex64").copy(), FORMATS[dtype].largest)
    target = numpy_dtype(dtype)
    if array.dtype == target:
        return array
    if array.dtype.kind == "c" and target.kind != "c":
        raise ValueError(f"complex numbers cannot fill an array of {dtype}")
    with np.errstate(all="ignore"):
        if dtype not in FORMATS:
            return _whole(array, target)
        if target.kind == "c":
            return _saturated(array, target)
        through = np.float64 if dtype == "float64" else np.float32  # as PyTorch rounds, and JAX
        return _saturated(_saturated(array, np.dtype(through)), target)


def _within(values: Array, largest: float) -> Array:
    """Complex numbers, their finite parts clipped in place."""
    for part in (values.real, values.imag):
        np.clip(part, -largest, largest, out=part, where=np.isfinite(part))
    return values


def _whole(array: Array, target: np.dtype[Any]) -> Array:
    """Numbers as integers or booleans that are equal to them."""
    values = array.astype(target)
    bounds = (0, 1) if target.kind == "b" else (np.iinfo(target).min, np.iinfo(target).max)
    inside = [bounds[0] <= value <= bounds[1] for value in _extremes(array)]
    if not (all(inside) and np.array_equal(values.astype(array.dtype), array)):
        raise ValueError(f"numbers for an array of {target.name} must be integers that it has")
    return values


def _extremes(array: Array) -> tuple[int | float, ...]:
    """The smallest and the largest number, exactly."""
    if not array.size:
        return ()
    wide = array.astype(np.float64) if array.dtype.kind not in "biu" else array
    return wide.min().item(), wide.max().item()


def _saturated(array: Array, target: np.dtype[Any]) -> Array:
    """Numbers in a floating dtype, finite ones that became infinite or NaN at its largest."""
    values = np.asarray(array.astype(target))
    if array.dtype == target or array.dtype.kind == "b":
        return values
    largest = FORMATS[target.name].largest
    parts = (np.real, np.imag) if target.kind == "c" else (np.asarray,)
    for part in parts:
        mine, given = part(values), part(array)
        over = ~np.isfinite(mine) & np.isfinite(given)
        if over.any():
            mine[over] = np.copysign(largest, given[over].astype(np.float64))
    return values


def overflows(array: Array, dtype: str) -> int:
    """How many finite numbers of an array a floating dtype cannot hold; rounding is no matter."""
    if dtype not in FORMATS or array.dtype.kind == "b":
        return 0
    parts = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}
    target = numpy_dtype(parts.get(dtype, dtype))
    through = np.dtype(np.float64 if target == np.float64 else np.float32)
    count = 0
    with np.errstate(all="ignore"):
        for part in (np.real, np.imag) if array.dtype.kind == "c" else (np.asarray,):
            numbers = part(array)
            rounded = numbers.astype(through).astype(target)
            count += int(np.count_nonzero(~np.isfinite(rounded) & np.isfinite(numbers)))
    return count
