"""Combinators: initializers made of initializers, without special cases."""

import math
import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch

import portinit as pi
from portinit import Layout
from portinit.arrays.grids import Grid

KEY = pi.key(41)
LAYOUTS = pytest.mark.parametrize("layout", ["torch", "flax"])


def weight(initializer: pi.Initializer, shape: tuple[int, ...], **kw: Any) -> Any:
    return initializer(KEY, shape, layout="torch", **kw)


def as_torch(values: Any, layout: str) -> Any:
    return values if layout == "torch" else values.T


# scaled


def test_scaling_is_rounded_once() -> None:
    # As the initializer whose constant it joins, not as a product of two rounded numbers.
    for factor in (0.3, 1 / 3, 1 / math.sqrt(24)):
        scaled = weight(pi.scaled(pi.normal(std=0.7), factor), (1000,))
        assert np.array_equal(scaled, weight(pi.normal(std=0.7 * factor), (1000,)))


SCALABLE = {
    "uniform": pi.uniform(-1, 2),
    "normal": pi.normal(0.5, 0.3),
    "trunc_normal": pi.trunc_normal(0.1, 0.7, -0.3, 1.9),
    "he_normal": pi.he_normal(),
    "xavier_uniform": pi.xavier_uniform(),
    "constant": pi.constant(0.3),
    "eye": pi.eye(),
    "sparse": pi.sparse(0.2),
    "orthogonal": pi.orthogonal(),
    "blocks": pi.blocks((pi.normal(), pi.ones)),
    "where": pi.where(0, pi.ones, pi.normal()),
    "assign": pi.assign(np.arange(600.0).reshape(20, 30)),
    "scaled": pi.scaled(pi.normal(), 0.3),
}


@pytest.mark.parametrize("initializer", SCALABLE.values(), ids=SCALABLE)
def test_scaled_is_the_product(initializer: pi.Initializer) -> None:
    plain = weight(initializer, (20, 30)).astype(np.float64)
    found = weight(pi.scaled(initializer, 1 / 3), (20, 30))
    # Within a few units of float32's last place of the largest constant involved.
    assert np.allclose(found, plain / 3, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("initializer", [pi.uniform(-1, 2), pi.trunc_normal(0, 1, -1, 3)])
def test_a_negative_factor_mirrors_the_distribution(initializer: pi.Initializer) -> None:
    plain, mirrored = weight(initializer, (20000,)), weight(pi.scaled(initializer, -1), (20000,))
    assert abs(mirrored.mean() + plain.mean()) < 5 * math.sqrt(2 / 20000)
    assert -mirrored.max() < plain.min() + 0.01
    assert -mirrored.min() > plain.max() - 0.1


def test_factors_multiply() -> None:
    twice = pi.scaled(pi.scaled(pi.normal(), 0.5), 0.25)
    assert np.array_equal(weight(twice, (100,)), weight(pi.normal(std=0.125), (100,)))


# blocks


@LAYOUTS
def test_each_block_has_fans_of_its_own(layout: str) -> None:
    # q, k and v of a packed attention projection: each (64, 64), bound sqrt(6 / 128).
    shape = (192, 64) if layout == "torch" else (64, 192)
    packed = pi.blocks((pi.xavier_uniform(),) * 3)(KEY, shape, layout=layout)
    bound = math.sqrt(6 / 128)
    for block in np.split(as_torch(packed, layout), 3):
        assert bound * 0.995 < abs(block).max() <= bound


@LAYOUTS
def test_blocks_keep_the_words_of_the_whole(layout: str) -> None:
    shape = (30, 20) if layout == "torch" else (20, 30)
    whole = pi.normal()(KEY, shape, layout=layout)
    packed = pi.blocks((pi.normal(),) * 3)(KEY, shape, layout=layout)
    assert np.array_equal(packed, whole)


def test_blocks_may_differ_in_kind_and_size() -> None:
    packed = weight(pi.blocks((pi.zeros, pi.ones, pi.eye()), sizes=(2, 0, 3)), (5, 3))
    assert np.array_equal(packed, [*np.zeros((2, 3)), *np.eye(3)])


def test_an_lstms_forget_gate_has_its_bias() -> None:
    gates = (pi.zeros, pi.ones, pi.zeros, pi.zeros)
    assert weight(pi.blocks(gates), (8,)).tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_blocks_nest_and_run_along_other_axes() -> None:
    inner = pi.blocks((pi.zeros, pi.ones), axis=1)
    packed = weight(pi.blocks((inner, pi.constant(2))), (2, 4))
    assert packed.tolist() == [[0, 0, 1, 1], [2, 2, 2, 2]]


def test_a_block_may_be_orthogonal() -> None:
    packed = weight(pi.blocks((pi.orthogonal(),) * 4), (32, 8)).astype(np.float64)
    for block in np.split(packed, 4):
        assert np.abs(block @ block.T - np.eye(8)).max() < 1e-6


def test_blocks_of_a_flipped_axis_are_pytorchs_too() -> None:
    initializer = pi.blocks((pi.zeros, pi.ones, pi.constant(2)), axis=2)
    kernel = initializer(KEY, (3, 1, 1), layout="flax_conv_transpose")
    assert kernel.reshape(-1).tolist() == [2, 1, 0]
    assert weight(initializer, (1, 1, 3)).reshape(-1).tolist() == [0, 1, 2]


def test_blocks_larger_than_a_tile_are_the_same() -> None:
    initializer = pi.blocks((pi.normal(), pi.uniform(), pi.zeros), sizes=(150, 100, 151))
    large = weight(initializer, (401, 300))
    assert np.array_equal(large, np.asarray(weight(initializer, (401, 300), xp=jnp)))
    assert np.array_equal(large[:150], weight(pi.normal(), (401, 300))[:150])


# where


@LAYOUTS
@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        3,
        np.s_[2:4],
        np.s_[:, 4:8],
        np.s_[1:-1, -3:],
        (2, 5),
        np.s_[:],
        np.s_[4:2],
        np.s_[2:100],
    ],
    ids=str,
)
def test_where_selects_as_numpy_indexes(index: Any, layout: str) -> None:
    inside, outside = pi.uniform(5, 6), pi.normal()
    shape = (6, 10) if layout == "torch" else (10, 6)
    found = pi.where(index, inside, outside)(KEY, shape, layout=layout)
    expected = np.array(weight(outside, (6, 10)))
    expected[index] = weight(inside, (6, 10))[index]
    assert np.array_equal(as_torch(found, layout), expected)


