"""From what each leaf gets to whole arrays: parts that are drawn, and put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from portinit.arrays.dtypes import dtype_name, numpy_dtype
from portinit.arrays.layouts import Shape
from portinit.backends.base import TILE
from portinit.backends.numpy import NUMPY
from portinit.backends.plan import is_drawn_apart
from portinit.random.keys import Key
from portinit.random.words import fold_in_each
from portinit.recipes.matching.plans import LeafPlan

_Array = np.ndarray[Any, Any]


def host_arrays(plans: Iterable[LeafPlan], key: Key) -> Iterator[tuple[int, _Array]]:
    """The arrays that the plans are for, by their positions in the tree.

    Args:
        plans: a plan for each leaf; several for an array that holds several parameters.
        key: the model's key.

    Yields:
        Positions and NumPy arrays of the leaves' shapes and dtypes.
    """
    given = [*plans]
    together = _drawn_together(given, key)
    for position, own in by_position(given).items():
        arrays = [
            together[id(plan)]
            if id(plan) in together
            else part_values(plan, key.fold_in(plan.key_name), np)
            for plan in own
        ]
        yield position, assembled(own, arrays, np)


_SMALL = 1 << 12
"""Arrays of up to so many elements are drawn in one pass with others like them."""


def _drawn_together(plans: Sequence[LeafPlan], key: Key) -> dict[int, _Array]:
    """The values of small parameters that are alike, by the identity of their plans."""
    alike: dict[Any, list[LeafPlan]] = {}
    for plan in plans:
        if plan.grid.size <= _SMALL and not plan.is_cut_out and is_drawn_apart(plan.values):
            form = id(plan.values), plan.grid, dtype_name(plan.leaf.dtype)
            alike.setdefault(form, []).append(plan)
    found: dict[int, _Array] = {}
    for (_, grid, dtype), own in alike.items():
        high, low = fold_in_each(key, [plan.key_name for plan in own])
        step = max(1, TILE // max(1, grid.size))
        for start in range(0, len(own), step):
            some = own[start : start + step]
            words = high[start : start + step], low[start : start + step]
            out = np.empty((len(some), *grid.array_shape), numpy_dtype(dtype))
            NUMPY.execute_each(some[0].values, words, grid, dtype, out)
            for plan, values in zip(some, out, strict=True):
                found[id(plan)] = values.reshape(plan.leaf.shape)
    return found


def by_position(plans: Iterable[LeafPlan]) -> dict[int, list[LeafPlan]]:
    """The plans of each array by its position in the tree, those of its parts in their order."""
    parts: dict[int, list[LeafPlan]] = {}
    for plan in plans:
        parts.setdefault(plan.leaf.position, []).append(plan)
    for own in parts.values():
        own.sort(key=lambda plan: plan.leaf.layer)
    return parts


def part_values(plan: LeafPlan, key: Any, xp: Any) -> Any:
    """The values of a leaf, in its shape, drawn with the parameter's own key."""
    values = plan.initializer.evaluate(key, plan.grid, plan.leaf.dtype, xp=xp)
    return plan.cut_out(values, xp) if plan.is_cut_out else values.reshape(plan.leaf.shape)


def assembled(plans: Sequence[LeafPlan], parts: Sequence[Any], xp: Any) -> Any:
    """The array whose parts the plans are for: one alone, layers, slices, or any elements.

    Args:
        plans: in the order of the parts' numbers.
        parts: their values.
        xp: the namespace of these, NumPy or JAX.
    """
    leaf = plans[0].leaf
    if leaf.places is not None:
        return _scattered(plans, parts, leaf.whole or (), xp)
    if leaf.axis is None:
        return parts[0]
    return (xp.stack if leaf.extent is None else xp.concatenate)(parts, axis=leaf.axis)


def _scattered(plans: Sequence[LeafPlan], parts: Sequence[Any], shape: Shape, xp: Any) -> Any:
    """An array of parts that lie anywhere in it."""
    where = np.concatenate(
        [plan.leaf.places.numbers for plan in plans if plan.leaf.places is not None]
    )
    values = xp.concatenate([part.reshape(-1) for part in parts])
    return xp.take(values, np.argsort(where), axis=0).reshape(shape)
