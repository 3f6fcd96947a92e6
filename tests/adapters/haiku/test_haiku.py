"""portinit_haiku against Haiku itself: the bits of PyTorch's models, and their outputs."""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tests.support.bits import same_bits
from tests.support.every_initializer import KEY, SHAPE, drawn_in, recipe_for

import portinit
import portinit_haiku
import portinit_torch
from portinit import Recipe, RecipeError

JAX_KEY = jax.random.key(0)


class Torch(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = torch.nn.Embedding(11, 8)
        self.conv = torch.nn.Conv2d(8, 6, 3, groups=2, padding=1)
        self.bn = torch.nn.BatchNorm2d(6)
        self.up = torch.nn.ConvTranspose2d(6, 6, 2, stride=2)
        self.attn = torch.nn.MultiheadAttention(8, 2)
        self.norm = torch.nn.LayerNorm(8)
        self.head = torch.nn.Linear(8, 8)

    def forward(self, x: Any, rows: Any, tokens: Any) -> Any:
        image = self.up(self.bn(self.conv(x))).permute(0, 2, 3, 1)
        return image, self.head(self.norm(self.attn(rows, rows, rows)[0])), self.emb(tokens)


def twin(x: Any, rows: Any, tokens: Any, is_training: bool = False) -> Any:
    x = hk.Conv2D(6, 3, feature_group_count=2, name="conv")(x)
    x = hk.BatchNorm(True, True, 0.9, name="bn")(x, is_training)
    x = hk.Conv2DTranspose(6, 2, stride=2, padding="VALID", name="up")(x)
    scaling = hk.initializers.VarianceScaling()
    rows = hk.MultiHeadAttention(2, 4, w_init=scaling, name="attn")(rows, rows, rows)
    rows = hk.Linear(8, name="head")(hk.LayerNorm(-1, True, True, name="norm")(rows))
    return x, rows, hk.Embed(11, 8, name="emb")(tokens)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return portinit_torch.trace(Torch)


@pytest.fixture(scope="module")
def shapes() -> Any:
    arguments = jnp.zeros((1, 4, 4, 8)), jnp.zeros((5, 8)), jnp.arange(4)
    init = hk.transform_with_state(twin).init
    return jax.eval_shape(lambda key: init(key, *arguments, is_training=True), JAX_KEY)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_every_elementwise_initializer_gives_numpys_bytes(dtype: str) -> None:
    expected = drawn_in(dtype)
    params = {name: {"w": jax.ShapeDtypeStruct(SHAPE[::-1], dtype)} for name in expected}
    made = portinit_haiku.initialize(params, recipe_for(expected), KEY)
    found = {name: np.asarray(made[name]["w"]).T for name in expected}
    assert not [name for name in expected if not same_bits(found[name], expected[name])]


def test_a_twin_computes_what_pytorch_computes(recipe: Recipe, shapes: Any) -> None:
    params, state = portinit_haiku.initialize(shapes, recipe, KEY)
    ours = portinit_torch.initialize(Torch(), recipe, KEY).eval()
    seen = torch.Generator().manual_seed(0)
    x, rows = torch.randn(3, 8, 4, 4, generator=seen), torch.randn(5, 8, generator=seen)
    arguments = (x.permute(0, 2, 3, 1).numpy(), rows.numpy(), np.arange(4))
    found, _ = hk.transform_with_state(twin).apply(
        params, state, None, *map(jnp.asarray, arguments)
    )
    for a, b in zip(found, ours(x, rows, torch.arange(4)), strict=True):
        assert np.allclose(a, b.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert same_bits(state["bn/~/var_ema"]["average"].reshape(-1), ours.bn.running_var)
    assert state["bn/~/var_ema"]["counter"] == 0


def test_pairs_are_certain(recipe: Recipe, shapes: Any) -> None:
    found = portinit_haiku.match(shapes, recipe)
    assert not found.suspects
    assert found["attn/linear/w"][0] == "attn.out_proj.weight"
    assert found["attn/value/b"][0] == "attn.in_proj_bias[16:24]"
    assert found["bn/running_mean"][0] == "bn.running_mean"


def test_under_jit_the_bits_are_the_same(recipe: Recipe, shapes: Any) -> None:
    plain = portinit_haiku.initialize(shapes, recipe, jax.random.key(3))
    jitted = jax.jit(lambda key: portinit_haiku.initialize(shapes, recipe, key))(jax.random.key(3))
    for a, b in zip(*map(jax.tree.leaves, (plain, jitted)), strict=True):
        assert same_bits(a, b)


def test_a_module_of_a_constructor_is_named_as_haiku_names_it() -> None:
    net = hk.transform(lambda x: hk.nets.MLP([4, 2], name="mlp")(x))
    params = jax.eval_shape(net.init, JAX_KEY, jnp.zeros((1, 3)))
    recipe = Recipe(
        [
            portinit.Rule(f"net.{2 * i}.{word}", portinit.normal(), shape=shape)
            for i, sizes in enumerate(((4, 3), (2, 4)))
            for word, shape in (("weight", sizes), ("bias", sizes[:1]))
        ]
    )
    names = {"mlp/~/linear_0": "net.0", "mlp/~/linear_1": "net.2"}
    made = portinit_haiku.initialize(params, recipe, KEY, names)
    alone = portinit.normal()(KEY.fold_in("net.2.weight"), (4, 2))
    assert same_bits(made["mlp/~/linear_1"]["w"], alone)


def test_layers_of_a_stack_hold_a_parameter_each() -> None:
    def stack(x: Any) -> Any:
        return hk.experimental.layer_stack(3)(lambda x: hk.Linear(4, name="fc")(x))(x)

    params = jax.eval_shape(hk.transform(stack).init, JAX_KEY, jnp.zeros((2, 4)))
    (path,) = {module.partition("/")[0] for module in params}
    patterns = Recipe([("*.bias", portinit.zeros), ("*", portinit.xavier_normal())])
    with pytest.raises(RecipeError, match="if they are stacked layers, say so"):
        portinit_haiku.initialize(params, patterns, KEY)
    made = portinit_haiku.initialize(params, patterns, KEY, stacked={path: 0})
    alone = portinit.xavier_normal()(KEY.fold_in(f"{path}.1.fc.weight"), (4, 4))
    assert same_bits(made[f"{path}/fc"]["w"][1], alone)


def test_cells_that_no_weights_make_pytorchs_are_named() -> None:
    def cells(x: Any) -> Any:
        lstm = hk.LSTM(5)
        return lstm(x, lstm.initial_state(2))[0], hk.GRU(5)(x, jnp.zeros((2, 5)))[0]

    params = jax.eval_shape(hk.transform(cells).init, JAX_KEY, jnp.zeros((2, 3)))
    traced = portinit_torch.trace(
        lambda: torch.nn.ModuleDict({"lstm": torch.nn.LSTM(3, 5), "gru": torch.nn.GRU(3, 5)})
    )
    with pytest.raises(RecipeError, match=r"(?s)gru: hk.GRU multiplies.*lstm: hk.LSTM has"):
        portinit_haiku.match(params, traced)
    own = {path: portinit.lecun_normal() for path in ("gru/w_i", "gru/w_h", "lstm/linear/w")}
    own |= dict.fromkeys(("gru/b", "lstm/linear/b"), portinit.zeros)
    made = portinit_haiku.initialize(params, traced, KEY, own, ignore="*")
    assert not made["gru"]["b"].any()


def test_state_without_values_is_named(recipe: Recipe, shapes: Any) -> None:
    params, state = shapes
    counted = {**state, "counts": {"seen": jax.ShapeDtypeStruct((), "int32")}}
    with pytest.raises(RecipeError, match=r"counts/seen \(\): no rule fills it"):
        portinit_haiku.initialize((params, counted), recipe, KEY)


@pytest.mark.parametrize("params", [hk.transform(twin), {"a": 3}, torch.nn.Linear(2, 2)])
def test_what_haikus_init_does_not_give_is_refused(params: Any) -> None:
    with pytest.raises(TypeError, match=r"jax\.eval_shape\(net\.init"):
        portinit_haiku.initialize(params, portinit.recipes.torch_defaults(), KEY)


# Initializers for modules


def drawn(w_init: Any, key: Any) -> Any:
    net = hk.transform(lambda x: hk.nets.MLP([4, 4], w_init=w_init, name="mlp")(x))
    return net.init(key, jnp.zeros((1, 4)))


def test_by_default_a_parameter_draws_with_haikus_key() -> None:
    keys: list[Any] = []

    def spy(shape: Any, dtype: Any) -> Any:
        keys.append(hk.next_rng_key())
        return jnp.zeros(shape, dtype)

    drawn(spy, JAX_KEY)
    made = drawn(portinit_haiku.initializer(portinit.he_normal()), JAX_KEY)
    for i, key in enumerate(keys):
        assert same_bits(made[f"mlp/~/linear_{i}"]["w"], portinit.he_normal()(key, (4, 4)))


@pytest.mark.parametrize("key", [KEY, jax.random.key(0xC0FFEE)], ids=["portinit's", "JAX's"])
def test_with_a_key_it_draws_by_the_modules_name(key: Any) -> None:
    w_init = portinit_haiku.initializer(portinit.he_normal(), key)
    for made in (drawn(w_init, JAX_KEY), jax.jit(lambda rng: drawn(w_init, rng))(JAX_KEY)):
        for i in range(2):
            alone = portinit.he_normal()(KEY.fold_in(f"mlp/~/linear_{i}"), (4, 4))
            assert same_bits(made[f"mlp/~/linear_{i}"]["w"], alone)


def test_fans_of_transposed_convolutions_are_those_of_their_layout() -> None:
    layout = portinit_haiku.CONV_TRANSPOSE
    w_init = portinit_haiku.initializer(portinit.kaiming_normal(), KEY, layout=layout)
    net = hk.transform(lambda x: hk.Conv2DTranspose(64, 3, w_init=w_init)(x))
    w = net.init(JAX_KEY, jnp.zeros((1, 5, 5, 16)))["conv2_d_transpose"]["w"]
    assert w.std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)  # as torch.nn.init has it


def test_what_is_no_initializer_is_refused() -> None:
    with pytest.raises(TypeError, match=r"portinit\.he_normal\(\)"):
        portinit_haiku.initializer(hk.initializers.RandomNormal())
