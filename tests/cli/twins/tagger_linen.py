"""The twin in linen, called by keywords."""

from typing import Any

import numpy as np
from flax import linen as nn


class Tagger(nn.Module):
    @nn.compact
    def __call__(self, tokens: Any, mask: Any) -> Any:
        x = nn.Embed(20, 6, name="embed")(tokens)
        forward, backward = (nn.RNN(nn.OptimizedLSTMCell(8)) for _ in range(2))
        x = nn.Bidirectional(forward, backward, name="lstm")(x)
        return nn.Dense(5, name="head")(x) * mask[..., None]


def make() -> Tagger:
    return Tagger()


def example_input() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(20, size=(2, 7))
    return {"mask": rng.integers(2, size=(2, 7)).astype(np.float32), "tokens": tokens}
