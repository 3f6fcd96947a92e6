"""A layout stores the same parameter elsewhere: the same element, the same bits."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import portinit as pi
from portinit.arrays.layouts import LAYOUTS

KEY = pi.key(11)
Shape = tuple[int, ...]


@st.composite
def layouts_and_shapes(draw: st.DrawFn) -> tuple[pi.Layout, Shape]:
    """Any layout of an array of 2 to 5 axes: axes in any order, several to one of PyTorch's."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=2, max_size=5)))
    order = draw(st.permutations(range(len(shape))))
    first = draw(st.integers(1, len(shape) - 1))
    second = draw(st.integers(1, len(shape) - first))
    negative = [axis - len(shape) * draw(st.booleans()) for axis in order]
    layout = pi.Layout(
        tuple(negative[:first]), tuple(negative[first : first + second]), draw(st.booleans())
    )
    return layout, shape


def flattened(position: Shape, sizes: Shape, axes: list[int]) -> int:
    index = 0
    for axis in axes:
        index = index * sizes[axis] + position[axis]
    return index


def torch_position(layout: pi.Layout, shape: Shape, position: Shape) -> Shape:
    """Where PyTorch has an array's element: the definition of a layout, element by element."""
    ndim = len(shape)
    axis0, axis1 = ([a % ndim for a in axes] for axes in (layout.axis0, layout.axis1))
    rest = [a for a in range(ndim) if a not in axis0 + axis1]
    spatial = [shape[a] - 1 - position[a] if layout.flip else position[a] for a in rest]
    return (flattened(position, shape, axis0), flattened(position, shape, axis1), *spatial)


def torch_shape(layout: pi.Layout, shape: Shape) -> Shape:
    last = tuple(size - 1 for size in shape)
    unflipped = pi.Layout(layout.axis0, layout.axis1)
    return tuple(index + 1 for index in torch_position(unflipped, shape, last))


@settings(deadline=None, derandomize=True, max_examples=150)
@given(layouts_and_shapes())
def test_every_element_is_pytorchs(case: tuple[pi.Layout, Shape]) -> None:
    layout, shape = case
    array = pi.uniform()(KEY, shape, layout=layout)
    weight = pi.uniform()(KEY, torch_shape(layout, shape), layout="torch")
    assert layout.logical_shape(shape) == weight.shape
    for position in np.ndindex(shape):
        assert array[position] == weight[torch_position(layout, shape, position)]


@settings(deadline=None, derandomize=True, max_examples=150)
@given(layouts_and_shapes())
def test_arrays_travel_to_pytorch_and_back(case: tuple[pi.Layout, Shape]) -> None:
    layout, shape = case
    array = np.arange(math.prod(shape)).reshape(shape)
    weight = layout.to_torch(array)
    for position in np.ndindex(shape):
        assert array[position] == weight[torch_position(layout, shape, position)]
    assert np.array_equal(layout.from_torch(weight, shape), array)


STRUCTURED = {
    "xavier_normal": pi.xavier_normal(),
    "orthogonal": pi.orthogonal(),
    "where": pi.where((0, np.s_[1:]), pi.zeros, pi.normal()),
    "blocks": pi.blocks((pi.xavier_uniform(),)),
    "assign": None,
}


@pytest.mark.parametrize("name", STRUCTURED)
@settings(deadline=None, derandomize=True, max_examples=40)
@given(case=layouts_and_shapes())
def test_structure_and_fans_are_pytorchs(name: str, case: tuple[pi.Layout, Shape]) -> None:
    layout, shape = case
    logical = torch_shape(layout, shape)
    initializer = STRUCTURED[name] or pi.assign(np.arange(math.prod(shape)).reshape(logical))
    array = initializer(KEY, shape, layout=layout)
    weight = initializer(KEY, logical, layout="torch")
    assert np.array_equal(layout.to_torch(array), weight)


@pytest.mark.parametrize("layout", [*LAYOUTS, None])
@pytest.mark.parametrize("shape", [(), (7,)])
def test_scalars_and_biases_are_taken_as_they_stand(layout: str | None, shape: Shape) -> None:
    assert np.array_equal(
        pi.normal()(KEY, shape, layout=layout), pi.normal()(KEY, shape, layout="torch")
    )


