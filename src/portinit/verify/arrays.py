"""Arrays of every framework as NumPy's, and the distance between two of them."""

from __future__ import annotations

import hashlib

import numpy as np

from portinit.arrays.convert import Array as Array
from portinit.arrays.convert import to_numpy as to_numpy


def same_bits(found: Array, expected: Array) -> bool:
    """Whether dtype, shape and every byte are equal."""
    alike = (found.dtype, found.shape) == (expected.dtype, expected.shape)
    return alike and found.tobytes() == expected.tobytes()


def digest(array: Array) -> str:
    """SHA-256 of the bytes, in C order, as a little-endian machine has them."""
    words = _words(array)
    return hashlib.sha256(words.astype(words.dtype.newbyteorder("<")).tobytes()).hexdigest()


def _words(array: Array) -> Array:
    """The bits of an array's real numbers, as unsigned integers; one axis."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype.kind == "c":
        flat = flat.view(f"f{flat.dtype.itemsize // 2}")
    return flat.view(f"u{flat.dtype.itemsize}")


def distance_in_ulp(found: Array, expected: Array) -> int:
    """The most numbers of the format that lie from one array's value to the other's."""
    first, second = (_places(array) for array in (found, expected))
    ahead, behind = np.maximum(first, second), np.minimum(first, second)
    return int((ahead - behind).max(initial=0))


def _places(array: Array) -> Array:
    """The place of each number among all of its format's, in order; both zeros share one."""
    words = _words(array)
    half = 1 << (8 * words.dtype.itemsize - 1)
    wide = words.astype(np.uint64)
    negative, size = wide >= half, wide & np.uint64(half - 1)
    return np.where(negative, np.uint64(half) - size, np.uint64(half) + size)


def absolute_distance(found: Array, expected: Array) -> float:
    """The largest absolute difference; infinite where either is no number."""
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    difference = np.abs(found.astype(wide) - expected.astype(wide))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))


def first_difference(found: Array, expected: Array) -> int:
    """The first element, counted in C order, whose bits differ."""
    shape = (expected.size, expected.dtype.itemsize)
    one, other = (
        np.frombuffer(np.ascontiguousarray(a).tobytes(), np.uint8).reshape(shape)
        for a in (found, expected)
    )
    return int(np.argmax((one != other).any(axis=1)))
