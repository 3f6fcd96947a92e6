"""JAX initializers on many devices: shard-local programs, NumPy's bytes, counters past 2^32."""

import math
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec
from tests.distributed import jax_initializers, jax_machine

import portinit
import portinit_jax
from portinit import Layout
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import LAYOUTS

pytestmark = pytest.mark.distributed

KEY = portinit.key(11)


@pytest.fixture(scope="module")
def on_eight_devices() -> dict[str, str]:
    return jax_machine.results("jax_initializers")


@pytest.mark.parametrize("case", jax_initializers.CASES)
def test_on_eight_devices(on_eight_devices: dict[str, str], case: str) -> None:
    assert on_eight_devices[case] == ""


# Blocks

INITIALIZERS = {
    "normal": portinit.normal(),
    "kaiming_uniform": portinit.kaiming_uniform(),
    "blocks": portinit.blocks((portinit.zeros, portinit.normal(), portinit.eye())),
    "where": portinit.where(0, portinit.zeros, portinit.normal()),
    "eye": portinit.eye(),
    "sparse": portinit.sparse(0.3),
    "orthogonal": portinit.orthogonal(),
}


@pytest.mark.parametrize("layout", ["flax", "torch", Layout(axis0=(1,), axis1=(0,))], ids=str)
@pytest.mark.parametrize("init", INITIALIZERS.values(), ids=INITIALIZERS)
@pytest.mark.parametrize("start", [(0, 0), (5, 7), (13, 9)])
def test_a_block_is_the_array_there(init: Any, layout: Any, start: tuple[int, int]) -> None:
    shape, sizes = (18, 12), (5, 3)
    whole = init(jax.random.key(11), shape, layout=layout)
    traced = jax.jit(
        lambda key, *at: portinit_jax.block(init, key, shape, at, sizes, layout=layout)
    )
    part = traced(jax.random.key(11), *start)
    np.testing.assert_array_equal(part, lax.dynamic_slice(whole, start, sizes))


def test_a_block_of_a_flipped_convolution() -> None:
    shape, start, sizes = (3, 4, 6, 5), (1, 2, 3, 0), (2, 2, 3, 4)
    init, layout = portinit.kaiming_normal(), "flax_conv_transpose"
    part = portinit_jax.block(init, KEY, shape, start, sizes, layout=layout)
    whole = jnp.asarray(init(KEY, shape, layout=layout))
    np.testing.assert_array_equal(part, lax.dynamic_slice(whole, start, sizes))


def test_a_block_of_an_attention_kernel() -> None:
    layout = Layout(axis0=(1, 2), axis1=(0,))
    for init in (portinit.xavier_normal(), portinit.sparse(0.5), portinit.orthogonal()):
        whole = jnp.asarray(init(KEY, (8, 4, 6), layout=layout))
        part = portinit_jax.block(init, KEY, (8, 4, 6), (2, 1, 3), (3, 2, 3), layout=layout)
        expected = lax.dynamic_slice(whole, (2, 1, 3), (3, 2, 3))
        np.testing.assert_allclose(part, expected, rtol=0, atol=2e-7 * init_matrix(init))


def init_matrix(init: Any) -> float:
    return float(isinstance(init, portinit.orthogonal))


def test_the_columns_of_a_large_sparse_matrix_are_sorted_in_parts() -> None:
    """2^20 words at a time; a part may reach over the end."""
    init, shape = portinit.sparse(0.25), (700, 3000)
    made = jax.jit(lambda key: init(key, shape, layout="torch"))
    np.testing.assert_array_equal(made(jax.random.key(11)), init(KEY, shape, layout="torch"))
    sorted_at_once = made.lower(jax.random.key(11)).compile().memory_analysis().temp_size_in_bytes
    assert sorted_at_once < 24 * 2**20 + 4 * 700 * 3000


