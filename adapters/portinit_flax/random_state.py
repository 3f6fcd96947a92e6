"""State that no recipe fills: an nnx module's random state, and arrays without values."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from portinit import Key
from portinit_flax.tree import FlatTree, paths_of
from portinit_jax.keys import as_key, fold_in


def without_values(model: Any, tree: FlatTree, filled: AbstractSet[int]) -> Iterator[str]:
    """A line for each array of a model that has no values and would get none.

    Args:
        model: what is filled.
        tree: its arrays.
        filled: the numbers of the tree's leaves that get values.
    """
    rest = [(tree.paths[i], value) for i, value in enumerate(tree.values) if i not in filled]
    cure = "give it its values first, those of model.init for example"
    if isinstance(model, nnx.Module):
        given = nnx.Any(nnx.Param, nnx.BatchStat, nnx.RngState)
        others = FlatTree.of(nnx.state(model, nnx.Not(given)))
        rest += zip(others.paths, others.values, strict=True)
        cure = "make the module without nnx.eval_shape, or give it its values first"
    for path, x in rest:
        if isinstance(x, jax.ShapeDtypeStruct):
            yield f"{'/'.join(path)} {x.shape}: no rule fills it; {cure}"


def fill_random_state(model: nnx.Module, key: Any) -> None:
    """Give values to the keys and counts of ``nnx.Rngs`` that ``nnx.eval_shape`` left without.

    A key becomes ``key.fold_in(its path)``, split where a stack of layers has one each, and a count
    becomes 0. What has values keeps them.
    """
    state = nnx.state(model, nnx.RngState)
    flat, structure = jax.tree.flatten(state)
    if not any(isinstance(x, jax.ShapeDtypeStruct) for x in flat):
        return
    root = as_key(key)
    values = [
        _made(root, "/".join(path), x) if isinstance(x, jax.ShapeDtypeStruct) else x
        for path, x in zip(paths_of(state), flat, strict=True)
    ]
    nnx.update(model, jax.tree.unflatten(structure, values))


def _made(root: Any, path: str, wanted: jax.ShapeDtypeStruct) -> Any:
    if not jnp.issubdtype(wanted.dtype, jax.dtypes.prng_key):
        return jnp.zeros(wanted.shape, wanted.dtype)
    implementations: list[Any] = []

    def data_of(key: Any) -> Any:
        implementations.append(jax.random.key_impl(key))
        return jax.random.key_data(key)

    size = jax.eval_shape(data_of, wanted).shape[-1]  # rbg's keys hold threefry's words twice
    child = fold_in(root, path)
    words = child.words if isinstance(child, Key) else jax.random.key_data(child)
    data = jnp.asarray(np.array(words, np.uint32) if isinstance(words, tuple) else words)
    made = jax.random.wrap_key_data(jnp.tile(data, size // 2), impl=implementations[0])
    return jax.random.split(made, wanted.shape) if wanted.shape else made
