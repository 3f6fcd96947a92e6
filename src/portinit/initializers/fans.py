"""Fans: how many inputs and outputs meet at a weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

from portinit.arrays.layouts import Shape
from portinit.initializers.numbers import as_int

Axes = int | tuple[int, ...]


def torch_fans(shape: Sequence[int]) -> tuple[int, int]:
    """fan_in and fan_out of a parameter of PyTorch's shape ``(out, in, *kernel)``.

    fan_in = in * prod(kernel), fan_out = out * prod(kernel): torch.nn.init's rule, also for
    transposed convolutions, whose weights are ``(in, out / groups, *kernel)``.

    Args:
        shape: the shape that the parameter has in PyTorch, of at least 2 axes.

    Returns:
        The numbers of inputs and outputs that a unit is connected to.

    >>> torch_fans((64, 32, 3, 3))
    (288, 576)

    Raises:
        ValueError: fewer than two axes.
    """
    if len(shape) < 2:
        raise ValueError(
            "fan_in and fan_out need a shape of at least 2 dimensions, "
            f"got {len(shape)}: {tuple(shape)}"
        )
    receptive = math.prod(shape[2:])
    return shape[1] * receptive, shape[0] * receptive


def jax_fans(
    shape: Sequence[int], in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> tuple[float, float]:
    """fan_in and fan_out of a kernel on named axes: jax.nn.initializers' rule.

    Axes in none of the three arguments are the receptive field, which multiplies both fans.

    Args:
        shape: the shape of the kernel.
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.

    Returns:
        The numbers of inputs and outputs that a unit is connected to.

    >>> jax_fans((3, 3, 32, 64))
    (288.0, 576.0)

    Raises:
        ValueError: an axis is out of range (the defaults need two), or a size is 0.
    """
    sizes = [_size(shape, axes) for axes in (in_axis, out_axis, batch_axis)]
    check_non_empty(tuple(shape))
    fan_in, fan_out, batch = sizes
    receptive = math.prod(shape) / fan_in / fan_out / batch
    return fan_in * receptive, fan_out * receptive


def _size(shape: Sequence[int], axes: Axes) -> int:
    for axis in (axes,) if isinstance(axes, int) else axes:
        if not -len(shape) <= axis < len(shape):
            raise ValueError(
                f"fans on axis {axis} need a shape that has it (the default axes need at least "
                f"2 dimensions), got {len(shape)}: {tuple(shape)}"
            )
    return math.prod(shape[axis] for axis in ((axes,) if isinstance(axes, int) else axes))


def as_axes(axes: int | Sequence[int]) -> Axes:
    """An axis, or several as a tuple."""
    if isinstance(axes, Sequence):
        return tuple(as_int("an axis", axis) for axis in axes)
    return as_int("an axis", axes)


def check_non_empty(shape: Shape) -> None:
    """Fans of an empty parameter mean nothing: a ValueError."""
    if 0 in shape:
        raise ValueError(f"fans need sizes of 1 or more, got shape {shape}")
