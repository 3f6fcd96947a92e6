"""Arrays of any framework in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from portinit.arrays.dtypes import dtype_name, numpy_dtype

Array = np.ndarray[Any, Any]


def to_numpy(array: Any) -> Array:
    """An array of any framework in NumPy, its bits kept; bfloat16 and float8 by ml_dtypes."""
    if not hasattr(array, "detach"):
        return np.asarray(array)
    import torch

    tensor = array.detach().cpu().resolve_conj().resolve_neg().contiguous()
    dtype = numpy_dtype(dtype_name(tensor.dtype))
    if dtype.isbuiltin == 1:
        return np.asarray(tensor.numpy())
    integers = {1: torch.int8, 2: torch.int16}[dtype.itemsize]
    return np.asarray(tensor.view(integers).numpy()).view(dtype)
