"""Where the axes of an array are in what is made of it: transposed, reshaped, broadcast."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from portinit.arrays.layouts import Shape

Axes = tuple[frozenset[int], ...]
"""For each axis of a value, the axes of the array it is made of that lie along it."""

_NONE: frozenset[int] = frozenset()


def union(axes: Axes, chosen: frozenset[int]) -> frozenset[int]:
    """All that lies along some of the axes."""
    return _NONE.union(*(axes[axis] for axis in chosen))


def permuted(order: Sequence[int]) -> Callable[[Axes], Axes]:
    """Axes in another order."""
    return lambda axes: tuple(axes[axis] for axis in order)


def without(dropped: Sequence[int]) -> Callable[[Axes], Axes]:
    """Axes without some of them."""
    return lambda axes: tuple(own for axis, own in enumerate(axes) if axis not in dropped)


def placed(places: Sequence[int], ndim: int) -> Callable[[Axes], Axes]:
    """Axes put at places among others that are new."""

    def move(axes: Axes) -> Axes:
        result = [_NONE] * ndim
        for own, place in zip(axes, places, strict=True):
            result[place] = own
        return tuple(result)

    return move


def reshaped(old: Shape, new: Shape) -> Callable[[Axes], Axes]:
    """Axes merged and split as between two shapes of one size."""
    groups = list(_groups(old, new))

    def move(axes: Axes) -> Axes:
        result = [_NONE] * len(new)
        for before, after in groups:
            own = union(axes, frozenset(before))
            for axis in after:
                result[axis] = own
        return tuple(result)

    return move


def _groups(old: Shape, new: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """The shortest runs of axes of two shapes that have the same sizes; those of length 1 apart."""
    if math.prod(old) != math.prod(new) or not math.prod(old):
        return
    before, after = ([axis for axis, n in enumerate(s) if n != 1] for s in (old, new))
    while before and after:
        left, right = [before.pop(0)], [after.pop(0)]
        sizes = [old[left[0]], new[right[0]]]
        while sizes[0] != sizes[1]:
            if sizes[0] < sizes[1]:
                left.append(before.pop(0))
                sizes[0] *= old[left[-1]]
            else:
                right.append(after.pop(0))
                sizes[1] *= new[right[-1]]
        yield left, right
