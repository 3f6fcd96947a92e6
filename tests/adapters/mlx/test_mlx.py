"""portinit_mlx against MLX itself: the bits of PyTorch's models, and their outputs."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import torch
from tests.support.bits import same_bits
from tests.support.every_initializer import KEY, SHAPE, drawn_in, recipe_for

import portinit
import portinit_mlx
import portinit_torch
from portinit import Recipe, RecipeError
from portinit.arrays.convert import to_numpy


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
        self.gru = torch.nn.GRU(8, 8, batch_first=True)
        self.lstm = torch.nn.LSTM(8, 4, batch_first=True)
        self.rnn = torch.nn.RNN(8, 4, batch_first=True)
        self.pair = torch.nn.Bilinear(4, 4, 4)
        layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        norm = torch.nn.LayerNorm(8)
        self.enc = torch.nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False)


class Twin(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(11, 8)
        self.net = nn.Sequential(
            nn.Conv2d(8, 6, 3, groups=2),
            nn.BatchNorm(6),
            nn.PReLU(),
            nn.ConvTranspose2d(6, 6, 2),
        )
        self.gru = nn.GRU(8, 8)
        self.lstm = nn.LSTM(8, 4)
        self.rnn = nn.RNN(8, 4)
        self.pair = nn.Bilinear(4, 4, 4)
        self.enc = nn.TransformerEncoder(2, 8, 2, 16)
        for layer in self.enc.layers:
            layer.attention = nn.MultiHeadAttention(8, 2, bias=True)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return portinit.sum_biases(portinit_torch.trace(Torch), KEY)


def array(tensor: torch.Tensor) -> mx.array:
    return mx.array(tensor.detach().numpy())


def near(a: mx.array, b: torch.Tensor) -> bool:
    return np.allclose(np.asarray(a), b.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_every_elementwise_initializer_gives_numpys_bytes(dtype: str) -> None:
    expected = drawn_in(dtype)
    model = nn.Module()
    for name in expected:
        setattr(model, name, nn.Linear(SHAPE[1], SHAPE[0], bias=False))
    model.set_dtype(getattr(mx, dtype))
    portinit_mlx.initialize(model, recipe_for(expected), KEY)
    found = {name: to_numpy(model[name].weight) for name in expected}
    assert not [name for name in expected if not same_bits(found[name], expected[name])]


def test_a_twin_holds_pytorchs_bits_and_computes_the_same(recipe: Recipe) -> None:
    ours = portinit_torch.initialize(Torch(), recipe, KEY).eval()
    model = Twin()
    assert portinit_mlx.initialize(model, recipe, KEY) is model
    model.eval()
    up = ours.net[3].weight.detach().numpy().transpose(1, 2, 3, 0)
    assert same_bits(np.asarray(model.net.layers[3].weight), up)
    seen = torch.Generator().manual_seed(0)
    x, rows = torch.randn(3, 8, 5, 5, generator=seen), torch.randn(2, 5, 8, generator=seen)
    assert near(model.net(array(x.permute(0, 2, 3, 1))), ours.net(x).permute(0, 2, 3, 1))
    assert near(model.gru(array(rows)), ours.gru(rows)[0])
    assert near(model.lstm(array(rows))[0], ours.lstm(rows)[0])
    assert near(model.rnn(array(rows)), ours.rnn(rows)[0])
    assert near(model.enc(array(rows), None), ours.enc(rows))
    a, b = rows[0, :, :4], rows[1, :, :4]
    assert near(model.pair(array(a), array(b)), ours.pair(a, b))


def test_pairs_are_certain_and_layouts_told_by_class(recipe: Recipe) -> None:
    found = portinit_mlx.match(Twin(), recipe)
    assert not found.suspects
    assert found["enc/layers/1/attention/query_proj/bias"][0] == (
        "enc.layers.1.self_attn.in_proj_bias[0:8]"
    )
    assert found["gru/bhn"][0] == "gru.bias_hh_l0[16:24]"
    assert found["enc/ln/weight"][0] == "enc.norm.weight"


def test_two_biases_are_refused_with_a_cure() -> None:
    with pytest.raises(RecipeError, match=r"(?s)gru: .*sum_biases.*lstm: .*sum_biases"):
        portinit_mlx.match(Twin(), portinit_torch.trace(Torch))


def test_patterns_give_what_they_give_in_pytorch() -> None:
    defaults = portinit.recipes.torch_defaults()
    model = portinit_mlx.initialize(Twin(), defaults, KEY)
    ours = portinit_torch.initialize(Torch(), defaults, KEY).state_dict()
    conv = ours["net.0.weight"].numpy().transpose(0, 2, 3, 1)
    assert same_bits(np.asarray(model.net.layers[0].weight), conv)
    assert same_bits(np.asarray(model.net.layers[3].bias), ours["net.3.bias"])
    assert same_bits(np.asarray(model.pair.weight).swapaxes(1, 2), ours["pair.weight"])


def test_nothing_is_written_where_something_does_not_fit(recipe: Recipe) -> None:
    model = nn.Linear(3, 4)
    before = np.array(model.weight)
    with pytest.raises(RecipeError, match="the recipe has no such name"):
        portinit_mlx.initialize(model, recipe, KEY)
    with pytest.raises(TypeError, match="a key must be"):
        portinit_mlx.initialize(model, Recipe([("*", portinit.normal())]), 0)
    assert same_bits(np.asarray(model.weight), before)


class Lists(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.scales = [mx.ones(3), {"inner": mx.ones(2)}]
        self.layers = [nn.Linear(2, 2)]


def test_arrays_in_lists_and_dicts_are_filled_where_they_are() -> None:
    model = portinit_mlx.initialize(Lists(), Recipe([("*", portinit.normal())]), KEY)
    inner = portinit.normal()(KEY.fold_in("scales.1.inner"), (2,))
    assert same_bits(np.asarray(model.scales[1]["inner"]), inner)
    assert same_bits(np.asarray(model.scales[0]), portinit.normal()(KEY.fold_in("scales.0"), (3,)))


def test_quantized_layers_are_refused() -> None:
    model = nn.Sequential(nn.Linear(64, 64))
    nn.quantize(model)
    with pytest.raises(RecipeError, match=r"layers/0/weight: quantized; .*before nn\.quantize"):
        portinit_mlx.initialize(model, portinit.recipes.torch_defaults(), KEY)


@pytest.mark.parametrize("model", [torch.nn.Linear(2, 2), {}], ids=["PyTorch's", "a dict"])
def test_what_is_no_module_of_mlxs_is_refused(model: Any) -> None:
    with pytest.raises(TypeError, match=r"must be an mlx\.nn\.Module"):
        portinit_mlx.initialize(model, portinit.recipes.torch_defaults(), KEY)


# Functions for arrays


def test_a_function_gives_each_array_a_key_of_its_own() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model.apply(portinit_mlx.init_fn(portinit.normal(), KEY))
    weights = [np.asarray(layer.weight) for layer in model.layers]
    assert not np.array_equal(*weights)
    assert same_bits(weights[0], portinit.normal()(KEY.fold_in(0), (4, 4), layout="torch"))


def test_fans_of_convolutions_are_mlxs_own() -> None:
    made = portinit_mlx.init_fn(portinit.he_normal(), KEY)(mx.zeros((64, 3, 3, 32)))
    assert np.asarray(made).std() == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.02)


def test_what_is_no_initializer_is_refused() -> None:
    with pytest.raises(TypeError, match=r"portinit\.he_normal\(\)"):
        portinit_mlx.init_fn(nn.init.normal(), KEY)


# The backend


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 3])
def test_keys_of_mlx_are_keys(seed: int) -> None:
    found = portinit.normal()(mx.random.key(seed), (3, 4))
    assert isinstance(found, mx.array)
    assert same_bits(np.asarray(found), portinit.normal()(portinit.key(seed), (3, 4)))


@pytest.mark.parametrize("key", [mx.zeros((3,), mx.uint32), mx.zeros((2,), mx.int32)])
def test_other_arrays_are_no_keys(key: mx.array) -> None:
    with pytest.raises(TypeError, match="a key must be"):
        portinit.normal()(key, (2,))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64", "complex64"])
def test_arrays_of_mlx_hold_numpys_bytes(dtype: str) -> None:
    found = portinit.normal()(KEY, (70, 1000), getattr(mx, dtype), xp=mx)
    assert found.dtype == getattr(mx, dtype)
    assert same_bits(to_numpy(found), portinit.normal()(KEY, (70, 1000), dtype))


def test_a_dtype_that_mlx_lacks_and_a_device_are_refused() -> None:
    with pytest.raises(TypeError, match="MLX has no dtype complex128; it has float32"):
        portinit.normal()(KEY, (2,), "complex128", xp=mx)
    with pytest.raises(TypeError, match="leave device out"):
        portinit.normal()(KEY, (2,), xp=mx, device="gpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_many_small_layers_hold_what_each_draws_alone(dtype: str) -> None:
    model = nn.Sequential(*(nn.Linear(9, 7) for _ in range(300)), nn.Linear(7, 70))
    model.set_dtype(getattr(mx, dtype))
    recipe = portinit.Recipe(
        [
            ("*.bias", portinit.uniform(-1, 2)),
            ("5*.weight", portinit.sparse(0.3)),
            ("*", portinit.normal()),
        ]
    )
    key = portinit.key(4)
    portinit_mlx.initialize(model, recipe, key)
    for number, layer in enumerate(model.layers):
        one = portinit.sparse(0.3) if str(number).startswith("5") else portinit.normal()
        for word, initializer in (("weight", one), ("bias", portinit.uniform(-1, 2))):
            held = to_numpy(layer[word])
            name = f"{number}.{word}"
            alone = initializer(key.fold_in(name), held.shape, dtype, layout="torch")
            assert held.tobytes() == alone.tobytes(), name
