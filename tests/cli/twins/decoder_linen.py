"""The twin in linen, its mode a field of the module."""

from typing import Any

import numpy as np
from flax import linen as nn


class Layer(nn.Module):
    width: int
    heads: int
    train: bool

    @nn.compact
    def __call__(self, x: Any, memory: Any) -> Any:
        def drop(x: Any) -> Any:
            return nn.Dropout(0.2, deterministic=not self.train)(x)

        mask = nn.make_causal_mask(x[..., 0])
        y = nn.MultiHeadDotProductAttention(self.heads, name="self_attn")(x, x, mask=mask)
        x = nn.LayerNorm(name="norm1")(x + drop(y))
        y = nn.MultiHeadDotProductAttention(self.heads, name="cross_attn")(x, memory)
        x = nn.LayerNorm(name="norm2")(x + drop(y))
        y = nn.relu(nn.Dense(2 * self.width, name="linear1")(x))
        return nn.LayerNorm(name="norm3")(x + drop(nn.Dense(self.width, name="linear2")(y)))


class Decoder(nn.Module):
    train: bool = True

    @nn.compact
    def __call__(self, tokens: Any, memory: Any) -> Any:
        x = nn.Embed(30, 16, name="embed")(tokens)
        for i in range(2):
            x = Layer(16, 4, self.train, name=f"layers_{i}")(x, memory)
        return nn.Dense(30, name="head")(x)


def make() -> Decoder:
    return Decoder()


def example_input() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    memory = rng.standard_normal((2, 5, 16)).astype(np.float32)
    return rng.integers(30, size=(2, 4)), memory
