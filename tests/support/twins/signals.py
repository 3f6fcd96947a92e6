"""Audio and diffusion: convolutions in one axis with GroupNorm, a UNet with a time embedding."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import linen, nnx
from tests.support.twins import TwinCase, floats, last
from torch import nn
from torch.nn import functional


class Audio(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv1d(4, 4, 3, padding=1) for _ in range(3))
        self.norms = nn.ModuleList(nn.GroupNorm(2, 4) for _ in range(3))
        self.depthwise = nn.Conv1d(4, 4, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose1d(4, 4, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in zip(self.down, self.norms, strict=True):
            x = x + functional.gelu(norm(conv(x)))
        return self.up(self.depthwise(x))


class NnxAudio(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.down = nnx.List([nnx.Conv(4, 4, 3, padding=1, rngs=rngs) for _ in range(3)])
        self.norms = nnx.List(
            [nnx.GroupNorm(4, num_groups=2, epsilon=1e-5, rngs=rngs) for _ in range(3)]
        )
        self.depthwise = nnx.Conv(4, 4, 3, padding=1, feature_group_count=4, rngs=rngs)
        self.up = nnx.ConvTranspose(4, 4, 2, strides=2, padding="VALID", rngs=rngs)

    def __call__(self, x: Any) -> Any:
        for conv, norm in zip(self.down, self.norms, strict=True):
            x = x + jax.nn.gelu(norm(conv(x)), approximate=False)
        return self.up(self.depthwise(x))


class ResBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(2, 4), nn.GroupNorm(2, 4)
        self.conv1, self.conv2 = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.time_proj = nn.Linear(4, 4)
        nn.init.zeros_(self.conv2.weight)  # a residual branch that starts at zero
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        y = (
            self.conv1(functional.silu(self.norm1(x)))
            + self.time_proj(functional.silu(t))[:, :, None, None]
        )
        return x + self.conv2(functional.silu(self.norm2(y)))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.time_embed = nn.Sequential(nn.Linear(4, 4), nn.SiLU(), nn.Linear(4, 4))
        self.conv_in, self.conv_out = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.down_blocks = nn.ModuleList(ResBlock() for _ in range(2))
        self.mid_block = ResBlock()
        self.up_blocks = nn.ModuleList(ResBlock() for _ in range(2))
        nn.init.zeros_(self.conv_out.weight)  # constant outputs, whatever lies before

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        angles = timestep[:, None] * torch.tensor([1.0, 0.1])
        t = self.time_embed(torch.cat([angles.sin(), angles.cos()], -1))
        x, held = self.conv_in(sample), []
        for block in self.down_blocks:
            x = block(x, t)
            held.append(x)
        x = self.mid_block(x, t)
        for block in self.up_blocks:
            x = block(x + held.pop(), t)
        return self.conv_out(x)


class LinenResBlock(linen.Module):
    @linen.compact
    def __call__(self, x: Any, t: Any) -> Any:
        norm1, norm2 = (linen.GroupNorm(2, epsilon=1e-5, name=f"norm{i}") for i in (1, 2))
        conv1, conv2 = (linen.Conv(4, (3, 3), padding=1, name=f"conv{i}") for i in (1, 2))
        y = conv1(linen.silu(norm1(x)))
        y = y + linen.Dense(4, name="time_proj")(linen.silu(t))[:, None, None]
        return x + conv2(linen.silu(norm2(y)))


class LinenUNet(linen.Module):
    @linen.compact
    def __call__(self, sample: Any, timestep: Any) -> Any:
        angles = timestep[:, None] * jnp.array([1.0, 0.1])
        t = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
        t = linen.Dense(4, name="time_embed_2")(linen.silu(linen.Dense(4, name="time_embed_0")(t)))
        x, held = linen.Conv(4, (3, 3), padding=1, name="conv_in")(sample), []
        for i in range(2):
            x = LinenResBlock(name=f"down_blocks_{i}")(x, t)
            held.append(x)
        x = LinenResBlock(name="mid_block")(x, t)
        for i in range(2):
            x = LinenResBlock(name=f"up_blocks_{i}")(x + held.pop(), t)
        return linen.Conv(4, (3, 3), padding=1, name="conv_out")(x)


SOUND, SAMPLE = floats(2, 4, 9), floats(2, 4, 5, 5)
TIMES = floats(2, seed=1)

TWINS = {
    "audio": TwinCase(Audio, lambda: NnxAudio(nnx.Rngs(0)), SOUND, last(SOUND)),
    "diffusion": TwinCase(UNet, LinenUNet, (SAMPLE, TIMES), (last(SAMPLE), TIMES)),
}
