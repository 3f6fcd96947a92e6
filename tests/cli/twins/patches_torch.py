"""A convolution, a batch norm, attention between pixels and a head."""

import torch
from torch import nn


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.conv(images))).flatten(2).transpose(1, 2)
        x = x + self.attn(x, x, x)[0]
        out: torch.Tensor = self.head(self.norm(x).mean(1))
        return out


def make_model() -> nn.Module:
    return Patches()


def example_input() -> torch.Tensor:
    return torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
