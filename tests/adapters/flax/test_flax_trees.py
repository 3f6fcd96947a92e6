"""Whole Flax models, linen and nnx, against their PyTorch twins, transposed by hand."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx
from flax.core import FrozenDict, freeze

import portinit
import portinit_flax
import portinit_torch
from portinit import Layout, Parameter, Recipe, RecipeError, Rule, recipes
from portinit.initializers.base import Initializer

KEY = portinit.key(11)
RANDOM = Recipe([("*running_var", portinit.uniform(1.0, 2.0)), ("*", portinit.normal())])
IMAGE, VECTOR = jnp.zeros((1, 5, 6, 4)), jnp.zeros((1, 7))
STATE = (nnx.Param, nnx.BatchStat)

# What a Flax array is of PyTorch's parameter.
By = Callable[[np.ndarray], np.ndarray]


def same(a: np.ndarray) -> np.ndarray:
    return a


def dense(a: np.ndarray) -> np.ndarray:  # (in, out)
    return a.T


def conv2d(a: np.ndarray) -> np.ndarray:  # (H, W, in, out)
    return a.transpose(2, 3, 1, 0)


def up2d(a: np.ndarray) -> np.ndarray:  # (H, W, in, out), space reversed
    return a.transpose(2, 3, 0, 1)[::-1, ::-1]


def up2d_transposed(a: np.ndarray) -> np.ndarray:  # (H, W, out, in)
    return a.transpose(2, 3, 1, 0)


def heads_in(a: np.ndarray) -> np.ndarray:  # (in, heads, size)
    return a.T.reshape(-1, 2, 3)


def heads_out(a: np.ndarray) -> np.ndarray:  # (heads, size, out)
    return a.T.reshape(2, 3, -1)


def heads_bias(a: np.ndarray) -> np.ndarray:  # (heads, size)
    return a.reshape(2, 3)


def linen_shapes(module: linen.Module, *inputs: Any) -> Any:
    return jax.eval_shape(module.init, jax.random.key(0), *inputs)


def flat(tree: Any) -> dict[str, np.ndarray]:
    """A tree's arrays by path, collections left out."""
    if isinstance(tree, nnx.Module):
        tree = nnx.to_pure_dict(nnx.state(tree, STATE))
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    words = {tuple(str(getattr(k, "key", k)) for k in path): leaf for path, leaf in paths}
    return {
        "/".join(path[1:] if path[0] in ("params", "batch_stats") else path): np.asarray(leaf)
        for path, leaf in words.items()
    }


def dictionary(**members: torch.nn.Module) -> torch.nn.Module:
    """A module of these members, whose names may be those of ModuleDict's methods."""
    model = torch.nn.Module()
    for name, member in members.items():
        model.add_module(name, member)
    return model


def twin(torch_model: torch.nn.Module, recipe: Recipe) -> tuple[Recipe, dict[str, np.ndarray]]:
    bound = portinit_torch.bind(torch_model, recipe)
    portinit_torch.initialize(torch_model, bound, KEY)
    state = torch_model.state_dict()
    floating = [name for name in bound.names if state[name].is_floating_point()]
    return bound, {name: state[name].numpy() for name in floating}


def assert_twins(ours: Any, theirs: dict[str, np.ndarray], pairs: dict[str, tuple[str, By]]):
    arrays = flat(ours)
    assert set(arrays) == set(pairs)
    for path, (name, by_hand) in pairs.items():
        np.testing.assert_array_equal(arrays[path], by_hand(theirs[name]), err_msg=path)
    assert set(theirs) == {name for name, _ in pairs.values()}


ATTENTION = {
    **{f"{part}/kernel": (f"{part}.weight", heads_in) for part in ("query", "key", "value")},
    **{f"{part}/bias": (f"{part}.bias", heads_bias) for part in ("query", "key", "value")},
    "out/kernel": ("out.weight", heads_out),
    "out/bias": ("out.bias", same),
}


def torch_attention() -> torch.nn.Module:
    return dictionary(
        query=torch.nn.Linear(7, 6),
        key=torch.nn.Linear(7, 6),
        value=torch.nn.Linear(7, 6),
        out=torch.nn.Linear(6, 7),
    )


def layer(by_hand: By) -> dict[str, tuple[str, By]]:
    return {"kernel": ("weight", by_hand), "bias": ("bias", same)}


NORM = {"scale": ("weight", same), "bias": ("bias", same)}
BATCH_NORM = NORM | {"mean": ("running_mean", same), "var": ("running_var", same)}
TRANSPOSED = Layout(axis0=(-1,), axis1=(-2,), roles="io")
NN = torch.nn

