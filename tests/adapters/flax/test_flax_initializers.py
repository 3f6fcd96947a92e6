"""portinit's initializers as Flax's own arguments, linen and nnx; and PyTorch's layers beside them.

What a module passes to its initializer is written down by :class:`Recorder`, so that every
parameter can be asked for again outside Flax: from the NumPy core, or in PyTorch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from jax.sharding import AxisType
from scipy import stats
from tests.support.bits import same_bits

import portinit
import portinit_torch
from portinit import layers

KEY = jax.random.key(20240607)
KERNEL = portinit.kaiming_normal(nonlinearity="relu")
X = jnp.ones((2, 12))
IMAGES = jnp.ones((2, 8, 8, 4))
WORDS = jnp.zeros((2, 5), jnp.int32)
SEQUENCE = jnp.ones((2, 5, 12))


@dataclass
class Recorder:
    """An initializer that notes what it was called with, and what it gave."""

    initializer: portinit.Initializer
    calls: list[tuple[Any, tuple[int, ...], Any, Any]] = field(default_factory=list)

    def __call__(self, key: Any, shape: Any, *rest: Any, **how: Any) -> Any:
        values = self.initializer(key, shape, *rest, **how)
        if not isinstance(key, jax.core.Tracer):  # Flax also asks for shapes alone
            self.calls.append((key, tuple(shape), values.dtype, values))
        return values

    @property
    def only(self) -> tuple[Any, tuple[int, ...], Any, Any]:
        (call,) = self.calls
        return call


def words(key: Any) -> portinit.Key:
    return portinit.Key(*np.asarray(jax.random.key_data(key)).tolist())


def equal_trees(a: Any, b: Any) -> bool:
    return bool(jax.tree.all(jax.tree.map(same_bits, a, b)))


def leaves(tree: Any) -> dict[str, Any]:
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


# Modules of linen and nnx, by one name

LINEN: dict[str, tuple[Callable[[Any], nn.Module], Any]] = {
    "Dense": (lambda k: nn.Dense(7, kernel_init=k), X),
    "DenseGeneral": (lambda k: nn.DenseGeneral((3, 4), kernel_init=k), X),
    "Conv": (lambda k: nn.Conv(6, (3, 2), kernel_init=k), IMAGES),
    "grouped Conv": (lambda k: nn.Conv(6, (3, 3), feature_group_count=2, kernel_init=k), IMAGES),
    "ConvTranspose": (lambda k: nn.ConvTranspose(6, (3, 3), kernel_init=k), IMAGES),
    "Embed": (lambda k: nn.Embed(30, 8, embedding_init=k), WORDS),
    "MultiHeadDotProductAttention": (
        lambda k: nn.MultiHeadDotProductAttention(3, kernel_init=k),
        SEQUENCE,
    ),
    "LSTMCell in RNN": (
        lambda k: nn.RNN(nn.LSTMCell(6, kernel_init=k, recurrent_kernel_init=k)),
        SEQUENCE,
    ),
    "GRUCell in RNN": (lambda k: nn.RNN(nn.GRUCell(6, kernel_init=k)), SEQUENCE),
}
NNX: dict[str, Callable[[Any, nnx.Rngs], nnx.Module]] = {
    "Linear": lambda k, rngs: nnx.Linear(12, 7, kernel_init=k, rngs=rngs),
    "LinearGeneral": lambda k, rngs: nnx.LinearGeneral(12, (3, 4), kernel_init=k, rngs=rngs),
    "Conv": lambda k, rngs: nnx.Conv(4, 6, (3, 2), kernel_init=k, rngs=rngs),
    "ConvTranspose": lambda k, rngs: nnx.ConvTranspose(4, 6, (3, 3), kernel_init=k, rngs=rngs),
    "Embed": lambda k, rngs: nnx.Embed(30, 8, embedding_init=k, rngs=rngs),
    "MultiHeadAttention": lambda k, rngs: nnx.MultiHeadAttention(
        3, 12, decode=False, kernel_init=k, rngs=rngs
    ),
    "LSTMCell": lambda k, rngs: nnx.LSTMCell(12, 6, kernel_init=k, rngs=rngs),
}

linen = pytest.mark.parametrize(("make", "inputs"), LINEN.values(), ids=LINEN)
in_nnx = pytest.mark.parametrize("make", NNX.values(), ids=NNX)


def assert_calls_are_the_cores(recorder: Recorder, parameters: list[Any]) -> None:
    """Each call's values are NumPy's for the same key, and fill some parameter of the module."""
    assert recorder.calls
    held = {np.asarray(p).tobytes() for p in parameters}
    for key, shape, dtype, values in recorder.calls:
        expected = recorder.initializer(words(key), shape, dtype)
        assert isinstance(expected, np.ndarray)
        assert same_bits(values, expected)
        assert expected.tobytes() in held


@linen
def test_linen_modules_take_an_initializer(make: Callable[[Any], nn.Module], inputs: Any) -> None:
    recorder = Recorder(KERNEL)
    params = make(recorder).init(KEY, inputs)["params"]
    assert_calls_are_the_cores(recorder, jax.tree.leaves(params))
    assert equal_trees(make(KERNEL).init(KEY, inputs)["params"], params)


@linen
def test_linen_under_jit_and_eval_shape(make: Callable[[Any], nn.Module], inputs: Any) -> None:
    module = make(KERNEL)
    eager = module.init(KEY, inputs)
    assert equal_trees(jax.jit(module.init)(KEY, inputs), eager)
    shapes = jax.eval_shape(module.init, KEY, inputs)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), shapes) == jax.tree.map(
        lambda x: (x.shape, x.dtype), eager
    )


@in_nnx
def test_nnx_modules_take_an_initializer(make: Callable[..., nnx.Module]) -> None:
    recorder = Recorder(KERNEL)
    module = make(recorder, nnx.Rngs(0))
    parameters = jax.tree.leaves(nnx.state(module, nnx.Param))
    assert_calls_are_the_cores(recorder, parameters)
    again = nnx.state(make(KERNEL, nnx.Rngs(0)), nnx.Param)
    assert equal_trees(jax.tree.leaves(again), parameters)


@in_nnx
def test_nnx_under_jit_and_eval_shape(make: Callable[..., nnx.Module]) -> None:
    eager = nnx.state(make(KERNEL, nnx.Rngs(0)), nnx.Param)
    jitted = nnx.jit(lambda: make(KERNEL, nnx.Rngs(0)))()
    assert equal_trees(jax.tree.leaves(nnx.state(jitted, nnx.Param)), jax.tree.leaves(eager))
    abstract = nnx.state(nnx.eval_shape(lambda: make(KERNEL, nnx.Rngs(0))), nnx.Param)
    shapes = [(x.shape, x.dtype) for x in jax.tree.leaves(abstract)]
    assert shapes == [(x.shape, x.dtype) for x in jax.tree.leaves(eager)]
    assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(abstract))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_param_dtype(dtype: Any) -> None:
    recorder = Recorder(KERNEL)
    dense = nn.Dense(7, kernel_init=recorder, bias_init=portinit.normal(), param_dtype=dtype)
    params = dense.init(KEY, X)["params"]
    linear = nnx.Linear(12, 7, kernel_init=recorder, param_dtype=dtype, rngs=nnx.Rngs(0))
    assert params["kernel"].dtype == params["bias"].dtype == linear.kernel[...].dtype == dtype
    assert_calls_are_the_cores(recorder, [params["kernel"], linear.kernel[...]])


# Constants, called or not

CONSTANTS = {
    "zeros": (portinit.zeros, 0),
    "ones": (portinit.ones, 1),
    "zeros()": (portinit.zeros(), 0),
    "ones()": (portinit.ones(), 1),
    "zeros_init()": (portinit.zeros_init(), 0),
    "ones_init()": (portinit.ones_init(), 1),
    "constant(2)": (portinit.constant(2), 2),
}


@pytest.mark.parametrize(("init", "value"), CONSTANTS.values(), ids=CONSTANTS)
def test_constants_as_bias_init(init: Any, value: int) -> None:
    biases = {
        "Dense": nn.Dense(7, bias_init=init).init(KEY, X)["params"]["bias"],
        "Linear": nnx.Linear(12, 7, bias_init=init, rngs=nnx.Rngs(0)).bias[...],
        "BatchNorm": nn.BatchNorm(True, bias_init=init).init(KEY, X)["params"]["bias"],
        "LayerNorm": nnx.LayerNorm(7, bias_init=init, rngs=nnx.Rngs(0)).bias[...],
    }
    for bias in biases.values():
        assert same_bits(bias, np.full(bias.shape, value, np.float32))


# Transformed modules


def test_linen_with_partitioning() -> None:
    init = nn.with_partitioning(KERNEL, (None, "model"))
    boxed = nn.Dense(7, kernel_init=init).init(KEY, X)["params"]["kernel"]
    assert isinstance(boxed, nn.Partitioned)
    assert boxed.names == (None, "model")
    assert same_bits(boxed.value, nn.Dense(7, kernel_init=KERNEL).init(KEY, X)["params"]["kernel"])


def test_linen_with_logical_partitioning() -> None:
    init = nn.with_logical_partitioning(KERNEL, ("in", "out"))
    boxed = nn.Dense(7, kernel_init=init).init(KEY, X)["params"]["kernel"]
    assert same_bits(boxed.value, nn.Dense(7, kernel_init=KERNEL).init(KEY, X)["params"]["kernel"])


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_nnx_with_partitioning(kind: AxisType) -> None:
    expected = nnx.Linear(12, 7, kernel_init=KERNEL, rngs=nnx.Rngs(0)).kernel[...]
    mesh = jax.make_mesh((1,), ("model",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        init = nnx.with_partitioning(KERNEL, (None, "model"))
        kernel = nnx.Linear(12, 7, kernel_init=init, rngs=nnx.Rngs(0)).kernel
        assert kernel.get_metadata("out_sharding") == (None, "model")
        assert same_bits(kernel[...], expected)


class Layer(nn.Module):
    """One layer of a stack: Dense twice, in a form that nn.scan takes."""

    kernel_init: Any = KERNEL

    @nn.compact
    def __call__(self, x: Any, _: Any = None) -> tuple[Any, None]:
        x = nn.Dense(12, kernel_init=self.kernel_init, name="up")(x)
        return nn.Dense(12, kernel_init=self.kernel_init, name="down")(x), None


def stack(length: int = 4) -> nn.Module:
    scanned = nn.scan(
        Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=length
    )
    return scanned(kernel_init=KERNEL)


def test_scan_gives_every_layer_its_own_values() -> None:
    params = stack().init(KEY, X)["params"]
    kernels = [*params["up"]["kernel"], *params["down"]["kernel"]]
    assert [k.shape for k in kernels] == [(12, 12)] * 8
    assert len({np.asarray(k).tobytes() for k in kernels}) == 8


def test_scan_gives_layers_what_their_keys_give_alone() -> None:
    """A traced key inside the scan draws what it draws outside: layer i is the i-th split key."""
    stacked = stack().init(KEY, X)["params"]["up"]["kernel"]
    keys: list[Any] = []

    def spy(key: Any, shape: Any, dtype: Any) -> Any:
        jax.debug.callback(lambda data: keys.append(data), jax.random.key_data(key), ordered=True)
        return KERNEL(key, shape, dtype)

    scanned = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=4)
    again = scanned(kernel_init=spy).init(KEY, X)["params"]["up"]["kernel"]
    jax.effects_barrier()
    assert same_bits(again, stacked)
    drawn = {KERNEL(np.asarray(k, np.uint32), (12, 12)).tobytes() for k in keys}
    assert {np.asarray(k).tobytes() for k in stacked} <= drawn


def test_scan_under_jit_is_scan() -> None:
    assert equal_trees(jax.jit(stack().init)(KEY, X), stack().init(KEY, X))


def test_remat_changes_no_value() -> None:
    plain = Layer().init(KEY, X)
    assert equal_trees(nn.remat(Layer)().init(KEY, X), plain)
    scanned = nn.scan(
        nn.remat(Layer), variable_axes={"params": 0}, split_rngs={"params": True}, length=4
    )
    assert equal_trees(scanned().init(KEY, X), stack().init(KEY, X))


@pytest.mark.parametrize("split", [True, False])
def test_linen_vmap(split: bool) -> None:
    vmapped = nn.vmap(
        nn.Dense,
        in_axes=None,
        axis_size=3,
        variable_axes={"params": 0},
        split_rngs={"params": split},
    )
    kernels = vmapped(7, kernel_init=KERNEL).init(KEY, X)["params"]["kernel"]
    assert kernels.shape == (3, 12, 7)
    assert len({np.asarray(k).tobytes() for k in kernels}) == (3 if split else 1)
    jitted = jax.jit(vmapped(7, kernel_init=KERNEL).init)(KEY, X)["params"]["kernel"]
    assert same_bits(jitted, kernels)


def test_vmap_of_init_over_keys_is_an_ensemble() -> None:
    module, keys = nn.Dense(7, kernel_init=KERNEL), jax.random.split(KEY, 3)
    stacked = jax.vmap(module.init, in_axes=(0, None))(keys, X)
    alone = [module.init(key, X) for key in keys]
    assert equal_trees(stacked, jax.tree.map(lambda *xs: jnp.stack(xs), *alone))


def test_nnx_vmapped_creation() -> None:
    keys = jax.random.split(KEY, 3)

    def make(key: Any) -> nnx.Linear:
        return nnx.Linear(12, 7, kernel_init=KERNEL, rngs=nnx.Rngs(key))

    kernels = nnx.vmap(make)(keys).kernel[...]
    assert kernels.shape == (3, 12, 7)
    assert same_bits(kernels, jnp.stack([make(key).kernel[...] for key in keys]))
    assert len({np.asarray(k).tobytes() for k in kernels}) == 3


# The same key in PyTorch

TWINS: dict[str, tuple[Any, Any, Callable[[Any], Any], tuple[int, ...]]] = {
    # the module, its inputs, Flax's axes in PyTorch's order, PyTorch's shape
    "Dense": (LINEN["Dense"][0], X, lambda w: w.T, (7, 12)),
    "Conv": (LINEN["Conv"][0], IMAGES, lambda w: w.transpose(3, 2, 0, 1), (6, 4, 3, 2)),
    "grouped Conv": (
        LINEN["grouped Conv"][0],
        IMAGES,
        lambda w: w.transpose(3, 2, 0, 1),
        (6, 2, 3, 3),
    ),
}
SCHEMES: dict[str, tuple[portinit.Initializer, Callable[..., torch.Tensor], dict[str, Any]]] = {
    "kaiming_normal": (
        portinit.kaiming_normal(nonlinearity="relu"),
        portinit_torch.kaiming_normal_,
        {"nonlinearity": "relu"},
    ),
    "kaiming_uniform": (
        portinit.kaiming_uniform(mode="fan_out"),
        portinit_torch.kaiming_uniform_,
        {"mode": "fan_out"},
    ),
    "xavier_uniform": (portinit.xavier_uniform(2.0), portinit_torch.xavier_uniform_, {"gain": 2.0}),
    "trunc_normal": (portinit.trunc_normal(std=0.02), portinit_torch.trunc_normal_, {"std": 0.02}),
    "orthogonal": (portinit.orthogonal(), portinit_torch.orthogonal_, {}),
}


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)
def test_the_kernel_is_pytorchs_weight_turned(twin: Any, scheme: Any) -> None:
    make, inputs, turn, torch_shape = twin
    init, fill_, arguments = scheme
    recorder = Recorder(init)
    kernel = make(recorder).init(KEY, inputs)["params"]["kernel"]
    weight = fill_(torch.empty(torch_shape), **arguments, key=words(recorder.only[0])).numpy()
    if isinstance(init, portinit.orthogonal):  # promised to 1e-6
        np.testing.assert_allclose(turn(np.asarray(kernel)), weight, rtol=0, atol=1e-6)
    else:
        assert same_bits(turn(np.asarray(kernel)), weight)


def test_nnx_linear_is_pytorchs_weight_turned_and_computes_the_same() -> None:
    recorder = Recorder(layers.linear_weight())
    module = nnx.Linear(12, 7, kernel_init=recorder, rngs=nnx.Rngs(0))
    twin = torch.nn.Linear(12, 7)
    portinit_torch.kaiming_uniform_(twin.weight, math.sqrt(5), key=words(recorder.only[0]))
    portinit_torch.zeros_(twin.bias)
    assert same_bits(module.kernel[...].T, twin.weight.detach().numpy())
    out = twin(torch.from_numpy(np.array(X))).detach().numpy()
    np.testing.assert_allclose(module(X), out, rtol=1e-5, atol=1e-5)


# portinit.layers beside the layers that PyTorch builds


def reset(build: Callable[[], torch.nn.Module]) -> dict[str, np.ndarray]:
    """A layer's parameters as PyTorch leaves them, seeded."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return {n: p.detach().numpy() for n, p in build().named_parameters()}


