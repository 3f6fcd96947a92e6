"""Keys of JAX and of portinit, one as the other."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from portinit import Key
from portinit.keys import fold_words
from portinit_jax.backend import key_data


def as_key(key: Any) -> Any:
    """A :class:`portinit.Key` where the words are known; a traced JAX key stays what it is.

    Raises:
        TypeError: not a portinit.Key nor a JAX threefry key.
    """
    if not isinstance(key, jax.Array):
        return key
    data = key_data(key)
    if isinstance(data, jax.core.Tracer):
        return jax.random.wrap_key_data(data, impl="threefry2x32")
    high, low = np.asarray(data).tolist()
    return Key(high, low)


def fold_in(key: Any, name: str) -> Any:
    """``key.fold_in(name)`` for a portinit.Key, or the same words for a traced JAX key."""
    if isinstance(key, Key):
        return key.fold_in(name)
    for word in fold_words(name):
        key = jax.random.fold_in(key, word)
    return key
