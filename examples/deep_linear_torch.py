"""The classic experiment in PyTorch: ``python -m examples.deep_linear_torch``."""

import numpy as np
import torch
from torch import nn

import portinit
from examples import deep_linear
from examples.deep_linear import example_input as example_input

ACTIVATIONS = {"none": lambda x: x, "relu": torch.relu, "tanh": torch.tanh}


class DeepLinear(nn.Module):
    """Linear layers without biases, a function between each and the next."""

    def __init__(
        self,
        activation: str = "none",
        depth: int = deep_linear.DEPTH,
        width: int = deep_linear.WIDTH,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.layers = nn.ModuleList([nn.Linear(width, width, bias=False) for _ in range(depth)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = ACTIVATIONS[self.activation](layer(x))
        return x


def make_model() -> DeepLinear:
    """Build the model with its default sizes, and ReLU."""
    return DeepLinear("relu")


def probe(activation: str, recipe: portinit.Recipe) -> portinit.Probe:
    """Measure the layers' outputs under a recipe."""
    model = DeepLinear(activation)
    return portinit.probe(model, example_input(), recipe=recipe, key=deep_linear.KEY)


def function_of(name: str, values: np.ndarray) -> np.ndarray:
    """The outputs of an activation, in PyTorch."""
    return ACTIVATIONS[name](torch.from_numpy(values)).numpy()


if __name__ == "__main__":
    deep_linear.main(probe, function_of)
