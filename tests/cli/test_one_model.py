"""``portinit init --model`` and ``portinit show`` on models of Keras, Equinox, Haiku and MLX."""

import importlib
import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import keras
import mlx.nn
import numpy as np
import pytest
from click.testing import CliRunner, Result
from orbax.checkpoint.experimental import v1 as orbax
from safetensors.numpy import load_file
from tests.cli.twins import patches_equinox, patches_torch

import portinit
import portinit_keras
import portinit_torch
from portinit.cli.commands import portinit as command
from portinit.recipes.matching.request import MatchRequest
from portinit.testing.twins import twin_of

OTHERS = ("equinox", "haiku", "mlx")


@pytest.fixture
def by_xla() -> None:
    """Nobody decides who makes JAX's arrays: as in a user's process."""


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "300"}).invoke(command, [*arguments])


def words(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("framework", OTHERS)
def test_a_checkpoint_holds_what_initialize_gives(framework: str, tmp_path: Path) -> None:
    traced, out = tmp_path / "recipe.json", tmp_path / "out"
    recipe = portinit_torch.trace(patches_torch.make_model)
    traced.write_text(recipe.to_json(), encoding="utf-8")
    module = importlib.import_module(f"tests.cli.twins.patches_{framework}")
    target = f"{module.__name__}:make_model"
    words(run("init", str(traced), "--model", target, "--seed", "5", "--out", str(out)))
    twin = twin_of(module.make_model(), module.example_input())
    request = MatchRequest()
    expected = twin.paths(twin.initialize(recipe, portinit.key(5), request))
    (file,) = out.glob("*.safetensors")
    found = load_file(file)
    assert len(found) == 18
    for path, values in found.items():
        assert values.tobytes() == np.asarray(expected[path]).tobytes(), path


def test_haikus_tree_is_nested_as_haiku_nests_it(tmp_path: Path) -> None:
    target = "tests.cli.twins.patches_haiku:make_model"
    options = ("--format", "orbax", "--out", str(tmp_path / "out"))
    words(run("init", "torch_defaults", "--model", target, *options))
    tree: Any = orbax.load(tmp_path / "out")
    assert tree["attn/query"]["w"].shape == (8, 8)
    assert tree["bn/~/mean_ema"]["average"].shape == (1, 1, 1, 8)


def make_abstract() -> Any:
    """A model without data, as one is made that is larger than memory."""
    return eqx.filter_eval_shape(eqx.nn.Linear, 3, 4, key=jax.random.key(0))


def make_keras() -> Any:
    return keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(2, dtype="bfloat16")])


def example_input() -> Any:
    return np.zeros((1, 3), np.float32)


def make_mlx() -> Any:
    return mlx.nn.Linear(3, 4)


HERE = __name__


def test_a_model_without_data_is_enough(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--dtype", "float16", "--out", str(out))
    words(run("init", "torch_defaults", "--model", f"{HERE}:make_abstract", *options))
    (file,) = out.glob("*.safetensors")
    assert {path: x.dtype for path, x in load_file(file).items()} == {
        "weight": np.float16, "bias": np.float16,
    }  # fmt: skip


def test_a_keras_model_is_built_and_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words(run("init", "flax_defaults", "--model", f"{HERE}:make_keras", "--out", str(out)))
    (file,) = out.glob("*.safetensors")
    model = make_keras()
    model.build((None, 3))
    portinit_keras.initialize(model, portinit.recipes.flax_defaults(), portinit.key(0))
    found = load_file(file)
    assert {*found} == {"dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"}
    kernels = [found["dense/kernel"], found["dense_1/kernel"]]
    for values, layer in zip(kernels, model.layers, strict=True):
        assert values.tobytes() == np.asarray(layer.kernel.value).tobytes()


@pytest.mark.parametrize("framework", OTHERS)
def test_show_says_what_each_array_gets(framework: str) -> None:
    said = words(run("show", f"tests.cli.twins.patches_{framework}:make_model"))
    word = "w" if framework == "haiku" else "weight"
    assert f"norm/{'scale' if framework == 'haiku' else 'weight'} norm.weight 8 ones()" in said
    shape = "3 x 3 x 3 x 8" if framework == "haiku" else "8 x 3 x 3 x 3"
    assert f"conv/{word} conv.weight {shape} kaiming_uniform(a=2.236) 0.1111" in said


def test_show_takes_a_table_and_prints_code(tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"dense/kernel": "up.weight"}), encoding="utf-8")
    model, table = f"{HERE}:make_keras", ("--names", str(names))
    assert "dense/kernel up.weight 3 x 4" in words(run("show", model, *table))
    assert "kernel_init=portinit." in words(run("show", model, "--as-code"))


@pytest.mark.parametrize("command_line", [("show",), ("init", "torch_defaults", "--out", "out")])
def test_an_input_may_be_named_and_may_lack(
    command_line: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("alone.py").write_text(
        "import haiku as hk\ndef make(): return hk.transform(lambda x: hk.Linear(2)(x))\n"
        "def some(): return 3\n",
        encoding="utf-8",
    )
    model = ("--model",) if command_line[0] == "init" else ()
    refused = run(*command_line, *model, "alone.py:make")
    assert refused.exit_code == 1
    assert "define example_input() beside the factory" in refused.output
    words(run(*command_line, *model, "alone.py:make", "--input", f"{HERE}:example_input"))
    refused = run(*command_line, *model, "alone.py:some")
    assert refused.exit_code == 1
    assert "got int" in refused.output


def test_what_a_recipe_lacks_is_listed(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(portinit.Recipe([("weight", portinit.zeros)]).to_json(), encoding="utf-8")
    refused = run("show", f"{HERE}:make_mlx", "--recipe", str(recipe))
    assert refused.exit_code == 1
    assert "bias" in refused.output


def test_an_equinox_model_is_no_pytorch_model() -> None:
    refused = run("trace", f"{patches_equinox.__name__}:make_whole")
    assert refused.exit_code == 1
    assert "must return a torch.nn.Module, got tuple, an Equinox model" in refused.output
