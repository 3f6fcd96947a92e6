"""PyTorch modules filled like their Flax twins' own ``init``: against Flax, converted by hand."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx
from numpy.typing import NDArray
from torch import nn

import portinit as pi
from portinit.initializers.like_jax import like_jax
from portinit.random.flax_keys import linen_keys, nnx_keys
from portinit_examples import convnet_flax, convnet_torch, gpt_flax, gpt_torch, lstm_torch
from portinit_torch.like_flax import initialize_like_flax

SEED = 3
KEY = pi.key(SEED)
FLAX = pi.recipes.flax_defaults()

Arrays = dict[str, NDArray[Any]]


def linen_params(module: linen.Module, *inputs: Any) -> Arrays:
    """What Flax's own init gives, by path, in the order of creation."""
    variables = module.init(jax.random.key(SEED), *inputs)
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(variables["params"], sep="/")
    return {path: np.asarray(leaf) for path, leaf in flat.items()}


def nnx_params(model: nnx.Module) -> Arrays:
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {"/".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in flat}


def state(module: nn.Module) -> Arrays:
    return {name: tensor.numpy(force=True) for name, tensor in module.state_dict().items()}


def scrambled(module: nn.Module) -> nn.Module:
    """A module whose every value is wrong."""
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.fill_(77)
    return module


def assert_same(mine: NDArray[Any], flaxs: NDArray[Any], rtol: float = 5e-7) -> None:
    """Four ulps at most, of 2^-23 each to either side; zeros and ones are exact by that too."""
    assert mine.shape == flaxs.shape
    np.testing.assert_allclose(mine, flaxs, rtol=rtol, atol=0)


# linen: convolutions, batch normalisation, a transposed convolution, a dense head


def test_a_convnet_starts_as_its_linen_twin() -> None:
    params = linen_params(convnet_flax.make_model(), convnet_flax.example_input())
    module = scrambled(convnet_torch.make_model())
    mine = state(initialize_like_flax(module, FLAX, linen_keys(KEY, params)))
    expected: Arrays = {}
    for path, array in params.items():
        *owner, leaf = path.split("/")
        name = ".".join(owner).replace("blocks_", "blocks.")
        leaf = {"kernel": "weight", "scale": "weight"}.get(leaf, leaf)
        if path == "up/kernel":
            array = array[::-1, ::-1].transpose(2, 3, 0, 1)
        elif array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        expected[f"{name}.{leaf}"] = array.T if array.ndim == 2 else array
    statistics = {name for name in mine if "running" in name or "num_batches" in name}
    assert set(mine) == {*expected, *statistics}
    for name, array in expected.items():
        assert_same(mine[name], array)
    for name in statistics - {name for name in mine if "num_batches" in name}:
        assert (mine[name] == (1 if "var" in name else 0)).all()


# nnx: embeddings, layer normalisation, packed attention


def gpt_order() -> list[str]:
    """The GPT's parameters as its constructors create them."""
    layers = [
        ("ln1", "scale"),
        *(("attn/in_proj", "kernel"), ("attn/out_proj", "kernel")),
        ("ln2", "scale"),
        *(("mlp/fc", "kernel"), ("mlp/proj", "kernel")),
    ]
    return [
        *("wte/embedding", "wpe/embedding"),
        *(
            f"blocks/{i}/{name}/{leaf}"
            for i in range(gpt_flax.NUM_LAYERS)
            for name, first in layers
            for leaf in (first, "bias")
        ),
        *("ln_f/scale", "ln_f/bias"),
    ]


# nn.MultiheadAttention holds its packed projection as bare parameters, not in a submodule.
GPT_NAMES = {
    f"blocks/{i}/attn/in_proj/{leaf}": f"blocks.{i}.attn.in_proj_{kind}"
    for i in range(2)
    for leaf, kind in [("kernel", "weight"), ("bias", "bias")]
}