# Each row: PyTorch's layer, its parameter, the helper, and the layout if it is not PyTorch's.
LAYERS: dict[str, tuple[Callable[[], torch.nn.Module], str, portinit.Initializer]] = {
    "Linear weight": (lambda: torch.nn.Linear(50, 200), "weight", layers.linear_weight()),
    "Linear bias": (lambda: torch.nn.Linear(50, 9000), "bias", layers.linear_bias(fan_in=50)),
    "Conv2d weight": (lambda: torch.nn.Conv2d(20, 60, 3), "weight", layers.conv_weight()),
    "Conv2d bias": (lambda: torch.nn.Conv2d(2, 9000, 3), "bias", layers.conv_bias(fan_in=18)),
    "grouped Conv2d weight": (
        lambda: torch.nn.Conv2d(40, 60, 3, groups=4),
        "weight",
        layers.conv_weight(),
    ),
    "grouped Conv2d bias": (
        lambda: torch.nn.Conv2d(4, 9000, 3, groups=4),
        "bias",
        layers.conv_bias(fan_in=9),
    ),
    "depthwise Conv1d weight": (
        lambda: torch.nn.Conv1d(2000, 2000, 5, groups=2000),
        "weight",
        layers.conv_weight(),
    ),
    "ConvTranspose2d weight": (
        lambda: torch.nn.ConvTranspose2d(20, 60, 3),
        "weight",
        layers.conv_weight(),
    ),
    "grouped ConvTranspose2d weight": (
        lambda: torch.nn.ConvTranspose2d(40, 60, 3, groups=4),
        "weight",
        layers.conv_weight(),
    ),
    "ConvTranspose2d bias": (
        lambda: torch.nn.ConvTranspose2d(20, 9000, 1),
        "bias",
        layers.conv_bias(fan_in=9000),
    ),
    "Embedding": (lambda: torch.nn.Embedding(300, 40), "weight", layers.embedding()),
    "LSTM weight_ih": (lambda: torch.nn.LSTM(30, 50), "weight_ih_l0", layers.recurrent(50)),
    "LSTM weight_hh": (lambda: torch.nn.LSTM(30, 50), "weight_hh_l0", layers.recurrent(50)),
    "LSTM weight_hr": (
        lambda: torch.nn.LSTM(3, 400, proj_size=30),
        "weight_hr_l0",
        layers.recurrent(400),
    ),
    "LSTM bias": (lambda: torch.nn.LSTM(2, 800), "bias_hh_l0", layers.recurrent(800)),
    "GRUCell weight": (lambda: torch.nn.GRUCell(40, 100), "weight_ih", layers.recurrent(100)),
    "MultiheadAttention in_proj": (
        lambda: torch.nn.MultiheadAttention(64, 4),
        "in_proj_weight",
        layers.attention_in_proj(),
    ),
    "MultiheadAttention out_proj": (
        lambda: torch.nn.MultiheadAttention(96, 4),
        "out_proj.weight",
        layers.linear_weight(),
    ),
}


