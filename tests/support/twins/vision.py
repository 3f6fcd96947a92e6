"""Vision: a convolutional net with BatchNorm and LayerScale, a ViT in nnx, one with fused qkv."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import linen, nnx
from tests.support.twins import TwinCase, floats, last
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.gamma = nn.Parameter(torch.full((width, 1, 1), 1e-6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(x + self.gamma * self.bn2(self.conv2(y)))


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 4, 3, padding=1)
        self.blocks = nn.Sequential(Block(4), Block(4))
        self.head = nn.Linear(4, 4)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class LinenBlock(linen.Module):
    @linen.compact
    def __call__(self, x: Any, train: bool) -> Any:
        def conv(x: Any) -> Any:
            x = linen.Conv(4, (3, 3), padding=1, use_bias=False)(x)
            return linen.BatchNorm(use_running_average=not train)(x)

        gamma = self.param("gamma", linen.initializers.constant(1e-6), (4,))
        return linen.relu(x + gamma * conv(linen.relu(conv(x))))


class LinenConvNet(linen.Module):
    @linen.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = linen.Conv(4, (3, 3), padding=1)(x)
        for _ in range(2):
            x = LinenBlock()(x, train)
        return linen.Dense(4, name="head")(x.mean((1, 2)))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)
        self.fc1, self.fc2 = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.proj(y)
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(2, 8, 2, stride=2)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 8))
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


def attend(q: Any, k: Any, v: Any) -> Any:
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v)


class NnxLayer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm1, self.norm2 = (nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs) for _ in range(2))
        self.qkv = nnx.Linear(8, 24, rngs=rngs)
        self.proj = nnx.Linear(8, 8, rngs=rngs)
        self.fc1, self.fc2 = (nnx.Linear(8, 8, rngs=rngs) for _ in range(2))

    def __call__(self, x: Any) -> Any:
        q, k, v = jnp.moveaxis(self.qkv(self.norm1(x)).reshape(*x.shape[:2], 3, 2, 4), 2, 0)
        x = x + self.proj(attend(q, k, v).reshape(x.shape))
        return x + self.fc2(jax.nn.gelu(self.fc1(self.norm2(x)), approximate=False))


class NnxViT(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.patch_embed = nnx.Conv(2, 8, (2, 2), strides=2, rngs=rngs)
        self.cls_token = nnx.Param(jnp.zeros((1, 1, 8)))
        self.pos_embed = nnx.Param(jnp.zeros((1, 5, 8)))
        self.layers = nnx.List([NnxLayer(rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = self.patch_embed(x).reshape(len(x), -1, 8)
        token = jnp.broadcast_to(self.cls_token[...], (len(x), 1, 8))
        x = jnp.concatenate([token, x], 1) + self.pos_embed[...]
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


class LinenViT(linen.Module):
    """The fused projection as an array of (in, 3, heads, size)."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = linen.Conv(8, (2, 2), strides=2, name="patch_embed")(x).reshape(len(x), -1, 8)
        token = self.param("cls_token", linen.initializers.zeros, (1, 1, 8))
        x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, 8)), x], 1)
        x = x + self.param("pos_embed", linen.initializers.zeros, (1, 5, 8))
        for i in range(2):
            y = linen.LayerNorm(1e-5, name=f"layers_{i}_norm1")(x)
            qkv = linen.DenseGeneral((3, 2, 4), name=f"layers_{i}_qkv")(y)
            y = attend(*jnp.moveaxis(qkv, 2, 0)).reshape(x.shape)
            x = x + linen.Dense(8, name=f"layers_{i}_proj")(y)
            y = linen.Dense(8, name=f"layers_{i}_fc1")(
                linen.LayerNorm(1e-5, name=f"layers_{i}_norm2")(x)
            )
            x = x + linen.Dense(8, name=f"layers_{i}_fc2")(jax.nn.gelu(y, approximate=False))
        return linen.Dense(8, name="head")(linen.LayerNorm(1e-5, name="norm")(x)[:, 0])


IMAGES = floats(3, 4, 5, 5)
PATCHES = floats(2, 2, 4, 4)

TWINS = {
    "convnet with batch norm": TwinCase(ConvNet, LinenConvNet, IMAGES, last(IMAGES)),
    "vit in nnx": TwinCase(ViT, lambda: NnxViT(nnx.Rngs(0)), PATCHES, last(PATCHES)),
    "vit with fused heads": TwinCase(ViT, LinenViT, PATCHES, last(PATCHES)),
}
