"""The classic experiment in Flax: ``python -m examples.deep_linear_flax``."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import portinit
from examples import deep_linear
from examples.deep_linear import example_input as example_input

ACTIVATIONS = {"none": lambda x: x, "relu": nn.relu, "tanh": jnp.tanh}


class DeepLinear(nn.Module):
    """Linear layers without biases, a function between each and the next."""

    activation: str = "none"
    depth: int = deep_linear.DEPTH
    width: int = deep_linear.WIDTH

    def setup(self) -> None:
        self.layers = [nn.Dense(self.width, use_bias=False) for _ in range(self.depth)]

    def __call__(self, x: jax.Array) -> jax.Array:
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
    """The outputs of an activation, in JAX."""
    return np.asarray(ACTIVATIONS[name](jnp.asarray(values)))


if __name__ == "__main__":
    deep_linear.main(probe, function_of)
