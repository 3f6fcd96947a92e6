"""A small convolutional classifier in PyTorch: strided, grouped, depthwise and transposed convs."""

import numpy as np
import torch
from torch import nn


class Block(nn.Module):
    """A grouped convolution and a depthwise one, then BatchNorm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(in_channels, out_channels, 3, padding=1, groups=groups)
        self.depthwise = nn.Conv2d(
            out_channels, out_channels, (3, 5), padding=(1, 2), groups=out_channels, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.depthwise(self.grouped(x))))


class ConvNet(nn.Module):
    """Strided stem, two blocks, a learned 2x upsampling, global average pooling and a head."""

    def __init__(self, width: int = 8, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(width)
        self.blocks = nn.ModuleList(
            [Block(width, 2 * width, groups=2), Block(2 * width, 3 * width, groups=4)]
        )
        self.up = nn.ConvTranspose2d(3 * width, 2 * width, 4, stride=2, padding=1)
        self.up_bn = nn.BatchNorm2d(2 * width)
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (N, 3, H, W) to logits (N, num_classes)."""
        x = torch.relu(self.stem_bn(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        x = torch.relu(self.up_bn(self.up(x)))
        return self.head(x.mean(dim=(2, 3)))


def make_model() -> ConvNet:
    """Build the model with its default sizes."""
    return ConvNet()


def example_input() -> np.ndarray:
    """Two fixed images, float32, NCHW."""
    return np.random.default_rng(0).standard_normal((2, 3, 12, 16)).astype(np.float32)
