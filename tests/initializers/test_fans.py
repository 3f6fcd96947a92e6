"""Fans, against numbers worked out by hand from the papers and the frameworks' documentation."""

import math
from typing import Any, cast

import numpy as np
import pytest
import torch

import portinit as pi
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import as_layout
from portinit.initializers.fans import as_axes

# A layer, its weight's shape in PyTorch, and how many inputs meet at an output and outputs at an
# input. PyTorch's rule takes axis 1 for the inputs, also where that is half the truth.
TORCH: list[tuple[str, tuple[int, ...], int, int]] = [
    ("Linear(300, 100)", (100, 300), 300, 100),
    ("Conv1d(8, 16, 5)", (16, 8, 5), 40, 80),
    ("Conv2d(32, 64, 3)", (64, 32, 3, 3), 288, 576),
    ("Conv2d(3, 64, 7), a ResNet's stem", (64, 3, 7, 7), 147, 3136),
    ("Conv3d(4, 6, (1, 2, 3))", (6, 4, 1, 2, 3), 24, 36),
    ("Conv2d(32, 64, 3, groups=4)", (64, 8, 3, 3), 72, 576),
    ("Conv2d(32, 32, 3, groups=32), depthwise", (32, 1, 3, 3), 9, 288),
    ("ConvTranspose2d(16, 8, 4)", (16, 8, 4, 4), 128, 256),
    ("MultiheadAttention(64).in_proj_weight", (192, 64), 64, 192),
    ("Conv2d(32, 64, 1)", (64, 32, 1, 1), 32, 64),
]


@pytest.mark.parametrize(
    ("shape", "fan_in", "fan_out"), [row[1:] for row in TORCH], ids=[row[0] for row in TORCH]
)
def test_fans_of_pytorchs_shapes(shape: tuple[int, ...], fan_in: int, fan_out: int) -> None:
    assert pi.torch_fans(shape) == (fan_in, fan_out)


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (torch.nn.Linear(300, 100), 300),
        (torch.nn.Conv2d(32, 64, 3, groups=4), 72),
        (torch.nn.ConvTranspose2d(16, 8, 4), 128),
    ],
)
def test_pytorchs_own_layers_have_these_shapes(layer: Any, fan_in: int) -> None:
    assert pi.torch_fans(layer.weight.shape)[0] == fan_in


# Kernels as Flax holds them, (..., in, out) unless axes are named.
JAX: list[tuple[str, tuple[int, ...], dict[str, Any], float, float]] = [
    ("Dense(100) of 300", (300, 100), {}, 300, 100),
    ("Conv(64, (3, 3)) of 32", (3, 3, 32, 64), {}, 288, 576),
    ("depthwise Conv", (3, 3, 1, 32), {}, 9, 288),
    ("out_axis before in_axis", (100, 300), {"in_axis": 1, "out_axis": 0}, 300, 100),
    ("query kernel (E, H, Dh)", (64, 8, 16), {"in_axis": 0, "out_axis": (1, 2)}, 64, 128),
    ("output kernel (H, Dh, E)", (8, 16, 64), {"in_axis": (0, 1), "out_axis": 2}, 128, 64),
    ("experts, a batch of kernels", (4, 300, 100), {"batch_axis": 0}, 300, 100),
    ("without batch_axis they are space", (4, 300, 100), {}, 1200, 400),
    (
        "per-head kernels (H, in, out)",
        (8, 32, 16),
        {"in_axis": 1, "out_axis": -1, "batch_axis": (0,)},
        32,
        16,
    ),
    ("batch and space", (5, 3, 3, 32, 64), {"batch_axis": (0,)}, 288, 576),
]


@pytest.mark.parametrize(
    ("shape", "axes", "fan_in", "fan_out"), [row[1:] for row in JAX], ids=[row[0] for row in JAX]
)
def test_fans_on_named_axes(
    shape: tuple[int, ...], axes: dict[str, Any], fan_in: float, fan_out: float
) -> None:
    assert pi.jax_fans(shape, **axes) == (fan_in, fan_out)


def test_fans_of_one_layer_agree_in_both_shapes() -> None:
    assert pi.torch_fans((64, 32, 3, 3)) == pi.jax_fans((3, 3, 32, 64)) == (288, 576)