@pytest.mark.parametrize(("build", "name", "init"), LAYERS.values(), ids=LAYERS)
def test_helpers_have_the_distribution_of_pytorchs_layers(
    build: Callable[[], torch.nn.Module], name: str, init: portinit.Initializer
) -> None:
    """Two fixed samples of 3,000 and more: one law differs by the limit once in a thousand.

    A bound off by a tenth moves a uniform's statistic to 0.05 or more.
    """
    expected = reset(build)[name]
    values = init(portinit.key(3), expected.shape, layout="torch")
    assert expected.size >= 3000
    limit = 1.95 * math.sqrt(2 / expected.size)
    assert stats.ks_2samp(values.ravel(), expected.ravel()).statistic < limit


PADDED: dict[str, Callable[[portinit.Initializer], Any]] = {
    "rows": lambda init: init(portinit.key(3), (300, 40), layout="rows"),
    "linen": lambda init: nn.Embed(300, 40, embedding_init=init).init(KEY, WORDS)["params"][
        "embedding"
    ],
    "nnx": lambda init: nnx.Embed(300, 40, embedding_init=init, rngs=nnx.Rngs(0)).embedding[...],
}


@pytest.mark.parametrize(
    ("where", "padding"), [("rows", 0), ("rows", 7), ("rows", -1), ("linen", 0), ("nnx", 0)]
)
def test_embedding_with_a_padding_row(where: str, padding: int) -> None:
    expected = reset(lambda: torch.nn.Embedding(300, 40, padding_idx=padding))["weight"]
    values = np.asarray(PADDED[where](layers.embedding(padding)))
    np.testing.assert_array_equal(values == 0, expected == 0)
    pair = values[values != 0], expected[expected != 0]
    assert stats.ks_2samp(*pair).statistic < 1.95 * math.sqrt(2 / pair[0].size)