def test_a_block_that_reaches_out_is_moved_as_by_dynamic_slice() -> None:
    whole = jnp.asarray(portinit.normal()(KEY, (9, 8)))
    part = portinit_jax.block(portinit.normal(), KEY, (9, 8), (7, 6), (4, 3))
    np.testing.assert_array_equal(part, lax.dynamic_slice(whole, (7, 6), (4, 3)))


@pytest.mark.parametrize(
    ("start", "sizes"), [((0,), (1, 1)), ((0, 0), (1,)), ((0, 0), (10, 1)), ((0, 0, 0), (1, 1, 1))]
)
def test_blocks_that_do_not_fit_are_refused(start: Any, sizes: Any) -> None:
    with pytest.raises(ValueError, match="needs a start and a size that fits for each axis"):
        portinit_jax.block(portinit.normal(), KEY, (9, 8), start, sizes)


def test_a_block_is_checked_as_the_whole_is() -> None:
    with pytest.raises(ValueError, match="dimensions"):
        portinit_jax.block(portinit.kaiming_normal(), KEY, (9,), (0,), (3,))
    with pytest.raises(TypeError, match="64-bit mode"):
        portinit_jax.block(portinit.normal(), KEY, (9, 8), (0, 0), (2, 2), "float64")
    with pytest.raises(TypeError, match="a portinit initializer is needed, got function"):
        portinit_jax.block(portinit_jax.initializers.zeros, KEY, (9,), (0,), (3,))


def test_a_spec_is_no_longer_than_the_block() -> None:
    own = portinit_jax.sharded(portinit.normal(), PartitionSpec(None, "model"))
    with pytest.raises(ValueError, match="at most 1 entries"):
        own(KEY, (4,))


# Counters past 2^32

PAST = (3 << 16, 1 << 16)  # 1.5 * 2^33 elements


@pytest.mark.parametrize("start", [(65534, 65530), (131071, 3), (196603, 65526)])
@pytest.mark.parametrize("layout", ["torch", "flax"])
def test_blocks_past_2_to_the_32_have_the_words_of_their_counters(
    reference: ModuleType, start: tuple[int, int], layout: str
) -> None:
    """Against Threefry on Python's integers; a uniform draw shows the upper 24 bits of its word."""
    init = portinit.uniform(0.0, 1.0)
    part = portinit_jax.block(init, KEY, PAST, start, (5, 5), layout=layout)
    for i in range(5):
        for j in range(5):
            row, column = start[0] + i, start[1] + j
            counter = column * PAST[0] + row if layout == "flax" else row * PAST[1] + column
            word = reference.word(11, counter)
            assert float(part[i, j]) == float(reference.uniform(word, "float32", 0.0, 1.0))


def test_a_block_past_2_to_the_32_is_numpys() -> None:
    start, sizes = (65530, 100), (16, 300)
    grid = Grid.whole(PAST, LAYOUTS["torch"])
    for axis in (0, 1):
        grid = grid.part(axis, slice(start[axis], start[axis] + sizes[axis]))
    for init in (portinit.normal(), portinit.trunc_normal(), portinit.kaiming_uniform()):
        part = portinit_jax.block(init, KEY, PAST, start, sizes, "bfloat16", layout="torch")
        expected = init.evaluate(KEY, grid, "bfloat16")
        assert np.asarray(part).tobytes() == expected.tobytes()


@pytest.mark.slow
def test_an_array_of_more_than_2_to_the_32_elements() -> None:
    shape = ((1 << 16) + 4, 1 << 16)
    init, dtype = portinit.uniform(-1.0, 1.0), "float8_e4m3fn"
    values = init(jax.random.key(11), shape, dtype, layout="torch")
    assert math.prod(shape) > 1 << 32
    for rows in (slice(0, 2), slice((1 << 16) - 2, shape[0])):
        grid = Grid.whole(shape, LAYOUTS["torch"]).part(0, rows)
        expected = init.evaluate(KEY, grid, dtype)
        assert np.asarray(values[rows]).tobytes() == expected.tobytes()
