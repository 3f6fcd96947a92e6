"""Typical user code, for mypy --strict and pyright: types that are known, and typos that fail.

A line with ``# typo`` must be an error; a line without must not. ``assert_type`` holds types.
"""

from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen, nnx
from numpy.typing import NDArray

import portinit
import portinit_flax
import portinit_torch

key = portinit.key(0)
init = portinit.kaiming_normal(nonlinearity="relu")

# Arrays are those of the key, or of the namespace

assert_type(init(key, (32, 64)), NDArray[Any])
assert_type(init(jax.random.key(0), (32, 64)), jax.Array)
assert_type(init(key, (64, 32), xp=torch, layout="torch"), torch.Tensor)
assert_type(init(key, (32, 64), xp=jnp), jax.Array)
assert_type(init(key, (32, 64), "bfloat16"), NDArray[Any])
assert_type(portinit.zeros(key, (3,)), NDArray[Any])

# Models and recipes keep their types


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(32, 64)


class FlaxNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.fc = nnx.Linear(32, 64, rngs=rngs)


recipe = portinit_torch.trace(Net)
assert_type(recipe, portinit.Recipe)
assert_type(recipe.replay(0), dict[str, NDArray[Any]])
assert_type(portinit_torch.initialize(Net(), recipe, key), Net)
assert_type(portinit_torch.initialize(Net(), recipe, jax.random.key(0)), Net)
assert_type(portinit_flax.initialize(FlaxNet(nnx.Rngs(0)), recipe, key), FlaxNet)
assert_type(portinit.calculate_gain("tanh"), float)
assert_type(portinit.calculate_gain(np.tanh), float)

written = (
    portinit.Recipe([("*.bias", portinit.zeros), ("*", portinit.normal(std=0.02), "torch")])
    + portinit.recipes.torch_defaults()
)
assert_type(written, portinit.Recipe)

# Flax's layers take initializers

linen.Dense(64, kernel_init=portinit.he_normal(), bias_init=portinit.zeros)
nnx.Linear(32, 64, kernel_init=portinit.orthogonal(), rngs=nnx.Rngs(0))
portinit_torch.kaiming_normal_(torch.empty(3, 4), mode="fan_out", nonlinearity="relu", key=key)

# Annotations of users' own


def stack(initializer: portinit.Initializer, root: portinit.Key, n: int) -> NDArray[Any]:
    return np.stack([initializer(root.fold_in(i), (3, 4)) for i in range(n)])


# Typos

portinit.kaiming_normal(mode="fan_ins")  # typo
portinit.kaiming_uniform(nonlinearity="rellu")  # typo
portinit.variance_scaling(1.0, "fan_in", "gaussian")  # typo
portinit.variance_scaling(1.0, "fan_inn", "normal")  # typo
portinit.calculate_gain("tahn")  # typo
portinit_torch.kaiming_normal_(torch.empty(3, 4), mode="fan_outs")  # typo
portinit.normal(sdt=0.02)  # typo
portinit_torch.initialize(Net(), {"*": portinit.normal()}, key)  # typo
portinit_flax.initialize(FlaxNet(nnx.Rngs(0)), portinit.normal(), key)  # typo
portinit.key("abc")  # typo
recipe.reply(0)  # typo
