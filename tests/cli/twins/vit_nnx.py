"""The twin in nnx, with dropout whose random state has no data under nnx.eval_shape."""

from typing import Any

import jax.numpy as jnp
from flax import nnx


class Layer(nnx.Module):
    def __init__(self, width: int, heads: int, rngs: nnx.Rngs) -> None:
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.attn = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.fc1 = nnx.Linear(width, 2 * width, rngs=rngs)
        self.fc2 = nnx.Linear(2 * width, width, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = x + self.attn(self.norm1(x))
        return x + self.dropout(self.fc2(nnx.gelu(self.fc1(self.norm2(x)))))


class ViT(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, width: int = 16, heads: int = 4, depth: int = 2) -> None:
        self.patch_embed = nnx.Conv(3, width, (4, 4), (4, 4), padding="VALID", rngs=rngs)
        self.cls_token = nnx.Param(jnp.zeros((1, 1, width)))
        self.pos_embed = nnx.Param(jnp.zeros((1, 5, width)))
        self.layers = nnx.List([Layer(width, heads, rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = self.patch_embed(x)
        x = x.reshape(len(x), -1, x.shape[-1])
        token = jnp.tile(self.cls_token[...], (len(x), 1, 1))
        x = jnp.concatenate([token, x], 1) + self.pos_embed[...]
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return {"features": x, "logits": self.head(x[:, 0])}


def make() -> ViT:
    return ViT(nnx.Rngs(0))
