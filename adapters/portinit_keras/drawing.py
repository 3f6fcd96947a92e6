"""From one of portinit's initializers to a tensor of the backend that Keras runs on."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import portinit
from portinit import Initializer, Layout
from portinit.arrays.convert import to_numpy
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import as_layout, as_shape
from portinit.backends.numpy import NUMPY
from portinit.backends.registry import words_of


def as_seed(seed: Any) -> Any:
    """A seed as Keras keeps it: the number that a key is, a generator, or None.

    ``portinit.key(number)`` is one to one, so a key is kept in a configuration as its number.

    Raises:
        TypeError: no seed.
        ValueError: a number outside of [0, 2**64).
    """
    if seed is None or isinstance(seed, dict | keras.random.SeedGenerator):
        return seed  # a dict is a generator's configuration
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool):
        portinit.key(int(seed))
        return int(seed)
    try:
        high, low = words_of(seed, NUMPY)
    except TypeError:
        raise TypeError(
            "seed must be an int in [0, 2**64), a portinit.Key, a JAX key, a "
            f"keras.random.SeedGenerator or None, got {seed!r} of {type(seed).__name__}"
        ) from None
    return high << 32 | low


def key_of(seed: int | keras.random.SeedGenerator) -> Any:
    """The key of a call: the seed's own, or a generator's next."""
    if isinstance(seed, int):
        return portinit.key(seed)
    first, count = keras.ops.convert_to_numpy(seed.next()).tolist()
    return portinit.key(first).fold_in(count)


def draw(
    initializer: Initializer,
    key: Any,
    shape: Sequence[int],
    dtype: Any,
    layout: Layout | str | None = None,
) -> Any:
    """A tensor of Keras's backend with an initializer's values."""
    chosen = initializer.default_layout if layout is None else layout
    grid = Grid.whole(as_shape(shape), as_layout(chosen))
    return draw_grid(initializer, key, grid, keras.backend.standardize_dtype(dtype))


def draw_grid(initializer: Initializer, key: Any, grid: Grid, dtype: str) -> Any:
    """Like :func:`draw`; JAX and PyTorch draw it themselves, other backends take NumPy's."""
    framework = keras.backend.backend()
    if framework == "jax":
        return initializer.evaluate(key, grid, dtype, xp=importlib.import_module("jax.numpy"))
    if framework == "torch":
        device = keras.ops.zeros(()).device  # the one that Keras uses now
        torch = importlib.import_module("torch")
        return initializer.evaluate(key, grid, dtype, xp=torch, device=device)
    return to_tensor(initializer.evaluate(key, grid, dtype, xp=np), dtype)


def to_array(tensor: Any) -> np.ndarray[Any, Any]:
    """A variable or a tensor of Keras's backend in NumPy, bits kept."""
    return to_numpy(getattr(tensor, "value", tensor))


def to_tensor(values: np.ndarray[Any, Any], dtype: str) -> Any:
    """A tensor of Keras's backend with NumPy's values."""
    return keras.ops.convert_to_tensor(values, dtype)


def as_tensor(array: Any) -> Any:
    """An array of any framework as a tensor of Keras's backend; float64 as Keras's floatx."""
    values = to_numpy(array)
    is_float = values.dtype.kind == "f" and values.dtype.itemsize > 4
    return keras.ops.convert_to_tensor(values, keras.config.floatx() if is_float else None)
