"""Arrays of any framework in NumPy, and where two of them differ."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from portinit.arrays.convert import Array as Array
from portinit.arrays.convert import to_numpy as to_numpy


def as_double(array: Array) -> Array:
    """The values in float64, or in complex128."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def differing(a: Array, b: Array, tolerance: float = 0.0) -> Array:
    """Where two arrays of one shape differ: in any bit, or by more than a tolerance.

    Numbers of different floating dtypes differ in their bits. Integers are compared as numbers.
    """
    if tolerance:
        with np.errstate(invalid="ignore"):
            near = np.abs(as_double(a) - as_double(b)) <= tolerance
        return np.asarray(~(near | (a == b) | (np.isnan(as_double(a)) & np.isnan(as_double(b)))))
    if a.dtype == b.dtype:
        return np.asarray((_bytes_of(a) != _bytes_of(b)).any(axis=-1))
    integers = a.dtype.kind in "biu" and b.dtype.kind in "biu"
    return np.asarray(a != b) if integers else np.full(a.shape, fill_value=True)


def _bytes_of(array: Array) -> Array:
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return flat.reshape(*array.shape, array.dtype.itemsize)


def has_values(array: Any) -> bool:
    """Whether there are values behind a shape: not of ``jax.eval_shape``, not on ``meta``."""
    abstract = not hasattr(array, "__array__") and hasattr(array, "dtype")
    return not (abstract or getattr(array, "is_meta", False))


def described(
    a: Array, b: Array, where: Array, sides: tuple[str, str] = ("in PyTorch", "in Flax")
) -> str:
    """How many elements differ, by how much, and the first of them."""
    first = tuple(np.argwhere(where)[0].tolist())
    with np.errstate(invalid="ignore"):
        largest = np.abs(as_double(a) - as_double(b))[where].max()
    return (
        f"{np.count_nonzero(where)} of {where.size} elements differ, by at most {largest:.3g}; "
        f"the first at {list(first)}: {a[first]!s} {sides[0]}, {b[first]!s} {sides[1]}"
    )


def scipy_stats() -> Any:
    """scipy.stats, or an ImportError that says what to install."""
    try:
        return importlib.import_module("scipy.stats")
    except ImportError as error:
        message = "assertions on distributions need scipy: pip install 'portinit[proof]'"
        raise ImportError(message) from error