def test_prelu_is_pytorchs() -> None:
    expected = reset(lambda: torch.nn.PReLU(5))["weight"]
    assert same_bits(layers.prelu()(portinit.key(0), (5,)), expected)
    params = nn.PReLU(negative_slope_init=0.25).init(KEY, X)["params"]
    assert same_bits(params["negative_slope"], layers.prelu()(KEY, ()))


def test_helpers_in_flax_have_the_distribution_of_a_linear() -> None:
    """In Flax's own layout, where the fans sit on other axes."""
    expected = reset(lambda: torch.nn.Linear(50, 200))
    dense = nn.Dense(
        200, kernel_init=layers.linear_weight(), bias_init=layers.linear_bias(fan_in=50)
    )
    params = dense.init(KEY, jnp.ones((1, 50)))["params"]
    kernel, bias = np.asarray(params["kernel"]), np.asarray(params["bias"])
    assert stats.ks_2samp(kernel.ravel(), expected["weight"].ravel()).statistic < 0.0276
    assert stats.ks_2samp(bias, expected["bias"]).statistic < 0.195
    assert np.abs(bias).max() <= 1 / math.sqrt(50)


def test_helpers_in_flax_have_the_distribution_of_a_conv_transpose() -> None:
    """transpose_kernel=True holds (*k, out, in): PyTorch's (in, out, *k) with space reversed."""
    expected = reset(lambda: torch.nn.ConvTranspose2d(20, 60, 3))["weight"]
    module = nn.ConvTranspose(60, (3, 3), transpose_kernel=True, kernel_init=layers.conv_weight())
    kernel = module.init(KEY, jnp.ones((1, 4, 4, 20)))["params"]["kernel"]
    assert kernel.shape == (3, 3, 60, 20)
    limit = 1.95 * math.sqrt(2 / expected.size)
    assert stats.ks_2samp(np.ravel(kernel), expected.ravel()).statistic < limit


@pytest.mark.parametrize("make", [layers.linear_bias, layers.conv_bias])
def test_a_bias_without_its_fan_in_says_so(make: Callable[[], portinit.Initializer]) -> None:
    with pytest.raises(ValueError, match=r"fan_in=512"):
        nn.Dense(7, bias_init=make()).init(KEY, X)
