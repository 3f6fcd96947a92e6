"""The twin in linen, which gives the logits alone and says deterministic."""

from typing import Any

import jax.numpy as jnp
import torch
from flax import linen as nn


class Layer(nn.Module):
    width: int
    heads: int

    @nn.compact
    def __call__(self, x: Any, deterministic: bool = False) -> Any:
        y = nn.LayerNorm(name="norm1")(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads, name="attn")(y)
        y = nn.Dense(2 * self.width, name="fc1")(nn.LayerNorm(name="norm2")(x))
        y = nn.Dense(self.width, name="fc2")(nn.gelu(y))
        return x + nn.Dropout(0.1)(y, deterministic=deterministic)


class ViT(nn.Module):
    width: int = 16
    heads: int = 4
    depth: int = 2

    @nn.compact
    def __call__(self, x: Any, deterministic: bool = False) -> Any:
        x = nn.Conv(self.width, (4, 4), (4, 4), padding="VALID", name="patch_embed")(x)
        x = x.reshape(len(x), -1, self.width)
        token = self.param("cls_token", nn.initializers.zeros, (1, 1, self.width))
        place = self.param("pos_embed", nn.initializers.zeros, (1, 5, self.width))
        x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], 1) + place
        for i in range(self.depth):
            x = Layer(self.width, self.heads, name=f"layers_{i}")(x, deterministic)
        return nn.Dense(10, name="head")(nn.LayerNorm(name="norm")(x)[:, 0])


def make() -> ViT:
    return ViT()


def example_input() -> torch.Tensor:
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return images.permute(0, 2, 3, 1)
