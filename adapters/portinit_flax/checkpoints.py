"""The tensors of a Flax model's checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portinit import Recipe
from portinit.checkpoints import TensorSpec
from portinit.checkpoints.planned import planned_tensors
from portinit.recipes.matching.tables.targets import NameTable
from portinit_flax.matching import MatchRequest, leaf_plans
from portinit_flax.tree import FlatTree, tree_of


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
    return tensors_of(model, recipe, dtype, MatchRequest.of(names, stacked))


def tensors_of(model: Any, recipe: Recipe, dtype: Any, request: MatchRequest) -> list[TensorSpec]:
    """Like :func:`checkpoint_tensors`, for a request as a matching takes it."""
    flat = FlatTree.of(tree_of(model))
    labels = {leaf.position: leaf.path for leaf in flat.leaves}
    return planned_tensors(
        leaf_plans(model, recipe, request),
        "portinit_flax",
        lambda leaf: labels[leaf.position],
        dtype,
        lambda leaf: flat.paths[leaf.position],
    )


entries = checkpoint_tensors
"""The former name of :func:`checkpoint_tensors`."""