LINEN: dict[str, tuple[Any, Any, Any, dict, dict]] = {
    "Dense": (linen.Dense(3), VECTOR, lambda: NN.Linear(7, 3), layer(dense), {}),
    "square Dense": (linen.Dense(7), VECTOR, lambda: NN.Linear(7, 7), layer(dense), {}),
    "Conv": (linen.Conv(6, (3, 2)), IMAGE, lambda: NN.Conv2d(4, 6, (3, 2)), layer(conv2d), {}),
    "Conv1d": (
        linen.Conv(6, (3,)),
        jnp.zeros((1, 5, 4)),
        lambda: NN.Conv1d(4, 6, 3),
        layer(lambda a: a.transpose(2, 1, 0)),
        {},
    ),
    "Conv3d": (
        linen.Conv(6, (3, 2, 1)),
        jnp.zeros((1, 5, 5, 5, 4)),
        lambda: NN.Conv3d(4, 6, (3, 2, 1)),
        layer(lambda a: a.transpose(2, 3, 4, 1, 0)),
        {},
    ),
    "grouped Conv": (
        linen.Conv(6, (3, 2), feature_group_count=2),
        IMAGE,
        lambda: NN.Conv2d(4, 6, (3, 2), groups=2),
        layer(conv2d),
        {},
    ),
    "cubic Conv": (linen.Conv(4, (4, 4)), IMAGE, lambda: NN.Conv2d(4, 4, 4), layer(conv2d), {}),
    "ConvTranspose": (
        linen.ConvTranspose(6, (3, 2)),
        IMAGE,
        lambda: NN.ConvTranspose2d(4, 6, (3, 2)),
        layer(up2d),
        {},
    ),
    "square ConvTranspose": (
        linen.ConvTranspose(4, (3, 2)),
        IMAGE,
        lambda: NN.ConvTranspose2d(4, 4, (3, 2)),
        layer(up2d),
        {},
    ),
    "ConvTranspose, transposed kernel": (
        linen.ConvTranspose(6, (3, 2), transpose_kernel=True),
        IMAGE,
        lambda: NN.ConvTranspose2d(4, 6, (3, 2)),
        layer(up2d_transposed),
        {"kernel": ("weight", TRANSPOSED)},
    ),
    "DenseGeneral out": (
        linen.DenseGeneral((2, 3)),
        VECTOR,
        lambda: NN.Linear(7, 6),
        {"kernel": ("weight", heads_in), "bias": ("bias", heads_bias)},
        {},
    ),
    "DenseGeneral in": (
        linen.DenseGeneral(7, axis=(-2, -1)),
        jnp.zeros((1, 2, 3)),
        lambda: NN.Linear(6, 7),
        layer(heads_out),
        {},
    ),
    "DenseGeneral both": (
        linen.DenseGeneral((3, 4), axis=(-2, -1)),
        jnp.zeros((1, 5, 2)),
        lambda: NN.Linear(10, 12),
        {
            "kernel": ("weight", lambda a: a.T.reshape(5, 2, 3, 4)),
            "bias": ("bias", lambda a: a.reshape(3, 4)),
        },
        {},
    ),
    "Embed": (
        linen.Embed(9, 4),
        jnp.zeros((1,), int),
        lambda: NN.Embedding(9, 4, padding_idx=2),
        {"embedding": ("weight", same)},
        {},
    ),
    "LayerNorm": (linen.LayerNorm(), VECTOR, lambda: NN.LayerNorm(7), NORM, {}),
    "GroupNorm": (linen.GroupNorm(2), IMAGE, lambda: NN.GroupNorm(2, 4), NORM, {}),
    "BatchNorm": (linen.BatchNorm(True), VECTOR, lambda: NN.BatchNorm1d(7), BATCH_NORM, {}),
    "attention": (
        linen.MultiHeadDotProductAttention(2, qkv_features=6),
        VECTOR[None],
        torch_attention,
        ATTENTION,
        {},
    ),
}


@pytest.mark.parametrize("recipe", [RANDOM, recipes.torch_defaults()], ids=["random", "torch"])
@pytest.mark.parametrize("name", LINEN)
def test_linen_layers(name, recipe):
    module, x, make_torch, pairs, names = LINEN[name]
    bound, theirs = twin(make_torch(), recipe)
    tree = linen_shapes(module, x)
    ours = portinit_flax.initialize(tree, bound, KEY, names)
    assert jax.tree_util.tree_structure(ours) == jax.tree_util.tree_structure(tree)
    assert_twins(ours, theirs, pairs)


