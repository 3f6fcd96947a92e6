"""portinit_equinox against Equinox itself: the bits of PyTorch's models, and their outputs."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tests.support.bits import same_bits
from tests.support.every_initializer import KEY, SHAPE, drawn_in, recipe_for

import portinit
import portinit_equinox
import portinit_torch
from portinit import Recipe, RecipeError

JAX_KEY = jax.random.key(0)


class Torch(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = torch.nn.Embedding(11, 8)
        self.net = torch.nn.Sequential(
            torch.nn.Conv2d(8, 6, 3, groups=2),
            torch.nn.BatchNorm2d(6),
            torch.nn.PReLU(),
            torch.nn.ConvTranspose2d(6, 6, 2),
        )
        self.attn = torch.nn.MultiheadAttention(8, 2, bias=False)
        self.norm = torch.nn.LayerNorm(8)
        self.gru = torch.nn.GRUCell(8, 8)
        self.lstm = torch.nn.LSTMCell(8, 4)
        self.head = torch.nn.Linear(8, 8)


class Twin(eqx.Module):
    emb: eqx.nn.Embedding
    net: eqx.nn.Sequential
    attn: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm
    gru: eqx.nn.GRUCell
    lstm: eqx.nn.LSTMCell
    head: eqx.nn.Linear

    def __init__(self, key: Any, mode: Any = "ema") -> None:
        nn = eqx.nn
        self.emb = nn.Embedding(11, 8, key=key)
        self.net = nn.Sequential(
            [
                nn.Conv2d(8, 6, 3, groups=2, key=key),
                nn.BatchNorm(6, "batch", mode=mode),
                nn.PReLU(),
                nn.ConvTranspose2d(6, 6, 2, key=key),
            ]
        )
        self.attn = nn.MultiheadAttention(2, 8, key=key)
        self.norm = nn.LayerNorm(8)
        self.gru = nn.GRUCell(8, 8, key=key)
        self.lstm = nn.LSTMCell(8, 4, key=key)
        self.head = nn.Linear(8, 8, key=key)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return portinit.sum_biases(portinit_torch.trace(Torch), KEY)


@pytest.fixture(scope="module")
def reference(recipe: Recipe) -> Torch:
    model: Torch = portinit_torch.initialize(Torch(), recipe, KEY)
    return model.eval()


def filled(recipe: Recipe, mode: str = "ema") -> tuple[Twin, eqx.nn.State]:
    pair = eqx.filter_eval_shape(eqx.nn.make_with_state(Twin), JAX_KEY, mode)
    return portinit_equinox.initialize(pair, recipe, KEY)


def near(a: Any, b: torch.Tensor) -> bool:
    return np.allclose(np.asarray(a), b.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_every_elementwise_initializer_gives_numpys_bytes(dtype: str) -> None:
    expected = drawn_in(dtype)
    struct = jax.ShapeDtypeStruct(SHAPE, dtype)
    linear = eqx.filter_eval_shape(eqx.nn.Linear, 60, 48, False, key=JAX_KEY)
    layer = eqx.tree_at(lambda layer: layer.weight, linear, struct)
    made = portinit_equinox.initialize(dict.fromkeys(expected, layer), recipe_for(expected), KEY)
    assert not [name for name in expected if not same_bits(made[name].weight, expected[name])]


def test_a_twin_holds_pytorchs_bits_in_equinoxs_layouts(recipe: Recipe, reference: Torch) -> None:
    model, state = filled(recipe)
    ours = {name: tensor.detach().numpy() for name, tensor in reference.state_dict().items()}
    up = np.flip(ours["net.3.weight"].swapaxes(0, 1), (2, 3))
    for found, wanted in (
        (model.emb.weight, ours["emb.weight"]),
        (model.net.layers[0].weight, ours["net.0.weight"]),
        (model.net.layers[0].bias, ours["net.0.bias"][:, None, None]),
        (model.net.layers[2].negative_slope, ours["net.2.weight"][0]),
        (model.net.layers[3].weight, up),
        (model.attn.key_proj.weight, ours["attn.in_proj_weight"][8:16]),
        (model.gru.bias_n, ours["gru.bias_hh"][16:]),
        (model.lstm.bias, ours["lstm.bias_ih"]),
        (state.get(model.net.layers[1].ema_state_index)[1], ours["net.1.running_var"]),
    ):
        assert same_bits(found, wanted)


@pytest.mark.parametrize("mode", ["ema", "batch"])
def test_a_twin_computes_what_pytorch_computes(mode: str, recipe: Recipe, reference: Torch) -> None:
    model, state = filled(recipe, mode)
    x, rows = torch.randn(3, 8, 5, 5, generator=torch.Generator().manual_seed(0)), torch.eye(5, 8)
    conv, norm, act, up = eqx.nn.inference_mode(model).net.layers

    def forward(one: Any) -> Any:
        return up(act(norm(conv(one), state)[0]))

    assert near(jax.vmap(forward, axis_name="batch")(x.numpy()), reference.net(x))
    array = jnp.asarray(rows.numpy())
    assert near(model.attn(array, array, array), reference.attn(rows, rows, rows)[0])
    assert near(model.gru(array[1], array[2]), reference.gru(rows[1], rows[2]))
    started = model.lstm(array[1], (jnp.zeros(4), jnp.ones(4)))
    assert near(started[0], reference.lstm(rows[1], (torch.zeros(4), torch.ones(4)))[0])
    assert near(jax.vmap(model.norm)(array), reference.norm(rows))


def test_pairs_are_certain_and_layouts_told_by_class(recipe: Recipe) -> None:
    pair = eqx.filter_eval_shape(eqx.nn.make_with_state(Twin), JAX_KEY)
    found = portinit_equinox.match(pair, recipe)
    assert not found.suspects
    assert found["attn/query_proj/weight"][0] == "attn.in_proj_weight[0:8]"
    assert found["attn/output_proj/weight"][0] == "attn.out_proj.weight"
    assert found["net/layers/1/running_mean"][0] == "net.1.running_mean"


def test_two_biases_are_refused_with_a_cure() -> None:
    traced = portinit_torch.trace(Torch)
    with pytest.raises(RecipeError, match=r"(?s)gru: .*sum_biases.*lstm: .*sum_biases"):
        portinit_equinox.match(eqx.filter_eval_shape(Twin, JAX_KEY), traced)


def test_patterns_give_what_they_give_in_pytorch(reference: Torch) -> None:
    defaults = portinit.recipes.torch_defaults()
    model = portinit_equinox.initialize(eqx.filter_eval_shape(Twin, JAX_KEY), defaults, KEY)
    ours = portinit_torch.initialize(Torch(), defaults, KEY).state_dict()
    assert same_bits(model.head.bias, ours["head.bias"])
    assert same_bits(model.gru.weight_hh, ours["gru.weight_hh"])
    assert same_bits(model.net.layers[3].bias[:, 0, 0], ours["net.3.bias"])


def test_under_filter_jit_the_bits_are_the_same(recipe: Recipe) -> None:
    pair = eqx.filter_eval_shape(eqx.nn.make_with_state(Twin), JAX_KEY)
    jitted = eqx.filter_jit(lambda key: portinit_equinox.initialize(pair, recipe, key))
    plain = portinit_equinox.initialize(pair, recipe, jax.random.key(3))
    for a, b in zip(
        *(jax.tree.leaves(eqx.filter(m, eqx.is_array)) for m in (jitted(jax.random.key(3)), plain)),
        strict=True,
    ):
        assert same_bits(a, b)


def test_a_model_with_values_is_replaced_and_not_changed() -> None:
    model = eqx.nn.MLP(2, 3, 5, 1, key=JAX_KEY)
    before = np.array(model.layers[0].weight)
    made = portinit_equinox.initialize(model, Recipe([("*", portinit.normal())]), KEY)
    assert same_bits(model.layers[0].weight, before)
    alone = portinit.normal()(KEY.fold_in("layers.0.weight"), (5, 2), layout="torch")
    assert same_bits(made.layers[0].weight, alone)
    assert made.activation is model.activation


class Tied(eqx.Module):
    shared: eqx.nn.Shared

    def __init__(self, key: Any) -> None:
        pair = eqx.nn.Embedding(5, 3, key=key), eqx.nn.Linear(3, 5, use_bias=False, key=key)
        self.shared = eqx.nn.Shared(pair, lambda t: t[1].weight, lambda t: t[0].weight)


class TiedTorch(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = torch.nn.Embedding(5, 3)
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.emb.weight


def test_shared_layers_hold_one_array() -> None:
    traced = portinit_torch.trace(TiedTorch)
    names = {"shared/pytree/0/weight": "emb.weight"}
    made = portinit_equinox.initialize(eqx.filter_eval_shape(Tied, JAX_KEY), traced, KEY, names)
    embedding, head = made.shared()
    ours = portinit_torch.initialize(TiedTorch(), traced, KEY)
    assert embedding.weight is head.weight
    assert same_bits(head.weight, ours.head.weight)


class Blocks(eqx.Module):
    layers: Any
    conv: eqx.nn.Conv1d

    def __init__(self, key: Any) -> None:
        make = eqx.filter_vmap(lambda key: eqx.nn.Linear(4, 4, key=key))
        self.layers = make(jax.random.split(key, 3))
        self.conv = eqx.nn.Conv1d(4, 3, 2, key=key)


class BlocksTorch(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(3)])
        self.conv = torch.nn.Conv1d(4, 3, 2)


def test_stacked_layers_hold_a_parameter_each() -> None:
    traced = portinit_torch.trace(BlocksTorch)
    made = portinit_equinox.initialize(eqx.filter_eval_shape(Blocks, JAX_KEY), traced, KEY)
    ours = portinit_torch.initialize(BlocksTorch(), traced, KEY).state_dict()
    for i in range(3):
        assert same_bits(made.layers.weight[i], ours[f"layers.{i}.weight"])
        assert same_bits(made.layers.bias[i], ours[f"layers.{i}.bias"])


def test_a_stack_that_nobody_stated_is_refused_and_a_convolution_is_none() -> None:
    patterns = Recipe([("*.bias", portinit.zeros), ("*", portinit.xavier_normal())])
    model = eqx.filter_eval_shape(Blocks, JAX_KEY)
    with pytest.raises(RecipeError, match=r'stacked=\{"layers": 0\}') as error:
        portinit_equinox.initialize(model, patterns, KEY)
    assert len(error.value.misfits) == 1
    made = portinit_equinox.initialize(model, patterns, KEY, stacked={"layers": 0})
    alone = portinit.xavier_normal()(KEY.fold_in("layers.1.weight"), (4, 4), layout="torch")
    assert same_bits(made.layers.weight[1], alone)


def test_grouped_transposed_convolutions_can_be_stated() -> None:
    layer = eqx.nn.ConvTranspose2d(4, 6, (2, 3), groups=2, use_bias=False, key=JAX_KEY)
    traced = portinit_torch.trace(
        lambda: torch.nn.ConvTranspose2d(4, 6, (2, 3), groups=2, bias=False)
    )
    with pytest.raises(RecipeError, match=r"weight: the recipe has \(4, 3, 2, 3\)"):
        portinit_equinox.initialize(layer, traced, KEY)
    layout = portinit.Layout((0, 2), (1,), flip=True, roles="io", view=(2, 3, 2, 2, 3))
    made = portinit_equinox.initialize(layer, traced, KEY, {"weight": ("weight", layout)})
    twin = torch.nn.ConvTranspose2d(4, 6, (2, 3), groups=2, bias=False)
    portinit_torch.initialize(twin, traced, KEY)
    x = torch.randn(4, 5, 5, generator=torch.Generator().manual_seed(1))
    assert near(made(jnp.asarray(x.numpy())), twin(x))


@pytest.mark.parametrize("linear", ["Conv1D", "Linear"])
def test_a_square_linear_layer_lies_as_its_class_says(linear: str) -> None:
    from transformers.pytorch_utils import Conv1D

    build = {"Conv1D": lambda: Conv1D(4, 4), "Linear": lambda: torch.nn.Linear(4, 4)}[linear]
    traced = portinit_torch.trace(build)
    made = portinit_equinox.initialize(eqx.nn.Linear(4, 4, key=JAX_KEY), traced, KEY)
    ours = portinit_torch.initialize(build(), traced, KEY)
    x = torch.eye(4)[2]
    assert near(made(jnp.asarray(x.numpy())), ours(x))


class Normed(eqx.Module):
    fc: eqx.nn.Linear
    bn: eqx.nn.BatchNorm

    def __init__(self, key: Any) -> None:
        self.fc = eqx.nn.Linear(3, 4, key=key)
        self.bn = eqx.nn.BatchNorm(4, "batch", mode="ema")


class NormedTorch(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)


STATISTICS = {"bn.running_mean": np.arange(4.0), "bn.running_var": np.arange(4.0) + 2}


def test_statistics_lie_in_the_state_or_in_the_module() -> None:
    values = portinit_torch.trace(NormedTorch).with_values(STATISTICS)
    alone = portinit_equinox.initialize(Normed(JAX_KEY), values, KEY)
    pair = eqx.nn.make_with_state(Normed)(JAX_KEY)
    model, state = portinit_equinox.initialize(pair, values, KEY)
    for found in (alone.bn.ema_state_index.init, state.get(model.bn.ema_state_index)):
        assert same_bits(found[1], np.arange(2, 6, dtype="float32"))
    assert pair[1].get(pair[0].bn.ema_state_index) is not None  # the given state is still good


def test_statistics_of_stacked_layers_lie_in_a_stacked_state() -> None:
    build = lambda: torch.nn.ModuleDict(  # noqa: E731
        {"layers": torch.nn.ModuleList([NormedTorch() for _ in range(3)])}
    )
    traced = portinit_torch.trace(build).with_values(
        {f"layers.{i}.bn.running_mean": np.arange(4.0) + i for i in range(3)}
    )
    stack = eqx.filter_vmap(lambda key: eqx.nn.make_with_state(Normed)(key))
    layers, state = eqx.filter_eval_shape(stack, jax.random.split(JAX_KEY, 3))
    model, state = portinit_equinox.initialize(({"layers": layers}, state), traced, KEY)
    means = state.get(model["layers"].bn.ema_state_index)[0]
    assert same_bits(means, np.arange(4, dtype="float32") + np.arange(3, dtype="float32")[:, None])


def test_a_partitioned_model_is_filled() -> None:
    params, static = eqx.partition(Normed(JAX_KEY), eqx.is_array)
    made = portinit_equinox.initialize(params, portinit.recipes.torch_defaults(), KEY)
    assert eqx.combine(made, static).fc(jnp.ones(3)).shape == (4,)


class Norms(eqx.Module):
    """Spectral norm's vectors, which no name of PyTorch's is for, lie in a State."""

    layer: eqx.nn.SpectralNorm

    def __init__(self, key: Any) -> None:
        self.layer = eqx.nn.SpectralNorm(eqx.nn.Linear(3, 4, key=key), "weight", key=key)


def test_what_would_get_no_values_is_named() -> None:
    pair = eqx.filter_eval_shape(eqx.nn.make_with_state(Norms), JAX_KEY)
    patterns = Recipe([("layer.layer.*", portinit.normal())])
    with pytest.raises(RecipeError, match="do not fit"):
        portinit_equinox.initialize(pair, patterns, KEY)


def test_what_is_no_pytree_of_equinoxs_is_refused() -> None:
    with pytest.raises(TypeError, match=r"portinit_torch\.initialize fills it"):
        portinit_equinox.initialize(torch.nn.Linear(2, 2), portinit.recipes.torch_defaults(), KEY)


def test_shardings_are_kept() -> None:
    mesh = jax.make_mesh((1,), ("x",), devices=jax.devices()[:1])
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    layer = eqx.filter_eval_shape(eqx.nn.Linear, 3, 4, False, key=JAX_KEY)
    patterns = Recipe([("*", portinit.normal())])
    made = portinit_equinox.initialize(layer, patterns, KEY, shardings=sharding)
    assert made.weight.sharding == sharding
    assert same_bits(made.weight, portinit_equinox.initialize(layer, patterns, KEY).weight)
