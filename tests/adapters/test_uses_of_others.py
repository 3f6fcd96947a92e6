"""How forward passes of Keras, Equinox and Haiku use their parameters, and matching by that."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch

import portinit
import portinit_equinox
import portinit_haiku
import portinit_keras
import portinit_torch
from portinit.recipes.matching.uses.uses import Operation, Uses

ROOT = Path(__file__).parents[2]
X = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)


@pytest.fixture
def by_xla() -> None:
    """Nobody decides who makes JAX's arrays: as in a user's process."""


class Two(torch.nn.Module):
    """Names that no other model has, in an order that is not that of definition there."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
        self.norm = torch.nn.LayerNorm(8)

    def forward(self, x: Any) -> Any:
        return self.norm(self.second(torch.tanh(self.first(x))))


class EquinoxTwo(eqx.Module):
    zeta: eqx.nn.Linear
    alpha: eqx.nn.Linear
    norm: eqx.nn.LayerNorm

    def __call__(self, x: Any) -> Any:
        return self.norm(self.zeta(jnp.tanh(self.alpha(x))))


def equinox_two() -> Any:
    keys = jax.random.split(jax.random.key(0))
    return EquinoxTwo(*(eqx.nn.Linear(8, 8, key=key) for key in keys), eqx.nn.LayerNorm(8))


def haiku_two(x: Any) -> Any:
    zeta, alpha = hk.Linear(8, name="zeta"), hk.Linear(8, name="alpha")
    return hk.LayerNorm(-1, True, True, name="norm")(zeta(jnp.tanh(alpha(x))))


class KerasTwo(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.zeta, self.alpha = keras.layers.Dense(8), keras.layers.Dense(8)
        self.norm = keras.layers.LayerNormalization()

    def call(self, x: Any) -> Any:
        return self.norm(self.zeta(keras.ops.tanh(self.alpha(x))))


def keras_two() -> Any:
    model = KerasTwo()
    model(X)
    return model


def of_haiku() -> tuple[Any, Any, Uses]:
    net = hk.transform(haiku_two)
    shapes = jax.eval_shape(net.init, jax.random.key(0), X)
    return portinit_haiku, shapes, portinit_haiku.uses(net, X)


MADE: dict[str, Any] = {
    "equinox": lambda: (
        portinit_equinox, equinox_two(), portinit_equinox.uses(equinox_two(), X)
    ),
    "haiku": of_haiku,
    "keras": lambda: (portinit_keras, keras_two(), portinit_keras.uses(keras_two(), X)),
}  # fmt: skip
KERNELS = {"equinox": "weight", "haiku": "w", "keras": "kernel"}
SCALES = {"equinox": "weight", "haiku": "scale", "keras": "gamma"}


@pytest.mark.parametrize("framework", MADE)
def test_a_pass_uses_arrays_as_pytorch_does(framework: str) -> None:
    _, _, found = MADE[framework]()
    ours = portinit_torch.uses(Two(), X)
    kernel = KERNELS[framework]
    for module, path in (("first", "alpha"), ("second", "zeta")):
        one, other = ours[f"{module}.weight"][0], found[f"{path}/{kernel}"][0]
        assert one.operation == other.operation == Operation.CONTRACTION
        assert one.depth == other.depth
        assert other.axes == (one.axes if framework == "equinox" else one.axes[::-1])
        assert one.functions == other.functions
    scale = found[f"norm/{SCALES[framework]}"][0]
    assert scale.operation == Operation.MULTIPLY
    assert next(iter(found)) == f"alpha/{kernel}"  # the first that is used


@pytest.mark.parametrize("framework", MADE)
def test_uses_pair_modules_that_no_name_tells(framework: str) -> None:
    adapter, model, found = MADE[framework]()
    recipe = portinit_torch.bind(Two(), portinit.recipes.torch_defaults())
    both = portinit_torch.uses(Two(), X), found
    kernel = KERNELS[framework]
    matching = adapter.match(model, recipe, uses=both)
    assert matching[f"alpha/{kernel}"][0] == "first.weight"
    assert matching[f"zeta/{kernel}"][0] == "second.weight"
    key = portinit.key(0)
    weights = portinit_torch.initialize(Two(), recipe, key).state_dict()
    with pytest.warns(UserWarning, match="matched by a guess"):
        filled = adapter.initialize(model, recipe, key, uses=both)
    if framework == "haiku":
        values = np.asarray(filled["alpha"]["w"]).T
    elif framework == "keras":
        values = keras.ops.convert_to_numpy(filled.alpha.kernel).T
    else:
        values = np.asarray(filled.alpha.weight)
    assert (values == weights["first.weight"].numpy()).all()


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_other_backends_of_keras_follow_a_pass_or_say_that_they_do_not(backend: str) -> None:
    code = f"""
import tests.adapters.test_uses_of_others as here, portinit_keras, portinit_torch
from portinit.testing.twins import twin_of
made = here.keras_two()
if {backend!r} == "numpy":
    assert twin_of(made, here.X).uses() is None
    try:
        portinit_keras.uses(made, here.X)
    except TypeError as error:
        assert "Keras runs on numpy: set KERAS_BACKEND to jax or torch" in str(error)
    else:
        raise AssertionError
else:
    found, ours = portinit_keras.uses(made, here.X), portinit_torch.uses(here.Two(), here.X)
    for name, path in (("first", "alpha"), ("second", "zeta")):
        a, b = ours[name + ".weight"][0], found[path + "/kernel"][0]
        assert (a.operation, a.depth, a.axes[::-1]) == (b.operation, b.depth, b.axes)
    assert twin_of(made, here.X).uses().keys() == found.keys()
"""
    paths = [str(ROOT / part) for part in (".", "src", "adapters")]
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_model_with_state_is_followed() -> None:
    from tests.cli.twins import patches_equinox, patches_haiku, patches_torch

    images = patches_torch.example_input()
    found = portinit_equinox.uses(patches_equinox.make_model(), images)
    assert found["head/weight"][0].operation == Operation.CONTRACTION
    assert found["conv/weight"][0].operation == Operation.CONVOLUTION
    found = portinit_haiku.uses(patches_haiku.make_model(), patches_haiku.example_input())
    assert found["bn/running_mean"][0].operation == Operation.ADD
    assert found["attn/query/w"][0].axes == ("in", "out")