NNX: dict[str, tuple[Any, Any, dict, dict]] = {
    "Linear": (
        lambda rngs: nnx.Linear(7, 3, rngs=rngs),
        lambda: NN.Linear(7, 3),
        layer(dense),
        {},
    ),
    "Conv": (
        lambda rngs: nnx.Conv(4, 6, (3, 2), rngs=rngs),
        lambda: NN.Conv2d(4, 6, (3, 2)),
        layer(conv2d),
        {},
    ),
    "ConvTranspose": (
        lambda rngs: nnx.ConvTranspose(4, 6, (3, 2), rngs=rngs),
        lambda: NN.ConvTranspose2d(4, 6, (3, 2)),
        layer(up2d),
        {},
    ),
    "ConvTranspose, transposed kernel": (
        lambda rngs: nnx.ConvTranspose(4, 6, (3, 2), transpose_kernel=True, rngs=rngs),
        lambda: NN.ConvTranspose2d(4, 6, (3, 2)),
        layer(up2d_transposed),
        {"kernel": ("weight", TRANSPOSED)},
    ),
    "LinearGeneral": (
        lambda rngs: nnx.LinearGeneral(7, (2, 3), rngs=rngs),
        lambda: NN.Linear(7, 6),
        {"kernel": ("weight", heads_in), "bias": ("bias", heads_bias)},
        {},
    ),
    "Embed": (
        lambda rngs: nnx.Embed(9, 4, rngs=rngs),
        lambda: NN.Embedding(9, 4),
        {"embedding": ("weight", same)},
        {},
    ),
    "GroupNorm": (
        lambda rngs: nnx.GroupNorm(4, num_groups=2, rngs=rngs),
        lambda: NN.GroupNorm(2, 4),
        NORM,
        {},
    ),
    "BatchNorm": (
        lambda rngs: nnx.BatchNorm(7, rngs=rngs),
        lambda: NN.BatchNorm1d(7),
        BATCH_NORM,
        {},
    ),
    "attention": (
        lambda rngs: nnx.MultiHeadAttention(2, 7, qkv_features=6, decode=False, rngs=rngs),
        torch_attention,
        ATTENTION,
        {},
    ),
}


@pytest.mark.parametrize("abstract", [False, True], ids=["made", "abstract"])
@pytest.mark.parametrize("name", NNX)
def test_nnx_layers(name, abstract):
    make_flax, make_torch, pairs, names = NNX[name]
    bound, theirs = twin(make_torch(), RANDOM)
    model = nnx.eval_shape(make_flax, nnx.Rngs(0)) if abstract else make_flax(nnx.Rngs(0))
    assert portinit_flax.initialize(model, bound, KEY, names) is model
    assert_twins(model, theirs, pairs)


# Whole models


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = linen.Conv(4, (3, 3), name="stem")(x)
        x = linen.BatchNorm(use_running_average=True, name="stem_bn")(x)
        for i in range(2):
            x = linen.Dense(4, name=f"layers_{i}")(x)
        return linen.Dense(3, name="head", use_bias=False)(x)


class NnxNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = nnx.Conv(4, 4, (3, 3), rngs=rngs)
        self.stem_bn = nnx.BatchNorm(4, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(2)])
        self.head = nnx.Linear(4, 3, use_bias=False, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.calls = nnx.Variable(jnp.asarray(3))


def torch_net() -> torch.nn.Module:
    return dictionary(
        stem=NN.Conv2d(4, 4, 3),
        stem_bn=NN.BatchNorm2d(4),
        layers=NN.ModuleList([NN.Linear(4, 4) for _ in range(2)]),
        head=NN.Linear(4, 3, bias=False),
    )


def net_pairs(separator: str) -> dict[str, tuple[str, By]]:
    pairs = {f"stem/{k}": (f"stem.{v}", by) for k, (v, by) in layer(conv2d).items()}
    pairs |= {f"stem_bn/{k}": (f"stem_bn.{v}", by) for k, (v, by) in BATCH_NORM.items()}
    for i in range(2):
        pairs[f"layers{separator}{i}/kernel"] = (f"layers.{i}.weight", dense)
        pairs[f"layers{separator}{i}/bias"] = (f"layers.{i}.bias", same)
    return pairs | {"head/kernel": ("head.weight", dense)}


def linen_net() -> Any:
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, 77.0), linen_shapes(LinenNet(), IMAGE))


@pytest.fixture(scope="module")
def net() -> tuple[Recipe, dict[str, np.ndarray]]:
    return twin(torch_net(), RANDOM)


