"""The tensors of a Flax model's checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from portinit import Recipe
from portinit.arrays.dtypes import dtype_name
from portinit.checkpoints import TensorSpec
from portinit.checkpoints.tensors import ParameterPart, chosen_dtype, require_suited
from portinit_flax.evaluation import ArrayFill, key_name, tasks_of
from portinit_flax.matching import Names, Plan, plans_with_stacks
from portinit_flax.tree import Path, leaves, path_of, tree_of


def checkpoint_tensors(
    model: Any,
    recipe: Recipe,
    dtype: Any = None,
    names: Names | None = None,
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

    >>> import jax.numpy as jnp
    >>> import portinit
    >>> shapes = {"params": {"fc": {"kernel": jax.ShapeDtypeStruct((3, 2), jnp.bfloat16)}}}
    >>> recipe = portinit.Recipe([("*", portinit.lecun_normal())])
    >>> (spec,) = checkpoint_tensors(shapes, recipe)
    >>> spec.name, spec.parts[0].source, spec.shape, spec.dtype
    ('fc/kernel', 'fc.weight', (3, 2), 'bfloat16')
    """
    tree = tree_of(model)
    paths = [path_of(keys) for keys, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    labels = {leaf.position: leaf.path for leaf in leaves(tree)[0]}
    tasks = tasks_of(plans_with_stacks(tree, recipe, names, stacked), [None] * len(paths))
    found = [_spec(task, labels[task.position], paths[task.position], dtype) for task in tasks]
    require_suited(found)
    return found


entries = checkpoint_tensors
"""The former name of :func:`checkpoint_tensors`."""


def _spec(task: ArrayFill, label: Path, path: Path, dtype: Any) -> TensorSpec:
    leaf = task.plans[0].leaf
    own = chosen_dtype(dtype_name(leaf.dtype), dtype)
    return TensorSpec("/".join(label), own, tuple(map(_part, task.plans)), leaf.axis, path)


def _part(plan: Plan) -> ParameterPart:
    rule = plan.rule
    return ParameterPart(key_name(plan), rule.initializer, plan.grid, rule.value)
