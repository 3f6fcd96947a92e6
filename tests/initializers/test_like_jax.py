"""What JAX itself gives: ``like_jax`` against jax.nn.initializers, the keys against Flax's own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import array_api_strict
import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn
from flax import nnx
from numpy.typing import NDArray

import portinit as pi
from portinit.arrays import layouts
from portinit.initializers.like_jax import like_jax
from portinit.random.flax_keys import linen_key, linen_keys, nnx_key, nnx_keys

JAX = jax.nn.initializers
SEED = 7
KEY = pi.key(SEED)


def theirs(initializer: Any, shape: tuple[int, ...], dtype: str = "float32") -> NDArray[Any]:
    with jax.enable_x64(dtype == "float64"):
        return np.asarray(initializer(jax.random.key(SEED), shape, jnp.dtype(dtype)))


def ours(initializer: pi.Initializer, shape: tuple[int, ...], dtype: str = "float32") -> Any:
    return like_jax(initializer)(KEY, shape, dtype)


def ulps(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.int64]:
    """How many float32 numbers apart."""
    return np.abs(ordered(a) - ordered(b))


def ordered(x: NDArray[Any]) -> NDArray[np.int64]:
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(1 << 31) - bits, bits)


# Values. XLA's arithmetic is repeated but for log1p, whose few ulps survive the polynomial.

MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")

EXACT: dict[str, tuple[pi.Initializer, Any]] = {
    "zeros": (pi.zeros, JAX.zeros),
    "ones": (pi.ones, JAX.ones),
    "constant": (pi.constant(0.3), JAX.constant(0.3)),
    "uniform": (pi.uniform(0, 0.3), JAX.uniform(0.3)),
    "glorot_uniform": (pi.glorot_uniform(), JAX.glorot_uniform()),
    "he_uniform": (pi.he_uniform(), JAX.he_uniform()),
    "lecun_uniform": (pi.lecun_uniform(), JAX.lecun_uniform()),
    **{
        f"uniform {mode}": (
            pi.variance_scaling(1.7, mode, "uniform"),
            JAX.variance_scaling(1.7, mode, "uniform"),
        )
        for mode in MODES
    },
}

NORMAL: dict[str, tuple[pi.Initializer, Any]] = {
    "normal": (pi.normal(std=0.02), JAX.normal(0.02)),
    "truncated": (pi.truncated_normal(0.1), JAX.truncated_normal(0.1)),
    "truncated aside": (
        pi.truncated_normal(0.1, -1, 3),
        JAX.truncated_normal(0.1, lower=-1, upper=3),
    ),
    # An ulp of XLA's erf of the bounds would show as 900 ulps in the tails.
    "truncated in the tails": (
        pi.truncated_normal(1, -4, 4),
        JAX.truncated_normal(1, lower=-4, upper=4),
    ),
    # Where XLA's erf is 1, a draw can be infinite before it is clipped.
    "truncated far": (pi.truncated_normal(1, -6, 6), JAX.truncated_normal(1, lower=-6, upper=6)),
    "glorot_normal": (pi.glorot_normal(), JAX.glorot_normal()),
    "he_normal": (pi.he_normal(), JAX.he_normal()),
    "lecun_normal": (pi.lecun_normal(), JAX.lecun_normal()),
    "variance_scaling": (
        pi.variance_scaling(1.7, "fan_out", "normal"),
        JAX.variance_scaling(1.7, "fan_out", "normal"),
    ),
}

HALVES = ("bfloat16", "float16")


@pytest.mark.parametrize("dtype", ["float32", "float64", *HALVES])
@pytest.mark.parametrize(("mine", "jaxs"), EXACT.values(), ids=EXACT)
def test_uniform_and_constant_values_are_jaxs_bit_for_bit(
    mine: pi.Initializer, jaxs: Any, dtype: str, bits: Callable[[Any], Any]
) -> None:
    assert bits(ours(mine, (3, 40, 70), dtype)) == bits(theirs(jaxs, (3, 40, 70), dtype))


@pytest.mark.parametrize(("mine", "jaxs"), NORMAL.values(), ids=NORMAL)
def test_normal_values_are_jaxs_within_ulps(mine: pi.Initializer, jaxs: Any) -> None:
    """Measured on a million draws of each: at most 4 ulps, 99.1 % equal."""
    distance = ulps(ours(mine, (3, 100, 300)), theirs(jaxs, (3, 100, 300)))
    assert distance.max() <= 4
    assert (distance == 0).mean() > 0.98


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("mine", "jaxs"), NORMAL.values(), ids=NORMAL)
def test_normal_values_of_the_halves_are_jaxs_bit_for_bit(
    mine: pi.Initializer, jaxs: Any, dtype: str, bits: Callable[[Any], Any]
) -> None:
    """They take 128 or 1024 values each, which this many draws all show."""
    assert bits(ours(mine, (100, 300), dtype)) == bits(theirs(jaxs, (100, 300), dtype))


@pytest.mark.parametrize(("mine", "jaxs"), NORMAL.values(), ids=NORMAL)
def test_normal_values_of_double_precision_are_jaxs(mine: pi.Initializer, jaxs: Any) -> None:
    """An ulp of u, 2^-53, is 2^-54 / pdf(z) of z: 4e-13 at four, 1e-8 at six, and 1e-14 at three.

    Measured: 1e-11 with bounds at six, as far as draws reach; 2e-14 with bounds up to three.
    """
    expected = theirs(jaxs, (3, 100, 300), "float64")
    tails = mine in (NORMAL["truncated in the tails"][0], NORMAL["truncated far"][0])
    difference = np.abs(ours(mine, (3, 100, 300), "float64") - expected).max()
    assert difference < (1e-8 if tails else 1e-13) * expected.std()


@pytest.mark.parametrize("std", [1e-3, 0.1, 1.0, 3.7])
@pytest.mark.parametrize("dtype", ["float32", *HALVES])
def test_the_scale_is_rounded_as_jax_rounds_it(
    std: float, dtype: str, bits: Callable[[Any], Any]
) -> None:
    for scale in (std, std * 1.1, std / 3):
        jaxs = theirs(JAX.variance_scaling(scale, "fan_in", "uniform"), (37, 5), dtype)
        assert bits(ours(pi.variance_scaling(scale, "fan_in", "uniform"), (37, 5), dtype)) == bits(
            jaxs
        )


@pytest.mark.parametrize(
    "axes",
    [
        {"in_axis": -1, "out_axis": -2},
        {"in_axis": (0, 1), "out_axis": 2},
        {"in_axis": 1, "out_axis": 2, "batch_axis": 0},
    ],
    ids=str,
)
def test_axes_are_those_of_flaxs_kernel(axes: dict[str, Any], bits: Callable[[Any], Any]) -> None:
    mine = pi.variance_scaling(1.0, "fan_in", "uniform", **axes)
    jaxs = JAX.variance_scaling(1.0, "fan_in", "uniform", **axes)
    assert bits(ours(mine, (3, 4, 5))) == bits(theirs(jaxs, (3, 4, 5)))


@pytest.mark.parametrize("shape", [(), (1,), (5,), (0,), (0, 3), (2, 1, 3)], ids=str)
def test_any_shape(shape: tuple[int, ...], bits: Callable[[Any], Any]) -> None:
    assert bits(ours(pi.uniform(), shape)) == bits(theirs(JAX.uniform(1.0), shape))


def test_large_arrays_are_drawn_in_tiles(bits: Callable[[Any], Any]) -> None:
    shape = (3, 300, 200)  # more than two tiles' worth
    assert bits(ours(pi.lecun_uniform(), shape)) == bits(theirs(JAX.lecun_uniform(), shape))


# Matrices. JAX factors in float32, whose error is that of the factorisation times the condition
# of a Gaussian matrix: well below 1e-6 for a matrix that is not square.

ORTHOGONAL = {
    "tall": (64, 5),
    "wide": (5, 64),
    "half": (32, 64),
    "one row": (1, 8),
    "conv": (3, 3, 8, 16),
    "tall conv": (3, 100, 4),
}


@pytest.mark.parametrize("shape", ORTHOGONAL.values(), ids=ORTHOGONAL)
def test_orthogonal_matrices_are_jaxs(shape: tuple[int, ...]) -> None:
    expected = theirs(JAX.orthogonal(1.3), shape)
    assert np.abs(ours(pi.orthogonal(1.3), shape) - expected).max() < 1e-6


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [8, 16, 64])
def test_square_orthogonal_matrices_are_jaxs(size: int, seed: int) -> None:
    """The condition of a square Gaussian matrix is of the order of its size, at times 10 times it.

    The bound takes the matrix's own: an error of 2^-23 in the input grows by it at most.
    """
    expected = np.asarray(JAX.orthogonal()(jax.random.key(seed), (size, size)))
    z = np.asarray(jax.random.normal(jax.random.key(seed), (size, size)))
    mine = like_jax(pi.orthogonal())(pi.key(seed), (size, size))
    assert np.abs(mine - expected).max() < 1e-6 + np.linalg.cond(z) * 2.0**-23


@pytest.mark.parametrize("shape", [(4, 3, 5), (3, 4, 8, 8), (2, 3, 4, 2, 6)], ids=str)
def test_delta_orthogonal_kernels_are_jaxs(shape: tuple[int, ...]) -> None:
    expected = theirs(JAX.delta_orthogonal(0.7), shape)
    mine = ours(pi.delta_orthogonal(0.7), shape)
    np.testing.assert_array_equal(mine == 0, expected == 0)
    assert np.abs(mine - expected).max() < 1e-5


def test_orthogonal_in_double_precision() -> None:
    expected = theirs(JAX.orthogonal(), (32, 20), "float64")
    assert np.abs(ours(pi.orthogonal(), (32, 20), "float64") - expected).max() < 1e-12


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)], ids=str)
def test_empty_matrices(shape: tuple[int, ...]) -> None:
    assert ours(pi.orthogonal(), shape).shape == theirs(JAX.orthogonal(), shape).shape


def test_an_empty_delta_orthogonal_kernel() -> None:
    assert ours(pi.delta_orthogonal(), (3, 0, 4)).shape == (3, 0, 4)


# Layouts: the same values, in PyTorch's order

LAYOUTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "linear": ("flax", (5, 4)),
    "conv": ("flax", (3, 2, 4, 5)),
    "conv_transpose": ("flax_conv_transpose", (3, 2, 5, 6)),
    "embedding": ("rows", (5, 4)),
}


PLACED: list[tuple[pi.Initializer, Any]] = [
    (pi.lecun_uniform(), JAX.lecun_uniform()),
    (pi.orthogonal(), JAX.orthogonal()),
    (pi.delta_orthogonal(), JAX.delta_orthogonal()),
]


@pytest.mark.parametrize(
    ("layer", "mine", "jaxs"),
    [
        (layer, mine, jaxs)
        for layer in LAYOUTS
        for mine, jaxs in PLACED
        if "conv" in layer or mine != pi.delta_orthogonal()
    ],
)
def test_pytorchs_order_holds_the_values_of_flaxs(
    layer: str, mine: pi.Initializer, jaxs: Any
) -> None:
    name, shape = LAYOUTS[layer]
    layout = layouts.LAYOUTS[name]
    in_flax = like_jax(mine)(KEY, shape, layout=name)
    in_torch = like_jax(mine)(
        KEY, layout.logical_shape(shape), layout=pi.Layout(roles=layout.roles)
    )
    np.testing.assert_array_equal(in_torch, layout.to_torch(in_flax))
    # And what the Flax array holds is what JAX draws for its shape.
    np.testing.assert_allclose(in_flax, theirs(jaxs, shape), atol=1e-5, rtol=0)


def test_heads_are_counted_as_the_flat_kernel(bits: Callable[[Any], Any]) -> None:
    """(embed, heads, size) row-major is (embed, heads * size)."""
    layout = pi.Layout(axis0=(1, 2), axis1=(0,))
    split = like_jax(pi.lecun_uniform())(KEY, (6, 2, 4), layout=layout)
    assert bits(split.reshape(6, 8)) == bits(theirs(JAX.lecun_uniform(), (6, 8)))


# Namespaces, combinators


@pytest.mark.parametrize("xp", [torch, array_api_strict], ids=["torch", "strict"])
@pytest.mark.parametrize(
    "initializer", [pi.lecun_normal(), pi.uniform(), pi.delta_orthogonal()], ids=str
)
def test_other_namespaces_give_numpys_values(initializer: pi.Initializer, xp: Any) -> None:
    shape = (3, 20, 50)
    other = np.asarray(like_jax(initializer)(KEY, shape, xp=xp))
    # Their log1p may round otherwise than NumPy's: then an ulp, as between XLA's platforms.
    np.testing.assert_allclose(other, ours(initializer, shape), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", HALVES)
def test_torchs_halves_are_jaxs(dtype: str, bits: Callable[[Any], Any]) -> None:
    mine = like_jax(pi.normal())(KEY, (50, 60), dtype, xp=torch)
    assert bits(mine) == bits(theirs(JAX.normal(1.0), (50, 60), dtype))


def test_a_jax_key_will_do(bits: Callable[[Any], Any]) -> None:
    mine = like_jax(pi.uniform())(jax.random.key(SEED), (3, 4), xp=np)
    assert bits(mine) == bits(ours(pi.uniform(), (3, 4)))


def test_scaled_multiplies_as_jax_would(bits: Callable[[Any], Any]) -> None:
    mine = pi.scaled(like_jax(pi.lecun_uniform()), 0.3)(KEY, (20, 30))
    jaxs = jnp.asarray(theirs(JAX.lecun_uniform(), (20, 30))) * jnp.float32(0.3)
    assert bits(mine) == bits(jaxs)


def test_where_selects(bits: Callable[[Any], Any]) -> None:
    table = like_jax(pi.normal())
    padded = pi.where(0, pi.zeros, table)(KEY, (5, 4), layout="rows")
    assert not padded[0].any()
    assert bits(padded[1:]) == bits(table(KEY, (5, 4), layout="rows")[1:])


def test_it_prints_and_compares() -> None:
    assert str(like_jax(pi.normal(std=0.02))) == "like_jax(initializer=normal(std=0.02))"
    assert like_jax(pi.normal()) == like_jax(pi.normal())
    assert len({like_jax(pi.normal()), like_jax(pi.normal()), like_jax(pi.uniform())}) == 2


# Errors

TYPES: list[tuple[Callable[[], Any], str]] = [
    (lambda: like_jax(pi.kaiming_normal()), "variance_scaling.*got kaiming_normal"),
    (lambda: like_jax(pi.trunc_normal()), "truncated_normal.*got trunc_normal"),
    (lambda: like_jax(pi.scaled(pi.normal(), 2.0)), "got scaled"),
    (lambda: like_jax(3), "initializers are uniform.*got int"),  # type: ignore[arg-type]
    (lambda: like_jax(pi.uniform(-1, 1)), r"a=0, got uniform\(a=-1"),
    (lambda: like_jax(pi.normal(mean=1)), r"mean=0, got normal\(mean=1"),
    (lambda: ours(pi.normal(), (3,), "complex64"), "float32, .*float16; got complex64"),
    (lambda: ours(pi.normal(), (3,), "float8_e5m2"), "got float8_e5m2"),
    (lambda: ours(pi.orthogonal(), (3, 3), "bfloat16"), "float32, float64; got bfloat16"),
    (lambda: like_jax(pi.normal())(KEY, (3,), xp=jnp), "jax.nn.initializers; got jax"),
]


@pytest.mark.parametrize(("build", "message"), TYPES)
def test_what_jax_has_not_is_a_type_error(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        build()


VALUES: list[tuple[Callable[[], Any], str]] = [
    (lambda: ours(pi.lecun_normal(), (3,)), "at least 2 dimensions"),
    (lambda: ours(pi.orthogonal(), (3,)), "at least 2 dimensions"),
    (lambda: ours(pi.delta_orthogonal(), (3, 4, 3)), "got 4 inputs and 3 outputs"),
    (
        lambda: pi.blocks((like_jax(pi.normal()),) * 2)(KEY, (4, 6)),
        r"a whole parameter.*block of shape \(3, 4\)",
    ),
    (lambda: linen_key(KEY, "Dense_0", 0), "count must be 1 or more, got 0"),
    (lambda: linen_keys(KEY, ["a/kernel", ("a", "kernel")]), "once, got a/kernel twice"),
    (lambda: nnx_keys(KEY, ["a/kernel", "a/kernel"]), "once, got a/kernel twice"),
]


@pytest.mark.parametrize(("build", "message"), VALUES)
def test_a_bad_value_is_a_value_error(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_no_framework_is_loaded() -> None:
    code = (
        "import portinit as pi, sys\n"
        "from portinit import like_jax, linen_key\n"
        "like_jax(pi.lecun_normal())(linen_key(pi.key(0), 'a', 1), (3, 4))\n"
        "assert not {'jax', 'flax', 'torch'} & set(sys.modules)"
    )
    source = Path(pi.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=source)


# Keys, against Flax with initializers that write the key's low word into the parameter


def record(key: Any, shape: Any, dtype: Any = None, *_: Any) -> Any:
    return jnp.full(shape, jax.random.key_data(key)[1])


DENSE: dict[str, Any] = {"kernel_init": record, "bias_init": record}


def recorded(module: nn.Module, *inputs: Any, rngs: Any = None) -> dict[str, Any]:
    """Each parameter's values, the low word of its key, as Flax's own init gave them."""
    variables = module.init(jax.random.key(SEED) if rngs is None else rngs, *inputs)
    return flatten(variables["params"])


def flatten(tree: Any) -> dict[str, Any]:
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(tree, sep="/")
    return {path: np.unique(value).tolist() for path, value in flat.items()}


def low_words(keys: dict[str, pi.Key]) -> dict[str, list[int]]:
    return {path: [key.low] for path, key in keys.items()}


class Compact(nn.Module):
    """Submodules named and not, parameters of its own between them, other draws."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(3, **DENSE)(x)
        first = self.param("first", record, (2,))
        x = nn.Dropout(0.5, deterministic=False)(x)  # draws in a scope of its own
        x = nn.LayerNorm(scale_init=record, bias_init=record, name="norm")(x)
        x = nn.BatchNorm(use_running_average=False, scale_init=record, bias_init=record)(x)
        second = self.param("second", record, (2,))
        return nn.Conv(4, (3,), **DENSE)(x[..., None]), first + second


