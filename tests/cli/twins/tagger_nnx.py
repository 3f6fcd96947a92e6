"""The twin in nnx."""

from typing import Any

import numpy as np
from flax import nnx


class Tagger(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(20, 6, rngs=rngs)
        forward, backward = (nnx.RNN(nnx.OptimizedLSTMCell(6, 8, rngs=rngs)) for _ in range(2))
        self.lstm = nnx.Bidirectional(forward, backward)
        self.head = nnx.Linear(16, 5, rngs=rngs)

    def __call__(self, tokens: Any, mask: Any) -> Any:
        return self.head(self.lstm(self.embed(tokens))) * mask[..., None]


def make() -> Tagger:
    return Tagger(nnx.Rngs(0))


def example_input() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(20, size=(2, 7)), rng.integers(2, size=(2, 7)).astype(np.float32)
