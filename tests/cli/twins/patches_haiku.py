"""The same in Haiku, channels last."""

from typing import Any

import haiku as hk
import jax
from tests.cli.twins import patches_torch


def forward(images: Any, is_training: bool) -> Any:
    x = hk.Conv2D(8, 3, name="conv")(images)
    x = jax.nn.relu(hk.BatchNorm(True, True, 0.9, name="bn")(x, is_training))
    x = x.reshape(x.shape[0], -1, 8)
    scaling = hk.initializers.VarianceScaling()
    x = x + hk.MultiHeadAttention(2, 4, w_init=scaling, name="attn")(x, x, x)
    x = hk.LayerNorm(-1, True, True, name="norm")(x)
    return hk.Linear(8, name="head")(x.mean(1))


def make_model() -> Any:
    return hk.transform_with_state(forward)


def example_input() -> Any:
    return patches_torch.example_input().permute(0, 2, 3, 1)
