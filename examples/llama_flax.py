"""The Flax (linen) twin of ``llama_torch``: its layers one by one, or stacked by ``nn.scan``."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

NUM_LAYERS = 3

IN = nn.with_partitioning(nn.linear.default_kernel_init, (None, "model"))
OUT = nn.with_partitioning(nn.linear.default_kernel_init, ("model", None))
Linear = partial(nn.Dense, use_bias=False)
"""A mesh axis named ``model`` splits heads and hidden units; an axis not named here, nothing."""


class Attention(nn.Module):
    """Causal grouped-query attention with rotary positions."""

    num_heads: int
    num_kv_heads: int
    head_dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kv_width = self.num_kv_heads * self.head_dim
        query = Linear(self.num_heads * self.head_dim, kernel_init=IN, name="q_proj")(x)
        key = Linear(kv_width, kernel_init=IN, name="k_proj")(x)
        value = Linear(kv_width, kernel_init=IN, name="v_proj")(x)
        query, key, value = (self._heads(a) for a in (query, key, value))
        attended = jax.nn.dot_product_attention(rotate(query), rotate(key), value, is_causal=True)
        merged = attended.reshape(*x.shape[:2], -1)
        return Linear(x.shape[-1], kernel_init=OUT, name="o_proj")(merged)

    def _heads(self, x: jax.Array) -> jax.Array:
        """(N, T, heads * size) as (N, T, heads, size)."""
        return x.reshape(*x.shape[:2], -1, self.head_dim)


def rotate(x: jax.Array, base: float = 10000.0) -> jax.Array:
    """Turn element i of a head, with element i + size / 2, by position * base^(-2 i / size)."""
    length, size = x.shape[1], x.shape[-1]
    frequencies = base ** -(jnp.arange(0, size, 2) / size)
    angles = jnp.arange(length)[:, None] * frequencies
    cos, sin = (f(angles)[:, None].astype(x.dtype) for f in (jnp.cos, jnp.sin))
    left, right = jnp.split(x, 2, axis=-1)
    return jnp.concat((left * cos - right * sin, right * cos + left * sin), axis=-1)


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    hidden_dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        gate = Linear(self.hidden_dim, kernel_init=IN, name="gate_proj")(x)
        up = Linear(self.hidden_dim, kernel_init=IN, name="up_proj")(x)
        return Linear(x.shape[-1], kernel_init=OUT, name="down_proj")(nn.silu(gate) * up)


class Block(nn.Module):
    """A pre-norm transformer block."""

    heads: tuple[int, int, int]
    hidden_dim: int

    @nn.compact
    def __call__(self, x: jax.Array, _: Any = None) -> tuple[jax.Array, None]:
        attention = Attention(*self.heads, name="self_attn")
        x = x + attention(nn.RMSNorm(1e-6, name="input_layernorm")(x))
        x = x + MLP(self.hidden_dim, name="mlp")(
            nn.RMSNorm(1e-6, name="post_attention_layernorm")(x)
        )
        return x, None


class Llama(nn.Module):
    """A decoder-only language model.

    Args:
        vocab_size: the number of tokens.
        dim: the width of the residual stream.
        heads: query heads, key and value heads, and the size of a head.
        hidden_dim: the width of the feed-forward network.
        num_layers: the number of blocks.
        scanned: whether the blocks' parameters are stacked, along axis 0 of ``layers/...``.
    """

    vocab_size: int = 101
    dim: int = 33
    heads: tuple[int, int, int] = (6, 2, 6)
    hidden_dim: int = 50
    num_layers: int = NUM_LAYERS
    scanned: bool = False

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Map tokens (N, T) to next-token logits (N, T, vocab_size)."""
        x = nn.Embed(self.vocab_size, self.dim, name="embed_tokens")(tokens)
        if self.scanned:
            stack = nn.scan(
                Block,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=self.num_layers,
                metadata_params={nn.PARTITION_NAME: None},
            )
            x, _ = stack(self.heads, self.hidden_dim, name="layers")(x, None)
        else:
            for i in range(self.num_layers):
                x, _ = Block(self.heads, self.hidden_dim, name=f"layers_{i}")(x)
        return Linear(self.vocab_size, name="lm_head")(nn.RMSNorm(1e-6, name="norm")(x))


def make_model(scanned: bool = False) -> Llama:
    """Build the model with its default sizes."""
    return Llama(scanned=scanned)


def example_input() -> np.ndarray:
    """Two fixed token sequences, int32, (N, T); the numbers of ``llama_torch.example_input``."""
    return np.random.default_rng(0).integers(101, size=(2, 12), dtype=np.int64).astype(np.int32)
