"""Flax models on meshes, in processes, and with stacked layers."""

import json
import socket
import subprocess
import sys
from functools import cache
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from examples import llama_flax, llama_torch
from flax import linen as nn
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from tests.distributed import jax_machine, jax_models, llama

import portinit
import portinit_flax
import portinit_torch
from portinit import Recipe, RecipeError, Rule

pytestmark = pytest.mark.distributed

KEY = portinit.key(11)


@pytest.fixture(scope="module")
def on_eight_devices() -> dict[str, str]:
    return jax_machine.results("jax_models")


@pytest.mark.parametrize("case", [case for case in jax_models.CASES if "the digest" not in case])
def test_on_eight_devices(on_eight_devices: dict[str, str], case: str) -> None:
    assert on_eight_devices[case] == ""


@pytest.mark.parametrize("size", jax_models.SIZES)
def test_pytorch_has_the_digest(on_eight_devices: dict[str, str], size: str) -> None:
    model = llama_torch.Llama(**jax_models.SIZES[size])
    portinit_torch.initialize(model, llama.RECIPE, llama.KEY)
    tensors = dict(model.named_parameters())
    digest = llama.digest(tensors, sorted(tensors))
    assert f"LookupError: {digest}" in on_eight_devices[f"the digest, {size}"]


# Processes


@cache
def processes(count: int = 2, devices: int = 2) -> list[dict[str, dict[str, str]]]:
    """What each of several processes with as many devices each finds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "tests.distributed.jax_process", address, str(count)]
    started = [
        subprocess.Popen(
            [*command, str(rank)], env=jax_machine.environment(devices), cwd=jax_machine.ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert all(process.returncode == 0 for process in started), outputs
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize("scanned", [False, True])
def test_each_process_has_its_shards_and_no_others(scanned: bool, kind: str) -> None:
    tree = nn.unbox(jax_models.abstract(scanned))
    recipe = Recipe([("norm.weight", portinit.assign(np.arange(33.0)))]) + jax_models.RECIPE
    stacked = {"layers": 0} if scanned else None
    alone = portinit_flax.initialize(tree, recipe, jax_models.KEY, stacked=stacked)
    whole = {
        jax.tree_util.keystr(path): np.asarray(array)
        for path, array in jax.tree_util.tree_flatten_with_path(alone)[0]
    }
    parts = [found[f"{scanned} {kind}"] for found in processes()]
    for held in parts:
        for label, digest in held.items():
            path, index = label.split(" ", 1)
            part = whole[path][tuple(slice(*bounds) for bounds in json.loads(index))]
            assert jax_models.hash_of(part) == digest, label
    assert any(set(a) != set(b) for a, b in pairwise(parts))


# Stacked layers


def layers_of(count: int, init: Any) -> Recipe:
    """A rule for each layer's ``fc.weight``: one initializer, or what a function gives for it."""
    one = isinstance(init, portinit.Initializer)
    return Recipe(Rule(f"layers.{i}.fc.weight", init if one else init(i)) for i in range(count))


