"""``portinit port`` on twins in Equinox, Haiku and MLX, and the proof by three lines of Python."""

from typing import Any

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import mlx.nn
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.numpy import load_file
from tests.cli.twins import patches_equinox, patches_haiku, patches_mlx, patches_torch

import portinit
import portinit_torch
from portinit.cli.commands import portinit as command_line
from portinit.testing import prove_match
from portinit.testing.proof.outputs import compare_outputs
from portinit.testing.twins import twin_of

TORCH = "tests.cli.twins.patches_torch:make_model"
TWINS = {"Equinox": patches_equinox, "Haiku": patches_haiku, "MLX": patches_mlx}


@pytest.fixture
def by_xla() -> None:
    """Nobody decides who makes JAX's arrays: as in a user's process."""


def port(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "400"}).invoke(command_line, ["port", TORCH, *arguments])


@pytest.mark.parametrize("framework", TWINS)
def test_a_twin_is_ported_and_proved(framework: str, tmp_path: Any) -> None:
    out = tmp_path / "weights.safetensors"
    done = port(f"{TWINS[framework].__name__}:make_model", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert f"18 of 18 parameters identical in PyTorch and {framework}" in done.output
    assert "proved by random weights: 17 of 18 parameters matter" in done.output
    ours = portinit_torch.initialize(
        patches_torch.make_model(), portinit_torch.trace(patches_torch.make_model), portinit.key(0)
    )
    weight = next(x for path, x in load_file(out).items() if path in ("norm/scale", "norm/weight"))
    assert (weight == ours.norm.weight.detach().numpy()).all()


@pytest.mark.parametrize("framework", TWINS)
def test_three_lines_of_python_prove_a_twin(framework: str) -> None:
    made, inputs = TWINS[framework].make_model(), TWINS[framework].example_input()
    proof = prove_match(patches_torch.make_model(), made, patches_torch.example_input(), inputs)
    assert proof.agrees
    assert [str(pair.parameter) for pair in proof.unproved] == ["attn.in_proj_bias[8:16]"]


def test_a_model_of_equinox_takes_one_example_or_a_batch() -> None:
    done = port("tests.cli.twins.patches_equinox:make_model")
    assert "ran on one example at a time, under jax.vmap over axis 0" in done.output
    done = port("tests.cli.twins.patches_equinox:make_whole")
    assert done.exit_code == 0
    assert "ran on its whole input" in done.output


class Two(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        return self.second(torch.tanh(self.first(x)))


class Others(eqx.Module):
    """Other names, in another order than that of use."""

    zeta: eqx.nn.Linear
    alpha: eqx.nn.Linear

    def __call__(self, x: Any) -> Any:
        return self.zeta(jnp.tanh(self.alpha(x)))


def test_the_forward_pass_tells_what_names_do_not() -> None:
    made = Others(*(eqx.nn.Linear(8, 8, key=jax.random.key(i)) for i in range(2)))
    proof = prove_match(Two(), made, np.random.default_rng(0).normal(size=(3, 8)).astype("f"))
    assert proof.is_complete
    assert proof.matching["alpha/weight"][0] == "first.weight"


def test_a_twin_that_computes_something_else_is_seen() -> None:
    done = port("tests.cli.twins.patches_equinox:make_wrong")
    assert done.exit_code == 1
    assert "the models compute different things" in " ".join(done.output.split())


def plain(x: Any) -> Any:
    return hk.Linear(8, name="second")(jnp.tanh(hk.Linear(8, name="first")(x)))


@pytest.mark.parametrize("made", [hk.transform(plain), hk.without_apply_rng(hk.transform(plain))])
def test_a_transformed_function_may_take_a_key_or_none(made: Any) -> None:
    proof = prove_match(Two(), made, np.random.default_rng(0).normal(size=(3, 8)).astype("f"))
    assert proof.is_complete


@pytest.mark.parametrize("stated", [False, True])
def test_a_mode_of_haikus_may_be_stated(stated: bool) -> None:
    images = patches_haiku.example_input()
    inputs = {"images": images, "is_training": False} if stated else images
    twin = twin_of(patches_haiku.make_model(), inputs)
    assert twin.notes == (() if stated else ("Haiku ran with is_training=False",))
    ours = patches_torch.make_model(), patches_haiku.make_model(), patches_torch.example_input()
    assert prove_match(*ours, inputs).agrees


@pytest.mark.parametrize("framework", TWINS)
def test_messages_name_the_framework(framework: str, tmp_path: Any) -> None:
    swapped = np.zeros((2, 3), np.float32)
    found = compare_outputs({"": swapped}, {"": swapped.T.reshape(6)}, framework=framework)
    assert found.problems[0].endswith(f"got (2, 3) in PyTorch and (6,) in {framework}")
    made = f"{TWINS[framework].__name__}:make_model"
    done = CliRunner(env={"COLUMNS": "400"}).invoke(command_line, ["match", TORCH, made])
    assert done.exit_code == 0, done.output
    assert f"┃ {framework} " in done.output


def test_the_layer_where_activations_part_is_named_in_mlx() -> None:
    made = patches_mlx.make_model()
    made.norm.eps = 0.5
    inputs = patches_torch.example_input(), patches_mlx.example_input()
    proof = prove_match(patches_torch.make_model(), made, *inputs)
    assert not proof.agrees
    assert str(proof.where).startswith("norm (norm in MLX), a LayerNorm, is the first")
    assert type(made.norm).__call__ is mlx.nn.LayerNorm.__call__  # the module is its own again


def test_the_layer_where_activations_part_is_named_in_equinox() -> None:
    images, called = patches_torch.example_input(), eqx.nn.Conv2d.__call__
    proof = prove_match(patches_torch.make_model(), patches_equinox.make_wrong(), images)
    assert not proof.agrees
    assert str(proof.where).startswith("head (head in Equinox), a Linear, is the first")
    assert eqx.nn.Conv2d.__call__ is called  # the class is its own again


def wrong(images: Any, is_training: bool) -> Any:
    return jnp.tanh(patches_haiku.forward(images, is_training))


def test_the_layer_where_activations_part_is_told_in_haiku() -> None:
    inputs = patches_torch.example_input(), patches_haiku.example_input()
    proof = prove_match(patches_torch.make_model(), hk.transform_with_state(wrong), *inputs)
    assert not proof.agrees
    assert "layers that both sides name give the same outputs" in str(proof.where)


def test_haiku_needs_an_input() -> None:
    made = patches_haiku.make_model()
    with pytest.raises(portinit.RecipeError, match="no parameters before it sees an input"):
        prove_match(patches_torch.make_model(), made, None)
