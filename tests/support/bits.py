"""Arrays of every framework, compared bit for bit."""

from typing import Any

import jax.numpy
import numpy as np
import torch
from numpy.typing import NDArray


def to_numpy(array: Any) -> NDArray[Any]:
    """An array in NumPy, bits kept; bfloat16 by ml_dtypes. Written apart from portinit's own."""
    if isinstance(array, torch.Tensor):
        array = array.detach().contiguous()
        if array.dtype == torch.bfloat16:
            words: NDArray[Any] = array.view(torch.int16).numpy()
            return words.view(jax.numpy.bfloat16)
    return np.asarray(array)


def bits(array: Any) -> tuple[str, tuple[int, ...], bytes]:
    """The dtype, shape and bytes of an array: equal only if every bit is, minus zeros included."""
    values = to_numpy(array)
    return values.dtype.name, values.shape, values.tobytes()


def same_bits(a: Any, b: Any) -> bool:
    """Whether two arrays have one dtype, one shape and the same bytes."""
    return bits(a) == bits(b)
