"""What is no key, and a key that is traced, in words that say what to do."""

import re
from collections.abc import Callable
from typing import Any

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import portinit
import portinit_equinox
import portinit_flax
import portinit_haiku
import portinit_torch
from portinit import Recipe

RECIPE = Recipe([("*.bias", portinit.mamba_dt_bias()), ("*", portinit.normal())])
TREE = {"a": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
HAIKU = {"linear": {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}}


class Net(equinox.Module):
    a: equinox.nn.Linear


def equinox_net() -> Net:
    return Net(equinox.nn.Linear(2, 2, key=jax.random.key(0)))


FILLS: dict[str, Callable[[Any], Any]] = {
    "Flax": lambda key: portinit_flax.initialize(TREE, RECIPE, key),
    "Equinox": lambda key: portinit_equinox.initialize(equinox_net(), RECIPE, key),
    "Haiku": lambda key: portinit_haiku.initialize(HAIKU, RECIPE, key),
    "PyTorch": lambda key: portinit_torch.initialize(
        torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2)}), RECIPE, key
    ),
    "NumPy": lambda key: portinit.normal()(key, (2,)),
}
NO_KEYS = {
    "int 0": 0,
    "int 7": 7,
    "bool True": True,
    "NoneType": None,
    "str": "0",
    "Generator": torch.Generator(),
    "tuple": (0, 7),
}


@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS)
@pytest.mark.parametrize("received", NO_KEYS)
def test_what_is_no_key_is_refused_with_what_to_write(fill, received) -> None:
    wanted = (
        rf"^a key must be a portinit.Key, a JAX key.*got {received}: make .*portinit\.key\(0\)$"
    )
    with pytest.raises(TypeError, match=wanted):
        fill(NO_KEYS[received])


@pytest.mark.parametrize("name", ["Flax", "Equinox", "Haiku"])
def test_raw_words_of_numpy_are_a_key(name) -> None:
    raw, same = FILLS[name](np.array([3, 5], np.uint32)), FILLS[name](portinit.Key(3, 5))
    arrays = zip(jax.tree.leaves(raw), jax.tree.leaves(same), strict=True)
    assert all(np.array_equal(a, b) for a, b in arrays)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint32, jnp.float32])
def test_a_traced_seed_is_told_what_to_pass(dtype) -> None:
    made = jax.jit(lambda seed: portinit.normal()(portinit.key(seed), (2,)))
    with pytest.raises(TypeError, match=r"under jax\.jit pass jax\.random\.key\(seed\)"):
        made(dtype(0))
    right = jax.jit(lambda seed: portinit.normal()(jax.random.key(seed), (2,)))
    assert np.array_equal(right(3), portinit.normal()(portinit.key(3), (2,)))
    with pytest.raises(TypeError) as caught:  # nothing is traced
        portinit.key(jnp.float32(0))
    assert "jit" not in str(caught.value)


def test_an_integer_that_is_traced_is_no_key() -> None:
    with pytest.raises(
        TypeError, match=r"got dtype int32.*portinit\.key.*jax\.random\.key\(seed\)"
    ):
        jax.jit(lambda key: portinit.normal()(key, (2,)))(0)


@pytest.mark.parametrize(
    "initializer",
    [portinit.mamba_dt_bias(), portinit.blocks([portinit.zeros, portinit.mamba_dt_bias()])],
)
def test_an_initializer_that_needs_known_words_is_named(initializer) -> None:
    wanted = f"^{re.escape(str(initializer))} is computed in NumPy: .*outside of jax.jit"
    with pytest.raises(TypeError, match=wanted):
        jax.jit(lambda key: initializer(key, (4,)))(jax.random.key(0))
    jax.jit(lambda: initializer(portinit.key(0), (4,)))()


@pytest.mark.parametrize("name", ["Flax", "Haiku"])
def test_the_parameters_that_need_known_words_are_named(name) -> None:
    bias = {"Flax": "a/bias", "Haiku": "linear/b"}[name]
    wanted = rf"^what is computed in NumPy needs a (.|\n)*\n  {bias}: mamba_dt_bias\(\)"
    with pytest.raises(TypeError, match=wanted):
        jax.jit(FILLS[name])(jax.random.key(0))
    with pytest.raises(TypeError, match=wanted):
        jax.vmap(FILLS[name])(jax.random.split(jax.random.key(0)))
