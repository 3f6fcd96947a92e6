"""The promise: one key gives the same bits in NumPy, PyTorch and JAX, compiled or not.

Every row of the tables is an initializer that the promise covers. NumPy's bits are the
yardstick; golden vectors, made apart from portinit, hold NumPy itself.
"""

import math
from collections.abc import Callable
from typing import Any

import array_api_strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import portinit as pi

KEY = pi.key(0xC0FFEE).fold_in("layers.0.weight")
INF = math.inf
RNG = np.random.default_rng(7)

PLAIN = {
    "uniform": pi.uniform(),
    "uniform symmetric": pi.uniform(-0.3, 0.3),
    "uniform asymmetric": pi.uniform(-0.3, 1.7),
    "uniform far from 0": pi.uniform(1e6, 1e6 + 3),
    "uniform tiny interval": pi.uniform(1.0, math.nextafter(1.0, 2.0)),
    "uniform denormal": pi.uniform(-1e-41, 1e-41),
    "uniform huge": pi.uniform(-3e38, 3e38),
    "normal": pi.normal(),
    "normal std 0.02": pi.normal(std=0.02),
    "normal with mean": pi.normal(0.5, 0.3),
    "normal with mean much larger than std": pi.normal(-1e4, 1e-3),
    "normal denormal": pi.normal(std=1e-41),
    "normal almost denormal": pi.normal(std=1e-37),
    "normal huge": pi.normal(std=1e37),
    "trunc_normal": pi.trunc_normal(),
    "trunc_normal asymmetric": pi.trunc_normal(0.1, 0.7, -0.3, 1.9),
    "trunc_normal from below": pi.trunc_normal(0.0, 1.0, 0.5, INF),
    "trunc_normal from above": pi.trunc_normal(1.0, 2.0, -INF, 0.0),
    "trunc_normal narrow tail": pi.trunc_normal(0.0, 1.0, 3.9, 4.0),
    "trunc_normal around a mean": pi.trunc_normal(2.0, 0.02, 1.96, 2.04),
    "truncated_normal": pi.truncated_normal(),
    "truncated_normal asymmetric": pi.truncated_normal(0.5, -1.0, 3.0),
    "constant": pi.constant(0.1),
    "constant between float16's numbers": pi.constant(1 + 2**-11 + 2**-40),
    "constant between bfloat16's numbers": pi.constant(1 + 2**-8 + 2**-40),
    "zeros": pi.zeros,
    "ones": pi.ones,
    "minus zero": pi.constant(-0.0),
}

SCHEMES = {
    "xavier_uniform": pi.xavier_uniform(),
    "xavier_uniform gain": pi.xavier_uniform(5 / 3),
    "xavier_normal": pi.xavier_normal(),
    "kaiming_uniform": pi.kaiming_uniform(),
    "kaiming_uniform of Linear": pi.kaiming_uniform(a=math.sqrt(5)),
    "kaiming_uniform fan_out relu": pi.kaiming_uniform(mode="fan_out", nonlinearity="relu"),
    "kaiming_normal": pi.kaiming_normal(),
    "kaiming_normal fan_out tanh": pi.kaiming_normal(mode="fan_out", nonlinearity="tanh"),
    "kaiming_normal of a function": pi.kaiming_normal(nonlinearity=np.tanh),
    "glorot_uniform": pi.glorot_uniform(),
    "glorot_normal": pi.glorot_normal(),
    "lecun_uniform": pi.lecun_uniform(),
    "lecun_normal": pi.lecun_normal(),
    "he_uniform": pi.he_uniform(),
    "he_normal": pi.he_normal(),
    **{
        f"variance_scaling {mode} {distribution}": pi.variance_scaling(0.7, mode, distribution)
        for mode in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
        for distribution in ("truncated_normal", "normal", "uniform")
    },
}

