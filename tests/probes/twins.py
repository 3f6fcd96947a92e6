"""One model in PyTorch, Equinox, Haiku and MLX, and the recipe that fills it."""

from typing import Any

import numpy as np

import portinit
from portinit import Parameter, Recipe

KEY = portinit.key(7)
INPUTS = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
RECIPE = Recipe(
    [
        ("norm.weight", portinit.normal(1.0, 0.1)),
        ("*.weight", portinit.kaiming_uniform()),
        ("*.bias", portinit.uniform(-0.1, 0.3)),
    ]
).bind(
    [
        Parameter("fc1.weight", (8, 6), "linear"),
        Parameter("fc1.bias", (8,), "linear"),
        Parameter("norm.weight", (8,), "norm"),
        Parameter("norm.bias", (8,), "norm"),
        Parameter("fc2.weight", (8, 8), "linear"),
        Parameter("fc2.bias", (8,), "linear"),
        Parameter("head.weight", (3, 8), "linear"),
        Parameter("head.bias", (3,), "linear"),
    ]
)


def torch_model() -> Any:
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.norm = nn.Linear(6, 8), nn.LayerNorm(8)
            self.fc2, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.fc2(self.fc2(self.norm(self.fc1(x)).tanh())))

    return Net()


def equinox_model() -> Any:
    import equinox as eqx
    import jax

    class Net(eqx.Module):
        fc1: eqx.nn.Linear
        norm: eqx.nn.LayerNorm
        fc2: eqx.nn.Linear
        head: eqx.nn.Linear

        def __init__(self, key: Any) -> None:
            self.fc1, self.norm = eqx.nn.Linear(6, 8, key=key), eqx.nn.LayerNorm(8)
            self.fc2 = eqx.nn.Linear(8, 8, key=key)
            self.head = eqx.nn.Linear(8, 3, key=key)

        def __call__(self, x: Any) -> Any:
            return self.head(self.fc2(self.fc2(jax.numpy.tanh(self.norm(self.fc1(x))))))

    return Net(jax.random.key(0))


def haiku_model() -> Any:
    import haiku as hk
    import jax

    def net(x: Any) -> Any:
        x = hk.LayerNorm(-1, True, True, name="norm")(hk.Linear(8, name="fc1")(x))
        again = hk.Linear(8, name="fc2")
        return hk.Linear(3, name="head")(again(again(jax.numpy.tanh(x))))

    return hk.transform(net)


def mlx_model() -> Any:
    import mlx.core as mx
    import mlx.nn as nn

    class Net(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.norm = nn.Linear(6, 8), nn.LayerNorm(8)
            self.fc2, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

        def __call__(self, x: Any) -> Any:
            return self.head(self.fc2(self.fc2(mx.tanh(self.norm(self.fc1(x))))))

    return Net()


MODELS = {"equinox": equinox_model, "haiku": haiku_model, "mlx": mlx_model}
