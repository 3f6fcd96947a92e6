"""The twin in nnx, whose example input is PyTorch's with --channels-last."""

from typing import Any

import jax.numpy as jnp
from flax import nnx


class Block(nnx.Module):
    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(inputs, outputs, (3, 3), padding=1, rngs=rngs)
        self.bn1 = nnx.BatchNorm(outputs, rngs=rngs)
        self.conv2 = nnx.Conv(outputs, outputs, (3, 3), padding=1, rngs=rngs)
        self.bn2 = nnx.BatchNorm(outputs, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.bn1(self.conv1(x)))
        return nnx.relu(self.bn2(self.conv2(x)))


class UNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.down1 = Block(3, 4, rngs)
        self.down2 = Block(4, 8, rngs)
        self.up = nnx.ConvTranspose(8, 4, (2, 2), (2, 2), padding="VALID", rngs=rngs)
        self.merge = Block(8, 4, rngs)
        self.head = nnx.Conv(4, 2, (1, 1), rngs=rngs)

    def __call__(self, x: Any) -> Any:
        a = self.down1(x)
        b = self.down2(nnx.max_pool(a, (2, 2), (2, 2)))
        return self.head(self.merge(jnp.concatenate([a, self.up(b)], -1)))


def make() -> UNet:
    return UNet(nnx.Rngs(0))
