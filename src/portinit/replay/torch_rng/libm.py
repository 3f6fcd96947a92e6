"""The C library's functions, which some of torch's kernels call for one number at a time.

NumPy's own differ from them in the last bit of some percent of all numbers.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import math
from collections.abc import Callable
from functools import cache

import numpy as np

from portinit.replay.torch_rng.engines import Values

Function = Callable[[float], float]


def each(function: Function, x: Values) -> Values:
    """A function of each number, in the numbers' dtype."""
    return np.fromiter(map(function, x.tolist()), x.dtype, x.size)


def box_muller(first: Values, second: Values) -> tuple[Values, Values]:
    """Standard normals of float32 uniforms in (0, 1] and [0, 1), with float32 functions."""
    radius = np.sqrt(np.float32(-2) * each(_single("log"), first))
    angle = (2.0 * math.pi * second.astype(np.float64)).astype(np.float32)
    return radius * each(_single("cos"), angle), radius * each(_single("sin"), angle)


@cache
def _single(name: str) -> Function:
    """The float32 function of the C library, or else the double one (0.1 % differ)."""
    try:
        function = getattr(ctypes.CDLL(ctypes.util.find_library("m")), f"{name}f")
    except (OSError, AttributeError):
        double: Function = getattr(math, name)
        return double
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
    typed: Function = function
    return typed
