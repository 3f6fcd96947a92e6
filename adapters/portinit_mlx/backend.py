"""What the core asks of MLX: arrays that NumPy fills, in MLX's dtypes, and MLX's keys.

Arrays of MLX lie in memory that the CPU and the GPU share, so values that NumPy's kernels write
need no transfer: making one of MLX's arrays is a copy of the bytes.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from portinit.backends.base import Backend, Request, Words, key_words
from portinit.backends.numpy import NUMPY
from portinit.backends.plan import Plan


class MlxBackend(Backend):
    """MLX's arrays, of which NumPy computes the values."""

    def native_dtype(self, name: str) -> Any:
        dtype = getattr(mx, name, None)
        if not isinstance(dtype, mx.Dtype):
            raise TypeError(f"MLX has no dtype {name}; it has {', '.join(_FLOATS)}")
        return dtype

    def words(self, key: Any) -> Words:
        if isinstance(key, mx.array):
            return key_words(np.asarray(key))
        return key_words(key)

    def execute(self, plan: Plan, request: Request, out: Any = None) -> Any:
        native = self.native_dtype(request.dtype)
        if request.device is not None:
            raise TypeError(
                "an array of MLX lies on no device, an operation runs on one; leave device out, "
                f"got {request.device!r}"
            )
        host = request._replace(backend=NUMPY, words=self.known_words(request.words))
        return from_numpy(NUMPY.execute(plan, host), native)


_FLOATS = ("float32", "float16", "bfloat16", "float64", "complex64")


def from_numpy(array: np.ndarray[Any, Any], native: Any) -> mx.array:
    """One of MLX's arrays of a dtype, from NumPy's of the dtype of that name."""
    if native == mx.bfloat16:  # which NumPy's buffers have no letter for
        return mx.array(array.view(np.uint16)).view(mx.bfloat16)
    return mx.array(array, native)


BACKEND = MlxBackend(mx)