def test_a_padding_row_is_zero_and_the_rest_untouched() -> None:
    table = pi.where(2, pi.zeros, pi.normal())(KEY, (5, 4), layout="rows")
    plain = pi.normal()(KEY, (5, 4), layout="rows")
    assert not table[2].any()
    assert np.array_equal(np.delete(table, 2, 0), np.delete(plain, 2, 0))


# assign


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_assigned_values_come_back(dtype: str, xp: ModuleType, to_numpy: Any) -> None:
    if dtype == "float16" and xp.__name__ == "array_api_strict":
        pytest.skip("array-api-strict has no such dtype")
    values = np.random.default_rng(0).normal(size=(4, 5))
    found = to_numpy(pi.assign(values)(KEY, (5, 4), dtype, xp=xp))
    assert np.array_equal(found, values.T.astype(dtype))


@pytest.mark.parametrize("given", ["float16", "float32", "float64", "int32", "int64", "bool"])
def test_any_numbers_can_be_assigned(given: str) -> None:
    values = np.asarray([[0, 1], [1, 0]], given)
    for xp in (np, torch, jnp):
        assert np.asarray(pi.assign(values)(KEY, (2, 2), "float32", xp=xp)).tolist() == [
            [0, 1],
            [1, 0],
        ]


@pytest.mark.parametrize("xp", [np, torch], ids=["numpy", "torch"])
def test_what_was_assigned_can_be_trained_without_changing_the_initializer(xp: Any) -> None:
    initializer = pi.assign(np.ones((2, 2), np.float32))
    first = initializer(KEY, (2, 2), "float32", xp=xp)
    first += 1
    assert np.asarray(initializer(KEY, (2, 2), "float32", xp=xp)).tolist() == [[1, 1], [1, 1]]


def test_the_initializer_keeps_its_values_when_the_source_changes() -> None:
    source = np.ones(3)
    initializer = pi.assign(source)
    source[:] = 5
    assert weight(initializer, (3,)).tolist() == [1, 1, 1]


def test_values_come_from_a_safetensors_file(tmp_path: Path) -> None:
    file = str(tmp_path / "w.safetensors")
    values = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    safetensors.numpy.save_file({"layer.weight": values}, file)
    initializer = pi.from_safetensors(file, "layer.weight")
    assert np.array_equal(weight(initializer, (3, 4)), values)
    assert np.array_equal(initializer(KEY, (4, 3), layout="flax"), values.T)
    with pytest.raises(ValueError, match=r"holds layer\.weight; got the name 'bias'"):
        weight(pi.from_safetensors(file, "bias"), (3, 4))


# Every combinator is data


@pytest.mark.parametrize("initializer", SCALABLE.values(), ids=SCALABLE)
def test_initializers_compare_hash_and_pickle(initializer: pi.Initializer) -> None:
    copy = pickle.loads(pickle.dumps(initializer))
    assert copy == initializer
    assert hash(copy) == hash(initializer)
    assert initializer != pi.normal(7.0)
    assert np.array_equal(weight(copy, (20, 30)), weight(initializer, (20, 30)))


@pytest.mark.parametrize("initializer", [v for k, v in SCALABLE.items() if k != "assign"])
def test_what_is_printed_can_be_evaluated(initializer: pi.Initializer) -> None:
    assert eval(repr(initializer), vars(pi).copy()) == initializer
    assert eval(str(initializer), vars(pi).copy()) == initializer


def test_a_factor_that_leaves_the_dtype_is_refused_before_anything_is_drawn() -> None:
    grid = Grid.whole((4,), Layout())
    with pytest.raises(ValueError, match="bounds must be within 65504"):
        pi.scaled(pi.uniform(0, 258.0), 266.0).plan(grid, "float16")
    with pytest.raises(ValueError, match="finite"):
        pi.scaled(pi.uniform(0, 1e300), 1e300).plan(grid, "float64")
