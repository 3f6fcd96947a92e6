"""From one of portinit's initializers to a tensor of the backend that Keras runs on."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import keras

import portinit
from portinit import Initializer, Layout
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
    if isinstance(seed, int) and not isinstance(seed, bool):
        portinit.key(seed)
        return seed
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
    """A tensor of Keras's backend: JAX and torch draw it themselves, others take NumPy's."""
    name = keras.backend.standardize_dtype(dtype)
    framework = keras.backend.backend()
    if framework == "jax":
        jnp = importlib.import_module("jax.numpy")
        return initializer(key, shape, name, xp=jnp, layout=layout)
    if framework == "torch":
        torch = importlib.import_module("torch")
        device = keras.ops.zeros(()).device  # the one that Keras is using now
        return initializer(key, shape, name, xp=torch, device=device, layout=layout)
    values = initializer(key, shape, name, layout=layout)
    return keras.ops.convert_to_tensor(values, name)
