"""portinit match: what it prints, and tables that port takes."""

import json
from pathlib import Path

import click.testing
import pytest
from tests.cli.test_twins import CASES, STACKED, TWINS

from portinit.cli.commands import portinit as command

pytestmark = pytest.mark.usefixtures("by_xla")


@pytest.fixture
def by_xla() -> None:
    """Nobody decides who makes JAX's arrays: as in a user's process."""


def run(*arguments: str, status: int = 0) -> str:
    result = click.testing.CliRunner().invoke(command, [*arguments])
    assert result.exit_code == status, f"{result.output}{result.exception!r}"
    return " ".join(result.output.split())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_port_takes_the_table_that_match_writes(name, folder):
    Path("names.json").write_text(json.dumps(STACKED))
    count, options, _ = CASES[name]
    pair = (f"{TWINS / name.partition('_')[0]}_torch.py:make", f"{TWINS / name}.py:make")
    said = run("match", *pair, *options, "--write", "table.json")
    assert said.startswith(("✓", "!"))
    assert f"portinit port {' '.join(pair)} --names table.json" in said
    channels = [option for option in options if option == "--channels-last"]
    ported = run("port", *pair, *channels, "--names", "table.json")
    assert f" of {count} parameters identical in PyTorch and Flax" in ported
    assert "differ" not in ported
    again = run("match", *pair, *channels, "--names", "table.json")
    assert "0 of them guessed" in again


TORCH = """
import numpy as np
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = torch.nn.Linear(8, 24)
        self.out = torch.nn.Linear(8, 8)
        self.pooler = torch.nn.Linear(8, 8)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(torch.tanh(q) * k + v)

def make():
    return Net()

def example_input():
    return np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
"""
FLAX = """
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        def kernel(name, shape):
            return self.param(name, nn.initializers.normal(), shape)
        q = x @ kernel("a", (8, 8)).T + kernel("a0", (8,))
        kv = jnp.einsum("bi,nio->nbo", x, kernel("b", (2, 8, 8))) + kernel("b0", (2, 8))[:, None]
        return (jnp.tanh(q) * kv[0] + kv[1]) @ kernel("c", (8, 8)) + kernel("c0", (8,)) + kernel(
            "unused", (8,)
        ) * 0

def make():
    return Net()

def example_input():
    return np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
"""
CONVERT = """
import torch

def convert(state):
    q, k, v = state["qkv.weight"].chunk(3)
    q0, k0, v0 = state["qkv.bias"].chunk(3)
    return {"params": {
        "a": q, "a0": q0, "b": torch.stack([k.T, v.T]), "b0": torch.stack([k0, v0]),
        "c": state["out.weight"].T, "c0": state["out.bias"], "unused": torch.zeros(8),
    }}

def scaled(state):
    tree = convert(state)
    tree["params"]["c"] = tree["params"]["c"] * 2
    return tree

def broken(state):
    raise KeyError("gone")
"""


@pytest.fixture
def pair(folder):
    for name, text in (("net_torch", TORCH), ("net_flax", FLAX), ("loader", CONVERT)):
        Path(f"{name}.py").write_text(text)
    return ("net_torch.py:make", "net_flax.py:make")


def test_a_conversion_is_read_and_the_models_port(pair):
    conversion = ("--from-conversion", "loader.py:convert", "--write", "names.json")
    said = run("match", pair[0], *conversion)
    assert "parameters that the conversion leaves out: pooler.weight, pooler.bias" in said
    assert json.loads(Path("names.json").read_text())["names"]["a"] == ["qkv.weight[0:8]", "torch"]
    ported = run("port", *pair, "--names", "names.json")
    assert "✓ 6 of 6 parameters identical in PyTorch and Flax" in ported
    checked = run("match", *pair, *conversion)
    assert "6 pairs, 0 of them guessed" in checked


def test_what_a_conversion_computes_is_told_and_left_out(pair):
    said = run("match", pair[0], "--from-conversion", "loader.py:scaled", status=1)
    assert "computed, and so not in the table: c (8, 8): all 64 elements computed" in said
    said = run("match", pair[0], "--from-conversion", "loader.py:broken", status=1)
    assert "loader.py:broken raised KeyError: 'gone'" in said


def test_misfits_come_with_candidates_and_what_to_type(pair):
    said = run("match", *pair, status=1)
    assert "unused: the recipe has no such name" in said
    assert "PyTorch names left over of its size (8,)" in said
    assert "out.weight: no such parameter in the tree; arrays left over of its size" in said
    said = run("port", *pair, status=1)
    assert "parameters have no counterpart on the other side" in said
    assert f"portinit match {' '.join(pair)} --write names.json" in said


MANY = """
import numpy as np
import {framework}

def make():
    {body}

def example_input():
    return np.zeros((2, 3), np.float32)
"""


def test_more_misfits_than_a_screen_go_to_a_file(folder):
    layers = "torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(30)))"
    torch_body = f"return {layers}"
    flax_body = "return flax.linen.Dense(7)"
    Path("a.py").write_text(MANY.format(framework="torch", body=torch_body))
    Path("b.py").write_text(MANY.format(framework="flax.linen", body=flax_body))
    result = click.testing.CliRunner().invoke(command, ["port", "a.py:make", "b.py:make"])
    assert result.exit_code == 1
    assert len(result.output.splitlines()) <= 26
    assert "62 parameters have no counterpart on the other side" in result.output
    assert "portinit-misfits.txt lists all 62" in " ".join(result.output.split())
    assert len(Path("portinit-misfits.txt").read_text().splitlines()) == 62
    matched = click.testing.CliRunner().invoke(command, ["match", "a.py:make", "b.py:make"])
    assert len(matched.output.splitlines()) <= 24


def test_what_match_needs_is_said(pair):
    assert "give TWIN_FACTORY, or a conversion" in run("match", pair[0], status=2)
    assert "--folder says what a conversion takes" in run("match", *pair, "--folder", status=2)
    Path("names.json").write_text('{"a": 3}')
    assert "a: a name, a pair" in run("match", *pair, "--names", "names.json", status=2)
