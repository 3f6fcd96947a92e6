"""The same in MLX, channels last."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from tests.cli.twins import patches_torch


class Patches(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm(8)
        self.attn = nn.MultiHeadAttention(8, 2, bias=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 8)

    def __call__(self, images: Any) -> Any:
        x = nn.relu(self.bn(self.conv(images))).flatten(1, 2)
        x = x + self.attn(x, x, x)
        return self.head(mx.mean(self.norm(x), 1))


def make_model() -> Any:
    return Patches()


def example_input() -> Any:
    return patches_torch.example_input().permute(0, 2, 3, 1)