def test_a_linen_model(net):
    bound, theirs = net
    given = linen_net()
    copy = jax.tree.map(np.array, given)
    ours = portinit_flax.initialize(given, bound, KEY)
    assert_twins(ours, theirs, net_pairs("_"))
    jax.tree.map(np.testing.assert_array_equal, given, copy)  # a new tree: this one is as it was


def test_an_nnx_model(net):
    bound, theirs = net
    model = NnxNet(nnx.Rngs(0))
    model.dropout.rngs()
    portinit_flax.initialize(model, bound, KEY)
    assert_twins(model, theirs, net_pairs("/"))
    assert model.calls[...] == 3
    assert model.dropout.rngs.count[...] == 1


def test_a_prelu_has_one_slope_on_either_side():
    bound, theirs = twin(NN.PReLU(), RANDOM)
    ours = portinit_flax.initialize(nnx.PReLU(), bound, KEY)
    assert_twins(ours, theirs, {"negative_slope": ("weight", lambda a: a.reshape(()))})


def test_the_matching_is_told_without_computing(net):
    matched = portinit_flax.match(linen_shapes(LinenNet(), IMAGE), net[0])
    assert {path: name for path, (name, _) in matched.items()} == {
        path: name for path, (name, _) in net_pairs("_").items()
    }
    assert matched["head/kernel"][1] == Layout(axis0=(-1,), axis1=(-2,))


def test_a_tree_of_parameters_only():
    bound, theirs = twin(torch_net(), RANDOM)
    statistics = Recipe([r for r in bound.rules if "running" not in (r.name or "")])
    params = linen_net()["params"]
    ours = portinit_flax.initialize(params, statistics, KEY)
    pairs = {path: pair for path, pair in net_pairs("_").items() if "running" not in pair[0]}
    kept = {name: array for name, array in theirs.items() if "running" not in name}
    assert_twins(ours, kept, pairs)


def test_other_collections_are_left_alone(net):
    tree = {**linen_net(), "cache": {"stem": {"index": jnp.asarray(7)}}}
    ours = portinit_flax.initialize(tree, net[0], KEY)
    assert ours["cache"]["stem"]["index"] == 7
    np.testing.assert_array_equal(ours["params"]["head"]["kernel"], net[1]["head.weight"].T)


def test_a_frozen_dict_stays_one(net):
    ours = portinit_flax.initialize(freeze(linen_net()), net[0], KEY)
    assert isinstance(ours, FrozenDict)
    assert_twins(ours.unfreeze(), net[1], net_pairs("_"))


def test_an_nnx_state_and_its_pure_dict_are_trees_too(net):
    bound, theirs = net
    state = nnx.state(NnxNet(nnx.Rngs(0)), STATE)
    ours = portinit_flax.initialize(state, bound, KEY)
    assert isinstance(ours, nnx.State)
    assert_twins(nnx.to_pure_dict(ours), theirs, net_pairs("/"))
    pure = portinit_flax.initialize(nnx.to_pure_dict(state), bound, KEY)
    assert_twins(pure, theirs, net_pairs("/"))


def test_partitioned_boxes_keep_their_metadata():
    init = linen.with_partitioning(linen.initializers.ones, ("embed", "mlp"))
    module = linen.Dense(3, kernel_init=init, name="d")
    bound, theirs = twin(NN.Linear(7, 3), RANDOM)
    for tree in (module.init(jax.random.key(0), VECTOR), linen_shapes(module, VECTOR)):
        ours = portinit_flax.initialize(tree, bound, KEY)
        box = ours["params"]["kernel"]
        assert isinstance(box, linen.Partitioned)
        assert box.names == ("embed", "mlp")
        np.testing.assert_array_equal(box.value, theirs["weight"].T)
        np.testing.assert_array_equal(ours["params"]["bias"], theirs["bias"])


def test_nnx_variables_keep_their_metadata():
    init = nnx.with_metadata(nnx.initializers.ones, note="kept")
    model = nnx.eval_shape(lambda: nnx.Linear(7, 3, kernel_init=init, rngs=nnx.Rngs(0)))
    metadata = model.kernel.get_metadata()
    portinit_flax.initialize(model, RANDOM, KEY)
    assert model.kernel.get_metadata() == metadata
    assert metadata["note"] == "kept"
    assert isinstance(model.kernel[...], jax.Array)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_parameters_keep_their_dtype(dtype):
    bound, theirs = twin(NN.Linear(7, 3).to(getattr(torch, jnp.dtype(dtype).name)).float(), RANDOM)
    tree = linen_shapes(linen.Dense(3, param_dtype=dtype), VECTOR)
    kernel = portinit_flax.initialize(tree, bound, KEY)["params"]["kernel"]
    assert kernel.dtype == dtype
    np.testing.assert_array_equal(kernel, theirs["weight"].T.astype(dtype))


