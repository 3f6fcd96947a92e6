"""Which rule, layout and name each leaf of a Flax tree gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from portinit import Layout, Recipe, Rule
from portinit.arrays.dtypes import dtype_name
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import as_layout
from portinit.recipes.names import match_names, split_name
from portinit.recipes.packed import may_lack
from portinit.recipes.pretrained import unused, used_tensors
from portinit.recipes.rule import RecipeError, raise_misfits
from portinit_flax.recurrent import names_of_cells
from portinit_flax.stacked_layers import Stacks
from portinit_flax.tree import Leaf, Path, Tree, leaves

Names = Mapping[str, str | tuple[str, Layout | str]]


@dataclass(frozen=True)
class Plan:
    """What one leaf gets."""

    leaf: Leaf
    name: str
    rule: Rule
    layout: Layout
    grid: Grid


def plans_with_stacks(
    tree: Any, recipe: Recipe, names: Names | None, stacked: Mapping[str, int] | None
) -> list[Plan]:
    """A plan for each leaf of a tree of arrays, and for each layer of a leaf that is a stack."""
    layers, table, amiss = Stacks(recipe.names, names or {}, stacked or {}).layers(leaves(tree)[0])
    return plans_of(Tree(layers), recipe, table, amiss)


def plans_of(
    tree: Tree, recipe: Recipe, names: Names | None, amiss: Sequence[str] = ()
) -> list[Plan]:
    """A plan for each leaf of a tree, or a RecipeError that lists all that does not fit.

    Args:
        tree: the leaves.
        recipe: rules for PyTorch's names.
        names: as for :func:`portinit_flax.initialize`.
        amiss: what is known not to fit already.
    """
    table, layouts = _tables(names)
    of_cells, misfits_of_cells = names_of_cells(tree, recipe, table)
    table = of_cells | table
    complete = bool(recipe.rules) and all(rule.name is not None for rule in recipe.rules)
    found, misfits = match_names(tree.leaves, recipe.names, table, complete=complete)
    misfits = [*amiss, *misfits_of_cells, *misfits]
    if complete:
        misfits += [f"{name}: no such parameter in the tree" for name in _missing(recipe, found)]
    else:
        misfits += unused(recipe, {split_name(name)[0] for name in found.values()})
    exact = {rule.name: rule for rule in recipe.rules[::-1] if rule.name is not None}
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
    rules: dict[str, Rule] = {}
    for plan in plans:
        name, rows = split_name(plan.name)
        if rows is not None:
            parts.setdefault(name, []).append(rows)
            rules[name] = plan.rule
    for name, rows_of in parts.items():
        held = sorted(row for rows in rows_of for row in rows)
        size = (rules[name].shape or (0,))[0]
        absent = sorted({*range(size)} - {*held})
        once = len(held) + len(absent) == size
        if not once or (absent and not may_lack(rules[name], absent)):
            yield f"{name}: each of its {size} rows must be in one array, got {rows_of}"


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
    used = used_tensors(recipe, claimed)
    for rule in recipe.rules:
        wanted = rule.name is not None and rule.name not in claimed and rule.initializer not in used
        if wanted and not rule.buffer and not may_lack(rule):
            yield str(rule.name)


def _unsuited(plans: list[Plan]) -> Iterator[str]:
    for plan in plans:
        try:
            plan.rule.initializer.planned(plan.grid, dtype_name(plan.leaf.dtype))
        except (ValueError, TypeError) as error:
            yield f"{'/'.join(plan.leaf.path)} {plan.leaf.shape}: {error}"
