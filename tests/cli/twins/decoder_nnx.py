"""The twin in nnx."""

from typing import Any

import numpy as np
from flax import nnx


class Layer(nnx.Module):
    def __init__(self, width: int, heads: int, rngs: nnx.Rngs) -> None:
        attention = {"num_heads": heads, "in_features": width, "decode": False, "rngs": rngs}
        self.self_attn = nnx.MultiHeadAttention(**attention)
        self.cross_attn = nnx.MultiHeadAttention(**attention)
        self.linear1 = nnx.Linear(width, 2 * width, rngs=rngs)
        self.linear2 = nnx.Linear(2 * width, width, rngs=rngs)
        self.norm1, self.norm2, self.norm3 = (nnx.LayerNorm(width, rngs=rngs) for _ in range(3))
        self.dropout = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x: Any, memory: Any) -> Any:
        mask = nnx.make_causal_mask(x[..., 0])
        x = self.norm1(x + self.dropout(self.self_attn(x, mask=mask)))
        x = self.norm2(x + self.dropout(self.cross_attn(x, memory)))
        return self.norm3(x + self.dropout(self.linear2(nnx.relu(self.linear1(x)))))


class Decoder(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(30, 16, rngs=rngs)
        self.layers = nnx.List([Layer(16, 4, rngs) for _ in range(2)])
        self.head = nnx.Linear(16, 30, rngs=rngs)

    def __call__(self, tokens: Any, memory: Any) -> Any:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, memory)
        return self.head(x)


def make() -> Decoder:
    return Decoder(nnx.Rngs(0))


def example_input() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    memory = rng.standard_normal((2, 5, 16)).astype(np.float32)
    return {"memory": memory, "tokens": rng.integers(30, size=(2, 4))}