# Keys and jit


@pytest.mark.parametrize(
    "key",
    [jax.random.key(11), jax.random.PRNGKey(11), np.array([0, 11], np.uint32)],
    ids=["typed", "raw", "numpy"],
)
def test_jaxs_keys_are_the_same_keys(key, net):
    ours = portinit_flax.initialize(linen_shapes(LinenNet(), IMAGE), net[0], key)
    assert_twins(ours, net[1], net_pairs("_"))


@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey], ids=["typed", "raw"])
def test_a_traced_key_gives_the_same_under_jit(make_key, net):
    tree = linen_shapes(LinenNet(), IMAGE)
    jitted = jax.jit(lambda key: portinit_flax.initialize(tree, net[0], key))
    assert_twins(jitted(make_key(11)), net[1], net_pairs("_"))


def test_a_traced_seed_gives_the_same_under_jit(net):
    tree = linen_shapes(LinenNet(), IMAGE)
    jitted = jax.jit(lambda seed: portinit_flax.initialize(tree, net[0], jax.random.key(seed)))
    assert_twins(jitted(11), net[1], net_pairs("_"))


def test_a_portinit_key_under_jit(net):
    tree = linen_shapes(LinenNet(), IMAGE)
    assert_twins(
        jax.jit(lambda: portinit_flax.initialize(tree, net[0], KEY))(), net[1], net_pairs("_")
    )


def test_an_nnx_model_made_under_nnx_jit(net):
    @nnx.jit
    def make(key: jax.Array) -> NnxNet:
        return portinit_flax.initialize(NnxNet(nnx.Rngs(0)), net[0], key)

    assert_twins(make(jax.random.key(11)), net[1], net_pairs("/"))


@pytest.mark.parametrize("key", [11, "11", None, jax.random.split(jax.random.key(11))])
def test_what_is_no_key_is_a_type_error(key, net):
    with pytest.raises(TypeError, match="key"):
        portinit_flax.initialize(linen_shapes(LinenNet(), IMAGE), net[0], key)


# Patterns, and names in a table


def test_a_recipe_of_patterns_serves_both_sides(net):
    assert_twins(portinit_flax.initialize(linen_net(), RANDOM, KEY), net[1], net_pairs("_"))
    model = portinit_flax.initialize(NnxNet(nnx.Rngs(0)), RANDOM, KEY)
    assert_twins(model, net[1], net_pairs("/"))


@pytest.mark.parametrize("make", [recipes.torch_defaults, recipes.flax_defaults, recipes.resnet])
def test_a_ready_recipe_serves_both_sides_unbound(make):
    _, theirs = twin(torch_net(), make())
    assert_twins(portinit_flax.initialize(linen_net(), make(), KEY), theirs, net_pairs("_"))


def test_a_recipe_of_a_name_and_patterns_serves_both_sides():
    recipe = Recipe([("head.weight", portinit.ones)]) + RANDOM
    _, theirs = twin(torch_net(), recipe)
    assert_twins(portinit_flax.initialize(linen_net(), recipe, KEY), theirs, net_pairs("_"))


@pytest.mark.parametrize("given", [{}, {"kernel": "w"}])
def test_the_table_gives_a_parameter_its_key(given):
    ours = portinit_flax.initialize({"kernel": jnp.zeros((2, 3))}, RANDOM, KEY, given)
    name = given.get("kernel", "weight")
    expected = portinit.normal()(KEY.fold_in(name), (3, 2), layout="torch")
    np.testing.assert_array_equal(ours["kernel"], expected.T)


def test_a_table_with_a_layout_by_name():
    table = {"table/kernel": ("table.weight", "rows")}
    bound, theirs = twin(dictionary(table=NN.Linear(3, 2)), RANDOM)
    tree = {"table": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(2)}}
    ours = portinit_flax.initialize(tree, bound, KEY, table)
    np.testing.assert_array_equal(ours["table"]["kernel"], theirs["table.weight"])


def test_a_layout_in_the_recipe():
    bound, theirs = twin(NN.ConvTranspose2d(4, 6, (3, 2)), RANDOM)
    stated = bound.with_layouts({"weight": TRANSPOSED})
    tree = linen_shapes(linen.ConvTranspose(6, (3, 2), transpose_kernel=True), IMAGE)
    ours = portinit_flax.initialize(tree, stated, KEY)
    assert_twins(ours, theirs, layer(up2d_transposed))


