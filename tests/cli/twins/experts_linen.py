"""The twin in linen, its experts stacked by nn.vmap."""

from typing import Any

import numpy as np
from flax import linen as nn


class Expert(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(6, name="down")(nn.relu(nn.Dense(12, name="up")(x)))


class Mixture(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> tuple[Any, Any]:
        shares = nn.softmax(nn.Dense(3, use_bias=False, name="gate")(x))
        stacked = nn.vmap(
            Expert, in_axes=None, out_axes=-1, axis_size=3, variable_axes={"params": 0},
            split_rngs={"params": True},
        )  # fmt: skip
        outputs = stacked(name="experts")(x)
        return (outputs * shares[..., None, :]).sum(-1), shares


def make() -> Mixture:
    return Mixture()


def example_input() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
