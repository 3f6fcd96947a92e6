"""The same in Equinox, for one image."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from tests.cli.twins.patches_torch import example_input as example_input


class Patches(eqx.Module):
    conv: eqx.nn.Conv2d
    bn: eqx.nn.BatchNorm
    attn: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, key: Any) -> None:
        biases = {f"use_{part}_bias": True for part in ("query", "key", "value", "output")}
        self.conv = eqx.nn.Conv2d(3, 8, 3, padding=1, key=key)
        self.bn = eqx.nn.BatchNorm(8, "batch", mode="ema")
        self.attn = eqx.nn.MultiheadAttention(2, 8, **biases, key=key)
        self.norm = eqx.nn.LayerNorm(8)
        self.head = eqx.nn.Linear(8, 8, key=key)

    def __call__(self, image: Any, state: Any) -> Any:
        x, state = self.bn(self.conv(image), state)
        x = jax.nn.relu(x).reshape(8, -1).T
        x = x + self.attn(x, x, x)
        return self.head(jax.vmap(self.norm)(x).mean(0)), state


def make_model() -> Any:
    return eqx.nn.make_with_state(Patches)(jax.random.key(0))


class Whole(eqx.Module):
    """A model that takes a batch."""

    model: Patches

    def __init__(self, key: Any) -> None:
        self.model = Patches(key)

    def __call__(self, images: Any, state: Any) -> Any:
        assert images.ndim == 4
        return jax.vmap(self.model, in_axes=(0, None), out_axes=(0, None))(images, state)


def make_whole() -> Any:
    return eqx.nn.make_with_state(Whole)(jax.random.key(0))


def make_wrong() -> Any:
    """A model with an activation that PyTorch's has not."""
    model, state = make_model()
    return eqx.tree_at(lambda m: m.head, model, Doubled(model.head)), state


class Doubled(eqx.nn.Linear):
    def __init__(self, layer: Any) -> None:
        super().__init__(8, 8, key=jax.random.key(0))

    def __call__(self, x: Any, *, key: Any = None) -> Any:
        return jnp.tanh(super().__call__(x))