@pytest.mark.parametrize("recipe", [RANDOM, recipes.torch_defaults()], ids=["random", "torch"])
def test_a_packed_projection_of_several_axes(recipe):
    bound, theirs = twin(NN.MultiheadAttention(6, 2), recipe)
    tree = {
        "in_proj": {"kernel": jnp.zeros((6, 3, 2, 3)), "bias": jnp.zeros((3, 2, 3))},
        "out_proj": {"kernel": jnp.zeros((2, 3, 6)), "bias": jnp.zeros(6)},
    }
    pairs = {
        "in_proj/kernel": ("in_proj_weight", lambda a: a.T.reshape(6, 3, 2, 3)),
        "in_proj/bias": ("in_proj_bias", lambda a: a.reshape(3, 2, 3)),
        "out_proj/kernel": ("out_proj.weight", heads_out),
        "out_proj/bias": ("out_proj.bias", same),
    }
    assert_twins(portinit_flax.initialize(tree, bound, KEY), theirs, pairs)


# All or nothing


def tree_of(**shapes: tuple[int, ...]) -> dict[str, Any]:
    """A tree by paths: ``a__kernel=(2, 3)`` is ``{"a": {"kernel": ...}}``."""
    tree: dict[str, Any] = {}
    for path, shape in shapes.items():
        *owners, leaf = path.split("__")
        node = tree
        for owner in owners:
            node = node.setdefault(owner, {})
        node[leaf] = jnp.zeros(shape)
    return tree


def exact(**shapes: tuple[int, ...]) -> Recipe:
    """A bound recipe by names: ``a__weight=(3, 2)`` is ``a.weight``."""
    return Recipe(
        Rule(name.replace("__", "."), portinit.normal(), shape=shape)
        for name, shape in shapes.items()
    )


def refusal(tree: Any, recipe: Recipe, names: Any = None) -> str:
    with pytest.raises(RecipeError) as raised:
        portinit_flax.initialize(tree, recipe, KEY, names)
    with pytest.raises(RecipeError) as again:
        portinit_flax.match(tree, recipe, names)
    assert str(again.value) == str(raised.value)
    return str(raised.value)


def test_names_missing_on_either_side_are_listed_together():
    text = refusal(
        tree_of(a__kernel=(2, 3), b__kernel=(2, 3), c__bias=(3,)),
        exact(a__weight=(3, 2), d__weight=(3, 5), e__bias=(4,)),
    )
    for line in ("b/kernel", "c/bias", "d.weight", "e.bias"):
        assert line in text
    assert "a/kernel" not in text
    assert "4 parameters have no counterpart on the other side" in text


def test_every_kind_of_misfit_of_names_is_listed_together():
    tree = tree_of(a__b__kernel=(2, 3), c__kernel=(2, 3), d__kernel=(2, 3), f__kernel=(2, 3))
    recipe = Recipe(
        Rule(name, portinit.normal()) for name in ("a.b.weight", "a_b.weight", "d.weight", "gone")
    )
    text = refusal(tree, recipe, {"x/kernel": "d.weight", "f/kernel": "d.weight"})
    for line in (
        "x/kernel: in the table of names, but not in the tree",
        "a/b/kernel: could be any of a.b.weight, a_b.weight",
        "c/kernel: the recipe has no such name",
        "d.weight: claimed by d/kernel and f/kernel",
        "gone: no such parameter in the tree",
    ):
        assert line in text


def test_a_name_in_the_table_that_the_recipe_lacks_is_listed():
    text = refusal(
        tree_of(a__kernel=(2, 3), b__kernel=(2, 3)),
        exact(a__weight=(3, 2), b__weight=(3, 2)),
        {"a/kernel": "wrong.weight"},
    )
    assert "wrong.weight" in text
    assert "a.weight" in text


def test_shapes_that_differ_are_listed_with_both():
    text = refusal(
        tree_of(a__kernel=(2, 3), b__kernel=(2, 3), c__bias=(4,), d__kernel=(3, 3, 2, 4)),
        exact(a__weight=(2, 4), b__weight=(3, 2), c__bias=(3,), d__weight=(4, 2, 3, 2)),
    )
    for line in ("(2, 4), got (3, 2)", "(3,), got (4,)", "(4, 2, 3, 2), got (4, 2, 3, 3)"):
        assert line in text
    assert "b.weight" not in text


def test_shapes_and_names_are_listed_together():
    text = refusal(
        tree_of(a__kernel=(2, 3), b__kernel=(2, 3)),
        exact(a__weight=(2, 4), c__weight=(5, 2)),
    )
    for line in ("a.weight", "b/kernel", "c.weight"):
        assert line in text