MATRICES = {
    "eye": pi.eye(),
    "sparse": pi.sparse(0.3),
    "blocks": pi.blocks((pi.xavier_uniform(), pi.normal(1.0, 0.1), pi.zeros)),
    "blocks of columns": pi.blocks((pi.he_normal(), pi.eye()), sizes=(10, 50), axis=1),
    "scaled": pi.scaled(pi.he_normal(), 1 / math.sqrt(24)),
    "scaled with mean": pi.scaled(pi.normal(0.5, 0.3), -1 / 3),
    "where": pi.where(0, pi.zeros, pi.normal()),
    "where columns": pi.where(np.s_[:, 4:8], pi.uniform(-1, 2), pi.xavier_normal()),
    "assign": pi.assign(RNG.normal(size=(48, 60))),
    "assign float32": pi.assign(RNG.normal(size=(48, 60)).astype(np.float32)),
    "assign scaled": pi.scaled(pi.assign(RNG.normal(size=(48, 60))), 1 / 3),
}

CONVOLUTIONS = {
    "dirac": pi.dirac(),
    "dirac groups": pi.dirac(groups=4),
    "scaled dirac": pi.scaled(pi.dirac(), 0.1),
    "convolution": pi.kaiming_normal(mode="fan_out", nonlinearity="relu"),
}

