"""The dtypes torch draws, as NumPy's, and what it takes to fill an array of one in blocks."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from portinit.arrays.dtypes import dtype_name
from portinit.replay.torch_rng.engines import Values

Version = tuple[int, int]
LATEST: Version = (2, 13)
"""The newest torch whose stream differs from those before it; later ones are as this one."""

_LOW = ("bfloat16", "float16")
_REAL = ("float32", "float64", *_LOW)
_PARTS = {"complex64": "float32", "complex128": "float64"}


def real_dtype(dtype: Any) -> str:
    """The name of a dtype's real and imaginary parts, or of the dtype where it is real."""
    name = dtype_name(dtype)
    if name not in (*_REAL, *_PARTS):
        allowed = ", ".join((*_REAL, *_PARTS))
        raise TypeError(f"dtype must be one of {allowed}; got {name}")
    return _PARTS.get(name, name)


def is_low(real: str) -> bool:
    """Whether a dtype is narrower than float32."""
    return real in _LOW


def is_complex(dtype: Any) -> bool:
    """Whether an element of the dtype is two numbers."""
    return dtype_name(dtype) in _PARTS


def native(name: str) -> np.dtype[Any]:
    """NumPy's dtype of a name; bfloat16's comes from ml_dtypes."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        ml_dtypes = importlib.import_module("ml_dtypes")
    except ImportError as error:
        message = "bfloat16 in NumPy needs the package ml_dtypes: pip install ml_dtypes"
        raise ImportError(message) from error
    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


def rounded(x: Any, real: str) -> Values:
    """Round to a dtype as C++ does: to bfloat16 and float16 by way of float32."""
    with np.errstate(over="ignore"):
        x = np.asarray(x)
        if is_low(real):
            x = x.astype(np.float32, copy=False)
        values: Values = x.astype(native(real), copy=False)
    return values


def stepwise(x: Any, real: str) -> Values:
    """The result of one operation on bfloat16 or float16, rounded, as float32 for the next."""
    return rounded(x, real).astype(np.float32)


def scalar(x: float, real: str) -> float:
    """A Python number rounded to a dtype."""
    return float(rounded(x, real))


def empty(n: int, dtype: Any) -> tuple[Values, Values]:
    """An array to fill, and the same memory as real numbers."""
    if n < 0:
        raise ValueError(f"n must be 0 or more, got {n}")
    out = np.empty(n, native(dtype_name(dtype)))
    return out, out.view(native(real_dtype(dtype)))
