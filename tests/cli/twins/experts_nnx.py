"""The twin in nnx, its experts stacked by nnx.vmap along the last axis."""

from typing import Any

import jax
import numpy as np
from flax import nnx


class Expert(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.up = nnx.Linear(6, 12, rngs=rngs)
        self.down = nnx.Linear(12, 6, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.down(nnx.relu(self.up(x)))


class Mixture(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.gate = nnx.Linear(6, 3, use_bias=False, rngs=rngs)

        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def build(rngs: nnx.Rngs) -> Expert:
            return Expert(rngs)

        self.members = build(rngs)

    def __call__(self, x: Any) -> tuple[Any, Any]:
        shares = nnx.softmax(self.gate(x))
        run = nnx.vmap(lambda expert, x: expert(x), in_axes=(0, None), out_axes=-1)
        return (run(self.members, x) * shares[..., None, :]).sum(-1), shares


def make() -> Mixture:
    return Mixture(nnx.Rngs(0))


def example_input() -> jax.Array:
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    return jax.numpy.asarray(x)