def struct(*shape: int, dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


KINDS: dict[str, Any] = {
    "one initializer": portinit.normal(std=0.02),
    "by depth": lambda i: portinit.normal(std=0.02 / (i + 1)),
    "by depth, cut": lambda i: portinit.truncated_normal(0.02 / (i + 1)),
    "uniform by depth": lambda i: portinit.uniform(-1 / (i + 1), 1 / (i + 1)),
    "scaled by depth": lambda i: portinit.scaled(portinit.lecun_normal(), 1 / (i + 1)),
    "some bounded": lambda i: portinit.trunc_normal(std=0.1 + i, a=-0.2, b=0.3),
    "different ones": lambda i: [portinit.normal(), portinit.zeros, portinit.eye()][i % 3],
    "with a mean": lambda i: portinit.normal(float(i), 2.0),
    "constants": lambda i: portinit.constant(i / 7),
    "orthogonal": portinit.orthogonal(),
    "orthogonal by depth": lambda i: portinit.orthogonal(1 / (i + 1)),
    "sparse": portinit.sparse(0.5),
    "blocks": portinit.blocks((portinit.normal(), portinit.uniform())),
    "given": lambda i: portinit.assign(np.full((6, 4), i)),
}


AXES = {0: (5, 4, 6), 1: (4, 5, 6), -1: (4, 6, 5)}


@pytest.mark.parametrize(
    ("kind", "axis", "dtype"),
    [
        *((kind, 0, "float32") for kind in KINDS),
        *(("by depth", axis, "bfloat16") for axis in AXES),
        *(("different ones", axis, "float32") for axis in (1, -1)),
        *(("one initializer", axis, "float32") for axis in (1, -1)),
        *((kind, 0, "complex64") for kind in ("one initializer", "by depth", "orthogonal")),
    ],
)
def test_a_layer_of_a_stack_is_the_layer_alone(kind: str, axis: int, dtype: str) -> None:
    recipe, shape = layers_of(5, KINDS[kind]), AXES[axis]
    tree = {"layers": {"fc": {"kernel": struct(*shape, dtype=dtype)}}}
    filled = portinit_flax.initialize(tree, recipe, KEY, stacked={"layers": axis})
    stack = np.asarray(filled["layers"]["fc"]["kernel"])
    for i, rule in enumerate(recipe.rules):
        alone = rule.initializer(KEY.fold_in(f"layers.{i}.fc.weight"), (4, 6), dtype)
        layer = np.take(stack, i, axis)
        assert layer.dtype == alone.dtype
        if "orthogonal" in kind:
            np.testing.assert_allclose(layer, alone, rtol=0, atol=1e-6)
        else:
            np.testing.assert_array_equal(layer, alone)


def test_stacks_are_found_by_a_complete_recipes_names() -> None:
    bound = portinit_torch.bind(llama_torch.make_model(), portinit.recipes.gpt2(layers=3))
    stack = nn.unbox(jax_models.abstract(True))
    told = portinit_flax.initialize(stack, bound, KEY, stacked={"layers": 0})
    found = portinit_flax.initialize(stack, bound, KEY)
    jax.tree.map(np.testing.assert_array_equal, found, told)
    names = portinit_flax.match(stack, bound)
    assert names["layers/2/mlp/up_proj/kernel"][0] == "layers.2.mlp.up_proj.weight"
    assert len(names) == len(bound.rules)


def test_the_scanned_model_computes_what_pytorchs_does() -> None:
    recipe, tokens = portinit.recipes.gpt2(layers=3), llama_flax.example_input()
    torch_model = portinit_torch.initialize(llama_torch.make_model(), recipe, KEY)
    with torch.no_grad():
        expected = torch_model(torch.from_numpy(llama_torch.example_input())).numpy()
    for scanned in (False, True):
        model = llama_flax.make_model(scanned)
        shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)
        stacked = {"layers": 0} if scanned else None
        filled = portinit_flax.initialize(shapes, recipe, KEY, stacked=stacked)
        np.testing.assert_allclose(model.apply(filled, tokens), expected, atol=1e-5)


def test_names_with_a_star_are_a_stacks() -> None:
    tree = {"blocks": {"inner": {"fc": {"kernel": struct(3, 4, 6), "bias": struct(3, 6)}}}}
    names = {
        "blocks/inner/fc/kernel": ("h.*.fc.weight", "torch"),
        "blocks/inner/fc/bias": "h.*.fc.bias",
    }
    recipe = Recipe([("*", portinit.normal())])
    filled = portinit_flax.initialize(tree, recipe, KEY, names)["blocks"]["inner"]["fc"]
    for i in range(3):
        weight = portinit.normal()(KEY.fold_in(f"h.{i}.fc.weight"), (4, 6), layout="torch")
        np.testing.assert_array_equal(filled["kernel"][i], weight)
        bias = portinit.normal()(KEY.fold_in(f"h.{i}.fc.bias"), (6,))
        np.testing.assert_array_equal(filled["bias"][i], bias)


