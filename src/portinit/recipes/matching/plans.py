"""Which rule, layout and elements each leaf of a tree gets, and all that does not fit."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from portinit.arrays.dtypes import dtype_name
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout
from portinit.initializers.base import Initializer, Parameter
from portinit.initializers.jax_schemes import variance_scaling
from portinit.initializers.like_jax import like_jax
from portinit.recipes.matching.leaf import Leaf
from portinit.recipes.matching.leaf_layouts import FoundLeaf
from portinit.recipes.matching.matcher import Matcher
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching, Pair
from portinit.recipes.matching.tree import Tree
from portinit.recipes.names import ParameterSlice
from portinit.recipes.packed import may_lack
from portinit.recipes.pretrained import unused
from portinit.recipes.recipe import Recipe, require_recipe
from portinit.recipes.rule import RecipeError, Rule, raise_misfits


@dataclass(frozen=True)
class LeafPlan:
    """What one leaf gets: a parameter of the recipe or some rows of it, and how it lies."""

    leaf: Leaf
    parameter: ParameterSlice
    rule: Rule
    layout: Layout
    grid: Grid

    @property
    def key_name(self) -> str:
        """The name that the root key is folded with."""
        return self.rule.drawn_as or self.parameter.name


def leaf_plans(tree: Tree, recipe: Recipe, request: MatchRequest) -> list[LeafPlan]:
    """A plan for each leaf of a tree, and for each layer of a leaf that is a stack.

    Raises:
        portinit.RecipeError: listing all that does not fit.

    Warns:
        UserWarning: listing what is guessed: pairs that names alone do not tell, and layouts of
            square arrays that nothing tells.
    """
    matcher = Matcher(tree, recipe, request)
    plans, misfits = plans_of(matcher, recipe)
    raise_misfits("the tree and the recipe must fit", misfits)
    warn_of_guesses(matcher.pairs, tree.adapter)
    return plans


def match(tree: Tree, recipe: Recipe, request: MatchRequest, *, strict: bool = True) -> Matching:
    """The pairs of a tree's leaves and a recipe's parameters, and what is left over.

    Raises:
        portinit.RecipeError: listing all that does not fit, if ``strict``.
    """
    require_recipe(recipe)
    matcher = Matcher(tree, recipe, request)
    misfits = plans_of(matcher, recipe)[1]
    if strict:
        raise_misfits("the tree and the recipe must fit", misfits)
    left = tuple(leaf.label for leaf in matcher.unmatched)
    return Matching(matcher.pairs, left, tuple(matcher.unclaimed), tuple(misfits))


def warn_of_guesses(pairs: Iterable[Pair], adapter: str) -> None:
    """Warn of the pairs and the layouts that are guessed."""
    guessed = [pair for pair in pairs if not pair.is_sure]
    if guessed:
        lines = [*map(str, guessed[:_SHOWN])]
        more = [f"and {len(guessed) - _SHOWN} more"] if len(guessed) > _SHOWN else []
        text = (
            f"{len(guessed)} arrays are matched by a guess; prove them by the models' outputs "
            "(portinit.testing.prove_match, portinit port), or state the pairs in names= "
            f"({adapter}.match(...).as_table() is such a table):"
        )
        warnings.warn("\n  ".join([text, *lines, *more]), stacklevel=6)


_SHOWN = 20
"""How many guesses a warning lists."""


def plans_of(matcher: Matcher, recipe: Recipe) -> tuple[list[LeafPlan], list[str]]:
    """A plan for each leaf that has a rule, and a line for all that does not fit."""
    misfits = [*matcher.misfits_of_names, *matcher.without_partners()]
    misfits += [f"{name}: no such parameter in the tree" for name in matcher.unclaimed]
    if not matcher.known.is_complete:
        misfits += unused(recipe, matcher.claimed)
    plans = []
    for found, layout in matcher.found:
        try:
            plans.append(_plan(found, layout, matcher, recipe))
        except RecipeError as error:
            misfits += error.misfits
        except ValueError as error:
            misfits.append(f"{found.leaf.label}: {error}")
    return plans, [*misfits, *_uncovered(plans), *_unsuited(plans)]


def _plan(found: FoundLeaf, layout: Layout, matcher: Matcher, recipe: Recipe) -> LeafPlan:
    leaf, parameter, tree = found.leaf, found.parameter, matcher.tree
    rule = matcher.known.rule(parameter.name)
    whole = rule.shape if rule else None
    if whole is None and found.layout is None and found.initializer is None:
        unstated = tree.unstated_stack(leaf.path)
        if unstated is not None:
            raise ValueError(unstated)
    described = tree.describe(leaf.path, parameter.name, layout)
    whole_shape = whole if whole is not None and parameter.rows is not None else None
    bound = _bound(found, replace(described, shape=whole_shape or described.shape), recipe)
    if _names_axes(bound.initializer) and layout.roles == "oi":
        layout = replace(layout, roles="as is")  # axes are PyTorch's, on either side
    grid = Grid.whole(layout.seen(leaf.shape), layout)
    if parameter.rows is not None:
        wanted = None if whole is None else parameter.shape_in(whole)
        if whole is None or described.shape != wanted:
            raise ValueError(
                f"{parameter} needs an array of {wanted} in PyTorch, got {described.shape}"
            )
        grid = grid.within(whole[0], parameter.rows.start)
    return LeafPlan(leaf, parameter, bound, layout, grid)


def _bound(found: FoundLeaf, described: Parameter, recipe: Recipe) -> Rule:
    if found.initializer is not None:
        return Rule(described.name, found.initializer).bound(described)
    return recipe.rule_for(described)


def _names_axes(initializer: Initializer) -> bool:
    """Whether an initializer computes fans on axes that are named; not in JAX's own order."""
    if isinstance(initializer, variance_scaling):
        return initializer.names_axes
    return not isinstance(initializer, like_jax) and any(map(_names_axes, initializer.parts()))


def _uncovered(plans: Sequence[LeafPlan]) -> Iterator[str]:
    """Parameters of which some rows are in no array, or in two."""
    parts: dict[str, list[range]] = {}
    rules: dict[str, Rule] = {}
    for plan in plans:
        name, rows = plan.parameter.name, plan.parameter.rows
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


def _unsuited(plans: Sequence[LeafPlan]) -> Iterator[str]:
    for plan in plans:
        try:
            plan.rule.initializer.planned(plan.grid, dtype_name(plan.leaf.dtype))
        except (ValueError, TypeError) as error:
            yield f"{plan.leaf.label} {plan.leaf.shape}: {error}"
