"""Which box of a parameter an array holds, and in which layout, by the elements' numbers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from portinit.arrays.grids import row_major
from portinit.arrays.layouts import LAYOUTS, Layout, Shape
from portinit.recipes.elements import Vector, along_axes, mixed_radix
from portinit.recipes.matching.layouts.fitting import same_order

Box = tuple[range, ...]
"""A range of coordinates along each of a parameter's axes."""


@dataclass(frozen=True)
class _Factor:
    """One axis of the shape in which an array's axes are looked at.

    Attributes:
        size: its length.
        stride: the distance of neighbours in the parameter; 0 of an axis of length 1.
        of: PyTorch's axis that it is a part of; None if it is of length 1.
    """

    size: int
    stride: int = 0
    of: int | None = None


def recognise(numbers: Vector, whole: Shape) -> tuple[Box, Layout] | None:
    """The box of a parameter, and the layout of an array that holds it.

    Args:
        numbers: for each element of the array, the number that it has in the parameter, row-major
            in PyTorch's order.
        whole: PyTorch's shape of the parameter.

    Returns:
        The box, and how the array's axes are the box's; None if the array holds no box, or holds it
        in an order that no layout has.

    >>> weight = np.arange(12).reshape(6, 2)
    >>> box, layout = recognise(weight[2:4].T, (6, 2))
    >>> box, layout.axis0, layout.axis1
    ((range(2, 4), range(0, 2)), (-1,), (-2,))
    """
    if not numbers.size:
        return None
    box = _box(numbers, whole)
    if box is None:
        return None
    shape = tuple(map(len, box))
    inside = np.arange(math.prod(whole)).reshape(whole)[np.ix_(*box)]
    for layout in (*LAYOUTS.values(), _general(numbers, whole, shape)):
        if layout is not None and _is_in(layout, numbers, inside):
            return box, _named(layout, numbers.shape)
    return None


def _is_in(layout: Layout, numbers: Vector, inside: Vector) -> bool:
    """Whether an array holds all of a box in a layout."""
    try:
        if layout.logical_shape(numbers.shape) != inside.shape:
            return False
    except ValueError:
        return False
    return np.array_equal(layout.to_torch(numbers), inside)


def _named(layout: Layout, shape: Shape) -> Layout:
    """A layout, or the first that has a name and the same order."""
    plain = replace(layout, roles="oi")
    return next((one for one in LAYOUTS.values() if same_order(one, layout, shape)), plain)


def _box(numbers: Vector, whole: Shape) -> Box | None:
    """The box that as many elements fill, if the smallest that has all of them is that large."""
    ranges = []
    for coordinates in np.unravel_index(numbers.reshape(-1), whole) if whole else ():
        first, last = int(coordinates.min()), int(coordinates.max())
        step = int(np.gcd.reduce(coordinates - first)) or 1
        ranges.append(range(first, last + 1, step))
    return tuple(ranges) if math.prod(map(len, ranges)) == numbers.size else None


def _general(numbers: Vector, whole: Shape, shape: Shape) -> Layout | None:
    """The layout of an array by the strides of its axes, cut where they are not one."""
    factors = _factors(numbers, whole)
    if factors is None:
        return None
    factors = _with_ones(factors, shape)
    members = [
        sorted(
            (i for i, factor in enumerate(factors) if factor.of == axis),
            key=lambda i: -abs(factors[i].stride),
        )
        for axis in range(len(shape))
    ]
    rest = [axes[0] for axes in members[2:] if len(axes) == 1]
    if len(rest) != len(shape[2:]) or rest != sorted(rest):
        return None
    spatial = [factors[i] for i in rest if factors[i].size > 1]
    flip = bool(spatial) and all(f.stride < 0 for f in spatial)
    sizes = tuple(f.size for f in factors)
    view = None if sizes == numbers.shape else sizes
    if not shape or len(sizes) < 2:
        return Layout(view=view)
    ends = tuple(map(tuple, members[:2])) if len(shape) > 1 else (tuple(members[0]), ())
    return Layout(axis0=ends[0], axis1=ends[1], flip=flip, view=view)


def _factors(numbers: Vector, whole: Shape) -> list[_Factor] | None:
    """The array's axes, cut so that each is a part of one of PyTorch's."""
    axes = along_axes(numbers)
    if axes is None:
        return None
    factors: list[_Factor] = []
    for axis in axes:
        split = mixed_radix(axis)
        if split is None:
            return None
        if not split:
            factors.append(_Factor(1))
        for size, stride in split:
            cut = _cut(size, stride, whole)
            if cut is None:
                return None
            factors += cut
    return factors


def _cut(size: int, stride: int, whole: Shape) -> list[_Factor] | None:
    """An axis of one stride, cut where it passes from one of PyTorch's axes to the next."""
    for axis in reversed(range(len(whole))):
        beneath = row_major(whole)[axis]
        end = beneath * whole[axis]
        if not stride or whole[axis] == 1 or not beneath <= abs(stride) < end:
            continue
        if abs(stride) * (size - 1) < end:
            return [_Factor(size, stride, axis)]
        inner = end // abs(stride)
        if end % stride or size % inner:
            return None
        slower = _cut(size // inner, stride * inner, whole)
        return None if slower is None else [*slower, _Factor(inner, stride, axis)]
    return None


def _with_ones(factors: Sequence[_Factor], shape: Shape) -> list[_Factor]:
    """The axes, those of length 1 each given to one of PyTorch's, and more of them where needed."""
    found = list(factors)
    held = {factor.of for factor in found}
    for axis, size in enumerate(shape):
        if axis in held or size != 1:
            continue
        spatial = [(i, factor.of or 0) for i, factor in enumerate(found) if (factor.of or 0) >= 2]
        after = max((i for i, of in spatial if of < axis), default=-1)
        before = min((i for i, of in spatial if of > axis), default=len(found))
        places = range(after + 1, before) if axis >= 2 else range(len(found))
        free = [i for i in places if found[i].of is None]
        if free:
            found[free[0]] = _Factor(1, 0, axis)
        elif axis >= 2:
            found.insert(after + 1, _Factor(1, 0, axis))
        else:
            found.append(_Factor(1, 0, axis))
    if not shape:
        return [factor for factor in found if factor.of is not None]
    return [factor if factor.of is not None else replace(factor, of=0) for factor in found]
