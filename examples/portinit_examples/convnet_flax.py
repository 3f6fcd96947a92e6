"""The Flax (linen) twin of ``convnet_torch``."""

import jax
import numpy as np
from flax import linen as nn


class Block(nn.Module):
    """A grouped convolution and a depthwise one, then BatchNorm and ReLU."""

    features: int
    groups: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.Conv(
            self.features, (3, 3), padding=1, feature_group_count=self.groups, name="grouped"
        )(x)
        x = nn.Conv(
            self.features,
            (3, 5),
            padding=(1, 2),
            feature_group_count=self.features,
            use_bias=False,
            name="depthwise",
        )(x)
        return nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9, name="bn")(x))


class ConvNet(nn.Module):
    """Strided stem, two blocks, a learned 2x upsampling, global average pooling and a head."""

    width: int = 8
    num_classes: int = 10

    def setup(self) -> None:
        width = self.width
        # padding=1, not "SAME": with a stride, "SAME" pads one side more than the other.
        self.stem = nn.Conv(width, (3, 3), strides=2, padding=1, use_bias=False)
        self.stem_bn = nn.BatchNorm(momentum=0.9)
        self.blocks = [Block(2 * width, groups=2), Block(3 * width, groups=4)]
        # This pads the dilated input: 2 is kernel_size - 1 - padding of the PyTorch twin.
        self.up = nn.ConvTranspose(2 * width, (4, 4), strides=(2, 2), padding=2)
        self.up_bn = nn.BatchNorm(momentum=0.9)
        self.head = nn.Dense(self.num_classes)

    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Map images (N, H, W, 3) to logits (N, num_classes)."""
        x = nn.relu(self.stem_bn(self.stem(x), use_running_average=not train))
        for block in self.blocks:
            x = block(x, train=train)
        x = nn.relu(self.up_bn(self.up(x), use_running_average=not train))
        return self.head(x.mean(axis=(1, 2)))


def make_model() -> ConvNet:
    """Build the model with its default sizes."""
    return ConvNet()


def example_input() -> np.ndarray:
    """Two fixed images, float32, NHWC; the numbers of ``convnet_torch.example_input``."""
    images = np.random.default_rng(0).standard_normal((2, 3, 12, 16)).astype(np.float32)
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))