def test_a_gpt_starts_as_its_nnx_twin() -> None:
    flaxs = nnx_params(gpt_flax.GPT(rngs=nnx.Rngs(SEED)))
    keys = nnx_keys(KEY, gpt_order())
    assert set(keys) == set(flaxs)
    module = scrambled(gpt_torch.make_model())
    initialize_like_flax(module, FLAX, keys, GPT_NAMES)
    mine = dict(module.named_parameters())
    assert module.lm_head.weight is module.wte.weight
    for path, array in flaxs.items():
        name = GPT_NAMES.get(path, path.replace("/", "."))
        for flaxs_leaf in ("kernel", "scale", "embedding"):
            name = name.replace(f".{flaxs_leaf}", ".weight")
        tensor = mine[name].numpy(force=True)
        if path.endswith("kernel"):  # (in..., out...), inputs first
            tensor = tensor.T
        assert_same(tensor.reshape(array.shape), array)


@pytest.mark.parametrize("transposed", [False, True])
def test_transposed_convolutions(transposed: bool) -> None:
    """With transpose_kernel Flax holds (..., out, in), and runs over space as PyTorch does."""
    up = linen.ConvTranspose(4, (3, 2), transpose_kernel=transposed)
    params = linen_params(up, jnp.ones((1, 5, 5, 6)))
    rule = pi.Rule("weight", pi.lecun_normal(), pi.Layout(roles="oi" if transposed else "io"))
    recipe = pi.Recipe([rule]) + FLAX
    module = scrambled(nn.ConvTranspose2d(6, 4, (3, 2)))
    mine = state(initialize_like_flax(module, recipe, linen_keys(KEY, params)))["weight"]
    kernel = params["kernel"]
    expected = (
        kernel.transpose(3, 2, 0, 1) if transposed else kernel[::-1, ::-1].transpose(2, 3, 0, 1)
    )
    assert_same(mine, expected)


# Recurrent layers: a parameter of Flax's for each gate


class Classifier(linen.Module):
    """The linen twin of the example's LSTM classifier, with Flax's own cells."""

    @linen.compact
    def __call__(self, tokens: Any) -> Any:
        x = linen.Embed(50, 12, name="embed")(tokens)
        for _ in range(2):
            x = linen.RNN(linen.LSTMCell(16))(x)
        return linen.Dense(3, name="head")(x[:, -1])


LSTM_NAMES = {
    f"LSTMCell_{layer}/{side}{gate}/{leaf}": f"lstm.{kind}_{side}h_l{layer}"
    for layer in range(2)
    for side, leaves in {"i": ("kernel",), "h": ("kernel", "bias")}.items()
    for gate in "ifgo"
    for leaf in leaves
    for kind in ["weight" if leaf == "kernel" else "bias"]
}


def gates(params: Arrays, path: str, order: str = "ifgo") -> NDArray[Any]:
    """PyTorch's packed weight or bias of the gates' own."""
    return np.concatenate([params[path.format(gate)].T for gate in order])


def test_an_lstm_starts_as_its_linen_twin() -> None:
    params = linen_params(Classifier(), jnp.zeros((1, 4), int))
    keys = linen_keys(KEY, params)
    module = scrambled(lstm_torch.make_model())
    mine = state(initialize_like_flax(module, FLAX, keys, LSTM_NAMES))
    assert_same(mine["embed.weight"], params["embed/embedding"])
    assert mine["embed.weight"][0].any()  # Flax knows no padding row
    assert_same(mine["head.weight"], params["head/kernel"].T)
    for layer in range(2):
        cell = f"LSTMCell_{layer}/"
        assert_same(mine[f"lstm.weight_ih_l{layer}"], gates(params, cell + "i{}/kernel"))
        recurrent = gates(params, cell + "h{}/kernel")
        difference = np.abs(mine[f"lstm.weight_hh_l{layer}"] - recurrent).max()
        assert difference < 5e-6  # a factorisation in float32 of ill-conditioned matrices
        for name in (f"lstm.bias_ih_l{layer}", f"lstm.bias_hh_l{layer}"):
            assert not mine[name].any()


