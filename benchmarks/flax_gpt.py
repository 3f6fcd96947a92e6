"""A GPT in Flax's linen, initialised in three ways, compilation included."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

import portinit
import portinit_flax
from benchmarks.fresh import Task

VOCABULARY, LENGTH, HEADS = 50257, 1024, 4
_TOKENS = (1, 8)


class Block(nn.Module):
    """A pre-LayerNorm transformer block."""

    width: int
    kernel_init: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (N, T, width) to the same."""
        init = self.kernel_init
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(HEADS, kernel_init=init)(y, mask=_mask(y))
        y = nn.Dense(4 * self.width, kernel_init=init)(nn.LayerNorm()(x))
        return x + nn.Dense(self.width, kernel_init=init)(nn.gelu(y))


def _mask(x: jax.Array) -> jax.Array:
    mask: jax.Array = nn.make_causal_mask(x[..., 0])
    return mask


class GPT(nn.Module):
    """A decoder; the output head is the embedding again."""

    width: int
    layers: int
    kernel_init: Any = nn.initializers.lecun_normal()
    embedding_init: Any = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Map tokens (N, T) to logits."""
        wte = nn.Embed(VOCABULARY, self.width, embedding_init=self.embedding_init)
        wpe = nn.Embed(LENGTH, self.width, embedding_init=self.embedding_init)
        x = wte(tokens) + wpe(jnp.arange(tokens.shape[1]))
        for _ in range(self.layers):
            x = Block(self.width, self.kernel_init)(x)
        return wte.attend(nn.LayerNorm()(x))


def theirs(width: int, layers: int, jitted: bool) -> Task:
    """The model's own ``init``, with Flax's initializers."""
    return _init(GPT(width, layers), jitted)


def init(width: int, layers: int, jitted: bool) -> Task:
    """The model's own ``init``, with portinit's initializers of the same names."""
    table = portinit.variance_scaling(1.0, "fan_in", "normal", out_axis=0)
    return _init(GPT(width, layers, portinit.lecun_normal(), table), jitted)


def _init(model: nn.Module, jitted: bool) -> Task:
    tokens = jnp.zeros(_TOKENS, jnp.int32)
    function = jax.jit(model.init) if jitted else model.init
    return lambda: _size(function(jax.random.key(0), tokens))


def initialize(width: int, layers: int, jitted: bool) -> Task:
    """``portinit_flax.initialize`` on the shapes of the model's variables; never under jit."""
    model, recipe = GPT(width, layers), portinit.recipes.flax_defaults()
    tokens = jnp.zeros(_TOKENS, jnp.int32)

    def run() -> int:
        shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)
        return _size(portinit_flax.initialize(shapes, recipe, portinit.key(0)))

    return run


def _size(tree: Any) -> int:
    ready: Any = jax.block_until_ready(tree)  # type: ignore[no-untyped-call]
    return sum(leaf.nbytes for leaf in jax.tree_util.tree_leaves(ready))