# What an initializer makes of an array's layout: bounds of a uniform tell its fan.


def largest(initializer: pi.Initializer, shape: tuple[int, ...], layout: Any) -> float:
    return float(abs(initializer(pi.key(0), shape, layout=layout)).max())


# LeCun's uniform: bound sqrt(3 / fan_in). Of n draws, the largest is within 12 / n of the bound
# but for once in e**12 keys.
LAYERS: list[tuple[str, tuple[int, ...], Any, int]] = [
    ("Flax Dense", (300, 100), "flax", 300),
    ("PyTorch Linear", (100, 300), "torch", 300),
    ("Flax Conv", (3, 3, 32, 64), "flax", 288),
    ("PyTorch Conv2d", (64, 32, 3, 3), "torch", 288),
    ("attention query", (64, 8, 16), pi.Layout(axis0=(1, 2), axis1=(0,)), 64),
    ("attention output", (8, 16, 64), pi.Layout(axis0=(2,), axis1=(0, 1)), 128),
    # JAX's own meaning of a Flax ConvTranspose kernel (h, w, in, out): 4 * 4 * 16 inputs.
    ("Flax ConvTranspose", (4, 4, 16, 8), "flax_conv_transpose", 256),
    # An embedding as it stands: jax.nn.initializers sees (rows, features) as (in, out).
    ("rows", (300, 100), "rows", 300),
]


@pytest.mark.parametrize(
    ("shape", "layout", "fan_in"), [row[1:] for row in LAYERS], ids=[row[0] for row in LAYERS]
)
def test_a_layout_tells_named_axes_apart(shape: tuple[int, ...], layout: Any, fan_in: int) -> None:
    bound = math.sqrt(3 / fan_in)
    found = largest(pi.lecun_uniform(), shape, layout)
    assert bound * (1 - 12 / math.prod(shape)) < found <= bound


@pytest.mark.parametrize(
    ("shape", "layout", "fan_in"),
    [
        ((16, 8, 4, 4), "torch", 128),
        # PyTorch's rule sees the transposed convolution's (in, out): its fan_in is out * space.
        ((4, 4, 16, 8), "flax_conv_transpose", 128),
        ((3, 3, 32, 64), "flax", 288),
    ],
)
def test_pytorchs_schemes_keep_pytorchs_fans_in_any_layout(
    shape: tuple[int, ...], layout: str, fan_in: int
) -> None:
    bound = math.sqrt(6 / fan_in)
    found = largest(pi.kaiming_uniform(), shape, layout)
    assert bound * (1 - 12 / math.prod(shape)) < found <= bound


@pytest.mark.parametrize(
    ("layout", "shape", "kernel"),
    [
        ("torch", (64, 32, 3, 5), (3, 5, 32, 64)),
        ("flax", (3, 5, 32, 64), (3, 5, 32, 64)),
        ("rows", (300, 100), (300, 100)),
        ("flax_conv_transpose", (3, 5, 16, 8), (3, 5, 16, 8)),
    ],
)
def test_named_axes_are_those_of_flaxs_kernel(
    layout: str, shape: tuple[int, ...], kernel: tuple[int, ...]
) -> None:
    assert Grid.whole(shape, as_layout(layout)).kernel_shape == kernel


@pytest.mark.parametrize("shape", [(), (3,)])
def test_fans_need_two_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"at least 2 dimensions, got {len(shape)}"):
        pi.torch_fans(shape)
    with pytest.raises(ValueError, match=rf"at least 2 dimensions.*got {len(shape)}"):
        pi.jax_fans(shape)


def test_axes_are_pythons_integers() -> None:
    assert as_axes(-1) == -1
    axes = as_axes([np.int64(0), -1])
    assert axes == (0, -1)
    assert [*map(type, cast(tuple[int, ...], axes))] == [int, int]


def test_axes_may_be_numpys_integers() -> None:
    assert as_axes(np.int64(-2)) == -2
    assert as_axes([np.int64(0), 1]) == (0, 1)


@pytest.mark.parametrize("axes", [1.5, True, None, (0, 1.5), ["x"]])
def test_an_axis_that_is_no_integer_is_refused(axes: Any) -> None:
    with pytest.raises(TypeError, match=r"^an axis must be an integer, got "):
        as_axes(axes)
