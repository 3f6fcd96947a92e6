"""Whole Flax models, linen or nnx, filled from recipes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from portinit import Layout, Recipe, Rule
from portinit.dtypes import dtype_name
from portinit.grids import Grid
from portinit.layouts import as_layout
from portinit.names import match_names, split_name
from portinit.rules import RecipeError, raise_misfits
from portinit_flax.trees import Leaf, Path, Tree, leaves
from portinit_jax.keys import as_key, fold_in

Names = Mapping[str, str | tuple[str, Layout | str]]
_Model = TypeVar("_Model")


def initialize(model: _Model, recipe: Recipe, key: Any, names: Names | None = None) -> _Model:
    """Fill a Flax model's parameters and batch statistics from a recipe.

    A parameter draws with ``key.fold_in(its name in the recipe)``, in PyTorch's element order: the
    same bits that ``portinit_torch.initialize`` gives the parameter of that name. Everything is
    checked before anything is written.

    Args:
        model: linen variables (``{"params": ..., "batch_stats": ...}``) or a tree of parameters,
            of arrays or of ``jax.eval_shape``'s structs; or an ``nnx.Module``, abstract or not.
        recipe: rules for PyTorch's names.
        key: a :class:`portinit.Key` or a JAX threefry key.
        names: where automatic matching needs help: a table from paths of the tree joined by ``/``
            to names of the recipe, or to pairs of a name and a :class:`portinit.Layout`. A name may
            be limited to rows, for an array that holds a part of what PyTorch packs:
            ``{"attn/query/kernel": "attn.in_proj_weight[0:64]", ...}``.

    Returns:
        A new tree, or the nnx module itself, filled in place.

    Raises:
        portinit.RecipeError: listing every leaf and every name that does not match.

    Matching: a recipe with a rule for each parameter (one that ``portinit_torch.bind`` made) is
    matched by the words of the names, ``layers.0.linear1.weight`` with
    ``layers_0/linear1/kernel``. For a recipe of patterns the path is translated that way.
    """
    if isinstance(model, nnx.Module):
        state = nnx.state(model, (nnx.Param, nnx.BatchStat))
        nnx.update(model, _fill(state, recipe, key, names))
        return model
    filled: _Model = _fill(model, recipe, key, names)
    return filled


def _fill(tree: Any, recipe: Recipe, root_key: Any, names: Names | None) -> Any:
    found, values, structure = leaves(tree)
    root = as_key(root_key)
    for plan in _plan(Tree(found), recipe, names):
        key, dtype = fold_in(root, split_name(plan.name)[0]), plan.leaf.dtype
        values[plan.leaf.position] = plan.rule.initializer.evaluate(key, plan.grid, dtype, xp=jnp)
    return jax.tree_util.tree_unflatten(structure, values)


@dataclass(frozen=True)
class Plan:
    """What one leaf gets."""

    leaf: Leaf
    name: str
    rule: Rule
    layout: Layout
    grid: Grid


def match(model: Any, recipe: Recipe, names: Names | None = None) -> dict[str, tuple[str, Layout]]:
    """The recipe's name and the layout for each path of a Flax model, joined by ``/``.

    Args and errors as for :func:`initialize`; nothing is computed.
    """
    tree = nnx.state(model, (nnx.Param, nnx.BatchStat)) if isinstance(model, nnx.Module) else model
    plans = _plan(Tree(leaves(tree)[0]), recipe, names)
    return {"/".join(plan.leaf.path): (plan.name, plan.layout) for plan in plans}


def _plan(tree: Tree, recipe: Recipe, names: Names | None) -> list[Plan]:
    table, layouts = _tables(names)
    complete = bool(recipe.rules) and all(rule.name is not None for rule in recipe.rules)
    found, misfits = match_names(tree.leaves, recipe.names, table, complete=complete)
    if complete:
        misfits += [f"{name}: no such parameter in the tree" for name in _missing(recipe, found)]
    exact = {rule.name: rule for rule in recipe.rules if rule.name is not None}
    plans = []
    for path, name in found.items():
        stated = layouts.get("/".join(path))
        try:
            plans.append(_plan_one(tree, path, name, exact, recipe, stated))
        except RecipeError as error:
            misfits += error.misfits
        except ValueError as error:
            misfits.append(f"{'/'.join(path)}: {error}")
    misfits += [*_uncovered(plans), *_unsuited(plans)]
    raise_misfits("the tree and the recipe must fit", misfits)
    return plans


def _plan_one(
    tree: Tree,
    path: Path,
    label: str,
    exact: Mapping[str, Rule],
    recipe: Recipe,
    stated: Layout | None,
) -> Plan:
    name, rows = split_name(label)
    known = exact.get(name)
    whole = known.shape if known else None
    wanted = (rows.stop - rows.start, *whole[1:]) if rows is not None and whole else whole
    layout = stated or (known.layout if known else None) or tree.layout(path, wanted)
    leaf = tree.leaves[path]
    described = tree.describe(path, name, layout)
    if wanted == (1,) and described.shape == ():  # PReLU's slope
        described = replace(described, shape=wanted)
    grid = Grid.whole(leaf.shape, layout)
    if rows is not None:
        if whole is None or described.shape != wanted:
            raise ValueError(
                f"{label} needs an array of {wanted} in PyTorch, got {described.shape}"
            )
        grid = grid.within(whole[0], rows.start)
        described = replace(described, shape=whole)
    (rule,) = recipe.bind([described]).rules
    return Plan(leaf, label, rule, layout, grid)


def _uncovered(plans: list[Plan]) -> Iterator[str]:
    """Parameters of which some rows are in no array, or in two."""
    parts: dict[str, list[range]] = {}
    sizes: dict[str, int] = {}
    for plan in plans:
        name, rows = split_name(plan.name)
        if rows is not None:
            parts.setdefault(name, []).append(rows)
            sizes[name] = plan.grid.shape[0]
    for name, rows_of in parts.items():
        held = sorted(row for rows in rows_of for row in rows)
        if held != list(range(sizes[name])):
            yield f"{name}: each of its {sizes[name]} rows must be in one array, got {rows_of}"


def _tables(names: Names | None) -> tuple[dict[str, str], dict[str, Layout]]:
    table: dict[str, str] = {}
    layouts: dict[str, Layout] = {}
    for path, target in dict(names or {}).items():
        if isinstance(target, str):
            table[path] = target
        else:
            table[path], layouts[path] = target[0], as_layout(target[1])
    return table, layouts


def _missing(recipe: Recipe, found: Mapping[Path, str]) -> Iterator[str]:
    claimed = {split_name(name)[0] for name in found.values()}
    wanted = (rule.name for rule in recipe.rules if rule.name is not None and not rule.buffer)
    return (name for name in wanted if name not in claimed)


def _unsuited(plans: list[Plan]) -> Iterator[str]:
    for plan in plans:
        try:
            plan.rule.initializer.check(plan.grid, dtype_name(plan.leaf.dtype))
        except (ValueError, TypeError) as error:
            yield f"{'/'.join(plan.leaf.path)} {plan.leaf.shape}: {error}"
