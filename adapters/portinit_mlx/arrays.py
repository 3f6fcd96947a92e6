"""Functions such as ``mlx.nn.init`` gives, from an array to another that takes its place."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import mlx.core as mx
import numpy as np

from portinit import Initializer, Key, Layout
from portinit.arrays.convert import to_numpy
from portinit.backends.numpy import NUMPY
from portinit.backends.registry import words_of
from portinit_mlx.backend import from_numpy

KERNEL = Layout(axis0=(0,), axis1=(-1,))
"""How MLX's layers hold a kernel: outputs first and inputs last, (out, ..., in)."""


def init_fn(
    values: Initializer, key: Any, *, layout: Layout | str = KERNEL
) -> Callable[[mx.array], mx.array]:
    """Make a function for ``Module.apply`` out of one of portinit's initializers.

    The n-th array that the function is given draws with ``key.fold_in(n)``, from 0 on, so that
    layers of one shape differ. :func:`initialize` draws by names instead.

    Args:
        values: portinit's initializer.
        key: a :class:`portinit.Key`, or a key of ``mx.random.key``.
        layout: how the arrays' axes map to PyTorch's; by default as MLX's kernels do.

    Returns:
        A function from an array to one of its shape and dtype.

    Raises:
        TypeError: ``values`` is no initializer of portinit's, or the key is none.

    >>> import mlx.core as mx, mlx.nn as nn
    >>> import portinit, portinit_mlx
    >>> init_fn = portinit_mlx.init_fn(portinit.normal(std=0.02), portinit.key(0))
    >>> layer = nn.Linear(3, 4).apply(init_fn)
    >>> init_fn(mx.zeros((2, 2), mx.bfloat16)).dtype
    mlx.core.bfloat16
    """
    if not isinstance(values, Initializer):
        raise TypeError(
            f"an initializer of portinit's is needed, such as portinit.he_normal(), got {values!r}"
        )
    root, numbers = Key(*words_of(key, NUMPY)), count()

    def fill(array: mx.array) -> mx.array:
        child = root.fold_in(next(numbers))
        filled: mx.array = values(child, array.shape, array.dtype, xp=mx, layout=layout)
        return filled

    return fill


def as_mlx(array: Any) -> mx.array:
    """An array of any framework as MLX's; float64, which GPUs lack, as float32."""
    if isinstance(array, mx.array):
        return array
    values = to_numpy(array)
    is_wide = values.dtype == np.float64
    return from_numpy(values, mx.float32 if is_wide else getattr(mx, values.dtype.name))