# Shapes are Flax's, a few thousand elements; PyTorch's have the axes reversed.
TABLE = [
    *((name, row, (61, 67)) for name, row in PLAIN.items()),
    *((name, row, (61, 67)) for name, row in SCHEMES.items()),
    *((name, row, (60, 48)) for name, row in MATRICES.items()),
    *((name, row, (3, 5, 12, 16)) for name, row in CONVOLUTIONS.items()),
]
ROWS = pytest.mark.parametrize(
    ("initializer", "shape"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)

# Bounds that float16 cannot hold are refused.
BEYOND_FLOAT16 = [PLAIN["uniform huge"], PLAIN["uniform far from 0"]]
FLOAT16_TABLE = [
    row
    for row in TABLE
    if row[1] not in BEYOND_FLOAT16 and not row[0].startswith("variance_scaling")
]


def jitted(initializer: pi.Initializer, shape: tuple[int, ...], dtype: Any, **kw: Any) -> Any:
    draw = jax.jit(lambda key: initializer(key, shape, dtype, **kw))
    return draw(jnp.asarray(KEY.words, jnp.uint32))


@pytest.mark.parametrize(
    ("initializer", "shape", "dtype"),
    [
        pytest.param(*row[1:], dtype, id=f"{dtype}-{row[0]}")
        for dtype in ("float32", "bfloat16", "float16")
        for row in (FLOAT16_TABLE if dtype == "float16" else TABLE)
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # of a normal that is huge
def test_every_framework_gives_the_same_bits(
    initializer: pi.Initializer, shape: tuple[int, ...], dtype: str, bits: Callable[[Any], Any]
) -> None:
    expected = bits(initializer(KEY, shape, dtype))
    assert expected[:2] == (dtype, shape)
    assert bits(initializer(KEY, shape, dtype, xp=torch)) == expected
    assert bits(jitted(initializer, shape, dtype)) == expected
    if dtype == "float32":  # array-api-strict has no other format of 32 bits or fewer
        assert bits(initializer(KEY, shape, dtype, xp=array_api_strict)) == expected


@pytest.mark.parametrize("initializer", BEYOND_FLOAT16, ids=str)
@pytest.mark.parametrize("xp", [np, torch, jnp], ids=lambda xp: xp.__name__)
def test_bounds_that_a_dtype_cannot_hold_are_refused(initializer: pi.Initializer, xp: Any) -> None:
    with pytest.raises(ValueError, match="bounds must be within 65504 for float16"):
        initializer(KEY, (3, 4), "float16", xp=xp)


@ROWS
def test_a_flax_kernel_is_pytorchs_weight_rearranged(
    initializer: pi.Initializer, shape: tuple[int, ...], bits: Callable[[Any], Any]
) -> None:
    kernel = initializer(KEY, shape)
    axes = (len(shape) - 1, len(shape) - 2, *range(len(shape) - 2))
    weight = initializer(KEY, tuple(shape[axis] for axis in axes), layout="torch")
    assert bits(kernel.transpose(axes)) == bits(weight)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize(
    "name", ["uniform", "normal", "trunc_normal asymmetric", "truncated_normal"]
)
def test_eight_bits_are_the_same_too(name: str, dtype: str) -> None:
    expected = PLAIN[name](KEY, (61, 67), dtype).view(np.uint8)
    found = PLAIN[name](KEY, (61, 67), dtype, xp=torch)
    assert np.array_equal(found.view(torch.uint8).numpy(), expected)
    assert np.array_equal(np.asarray(jitted(PLAIN[name], (61, 67), dtype)).view(np.uint8), expected)


WIDE = {
    **{name: PLAIN[name] for name in PLAIN if not name.startswith(("constant", "minus"))},
    "he_normal": pi.he_normal(),
    "xavier_uniform": pi.xavier_uniform(),
    "sparse": pi.sparse(0.3),
    "blocks": pi.blocks((pi.xavier_uniform(), pi.normal(1.0, 0.1), pi.zeros)),
    "scaled": pi.scaled(pi.normal(0.5, 0.3), -1 / 3),
    "assign": pi.assign(RNG.normal(size=(48, 60))),
}


@pytest.mark.parametrize("initializer", WIDE.values(), ids=WIDE)
def test_float64_is_the_same_too(initializer: pi.Initializer, bits: Callable[[Any], Any]) -> None:
    expected = bits(initializer(KEY, (60, 48), "float64"))
    assert expected[0] == "float64"
    assert bits(initializer(KEY, (60, 48), torch.float64, xp=torch)) == expected
    assert bits(initializer(KEY, (60, 48), "float64", xp=array_api_strict)) == expected
    with jax.enable_x64(True):
        assert bits(jitted(initializer, (60, 48), jnp.float64)) == expected


COMPLEX = {
    "uniform": pi.uniform(-0.3, 1.7),
    "normal": pi.normal(),
    "normal with mean": pi.normal(0.5, 0.3),
    "trunc_normal": pi.trunc_normal(0.0, 1.0, -1.0, 3.0),
    "he_normal": pi.he_normal(),
    "he_uniform": pi.he_uniform(),
    "sparse": pi.sparse(0.3),
    "constant": pi.constant(0.1),
    "scaled": pi.scaled(pi.normal(), 0.3),
}


@pytest.mark.parametrize("initializer", COMPLEX.values(), ids=COMPLEX)
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_numbers_are_the_same_too(
    initializer: pi.Initializer, dtype: str, bits: Callable[[Any], Any]
) -> None:
    expected = bits(initializer(KEY, (60, 48), dtype))
    assert expected[0] == dtype
    assert bits(initializer(KEY, (60, 48), dtype, xp=torch)) == expected
    assert bits(initializer(KEY, (60, 48), dtype, xp=array_api_strict)) == expected
    with jax.enable_x64(dtype == "complex128"):
        assert bits(jitted(initializer, (60, 48), dtype)) == expected


# What a compiler may do around a call

FUSIBLE = {
    "uniform": pi.uniform(-0.3, 0.3),
    "uniform asymmetric": pi.uniform(-0.3, 1.7),
    "normal": pi.normal(std=0.3),
    "normal with mean": pi.normal(0.5, 0.3),
    "trunc_normal": pi.trunc_normal(0.1, 0.7, -0.3, 1.9),
    "he_normal": pi.he_normal(),
}
SHAPE = (61, 67)
FUSIBLE_ROWS = pytest.mark.parametrize("initializer", FUSIBLE.values(), ids=FUSIBLE)


@FUSIBLE_ROWS
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_rounding_survives_a_caller_who_widens(initializer: pi.Initializer, dtype: str) -> None:
    # xla_allow_excess_precision lets XLA drop float32 -> bfloat16 -> float32.
    widened = jax.jit(lambda key: initializer(key, SHAPE, dtype).astype(jnp.float32))
    found = np.asarray(widened(jnp.asarray(KEY.words, jnp.uint32)))
    assert np.array_equal(found, initializer(KEY, SHAPE, dtype).astype(np.float32))


@FUSIBLE_ROWS
def test_what_a_caller_computes_changes_no_stored_bit(initializer: pi.Initializer) -> None:
    def used(key: Any) -> tuple[Any, Any]:
        x = initializer(key, SHAPE)
        return x, x * jnp.float32(0.3) + jnp.float32(0.1)

    stored, _ = jax.jit(used)(jnp.asarray(KEY.words, jnp.uint32))
    assert np.array_equal(np.asarray(stored), initializer(KEY, SHAPE))


@FUSIBLE_ROWS
def test_a_caller_who_adds_sees_the_value_rounded(initializer: pi.Initializer) -> None:
    # x + 1/3 is one rounding of the stored x, not of a product that was never rounded.
    plus = jax.jit(lambda key: initializer(key, SHAPE) + jnp.float32(1 / 3))
    found = np.asarray(plus(jnp.asarray(KEY.words, jnp.uint32)))
    assert np.array_equal(found, initializer(KEY, SHAPE) + np.float32(1 / 3))


@FUSIBLE_ROWS
def test_vmap_over_keys_gives_each_keys_bits(initializer: pi.Initializer) -> None:
    keys = [pi.key(seed) for seed in range(3)]
    raw = jnp.asarray([key.words for key in keys], jnp.uint32)
    found = jax.jit(jax.vmap(lambda key: initializer(key, SHAPE)))(raw)
    assert np.array_equal(np.asarray(found), np.stack([initializer(k, SHAPE) for k in keys]))


@FUSIBLE_ROWS
def test_filling_in_tiles_changes_nothing(initializer: pi.Initializer) -> None:
    # NumPy and torch compute large arrays tile by tile, JAX all at once.
    shape = (300, 400)  # more elements than a tile
    whole = initializer(KEY, shape, xp=jnp)
    assert np.array_equal(np.asarray(whole), initializer(KEY, shape))


def test_typed_and_raw_jax_keys_are_the_same_key(bits: Callable[[Any], Any]) -> None:
    expected = bits(pi.normal()(pi.key(7), (5,)))
    assert bits(pi.normal()(jax.random.key(7), (5,))) == expected
    assert bits(pi.normal()(jax.random.PRNGKey(7), (5,))) == expected
    assert bits(pi.normal()(np.asarray([0, 7], np.uint32), (5,))) == expected


@pytest.mark.parametrize("key", [jax.random.key(7), jax.random.PRNGKey(7)], ids=["typed", "raw"])
@pytest.mark.parametrize("xp", [np, torch, array_api_strict], ids=lambda xp: xp.__name__)
def test_jax_keys_serve_every_namespace(key: Any, xp: Any, bits: Callable[[Any], Any]) -> None:
    assert bits(pi.normal()(key, (5,), xp=xp)) == bits(pi.normal()(pi.key(7), (5,)))


def test_no_key_of_jax_64_bit_mode_is_another(bits: Callable[[Any], Any]) -> None:
    key = pi.key(2**40 + 1)
    expected = bits(pi.he_normal()(key, (6, 4), "float32"))
    with jax.enable_x64(True):
        assert bits(pi.he_normal()(key, (6, 4), "float32", xp=jnp)) == expected
        assert bits(pi.he_normal()(jax.random.key(2**40 + 1), (6, 4), "float32")) == expected


def test_torchs_default_dtype_decides_where_none_is_named(bits: Callable[[Any], Any]) -> None:
    expected = bits(pi.normal()(KEY, (100,), "float64"))
    torch.set_default_dtype(torch.float64)
    try:
        found = pi.normal()(KEY, (100,), xp=torch)
        narrow = pi.normal()(KEY, (100,), torch.float32, xp=torch)
    finally:
        torch.set_default_dtype(torch.float32)
    assert bits(found) == expected
    assert bits(narrow) == bits(pi.normal()(KEY, (100,), "float32"))


def test_an_equal_initializer_of_another_sign_of_zero_is_not_taken_from_jaxs_cache() -> None:
    # 0.0 == -0.0, and JAX caches compiled functions by equality.
    for val in (0.0, -0.0):
        found = pi.constant(val)(KEY, (3,), xp=jnp)
        assert np.signbit(np.asarray(found)).tolist() == [math.copysign(1, val) < 0] * 3
