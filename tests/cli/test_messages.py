"""Every error that users make, with its message: allowed, received, and what to type instead."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import jax
import jax.numpy as jnp
import pytest
import torch
from flax import linen, nnx

import portinit
import portinit_flax
import portinit_torch
from portinit.cli.commands import portinit as command

TORCH = """
import numpy as np
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)

    def forward(self, x):
        return self.b(self.a(x).relu())

def make():
    return Net()

def broken():
    return helper()

def helper():
    raise ValueError("a head must divide 7")

def number():
    return 3

def example_input():
    return np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)

def two_inputs():
    return example_input(), example_input()

def nothing():
    return None
"""

FLAX = """
import numpy as np
from flax import linen as nn, nnx

class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4, name="b")(nn.relu(nn.Dense(4, name="a")(x)))

class Broken(nn.Module):
    @nn.compact
    def __call__(self, x):
        raise ValueError("a head must divide 9")

def make():
    return Net()

def make_nnx():
    return nnx.Linear(4, 4, rngs=nnx.Rngs(0))

def pair():
    return Net(), {}

def broken():
    return Broken()

def example_input():
    return np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
"""


@pytest.fixture
def by_xla() -> None:
    """Nobody decides who makes JAX's arrays: as in a user's process."""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with models and tables of names, as the current one."""
    monkeypatch.chdir(tmp_path)
    Path("ours.py").write_text(TORCH)
    Path("theirs.py").write_text(FLAX)
    Path("list.json").write_text('[["a/kernel", "a.weight"]]')
    swapped = {f"{x}/{k}": f"{y}.{n}" for x, y in ("ab", "ba") for k, n in LEAVES}
    Path("swapped.json").write_text(json.dumps(swapped))
    for name in ("ours", "theirs"):
        monkeypatch.delitem(sys.modules, name, raising=False)


LEAVES = (("kernel", "weight"), ("bias", "bias"))
PORT = ("port", "ours.py:make", "theirs.py:make")
BOTH_WAYS = "the PyTorch factory comes first: portinit port"

COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "trace of a Flax factory": (
        ("trace", "theirs.py:make"),
        ("theirs.py:make must return a torch.nn.Module, got Net, a Flax module",
         "portinit port net_torch.py:make theirs.py:make"),
    ),
    "trace of an nnx factory": (
        ("trace", "theirs.py:make_nnx"),
        ("must return a torch.nn.Module, got Linear, a Flax module",),
    ),
    "the factories of port swapped": (
        ("port", "theirs.py:make", "ours.py:make"),
        ("theirs.py:make must return a torch.nn.Module, got Net, a Flax module",
         "the PyTorch factory comes first: portinit port ours.py:make theirs.py:make"),
    ),
    "two PyTorch factories": (
        ("port", "ours.py:make", "ours.py:make"),
        ("ours.py:make must return an nnx.Module or a linen module, got Net, a PyTorch module",),
    ),
    "a module and its variables": (
        ("port", "ours.py:make", "theirs.py:pair"),
        ("got tuple; return the module alone",),
    ),
    "a ready recipe without its argument": (
        ("show", "gpt2"),
        ("gpt2 needs layers: write gpt2:layers=12",),
    ),
    "a ready recipe that is misspelt": (
        ("show", "gpt3"),
        ("one of adaln_zero, bert, chrono_lstm", "got 'gpt3'; did you mean gpt2?"),
    ),
    "an argument that is misspelt": (
        ("show", "gpt2:layer=3"),
        ("gpt2 takes layers, std; got layer; did you mean layers?",),
    ),
    "init of patterns without a model": (
        ("init", "gpt2:layers=2", "--out", "out"),
        ("bound to a model, got one of patterns", "--model module:factory"),
    ),
    "a table of names that is a list": (
        (*PORT, "--names", "list.json"),
        ('a JSON object from Flax paths to PyTorch names, {"Dense_0/kernel": "fc.weight"}',
         "got a list"),
    ),
    "a table of names that is missing": (
        (*PORT, "--names", "gone.json"),
        ("gone.json: No such file or directory", '{"Dense_0/kernel": "fc.weight"}'),
    ),
    "a table of names that swaps layers": (
        (*PORT, "--names", "swapped.json"),
        ("outputs differ", "is the first layer that differs"),
    ),
    "a recipe that is missing": (
        (*PORT, "--recipe", "gone.json"),
        ("gone.json: No such file", "portinit trace FACTORY --out gone.json"),
    ),
    "a seed beside a replay": (
        (*PORT, "--replay", "1", "--seed", "2"),
        ("--seed is the seed of a key and --replay that of torch.manual_seed: give one",),
    ),
    "a replay of a stated recipe": (
        (*PORT, "--replay", "1", "--recipe", "torch_defaults"),
        ("a replay needs a traced recipe", "portinit trace FACTORY --out FILE"),
    ),
    "a factory that fails": (
        ("port", "ours.py:broken", "theirs.py:make"),
        ("ours.py:broken raised ValueError: a head must divide 7", "in broken", "in helper"),
    ),
    "a forward pass that fails": (
        ("port", "ours.py:make", "theirs.py:broken"),
        ("theirs.py:broken on its example input raised ValueError: a head must divide 9",),
    ),
    "inputs that the model does not take": (
        (*PORT, "--torch-input", "ours.py:two_inputs"),
        ("the forward pass of ours.py:make raised TypeError", "takes 2 positional arguments"),
    ),
    "an input that is None": (
        (*PORT, "--torch-input", "ours.py:nothing"),
        ("must return an array, a tuple of positional arguments or a mapping of keyword arguments",
         "got None"),
    ),
    "a factory that is misspelt": (
        ("report", "ours.py:mak"),
        ("ours.py has no mak; did you mean make?",),
    ),
    "a factory of no model": (
        ("show", "ours.py:number"),
        ("ours.py:number must return a torch.nn.Module or a model of Flax, Keras", "got int"),
    ),
    "a stack without an axis": (
        (*PORT, "--stacked", "layers=x"),
        ("must be a Flax path and an axis, such as layers=0, got layers=x",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_says_what_is_wrong(case):
    arguments, words = COMMANDS[case]
    result = click.testing.CliRunner().invoke(command, arguments)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code != 0
    printed = " ".join(result.output.split())
    for word in words:
        assert word in printed
    for ours in ("Traceback", "portinit/cli", "site-packages"):
        assert ours not in printed
    assert not Path("out").exists()


RECIPE = portinit.recipes.torch_defaults()
KEY = portinit.key(0)
RULES: Any = {"*": portinit.normal()}
TREE = {"a": {"kernel": jnp.ones((2, 3))}}


def linear() -> torch.nn.Module:
    return torch.nn.Linear(2, 3)


def flax_layer(initializer: Any) -> Callable[[], Any]:
    layer = linen.Dense(3, kernel_init=initializer)
    return lambda: layer.init(jax.random.key(0), jnp.ones((1, 2)))


CALLS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "a name as seed": (
        lambda: portinit.key("abc"),
        ("an integer in [0, 2**64)", "'abc' of str", 'portinit.key(0).fold_in("abc")'),
    ),
    "a fraction as seed": (lambda: portinit.key(1.5), ("an integer", "1.5 of float")),
    "a model where its constructor is traced": (
        lambda: portinit_torch.trace(linear()),
        ("a function that makes the model", "got a finished Linear", "trace(lambda: Linear(...))"),
    ),
    "a dict as recipe in PyTorch": (
        lambda: portinit_torch.initialize(linear(), RULES, KEY),
        ("a recipe must be a portinit.Recipe, got dict", "portinit.Recipe(list(recipe.items()))"),
    ),
    "a dict as recipe in bind": (
        lambda: portinit_torch.bind(linear(), RULES),
        ("got dict", "portinit.Recipe(list(recipe.items()))"),
    ),
    "a dict as recipe in Flax": (
        lambda: portinit_flax.initialize(TREE, RULES, KEY),
        ("got dict", "portinit.Recipe(list(recipe.items()))"),
    ),
    "a dict of rules": (
        lambda: portinit.Recipe(RULES),
        ("a list of rules", "got a mapping", "portinit.Recipe(list(rules.items()))"),
    ),
    "an initializer as recipe": (
        lambda: portinit_torch.initialize(linear(), portinit.normal(), KEY),  # type: ignore[arg-type]
        ("got the initializer normal()", 'portinit.Recipe([("*", portinit.normal())])'),
    ),
    "a ready recipe that is not called": (
        lambda: portinit_flax.initialize(TREE, portinit.recipes.vit, KEY),  # type: ignore[arg-type]
        ("got the function vit", "vit()"),
    ),
    "an initializer that is not called in a rule": (
        lambda: portinit.Recipe([("*", portinit.normal)]),
        ("a portinit initializer", "call it, normal()"),
    ),
    "an initializer that is not called in a layer": (
        flax_layer(portinit.kaiming_normal),
        ("kaiming_normal must be made before it draws", "kernel_init=portinit.kaiming_normal()"),
    ),
    "an initializer of one argument that is not called": (
        flax_layer(portinit.orthogonal),
        ("kernel_init=portinit.orthogonal() with parentheses",),
    ),
    "an initializer of JAX's names that is not called": (
        flax_layer(portinit.he_normal),
        ("kernel_init=portinit.he_normal() with parentheses",),
    ),
    "a linen module where variables are wanted": (
        lambda: portinit_flax.initialize(linen.Dense(3), RECIPE, KEY),
        ("variables or an nnx.Module", "the linen module Dense", "jax.eval_shape(model.init"),
    ),
    "a PyTorch module in Flax": (
        lambda: portinit_flax.initialize(linear(), RECIPE, KEY),
        ("got Linear of PyTorch", "portinit_torch.initialize"),
    ),
    "a Flax module in PyTorch": (
        lambda: portinit_torch.initialize(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), RECIPE, KEY),  # type: ignore[arg-type]
        ("module must be a torch.nn.Module, got Linear", "portinit_flax.initialize"),
    ),
}


def test_pytorch_takes_a_jax_key():
    ours = portinit_torch.initialize(linear(), RECIPE, KEY)
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        theirs = portinit_torch.initialize(linear(), RECIPE, key)
        assert torch.equal(ours.weight, theirs.weight)


@pytest.mark.parametrize("case", CALLS)
def test_a_call_says_what_is_wrong(case):
    call, words = CALLS[case]
    with pytest.raises(TypeError) as error:
        call()
    for word in words:
        assert word in str(error.value)
