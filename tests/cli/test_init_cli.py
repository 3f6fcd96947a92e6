"""portinit init: what it writes, what it prints and what it refuses."""

import json
import sys
from pathlib import Path

import click.testing
import numpy as np
import pytest
import safetensors.flax
import safetensors.torch
import torch

import portinit
import portinit_flax
import portinit_torch
from portinit.cli.commands import portinit as command

TORCH = """
import torch
from torch import nn

def make():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2).half())
    assert model[0].weight.is_meta, "built with data"
    return model

def traced():
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))

def nothing():
    return 3
"""

FLAX = """
import jax
import jax.numpy as jnp
from flax import linen, nnx

class Net(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2, name="head")(linen.Dense(4, name="fc")(x))

class Other(nnx.Module):
    def __init__(self, rngs):
        self.fc = nnx.Linear(3, 4, param_dtype=jnp.bfloat16, rngs=rngs)
        assert isinstance(self.fc.kernel[...], jax.core.Tracer), "built with data"

def make():
    return Net()

def make_nnx():
    return Other(nnx.Rngs(0))

def some_input():
    return jnp.zeros((1, 3))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with models and a traced recipe, as the current one."""
    (tmp_path / "torch_models.py").write_text(TORCH)
    (tmp_path / "flax_models.py").write_text(FLAX)
    monkeypatch.chdir(tmp_path)
    for name in ("torch_models", "flax_models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    recipe = portinit_torch.trace(lambda: torch.nn.Linear(3, 4))
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    return tmp_path


def run(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(command, ["init", *arguments])


def ok(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Error: " in result.output
    return " ".join(result.output.split())


def test_a_traced_recipe(folder):
    assert ok("recipe.json", "--seed", "5", "--out", "out").split()[:3] == [
        "wrote",
        "2",
        "tensors,",
    ]
    read = safetensors.torch.load_file(folder / "out" / "model.safetensors")
    recipe = portinit_torch.trace(lambda: torch.nn.Linear(3, 4))
    filled = portinit_torch.initialize(torch.nn.Linear(3, 4), recipe, portinit.key(5))
    assert all(torch.equal(read[name], value) for name, value in filled.state_dict().items())


def test_a_replay(folder):
    ok("recipe.json", "--seed", "5", "--replay", "--out", "out")
    read = safetensors.torch.load_file(folder / "out" / "model.safetensors")
    torch.manual_seed(5)
    assert torch.equal(read["weight"], torch.nn.Linear(3, 4).weight)


def test_a_torch_model_is_built_without_data_and_gives_the_dtypes(folder):
    ok("torch_defaults", "--model", "torch_models.py:make", "--out", "out")
    read = safetensors.torch.load_file(folder / "out" / "model.safetensors")
    assert read["0.weight"].dtype == torch.float32
    assert read["2.weight"].dtype == torch.float16
    assert read["1.num_batches_tracked"].dtype == torch.int64
    ok("torch_defaults", "--model", "torch_models.py:make", "--dtype", "bfloat16", "--out", "b")
    read = safetensors.torch.load_file(folder / "b" / "model.safetensors")
    assert {t.dtype for t in read.values()} == {torch.bfloat16, torch.int64}


def test_a_linen_model_has_its_paths(folder):
    options = ["--model", "flax_models.py:make", "--flax-input", "flax_models.py:some_input"]
    ok("flax_defaults", *options, "--out", "out", "--names", names(folder))
    read = safetensors.flax.load_file(folder / "out" / "model.safetensors")
    tree = {"fc": {"kernel": np.zeros((3, 4), "f4")}}
    recipe = portinit.Recipe([("*", portinit.lecun_normal())])
    filled = portinit_flax.initialize(tree, recipe, portinit.key(0), {"fc/kernel": "first.weight"})
    assert (read["fc/kernel"] == filled["fc"]["kernel"]).all()
    assert {*read} == {"fc/kernel", "fc/bias", "head/kernel", "head/bias"}


def names(folder: Path) -> str:
    path = folder / "names.json"
    path.write_text(json.dumps({"fc/kernel": "first.weight"}))
    return str(path)


def test_an_nnx_model_is_built_without_data(folder):
    ok("flax_defaults", "--model", "flax_models.py:make_nnx", "--out", "out")
    read = safetensors.flax.load_file(folder / "out" / "model.safetensors")
    assert read["fc/kernel"].shape == (3, 4)
    assert read["fc/kernel"].dtype.name == "bfloat16"


def test_files_are_cut_and_nothing_but_the_result_is_printed(folder):
    output = ok("recipe.json", "--out", "out", "--shard-size", "48B")
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    assert len(output.splitlines()) == 1


def test_orbax(folder):
    ok("recipe.json", "--out", "out", "--format", "orbax")
    assert (folder / "out" / "state").is_dir()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gpt2:layers=2", "--out", "out"], "bound to a model, got one of patterns"),
        (["recipe.json", "--out", "torch_models.py"], "is a file"),
        (["recipe.json", "--out", "out", "--shard-size", "many"], "a size must be such as 500MB"),
        (["recipe.json", "--out", "out", "--dtype", "int8"], "'int8' is not one of"),
        (["recipe.json", "--out", "out", "--dtype", "complex128"], "takes no complex128"),
        (["torch_defaults", "--model", "torch_models.py:nothing", "--out", "out"], "got int"),
        (["flax_defaults", "--model", "flax_models.py:make", "--out", "out"], "--flax-input"),
        (["torch_defaults", "--model", "torch_models.py:make", "--replay", "--out", "out"],
         "a replay needs a traced recipe"),
    ],
)  # fmt: skip
def test_refusals_are_one_message(folder, arguments, words):
    assert words in refused(*arguments)
    assert not [*folder.glob("out/*")]


def test_another_checkpoint_is_refused_and_overwritten(folder):
    ok("recipe.json", "--out", "out")
    assert "must hold no other checkpoint" in refused("recipe.json", "--seed", "1", "--out", "out")
    ok("recipe.json", "--seed", "1", "--out", "out", "--overwrite")
    ok("recipe.json", "--seed", "1", "--out", "out")


@pytest.mark.parametrize("where", ["./x", "../x", ".x", "a..b", "x y", "/x", "x/", "%s", "x.", "-"])
def test_what_is_no_module_s_name_is_said_in_one_line(where):
    done = click.testing.CliRunner().invoke(command, ["show", f"{where}:make"])
    assert done.exit_code in (1, 2)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert "Error" in done.output
