"""Keys of JAX and of portinit, one as the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

from portinit import Key
from portinit.backends.base import Words, key_words
from portinit.random import words
from portinit.random.keys import fold_words
from portinit_jax.backend import key_data


def as_key(key: Any) -> Any:
    """A :class:`portinit.Key` where the words are known, or a traced key of threefry2x32.

    Raises:
        TypeError: not a portinit.Key, nor a JAX key of threefry2x32, rbg or unsafe_rbg.
    """
    if isinstance(key, Key):
        return key
    if not isinstance(key, jax.Array):
        return Key(*key_words(key))
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


def fold_in_each(key: Any, names: Sequence[str]) -> Words:
    """The words of ``key.fold_in(name)`` for each name: two vectors of int32."""
    if isinstance(key, Key):
        return words.fold_in_each(key, names)
    folded = np.array([fold_words(name) for name in names], np.uint32)
    for column in folded.T:
        one = jax.vmap(jax.random.fold_in, in_axes=(0 if key.ndim else None, 0))
        key = one(key, column)
    data = lax.bitcast_convert_type(jax.random.key_data(key), np.int32)
    return data[:, 0], data[:, 1]
