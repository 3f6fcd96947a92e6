"""Functions of each element, as a version of PyTorch computes them on this machine.

In float32 and float64 PyTorch calls MKL for these, and so do they where its library is at hand.
Else, and in 16 bits, they are computed in float64 and rounded, which in 16 bits is PyTorch's
result, too: tried on all numbers, but for the sines of two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from portinit.replay.torch_math import inverse_erf, mkl

Array = np.ndarray[Any, Any]
Version = tuple[int, int]

_DOUBLE: dict[str, Callable[[Array], Array]] = {
    "cos": np.cos,
    "erfinv": inverse_erf.erfinv,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
}

NAMES = frozenset(_DOUBLE)
"""The functions by PyTorch's names."""


def rounded(name: str, x: Array) -> Array:
    """A function computed in float64 and rounded to the dtype of its argument."""
    with np.errstate(all="ignore"):
        wide = np.complex128 if x.dtype.kind == "c" else np.float64
        values = _DOUBLE[name](x.reshape(-1).astype(wide))
        return np.asarray(values).astype(x.dtype).reshape(x.shape)


def function(name: str, x: Array, version: Version) -> Array:
    """A function as PyTorch computes it, or where MKL is missing :func:`rounded`."""
    if x.dtype.kind == "c":
        return rounded(name, x)
    if x.dtype.name not in ("float32", "float64"):
        with np.errstate(over="ignore"):
            return rounded(name, x.astype(np.float32)).astype(x.dtype)
    library = mkl.find(version)
    return rounded(name, x) if library is None else library.function(name, x)