def test_stacks_of_nnx() -> None:
    class Block(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.fc = nnx.Linear(4, 6, rngs=rngs)

    class Model(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            keys = nnx.split_rngs(splits=3)
            self.layers = keys(nnx.vmap(lambda rngs: Block(rngs)))(rngs)

    class Twin(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            one = torch.nn.Module
            self.layers = torch.nn.ModuleList([one() for _ in range(3)])
            for layer in self.layers:
                layer.fc = torch.nn.Linear(4, 6)

    recipe = portinit_torch.bind(Twin(), Recipe([("*", portinit.normal())]))
    expected = portinit_torch.initialize(Twin(), recipe, KEY)
    model = portinit_flax.initialize(Model(nnx.Rngs(0)), recipe, KEY)
    for i, layer in enumerate(expected.layers):
        np.testing.assert_array_equal(model.layers.fc.kernel[i].T, layer.fc.weight.detach())
        np.testing.assert_array_equal(model.layers.fc.bias[i], layer.fc.bias.detach())


def test_the_fans_of_a_stack_are_a_layers() -> None:
    """As torch.nn.init's on a layer's own shape; axis 0 of the stack is no receptive field."""
    recipe = Recipe([("*", portinit.kaiming_normal())])
    filled = portinit_flax.initialize(
        {"layers": {"fc": {"kernel": struct(2, 400, 300)}}}, recipe, KEY, stacked={"layers": 0}
    )
    std = float(jnp.std(filled["layers"]["fc"]["kernel"]))
    assert std == pytest.approx((2 / 400) ** 0.5, rel=0.01)  # of 240,000: 7 standard errors


def test_stacks_that_do_not_fit_are_listed_together() -> None:
    stack = {"kernel": struct(4, 4, 6), "scale": struct(4)}
    tree = {"layers": {"fc": stack}, "x": {"bias": struct(2)}}
    recipe = layers_of(3, portinit.normal())
    with pytest.raises(RecipeError) as raised:
        portinit_flax.initialize(tree, recipe, KEY, stacked={"layers": 1, "blocks": 0})
    text = str(raised.value)
    for line in (
        "blocks: among the stacked paths, but not in the tree",
        "layers/fc/scale (4,): has no axis 1 for its layers",
        "layers/3/fc/kernel: the recipe has no such name",
        "x/bias: the recipe has no such name",
    ):
        assert line in text
    with pytest.raises(RecipeError, match=r"layers\.2\.fc\.weight: no such parameter in the tree"):
        portinit_flax.initialize({"layers": {"fc": {"kernel": struct(2, 4, 6)}}}, recipe, KEY)


# Shardings


def test_shardings_must_be_jaxs() -> None:
    tree, recipe = {"a": {"kernel": struct(2, 3)}}, Recipe([("*", portinit.normal())])
    with pytest.raises(TypeError, match=r"must be of jax\.sharding's, got 'x'"):
        portinit_flax.initialize(tree, recipe, KEY, shardings="x")
    with pytest.raises(ValueError, match=r"needs a mesh in context \(jax\.set_mesh\)"):
        portinit_flax.initialize(tree, recipe, KEY, shardings=P("model"))
    with pytest.raises(ValueError, match="prefix"):
        portinit_flax.initialize(tree, recipe, KEY, shardings={"b": None})


def test_a_model_that_does_not_fit_its_mesh_is_unchanged() -> None:
    model = nnx.Linear(4, 6, rngs=nnx.Rngs(0))
    before = np.asarray(model.kernel[...])
    mesh = jax.make_mesh((1,), ("model",), axis_types=(AxisType.Auto,))
    longer = NamedSharding(mesh, P(None, None, "model"))
    with pytest.raises(RecipeError, match=r"kernel \(4, 6\)"):
        portinit_flax.initialize(model, Recipe([("*", portinit.normal())]), KEY, shardings=longer)
    np.testing.assert_array_equal(model.kernel[...], before)


def test_float64_is_refused_before_anything_is_made() -> None:
    tree = {"a": {"kernel": np.zeros((2, 3))}}
    with pytest.raises(RecipeError, match=r"a/kernel \(2, 3\): float64 in JAX needs 64-bit mode"):
        portinit_flax.initialize(tree, Recipe([("*", portinit.normal())]), KEY)


def test_given_values_need_no_key_that_is_known() -> None:
    values = np.arange(24.0).reshape(6, 4)
    recipe = layers_of(2, lambda i: portinit.assign([values, -values][i]))
    tree = {"layers": {"fc": {"kernel": struct(2, 4, 6)}}}
    made = jax.jit(lambda key: portinit_flax.initialize(tree, recipe, key))
    stack = made(jax.random.key(0))["layers"]["fc"]["kernel"]
    np.testing.assert_array_equal(stack, [values.T, -values.T])


def test_what_is_compiled_beforehand_fills_an_nnx_model() -> None:
    recipe = Recipe([("*", portinit.normal())])
    model, twin = nnx.Linear(4, 6, rngs=nnx.Rngs(0)), nnx.Linear(4, 6, rngs=nnx.Rngs(1))
    made = portinit_flax.precompile(model, recipe)
    assert [program.paths for program in made.programs] == [("bias",), ("kernel",)]
    assert made(KEY) is model
    portinit_flax.initialize(twin, recipe, KEY)
    np.testing.assert_array_equal(model.kernel[...], twin.kernel[...])
    np.testing.assert_array_equal(model.bias[...], twin.bias[...])