def test_an_array_is_a_flax_kernel_unless_told() -> None:
    kernel = pi.he_normal()(KEY, (3, 3, 4, 5))
    assert np.array_equal(kernel, pi.he_normal()(KEY, (3, 3, 4, 5), layout="flax"))


# Layers compute the same function: PyTorch's with its weight, Flax's with its kernel


def as_torch(shape: Shape) -> torch.Tensor:
    weight: torch.Tensor = pi.normal()(KEY, shape, xp=torch, layout="torch")
    return weight


def as_flax(shape: Shape, layout: pi.Layout | str) -> Any:
    return pi.normal()(KEY, shape, xp=jnp, layout=layout)


def inputs(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def assert_same_function(theirs: torch.Tensor, ours: Any) -> None:
    # Sums of some hundred products of about 1: a misplaced element would show as order 1.
    assert np.allclose(theirs.detach().numpy(), np.asarray(ours), atol=1e-3)


def test_dense_is_linear() -> None:
    x = inputs(6, 20)
    kernel = as_flax((20, 30), "flax")
    ours = nn.Dense(30, use_bias=False).apply({"params": {"kernel": kernel}}, x)
    weight = as_torch((30, 20))
    assert np.array_equal(np.asarray(kernel), weight.numpy().T)
    assert_same_function(torch.nn.functional.linear(torch.from_numpy(x), weight), ours)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conv_is_conv2d(groups: int) -> None:
    x = inputs(2, 4, 9, 8)
    weight = as_torch((12, 4 // groups, 3, 2))
    kernel = as_flax((3, 2, 4 // groups, 12), "flax")
    conv = nn.Conv(12, (3, 2), padding="VALID", use_bias=False, feature_group_count=groups)
    ours = conv.apply({"params": {"kernel": kernel}}, x.transpose(0, 2, 3, 1))
    theirs = torch.nn.functional.conv2d(torch.from_numpy(x), weight, groups=groups)
    assert np.array_equal(np.asarray(kernel), weight.numpy().transpose(2, 3, 1, 0))
    assert_same_function(theirs, np.asarray(ours).transpose(0, 3, 1, 2))


def test_conv_transpose_is_conv_transpose2d() -> None:
    x = inputs(2, 4, 5, 6)
    weight = as_torch((4, 7, 3, 2))
    kernel = as_flax((3, 2, 4, 7), "flax_conv_transpose")
    conv = nn.ConvTranspose(7, (3, 2), strides=(2, 2), padding="VALID", use_bias=False)
    ours = conv.apply({"params": {"kernel": kernel}}, x.transpose(0, 2, 3, 1))
    theirs = torch.nn.functional.conv_transpose2d(torch.from_numpy(x), weight, stride=2)
    ours = np.asarray(ours).transpose(0, 3, 1, 2)[:, :, : theirs.shape[2], : theirs.shape[3]]
    assert_same_function(theirs, ours)


def test_attention_projections_are_linear() -> None:
    x = inputs(6, 24)
    into = as_flax((24, 4, 6), pi.Layout(axis0=(1, 2), axis1=(0,)))
    heads = nn.DenseGeneral((4, 6), use_bias=False).apply({"params": {"kernel": into}}, x)
    back = as_flax((4, 6, 30), pi.Layout(axis0=(2,), axis1=(0, 1)))
    ours = nn.DenseGeneral(30, axis=(-2, -1), use_bias=False).apply(
        {"params": {"kernel": back}}, heads
    )
    hidden = torch.nn.functional.linear(torch.from_numpy(x), as_torch((24, 24)))
    assert np.allclose(hidden.numpy().reshape(6, 4, 6), np.asarray(heads), atol=1e-3)
    assert_same_function(torch.nn.functional.linear(hidden, as_torch((30, 24))), ours)


def test_an_embedding_is_stored_as_pytorch_stores_it() -> None:
    table = as_flax((50, 8), "rows")
    ours = nn.Embed(50, 8).apply({"params": {"embedding": table}}, np.asarray([3, 49]))
    assert np.array_equal(np.asarray(ours), as_torch((50, 8)).numpy()[[3, 49]])