def test_a_gru_starts_as_its_linen_twin() -> None:
    """Biases are two of three gates' on one side and one's on the other; all are zero."""
    params = linen_params(linen.RNN(linen.GRUCell(8)), jnp.ones((1, 4, 5)))
    names = {f"cell/{side}{gate}/kernel": f"weight_{side}h_l0" for side in "ih" for gate in "rzn"}
    keys = {path: key for path, key in linen_keys(KEY, params).items() if path in names}
    module = scrambled(nn.GRU(5, 8))
    mine = state(initialize_like_flax(module, FLAX, keys, names))
    assert_same(mine["weight_ih_l0"], gates(params, "cell/i{}/kernel", "rzn"))
    recurrent = gates(params, "cell/h{}/kernel", "rzn")
    assert np.abs(mine["weight_hh_l0"] - recurrent).max() < 5e-6
    assert not mine["bias_ih_l0"].any()
    assert not mine["bias_hh_l0"].any()


def test_an_lstm_starts_as_nnxs_cell() -> None:
    cell = nnx_params(nnx.LSTMCell(5, 8, rngs=nnx.Rngs(SEED)))
    order = [f"{name}/kernel" for name in ("ii", "if_", "ig", "io")]
    order += [f"h{gate}/{leaf}" for gate in "ifgo" for leaf in ("kernel", "bias")]
    assert set(order) == set(cell)
    names = {path: f"{'bias' if 'bias' in path else 'weight'}_{path[0]}h" for path in order}
    module = scrambled(nn.LSTMCell(5, 8))
    mine = state(initialize_like_flax(module, FLAX, nnx_keys(KEY, order), names))
    assert_same(mine["weight_ih"], np.concatenate([cell[path].T for path in order[:4]]))
    recurrent = gates(cell, "h{}/kernel")
    assert np.abs(mine["weight_hh"] - recurrent).max() < 5e-6


def test_a_fused_cell_is_orthogonal_over_all_gates() -> None:
    cell = nnx_params(nnx.OptimizedLSTMCell(5, 8, rngs=nnx.Rngs(SEED)))
    order = ["dense_i/kernel", "dense_h/kernel", "dense_h/bias"]
    names = dict(zip(order, ("weight_ih", "weight_hh", "bias_hh"), strict=True))
    module = scrambled(nn.LSTMCell(5, 8))
    mine = state(initialize_like_flax(module, FLAX, nnx_keys(KEY, order), names))
    assert_same(mine["weight_ih"], cell["dense_i/kernel"].T)
    # (8, 32): not square, so well conditioned.
    assert np.abs(mine["weight_hh"] - cell["dense_h/kernel"].T).max() < 1e-6


# Attention: query, key and value are parts of PyTorch's packed projection


def test_attention_starts_as_its_linen_twin() -> None:
    attention = linen.MultiHeadDotProductAttention(2, qkv_features=8)
    params = linen_params(attention, jnp.ones((1, 3, 8)))
    parts = ("query", "key", "value")
    names = {f"{part}/kernel": "in_proj_weight" for part in parts}
    names |= {f"{part}/bias": "in_proj_bias" for part in parts}
    names |= {"out/kernel": "out_proj.weight", "out/bias": "out_proj.bias"}
    module = scrambled(nn.MultiheadAttention(8, 2))
    mine = state(initialize_like_flax(module, FLAX, linen_keys(KEY, params), names))
    packed = np.concatenate([params[f"{part}/kernel"].reshape(8, 8).T for part in parts])
    assert_same(mine["in_proj_weight"], packed)
    assert_same(mine["out_proj.weight"], params["out/kernel"].reshape(8, 8).T)
    assert not mine["in_proj_bias"].any()


# Exactly: uniform initializers, and everything in bfloat16


