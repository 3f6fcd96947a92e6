"""The tensors of a Flax model's checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from portinit import Recipe
from portinit.arrays.dtypes import dtype_name
from portinit.checkpoints import TensorSpec
from portinit.checkpoints.tensors import ParameterPart, chosen_dtype, require_suited
from portinit.recipes.matching.tables import NameTable
from portinit.recipes.rule import raise_misfits
from portinit_flax.matching import LeafPlan, MatchRequest, leaf_plans
from portinit_flax.tree import FlatTree, Path, tree_of
from portinit_jax.array_fills import ArrayFill, array_fills


def checkpoint_tensors(
    model: Any,
    recipe: Recipe,
    dtype: Any = None,
    names: NameTable | None = None,
    *,
    stacked: Mapping[str, int] | None = None,
) -> list[TensorSpec]:
    """List the tensors that :func:`portinit.checkpoints.write` writes of a Flax model.

    They have the model's own paths and layouts. A tensor's name is its path joined by ``/``,
    without linen's collection. In a tree (Orbax) it lies where the model has it.

    Args:
        model: as for :func:`initialize`; nothing of it is written.
        recipe: rules for PyTorch's names.
        dtype: of the floating tensors, by default the model's.
        names: as for :func:`initialize`.
        stacked: as for :func:`initialize`.

    Returns:
        A spec for each array of the model.

    Raises:
        portinit.RecipeError: listing every leaf and every name that does not match.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import portinit
    >>> shapes = {"params": {"fc": {"kernel": jax.ShapeDtypeStruct((3, 2), jnp.bfloat16)}}}
    >>> recipe = portinit.Recipe([("*", portinit.lecun_normal())])
    >>> (spec,) = checkpoint_tensors(shapes, recipe)
    >>> spec.name, spec.parts[0].source, spec.shape, spec.dtype
    ('fc/kernel', 'fc.weight', (3, 2), 'bfloat16')
    """
    tree = tree_of(model)
    flat = FlatTree.of(tree)
    paths, labels = flat.paths, {leaf.position: leaf.path for leaf in flat.leaves}
    plans = leaf_plans(model, recipe, MatchRequest.of(names, stacked))
    fills = array_fills(plans, [None] * len(paths))
    raise_misfits("a checkpoint's tensors must be parameters or stacks of layers", [*_odd(fills)])
    found = [_spec(fill, labels[fill.position], paths[fill.position], dtype) for fill in fills]
    require_suited(found)
    return found


entries = checkpoint_tensors
"""The former name of :func:`checkpoint_tensors`."""


def _odd(fills: Sequence[ArrayFill]) -> Iterator[str]:
    """A line for each array that is not written in one piece, or layer by layer."""
    for fill in fills:
        plans = fill.plans
        plain = all(
            plan.grid.array_shape == plan.leaf.shape and not plan.is_cut_out for plan in plans
        )
        leaf = plans[0].leaf
        if not plain or leaf.extent is not None or leaf.places is not None:
            yield (
                f"{fill.path}: holds parts of parameters, or several side by side; fill the model "
                "with portinit_flax.initialize, and save what it returns"
            )


def _spec(fill: ArrayFill, label: Path, path: Path, dtype: Any) -> TensorSpec:
    leaf = fill.plans[0].leaf
    own = chosen_dtype(dtype_name(leaf.dtype), dtype)
    return TensorSpec("/".join(label), own, tuple(map(_part, fill.plans)), leaf.axis, path)


def _part(plan: LeafPlan) -> ParameterPart:
    rule = plan.rule
    return ParameterPart(plan.key_name, rule.initializer, plan.grid, rule.value)
