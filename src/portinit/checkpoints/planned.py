"""The tensors of a checkpoint of a model that is not PyTorch's: its own paths and layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from portinit.arrays.dtypes import dtype_name
from portinit.checkpoints.tensors import ParameterPart, TensorSpec, chosen_dtype, require_suited
from portinit.recipes.matching.assembly import by_position
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.matching.trees.leaf import Leaf, Path
from portinit.recipes.rule import raise_misfits


def planned_tensors(
    plans: Iterable[LeafPlan],
    adapter: str,
    name: Callable[[Leaf], Path],
    dtype: Any = None,
    place: Callable[[Leaf], Path] | None = None,
) -> list[TensorSpec]:
    """The tensors that a model's plans are for.

    Args:
        plans: what each array gets, or each layer of a stack.
        adapter: the package that fills such models, for messages.
        name: the words of an array's name in the checkpoint.
        dtype: of the floating tensors, by default the model's.
        place: where an array lies in a tree of nested dicts; by default as it is named.

    Raises:
        portinit.RecipeError: listing the arrays that hold parts of parameters, or several side by
            side.
    """
    groups = [*by_position(plans).values()]
    raise_misfits(
        "a checkpoint's tensors must be parameters or stacks of layers", [*_odd(groups, adapter)]
    )
    found = []
    for own in groups:
        leaf, label = own[0].leaf, name(own[0].leaf)
        parts = tuple(map(_part, own))
        tree = label if place is None else place(leaf)
        chosen = chosen_dtype(dtype_name(leaf.dtype), dtype)
        found.append(TensorSpec("/".join(label), chosen, parts, leaf.axis, tree))
    require_suited(found)
    return found


def _odd(groups: Iterable[Sequence[LeafPlan]], adapter: str) -> Iterator[str]:
    """A line for each array that is not written in one piece, or layer by layer."""
    for plans in groups:
        plain = all(
            plan.grid.array_shape == plan.leaf.shape and not plan.is_cut_out for plan in plans
        )
        leaf = plans[0].leaf
        if not plain or leaf.extent is not None or leaf.places is not None:
            yield (
                f"{leaf.label}: holds parts of parameters, or several side by side; fill the model "
                f"with {adapter}.initialize, and save what it returns"
            )


def _part(plan: LeafPlan) -> ParameterPart:
    return ParameterPart(plan.key_name, plan.initializer, plan.grid, plan.rule.value)