class Pair(linen.Module):
    kernel_init: Any
    dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = linen.Dense(4, kernel_init=self.kernel_init, param_dtype=self.dtype, name="a")(x)
        return linen.Dense(
            3,
            kernel_init=self.kernel_init,
            bias_init=linen.initializers.uniform(0.5),
            param_dtype=self.dtype,
            name="b",
        )(x)


def pair(**options: Any) -> nn.Module:
    return scrambled(
        nn.ModuleDict({"a": nn.Linear(5, 4, **options), "b": nn.Linear(4, 3, **options)})
    )


@pytest.mark.parametrize(
    ("mine", "flaxs", "dtype"),
    [
        (pi.glorot_uniform(), linen.initializers.glorot_uniform(), "float32"),
        (pi.he_normal(), linen.initializers.he_normal(), "bfloat16"),
    ],
    ids=["uniform", "bfloat16"],
)
def test_exactly(mine: pi.Initializer, flaxs: Any, dtype: str, bits: Callable[[Any], Any]) -> None:
    params = linen_params(Pair(flaxs, jnp.dtype(dtype)), jnp.ones((1, 5)))
    recipe = pi.Recipe([("b.bias", pi.uniform(0, 0.5)), ("*bias", pi.zeros), ("*weight", mine)])
    module = pair(dtype=getattr(torch, dtype))
    initialize_like_flax(module, recipe, linen_keys(KEY, params))
    for name, tensor in module.named_parameters():
        path = name.replace(".", "/").replace("weight", "kernel")
        assert bits(tensor.detach().contiguous()) == bits(np.ascontiguousarray(params[path].T))


def test_stacked_layers_are_modules_each(bits: Callable[[Any], Any]) -> None:
    """nn.scan keeps the layers' kernels in one array: a root for each layer, a name for each."""

    class Layer(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            return linen.Dense(4, kernel_init=linen.initializers.he_uniform())(x), None

    scan = linen.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
    params = linen_params(scan(name="layers"), jnp.ones((1, 4)))
    keys: dict[str, pi.Key] = {}
    for i, root in enumerate(KEY.split(3)):
        of_layer = linen_keys(root, params, traces=2)
        keys |= {path.replace("Dense_0", str(i)): key for path, key in of_layer.items()}
    module = scrambled(nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))))
    recipe = pi.Recipe([("*bias", pi.zeros), ("*", pi.he_uniform())])
    initialize_like_flax(module, recipe, keys)
    for i in range(3):
        assert bits(module[i].weight.T.contiguous().detach()) == bits(params["Dense_0/kernel"][i])


def test_a_padding_row_of_ones_own() -> None:
    recipe = pi.Recipe([("weight", pi.where(0, pi.zeros, like_jax(pi.normal())))]) + FLAX
    keys = linen_keys(KEY, ["embedding"])
    module = initialize_like_flax(nn.Embedding(5, 4), recipe, keys)
    expected = np.asarray(linen.initializers.normal(1.0)(flax_key(keys["embedding"]), (5, 4)))
    mine = state(module)["weight"]
    assert not mine[0].any()
    assert_same(mine[1:], expected[1:])


def flax_key(key: pi.Key) -> jax.Array:
    return jax.random.wrap_key_data(np.array(key.words, np.uint32))


def test_a_bound_recipe_will_do() -> None:
    import portinit_torch

    module = lstm_torch.make_model()
    params = linen_params(Classifier(), jnp.zeros((1, 4), int))
    keys = linen_keys(KEY, params)
    initialize_like_flax(module, portinit_torch.bind(module, FLAX), keys, LSTM_NAMES)
    mine = state(module)
    assert_same(mine["lstm.weight_ih_l0"], gates(params, "LSTMCell_0/i{}/kernel"))
    assert not mine["embed.weight"][0].any()  # the bound recipe's row is zero


# Errors: every misfit is listed, nothing is written


