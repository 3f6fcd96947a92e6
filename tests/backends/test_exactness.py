"""What goes with the promise of equal bits: layouts, keys, defaults, and what a caller computes.

The promise itself, over initializers, dtypes, frameworks and modes, is test_matrix.py's.
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
from portinit.verify.table import CONVOLUTIONS, MATRICES, PLAIN, SCHEMES

KEY = pi.key(0xC0FFEE).fold_in("layers.0.weight")

# Shapes are Flax's, a few thousand elements; PyTorch's have the axes reversed.
TABLE = [
    *((name, row, (61, 67)) for name, row in (PLAIN | SCHEMES).items()),
    *((name, row, (60, 48)) for name, row in MATRICES.items()),
    *((name, row, (3, 5, 12, 16)) for name, row in CONVOLUTIONS.items()),
]
ROWS = pytest.mark.parametrize(
    ("initializer", "shape"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)


@ROWS
def test_a_flax_kernel_is_pytorchs_weight_rearranged(
    initializer: pi.Initializer, shape: tuple[int, ...], bits: Callable[[Any], Any]
) -> None:
    kernel = initializer(KEY, shape)
    axes = (len(shape) - 1, len(shape) - 2, *range(len(shape) - 2))
    weight = initializer(KEY, tuple(shape[axis] for axis in axes), layout="torch")
    assert bits(kernel.transpose(axes)) == bits(weight)


BEYOND_FLOAT16 = [PLAIN["uniform huge"], PLAIN["uniform far from 0"]]


@pytest.mark.parametrize("initializer", BEYOND_FLOAT16, ids=str)
@pytest.mark.parametrize("xp", [np, torch, jnp], ids=lambda xp: xp.__name__)
def test_bounds_that_a_dtype_cannot_hold_are_refused(initializer: pi.Initializer, xp: Any) -> None:
    with pytest.raises(ValueError, match="bounds must be within 65504 for float16"):
        initializer(KEY, (3, 4), "float16", xp=xp)


def test_the_gain_of_a_function_gives_the_same_bits_too(bits: Callable[[Any], Any]) -> None:
    # Its digits are this machine's, and so not in the matrix, whose digests are shipped.
    initializer = pi.kaiming_normal(nonlinearity=np.tanh)
    expected = bits(initializer(KEY, (61, 67)))
    for xp in (torch, jnp, array_api_strict):
        assert bits(initializer(KEY, (61, 67), xp=xp)) == expected


@pytest.mark.parametrize("xp", [np, torch, jnp], ids=lambda xp: xp.__name__)
def test_past_the_last_of_eight_bits_comes_the_last(xp: Any) -> None:
    # float8_e4m3fn has no infinity: some frameworks would give NaN, and some the last number.
    found = pi.normal(std=400.0)(KEY, (2000,), "float8_e4m3fn", xp=xp)
    values = np.asarray(found.to(torch.float32) if xp is torch else found).astype(np.float32)
    assert (np.abs(values) == 448).mean() == pytest.approx(math.erfc(432 / 400 / 2**0.5), abs=0.03)


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