class SetUp(nn.Module):
    def setup(self) -> None:
        self.own = self.param("own", record, (2,))
        self.last = nn.Dense(2, **DENSE)
        self.bias = self.param("bias", record, (2,))
        self.blocks = [nn.Dense(2, **DENSE) for _ in range(2)]
        self.table = nn.Embed(4, 2, embedding_init=record)

    def __call__(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return self.last(x) + self.table(jnp.zeros(1, int))


X = jnp.ones((1, 2))


@pytest.mark.parametrize("module", [Compact(), SetUp()], ids=["compact", "setup"])
def test_linen_keys(module: nn.Module) -> None:
    flaxs = recorded(module, X)
    assert low_words(linen_keys(KEY, flaxs)) == flaxs


def test_linen_keys_do_not_depend_on_other_streams() -> None:
    rngs = {"params": jax.random.key(SEED), "dropout": jax.random.key(1)}
    flaxs = recorded(Compact(), X, rngs=rngs)
    assert low_words(linen_keys(KEY, flaxs)) == flaxs


def test_paths_may_be_tuples_and_biases_may_come_first() -> None:
    assert linen_keys(KEY, [("a", "bias"), ("a", "kernel")]) == {
        "a/kernel": linen_key(KEY, ("a",), 1),
        "a/bias": linen_key(KEY, "a", 2),
    }


class Draws(nn.Module):
    """What else counts: a draw of a stream that init was not given falls back to params."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        first = self.param("first", record, (2,))
        self.make_rng("params")
        self.make_rng("noise")
        return x + first + self.param("second", record, (2,))


def test_other_draws_count() -> None:
    flaxs = recorded(Draws(), X)
    assert flaxs["first"] == [linen_key(KEY, "", 1).low]
    assert flaxs["second"] == [linen_key(KEY, "", 4).low]


ATTENTION = nn.MultiHeadDotProductAttention(2, qkv_features=4, **DENSE)
CELLS = {
    name: nn.RNN(cell(2, kernel_init=record, recurrent_kernel_init=record, bias_init=record))
    for name, cell in (
        ("lstm", nn.LSTMCell),
        ("optimized lstm", nn.OptimizedLSTMCell),
        ("gru", nn.GRUCell),
    )
}


@pytest.mark.parametrize("module", [ATTENTION, *CELLS.values()], ids=["attention", *CELLS])
def test_linen_keys_of_layers_of_many_parts(module: nn.Module) -> None:
    flaxs = recorded(module, jnp.ones((1, 3, 4)))
    assert low_words(linen_keys(KEY, flaxs)) == flaxs


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(2, **DENSE)(x) + self.param("own", record, (2,)), None


def stacked(transform: Any, **options: Any) -> Any:
    return transform(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, **options)


@pytest.mark.parametrize(
    ("layer", "traces"),
    [
        (stacked(nn.scan, length=3), 2),
        (stacked(nn.vmap, axis_size=3, in_axes=None), 1),
    ],
    ids=["scan", "vmap"],
)
def test_stacked_layers_have_roots_of_their_own(layer: Any, traces: int) -> None:
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return layer(name="layers")(x)[0]

    params = Model().init(jax.random.key(SEED), X)["params"]
    for i, root in enumerate(KEY.split(3)):
        flaxs = flatten(jax.tree.map(lambda leaf, i=i: leaf[i], params))
        assert low_words(linen_keys(root, flaxs, traces=traces)) == flaxs


def test_rematerialised_layers_have_the_usual_keys() -> None:
    flaxs = recorded(nn.remat(Layer)(), X)
    assert low_words(linen_keys(KEY, flaxs)) == flaxs


# nnx: keys in the order in which initializers are called


def logging(log: list[int]) -> Any:
    def initializer(key: Any, shape: Any, dtype: Any = None, *_: Any) -> Any:
        log.append(int(jax.random.key_data(key)[1]))
        return jnp.zeros(shape, dtype)

    return initializer


def build(rngs: nnx.Rngs, initializer: Any) -> None:
    both: dict[str, Any] = {"kernel_init": initializer, "bias_init": initializer}
    scales: dict[str, Any] = {"scale_init": initializer, "bias_init": initializer}
    nnx.Linear(2, 3, rngs=rngs, **both)
    nnx.BatchNorm(3, rngs=rngs, **scales)
    nnx.Dropout(0.5, rngs=rngs)
    nnx.LayerNorm(3, rngs=rngs, **scales)
    nnx.Embed(2, 3, embedding_init=initializer, rngs=rngs)
    nnx.MultiHeadAttention(2, 4, rngs=rngs, **both)
    nnx.Conv(2, 3, (2,), rngs=rngs, **both)
    nnx.ConvTranspose(2, 3, (2,), rngs=rngs, **both)
    cell: dict[str, Any] = {**both, "recurrent_kernel_init": initializer}
    nnx.LSTMCell(2, 3, rngs=rngs, **cell)
    nnx.GRUCell(2, 3, rngs=rngs, **cell)


ORDER: list[str | None] = [
    *("linear/kernel", "linear/bias", "bn/scale", "bn/bias"),
    None,  # Dropout, where its stream is the parameters' own
    *("ln/scale", "ln/bias", "embed/embedding"),
    *(f"attn/{part}/{leaf}" for part in ("q", "k", "v", "o") for leaf in ("kernel", "bias")),
    *("conv/kernel", "conv/bias", "up/kernel", "up/bias"),
    *(f"lstm/i{gate}/kernel" for gate in "ifgo"),
    *(f"lstm/h{gate}/{leaf}" for gate in "ifgo" for leaf in ("kernel", "bias")),
    *("gru/dense_i/kernel", "gru/dense_i/bias", "gru/dense_h/kernel"),
]


def test_nnx_keys_of_the_default_stream() -> None:
    log: list[int] = []
    build(nnx.Rngs(SEED), logging(log))
    assert [key.low for key in nnx_keys(KEY, ORDER).values()] == log


def test_nnx_keys_of_a_params_stream() -> None:
    log: list[int] = []
    build(nnx.Rngs(params=SEED, dropout=1), logging(log))
    order = [path for path in ORDER if path is not None]
    assert [key.low for key in nnx_keys(KEY, order).values()] == log


def test_nnx_stacked_layers_have_streams_of_their_own() -> None:
    """``nnx.split_rngs`` takes one draw, and splits its key."""
    rngs = nnx.Rngs(SEED)
    rngs.params()

    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=0, out_axes=0)
    def layers(rngs: nnx.Rngs) -> nnx.Linear:
        return nnx.Linear(2, 2, rngs=rngs, **DENSE)

    linear = layers(rngs)
    paths = ["kernel", "bias"]
    for i, root in enumerate(nnx_key(KEY, 1).split(3)):
        keys = nnx_keys(root, paths)
        assert keys["kernel"].low == int(linear.kernel[...][i, 0, 0])
        assert keys["bias"].low == int(linear.bias[...][i, 0])
    after = nnx_keys(KEY, paths, start=2)
    assert after["kernel"].low == int(nnx.Linear(1, 1, rngs=rngs, **DENSE).kernel[...][0, 0])