def test_a_layout_that_does_not_suit_names_its_parameter():
    tree = tree_of(a__kernel=(2, 3), b__kernel=(2, 3))
    names = {"a/kernel": ("a.weight", Layout(axis0=(3,), axis1=(2,)))}
    text = refusal(tree, RANDOM, names)
    assert "a/kernel" in text or "a.weight" in text


def test_an_initializer_that_does_not_suit_is_listed():
    text = refusal(
        tree_of(a__kernel=(2, 3), a__bias=(3,), b__bias=(3,)),
        Recipe([("*", portinit.kaiming_normal())]),
    )
    assert "a/bias (3,)" in text
    assert "b/bias (3,)" in text
    assert "a/kernel" not in text


def test_what_no_rule_matches_is_listed():
    text = refusal(tree_of(a__kernel=(2, 3), b__bias=(3,)), Recipe([("x*", portinit.zeros)]))
    assert "a.weight (3, 2): no rule" in text
    assert "b.bias (3,): no rule" in text


NNX_MISFITS = {
    "missing in the model": exact(stem__weight=(4, 4, 3, 3), extra=(3,)),
    "wrong shape": exact(head__weight=(9, 9)) + RANDOM,
    "does not suit": Recipe([("*weight", portinit.dirac()), ("*", portinit.zeros)]),
    "no rule": Recipe([("stem*", portinit.zeros)]),
}


@pytest.mark.parametrize("recipe", NNX_MISFITS.values(), ids=NNX_MISFITS)
def test_an_nnx_model_that_does_not_fit_is_unchanged(recipe):
    model = NnxNet(nnx.Rngs(0))
    before = flat(model)
    refusal(model, recipe)
    after = flat(model)
    assert all(np.array_equal(after[path], before[path]) for path in before)


def test_twins_of_another_size_do_not_fit(net):
    tree = linen_net()
    tree["params"]["head"]["kernel"] = jnp.zeros((4, 5))
    assert "head.weight: the recipe has (3, 4), got (5, 4)" in refusal(tree, net[0])


