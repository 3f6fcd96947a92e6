"""portinit.probe in Keras, Equinox, Haiku and MLX: PyTorch's numbers for the same weights."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import mlx.core as mx
import mlx.nn
import numpy as np
import pytest
from tests.cli.twins import patches_equinox, patches_haiku, patches_mlx, patches_torch
from tests.probes.twins import INPUTS, KEY, MODELS, RECIPE, haiku_model, mlx_model, torch_model

import portinit
import portinit_haiku
import portinit_torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def by_xla() -> None:
    """Nobody decides who makes JAX's arrays: as in a user's process."""


@pytest.fixture(scope="module")
def of_torch() -> dict[str, Any]:
    found: dict[str, Any] = portinit.probe(torch_model(), INPUTS, recipe=RECIPE, key=KEY).to_data()
    return found


def numbers(found: dict[str, Any], skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """The stds of a probe, by layers' names, and by parameters' layers and whether each is a bias.

    The first of a parameter's numbers is the std that is expected of it.
    """
    said: dict[str, Any] = {}
    for one in found["layers"]:
        if one["name"] not in skip:
            slope = one["gradient"] and one["gradient"]["std"]
            said[one["name"]] = (one["output"]["std"], slope)
    for one in found["parameters"]:
        *module, word = one["name"].replace(".", "/").split("/")
        is_bias = word in ("bias", "b", "offset", "beta")
        slope = one["gradient"] and one["gradient"]["std"]
        stds = (one["expected_std"], one["values"]["std"], slope)
        said[f"{'/'.join(module)} {'bias' if is_bias else 'weight'}"] = stds
    return said


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, stds in expected.items():
        assert found[name] == pytest.approx(stds, rel=2e-4), name


@pytest.mark.parametrize("framework", MODELS)
def test_a_probe_gives_pytorchs_numbers(framework: str, of_torch: dict[str, Any]) -> None:
    found = portinit.probe(MODELS[framework](), INPUTS, recipe=RECIPE, key=KEY)
    assert found.framework == framework
    assert found.unseen == ()
    assert [layer.name for layer in found.layers] == ["fc1", "norm", "fc2", "fc2#2", "head"]
    assert_same(numbers(found.to_data()), numbers(of_torch))


@pytest.mark.parametrize("backend", ["jax", "torch", "tensorflow", "numpy"])
def test_keras_gives_pytorchs_numbers_on_each_backend(
    backend: str, of_torch: dict[str, Any], tmp_path: Path
) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} not installed")
    out = tmp_path / "probe.json"
    paths = [str(ROOT / part) for part in (".", "src", "adapters")]
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "tests.probes.keras_probe", str(out)]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text("utf-8"))
    assert found["same"]
    assert 0.1 < found["dropped"] < 0.9
    said = numbers(found["probe"], skip=("tanh", "drop"))
    expected = numbers(of_torch)
    if backend == "numpy":  # which has no gradients
        assert {stds[-1] for stds in said.values()} == {None}
        said, expected = (
            {name: stds[:-1] for name, stds in both.items()} for both in (said, expected)
        )
    assert_same(said, expected)


@pytest.mark.parametrize("made", [patches_equinox, patches_haiku, patches_mlx])
def test_a_layer_that_fails_leaves_nothing_behind(made: Any) -> None:
    called = eqx.nn.Conv2d.__call__
    model, inputs = made.make_model(), patches_torch.example_input()[:, :, :2]
    with pytest.raises(Exception, match=r".+"):
        portinit.probe(model, (inputs, inputs), recipe=portinit.recipes.torch_defaults(), key=KEY)
    assert eqx.nn.Conv2d.__call__ is called
    if made is patches_mlx:
        assert {type(part).__module__ for part in model.conv.leaf_modules()} <= {"mlx"}
        assert type(model.conv) is mlx.nn.Conv2d


def test_models_with_state_and_modes_are_probed() -> None:
    recipe = portinit_torch.trace(patches_torch.make_model)
    images, last = patches_torch.example_input(), patches_mlx.example_input()
    ours = patches_torch.make_model()
    training = portinit.probe(ours, images, recipe=recipe, key=KEY)
    inference = portinit.probe(ours.eval(), images, recipe=recipe, key=KEY)

    def stds(found: portinit.Probe) -> list[float]:
        names = ("conv", "bn", "attn", "attn/output_proj", "head")
        return [layer.std for layer in found.layers if layer.name in names]

    made = patches_equinox.make_model()
    found = portinit.probe(made, images, recipe=recipe, key=KEY)
    assert stds(found) == pytest.approx(stds(training), rel=1e-3)
    found = portinit.probe(eqx.nn.inference_mode(made), images, recipe=recipe, key=KEY)
    assert stds(found) == pytest.approx(stds(inference), rel=1e-4)
    for inputs, expected in ((last, inference), ((last, True), training)):
        found = portinit.probe(patches_haiku.make_model(), inputs, recipe=recipe, key=KEY)
        assert {x.name: x.std for x in found.layers}["bn"] == pytest.approx(
            stds(expected)[1], rel=1e-4
        )
        assert found.layers[-1].std == pytest.approx(stds(expected)[-1], rel=1e-3)
    module = patches_mlx.make_model()
    for mode, expected in ((True, training), (False, inference)):
        found = portinit.probe(module.train(mode), last, recipe=recipe, key=KEY)
        assert found.layers[-1].std == pytest.approx(stds(expected)[-1], rel=1e-3)


def test_layers_inside_of_a_transformation_are_named() -> None:
    images = patches_torch.example_input()
    found = portinit.probe(patches_equinox.make_model(), images)
    assert found.unseen == ()
    assert {"attn/query_proj", "attn/output_proj", "norm"} <= {x.name for x in found.layers}
    norm = next(layer for layer in found.layers if layer.name == "norm")
    whole = portinit.probe(patches_torch.make_model(), images)
    assert norm.shape == next(layer.shape for layer in whole.layers if layer.name == "norm")
    assert norm.gradient_std

    class Copies(eqx.Module):
        inner: eqx.nn.Linear

        def __call__(self, x: Any) -> Any:
            return eqx.filter_vmap(self.inner)(x)

    made = Copies(eqx.nn.Linear(6, 6, key=jax.random.key(0)))
    found = portinit.probe(made, INPUTS)
    assert found.unseen == ("Linear",)  # a copy has no path
    assert [layer.name for layer in found.layers] == [""]


def test_an_equinox_model_draws_dropout_with_a_key_for_each_example() -> None:
    made = eqx.nn.Sequential([eqx.nn.Dropout(0.5), eqx.nn.Lambda(jnp.sin)])
    found = portinit.probe(made, np.ones((64, 32), np.float32))
    assert found.layers[0].name == "layers/0"
    assert 0.4 < found.layers[0].output.zeros < 0.6


def test_mlx_is_left_as_it_was() -> None:
    model = mlx_model()
    drop = mlx.nn.Sequential(model, mlx.nn.Dropout(0.5))
    before = [np.asarray(x).tolist() for _, x in mlx.utils.tree_flatten(drop.parameters())]
    mx.random.seed(2**40 + 3)
    state = np.asarray(mx.random.state[0]).tolist()
    recipe = portinit.Recipe([("*", portinit.normal())])
    found = portinit.probe(drop, INPUTS, recipe=recipe, key=KEY)
    assert found.layers[-1].kind == "Dropout"
    assert found.layers[-1].output.zeros > 0
    assert [np.asarray(x).tolist() for _, x in mlx.utils.tree_flatten(drop.parameters())] == before
    assert np.asarray(mx.random.state[0]).tolist() == state


def test_haiku_takes_its_own_variables_or_a_key() -> None:
    net = haiku_model()
    own = portinit.probe(net, INPUTS, key=jax.random.key(3))
    params = net.init(jax.random.key(3), INPUTS)
    assert own.to_data() == portinit.probe(net, INPUTS, variables=params).to_data()
    filled = portinit_haiku.initialize(params, RECIPE, KEY)
    measured = portinit.probe(net, INPUTS, variables=filled, recipe=RECIPE)
    drawn = portinit.probe(hk.without_apply_rng(net), INPUTS, recipe=RECIPE, key=KEY)
    assert measured.to_data() == drawn.to_data()
    zero = portinit.Recipe([("*", portinit.zeros)])
    off = portinit.probe(net, INPUTS, variables=params, recipe=zero)
    assert {problem.name for problem in off.problems} >= {"fc1/w", "norm/scale"}


@pytest.mark.parametrize("framework", MODELS)
def test_a_loss_of_ones_own_is_differentiated(framework: str) -> None:
    def loss(output: Any) -> Any:
        return (output * output).sum() / 2

    ours = portinit.probe(torch_model(), INPUTS, recipe=RECIPE, key=KEY, loss=loss)
    found = portinit.probe(MODELS[framework](), INPUTS, recipe=RECIPE, key=KEY, loss=loss)
    assert found.layers[-1].gradient_std == pytest.approx(found.layers[-1].std, rel=1e-5)
    assert_same(numbers(found.to_data()), numbers(ours.to_data()))


@pytest.mark.parametrize(
    ("framework", "given", "error", "message"),
    [
        ("equinox", {"variables": {}}, ValueError, "are for linen and Haiku"),
        ("equinox", {"key": KEY}, ValueError, "must come with a recipe"),
        ("mlx", {"variables": {}}, ValueError, "are for linen and Haiku"),
        ("mlx", {"key": KEY}, ValueError, "must come with a recipe"),
        ("haiku", {}, ValueError, "needs variables, its params or the pair"),
        ("haiku", {"key": KEY, "variables": {}}, ValueError, "either variables or a key"),
        ("haiku", {"key": KEY, "recipe": portinit.Recipe([])}, portinit.RecipeError, "no rule"),
    ],
)
def test_what_does_not_go_together_is_refused(
    framework: str, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        portinit.probe(MODELS[framework](), INPUTS, **given)
