"""The twin in linen, with a training flag that has no default."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn


class Block(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        for i in (1, 2):
            x = nn.Conv(self.outputs, (3, 3), padding=1, name=f"conv{i}")(x)
            x = nn.BatchNorm(use_running_average=not train, name=f"bn{i}")(x)
            x = nn.relu(x)
        return x


class UNet(nn.Module):
    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        a = Block(4, name="down1")(x, train)
        b = Block(8, name="down2")(nn.max_pool(a, (2, 2), (2, 2)), train)
        up = nn.ConvTranspose(4, (2, 2), (2, 2), padding="VALID", name="up")(b)
        y = Block(4, name="merge")(jnp.concatenate([a, up], -1), train)
        return nn.Conv(2, (1, 1), name="head")(y)


def make() -> UNet:
    return UNet()


def example_input() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 3, 8, 8)).transpose(0, 2, 3, 1)
