"""From what each leaf gets to whole arrays in NumPy, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from portinit.random.keys import Key
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
    parts: dict[int, list[LeafPlan]] = {}
    for plan in plans:
        parts.setdefault(plan.leaf.position, []).append(plan)
    for position, own in parts.items():
        own.sort(key=lambda plan: plan.leaf.layer)
        yield position, _joined([_part(plan, key) for plan in own], own[0])


def _part(plan: LeafPlan, key: Key) -> _Array:
    child, initializer = key.fold_in(plan.key_name), plan.rule.initializer
    values: _Array = initializer.evaluate(child, plan.grid, plan.leaf.dtype, xp=np)
    return values.reshape(plan.leaf.shape)


def _joined(arrays: list[_Array], first: LeafPlan) -> _Array:
    leaf = first.leaf
    if leaf.axis is None:
        return arrays[0]
    return (np.stack if leaf.extent is None else np.concatenate)(arrays, leaf.axis)