@pytest.mark.parametrize("count", [10, 400])
def test_a_model_is_filled_with_one_comparison_and_one_plan_per_form(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    shapes = {"weight": (3, 2), "bias": (3,)}
    names = [f"layers.{i}.{leaf}" for i in range(count) for leaf in shapes]
    parameters = [Parameter(n, shapes[n.rpartition(".")[2]], "linear", fan_in=2) for n in names]
    recipe = portinit.recipes.torch_defaults().bind(parameters)
    kernel, bias = (jax.ShapeDtypeStruct(shape, "float32") for shape in ((2, 3), (3,)))
    tree = {f"layers_{i}": {"kernel": kernel, "bias": bias} for i in range(count)}
    compared, planned = [], []
    matches, plan = portinit.Rule.matches, Initializer.planned

    def counted_matches(rule: Any, parameter: Any) -> bool:
        compared.append(rule)
        return matches(rule, parameter)

    def counted_plan(initializer: Any, *form: Any) -> Any:
        planned.append(form)
        return plan(initializer, *form)

    monkeypatch.setattr(portinit.Rule, "matches", counted_matches)
    monkeypatch.setattr(Initializer, "planned", counted_plan)
    filled = portinit_flax.initialize(tree, recipe, portinit.key(0))
    assert len(compared) == 2
    assert len(planned) == 2
    last = portinit.key(0).fold_in(f"layers.{count - 1}.weight")
    wanted = recipe.rules[-2].initializer(last, (3, 2), layout="torch")
    assert np.array_equal(filled[f"layers_{count - 1}"]["kernel"], wanted.T)


@dataclass(frozen=True)
class Numbered(Initializer):
    """A user's initializer, whose number the model fills in by the parameter's name."""

    def bound(self, parameter: Parameter) -> Initializer:
        return portinit.constant(float(parameter.name.split(".")[1]))


def test_alike_arrays_of_a_users_initializer_are_bound_by_their_own_names() -> None:
    rules = [portinit.Rule(f"layers.{i}.weight", Numbered(), shape=(3, 2)) for i in range(4)]
    kernel = jax.ShapeDtypeStruct((2, 3), "float32")
    tree = {f"layers_{i}": {"kernel": kernel} for i in range(4)}
    filled = portinit_flax.initialize(tree, portinit.Recipe(rules), portinit.key(0))
    assert [filled[f"layers_{i}"]["kernel"][0, 0] for i in range(4)] == [0, 1, 2, 3]


def test_alike_norms_are_told_apart_by_their_blocks() -> None:
    weight = portinit.Rule("x", portinit.layers.zero_if_last(later=("bn3",)), shape=(4,))
    names = ["a.bn1.weight", "a.bn2.weight", "b.bn1.weight", "b.bn2.weight", "b.bn3.weight"]
    rules = [replace(weight, pattern=name) for name in names]
    scale = jax.ShapeDtypeStruct((4,), "float32")
    tree = {"a": {}, "b": {}}
    for name in names:
        block, norm, _ = name.split(".")
        tree[block][norm] = {"scale": scale}
    filled = portinit_flax.initialize(tree, portinit.Recipe(rules), portinit.key(0))
    assert float(filled["a"]["bn2"]["scale"][0]) == 0
    assert float(filled["b"]["bn2"]["scale"][0]) == 1


@dataclass(frozen=True)
class Twin(Initializer):
    """A user's initializer that draws with another parameter's key."""

    def plan(self, grid: Any, dtype: str, factor: float = 1.0) -> Any:
        return portinit.normal().planned(grid, dtype, factor)

    def draws_with(self, parameter: Parameter) -> str | None:
        return parameter.name.replace("b.", "a.")


@pytest.mark.parametrize("is_bound", [False, True])
def test_a_parameter_draws_with_the_key_that_its_initializer_names(is_bound: bool) -> None:
    kernel = jax.ShapeDtypeStruct((2, 3), "float32")
    recipe = Recipe([("a.*", portinit.normal()), ("b.*", Twin())])
    if is_bound:
        recipe = recipe.bind([Parameter("a.weight", (3, 2)), Parameter("b.weight", (3, 2))])
    tree = {"a": {"kernel": kernel}, "b": {"kernel": kernel}}
    filled = portinit_flax.initialize(tree, recipe, portinit.key(0))
    assert np.array_equal(filled["a"]["kernel"], filled["b"]["kernel"])


def test_kernels_that_may_be_stacked_layers_are_said_to_be_taken_for_convolutions() -> None:
    leaf = jax.ShapeDtypeStruct
    recipe = Recipe([("*.bias", portinit.zeros), ("*", portinit.kaiming_normal())])
    stack = {"layers": {"fc": {"kernel": leaf((4, 8, 8), "float32")}}}
    with pytest.warns(UserWarning, match=r'stacked=\{"layers": 0\}') as said:
        portinit_flax.initialize(stack, recipe, portinit.key(0))
    assert said[0].filename == __file__
    assert str(said[0].message).startswith("1 kernel is taken for convolutions'")
    call = "portinit_flax.initialize(stack, recipe, portinit.key(0))"
    names = {"portinit": portinit, "portinit_flax": portinit_flax, "stack": stack, "recipe": recipe}
    with pytest.warns(UserWarning, match="1 kernel is"):
        exec(call, names)  # from code whose module has no name
    told = [
        {"layers": {"conv": {"kernel": leaf((4, 8, 8), "float32")}}},  # by its name
        {"layers": {"Conv_0": {"kernel": leaf((4, 8, 8), "float32")}}},  # by linen's
        {"layers": {"fc": {"kernel": leaf((4, 8, 8), "float32"), "bias": leaf((8,), "float32")}}},
        {"fc": {"kernel": leaf((4, 8, 8), "float32")}},  # no module above it
    ]
    for tree in told:
        portinit_flax.initialize(tree, recipe, portinit.key(0))
    portinit_flax.initialize(stack, recipe, portinit.key(0), stacked={"layers": 0})


def test_an_array_by_itself_is_no_model() -> None:
    recipe = Recipe([("*", portinit.normal())])
    for model in (jnp.ones((2, 2)), nnx.Param(jnp.ones((2, 2)))):
        with pytest.raises(TypeError, match=r'put it under a name, \{"weight": array\}'):
            portinit_flax.initialize(model, recipe, portinit.key(0))


@pytest.mark.parametrize("initializer", [portinit.kaiming_normal(), portinit.he_normal()])
def test_a_kernel_without_elements_needs_no_fans(initializer: Initializer) -> None:
    tree = {"a": {"kernel": jnp.empty((4, 0)), "bias": jnp.empty((0,))}}
    recipe = Recipe([("*.bias", portinit.layers.linear_bias()), ("*", initializer)])
    filled = portinit_flax.initialize(tree, recipe, portinit.key(0))
    assert filled["a"]["kernel"].shape == (4, 0)
    assert filled["a"]["bias"].shape == (0,)