def test_every_misfit_is_listed_and_nothing_is_written() -> None:
    module = pair()
    before = state(module)
    keys = linen_keys(KEY, ["a/kernel", "a/bias", "b/bias", "c/kernel"])
    recipe = pi.Recipe([("*bias", pi.zeros), ("*", pi.kaiming_normal())])
    names = {"d/kernel": "d.weight"}
    with pytest.raises(pi.RecipeError) as caught:
        initialize_like_flax(module, recipe, keys, names)
    message = str(caught.value)
    for part in (
        "d/kernel: in the table of names, but has no key",
        "c/kernel: the module has no such name",
        "a.weight (4, 5): JAX's initializers are",
        "got kaiming_normal",
    ):
        assert part in message
    for name, array in before.items():
        np.testing.assert_array_equal(state(module)[name], array)


MISFITS: dict[str, tuple[nn.Module, pi.Recipe, list[str], dict[str, str], str]] = {
    "no path": (nn.Linear(3, 2), FLAX, ["bias"], {}, "weight .*no Flax path leads to it"),
    "no rule": (
        nn.Linear(3, 2),
        pi.Recipe([("weight", pi.zeros)]),
        ["kernel", "bias"],
        {},
        "bias .*no rule matches",
    ),
    "uneven parts": (
        nn.Linear(3, 5, bias=False),
        FLAX,
        ["q/kernel", "k/kernel"],
        {"q/kernel": "weight", "k/kernel": "weight"},
        "2 Flax parameters must be equal parts of axis 0",
    ),
    "unknown name": (
        nn.Linear(3, 5, bias=False),
        FLAX,
        ["q/kernel", "kernel"],
        {"q/kernel": "q.weight"},
        "q.weight: the module has no such parameter",
    ),
    "meta": (
        nn.Linear(3, 5, bias=False, device="meta"),
        FLAX,
        ["kernel"],
        {},
        r"weight .*meta device; call module.to_empty\(device=...\) first",
    ),
    "dtype": (
        nn.LSTMCell(3, 4, bias=False, dtype=torch.bfloat16),
        FLAX,
        ["i/kernel", "h/kernel"],
        {"i/kernel": "weight_ih", "h/kernel": "weight_hh"},
        "orthogonal needs a dtype of float32, float64; got bfloat16",
    ),
    "shape": (
        nn.ParameterDict({"w": torch.zeros(3)}),
        pi.Recipe([("*", pi.lecun_normal())]),
        ["w"],
        {},
        "at least 2 dimensions",
    ),
}


@pytest.mark.parametrize(
    ("module", "recipe", "paths", "names", "message"), MISFITS.values(), ids=MISFITS
)
def test_a_misfit_says_what_is_wrong(
    module: nn.Module, recipe: pi.Recipe, paths: list[str], names: dict[str, str], message: str
) -> None:
    with pytest.raises(pi.RecipeError, match=message):
        initialize_like_flax(module, recipe, linen_keys(KEY, paths), names)


def test_unequal_blocks_are_not_flaxs() -> None:
    recipe = pi.Recipe([("*", pi.blocks((pi.zeros, pi.lecun_normal())))])
    with pytest.raises(pi.RecipeError, match="got blocks"):
        initialize_like_flax(nn.Linear(3, 4, bias=False), recipe, linen_keys(KEY, ["kernel"]))


def test_jax_is_not_loaded() -> None:
    code = (
        "import portinit as pi, sys, torch\n"
        "from portinit.random.flax_keys import linen_keys\n"
        "from portinit_torch.like_flax import initialize_like_flax\n"
        "keys = linen_keys(pi.key(0), ['kernel', 'bias'])\n"
        "initialize_like_flax(torch.nn.Linear(3, 2), pi.recipes.flax_defaults(), keys)\n"
        "assert not {'jax', 'flax'} & set(sys.modules)"
    )
    root = Path(__file__).parents[3]
    search = {"PYTHONPATH": f"{root / 'src'}:{root / 'adapters'}"}
    subprocess.run([sys.executable, "-c", code], check=True, env=search)
