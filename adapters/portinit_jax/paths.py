"""Paths of a pytree's leaves, as words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax

from portinit.recipes.matching.trees.leaf import Path


def path_of(keys: Iterable[Any]) -> Path:
    """The words of a leaf's path, as JAX gives it: keys, numbers and names of attributes."""
    words = []
    for key in keys:
        kind = type(key)
        word = getattr(key, _WORDS[kind]) if kind in _WORDS else key
        words.append(str(word))
    return tuple(words)


_WORDS: dict[type, str] = {
    jax.tree_util.DictKey: "key",
    jax.tree_util.FlattenedIndexKey: "key",
    jax.tree_util.SequenceKey: "idx",
    jax.tree_util.GetAttrKey: "name",
}
"""Where each kind of JAX's keys has its word."""
