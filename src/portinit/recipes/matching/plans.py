"""Which rule, layout and elements each leaf of a tree gets, and all that does not fit."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from portinit.arrays.dtypes import dtype_name
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout, Shape
from portinit.backends.plan import Full, Plan
from portinit.initializers.base import Initializer, Parameter
from portinit.recipes.matching.equal_initializers import EqualInitializers, knows_names
from portinit.recipes.matching.layouts.leaf_layouts import FoundLeaf
from portinit.recipes.matching.matcher import Matcher
from portinit.recipes.matching.misfits import headline, without_arrays, without_partners
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching, Pair
from portinit.recipes.matching.trees.leaf import Leaf
from portinit.recipes.matching.trees.tree import Tree
from portinit.recipes.names import ParameterSlice, times_held
from portinit.recipes.packed import may_lack
from portinit.recipes.pretrained import unused
from portinit.recipes.recipe import Recipe, require_recipe
from portinit.recipes.rule import RecipeError, Rule
from portinit.recipes.schemes import warn_of_missed
from portinit.recipes.warned import warn_caller


@dataclass(frozen=True)
class LeafPlan:
    """What one leaf gets: a parameter of the recipe or some rows of it, and how it lies.

    Attributes:
        leaf: the array, or the part of it.
        parameter: the parameter, or the rows of it.
        rule: the rule of the recipe that is for the parameter.
        initializer: the rule's, with what the model tells filled in.
        layout: how the leaf's axes are PyTorch's.
        grid: the parameter's elements that the leaf holds.
        kind: the kind of layer that owns the leaf, where it is known.
        values: what their values are; leaves with equal ones share it.
        is_extra: whether it is no parameter of PyTorch's, but has an initializer of its own.
    """

    leaf: Leaf
    parameter: ParameterSlice
    rule: Rule
    initializer: Initializer
    layout: Layout
    grid: Grid
    kind: str | None
    values: Plan
    is_extra: bool = False

    @property
    def is_cut_out(self) -> bool:
        """Whether all of the parameter is drawn, in PyTorch's order, and a part is cut out of it.

        Other parts, and whole parameters, are drawn by themselves.
        """
        is_box = self.parameter.elements is None
        return not is_box or self.grid.size != math.prod(self.leaf.shape)

    def cut_out(self, values: Any, xp: Any) -> Any:
        """The part of a parameter's values, as the leaf holds it."""
        whole = self.grid.shape
        numbers = self.parameter.of(np.arange(math.prod(whole)).reshape(whole))
        order = self.layout.from_torch(numbers, self.leaf.shape)
        return xp.take(values.reshape(-1), order, axis=0)

    @property
    def bound_rule(self) -> Rule:
        """The rule of the parameter alone, with all that the model tells filled in."""
        parameter = Parameter(self.parameter.name, self.grid.shape, self.kind)
        return self.rule.filled_in(parameter, self.initializer)

    @property
    def key_name(self) -> str:
        """The name that the root key is folded with."""
        return self.rule.drawn_as or self.parameter.name


def leaf_plans(tree: Tree, recipe: Recipe, request: MatchRequest) -> list[LeafPlan]:
    """A plan for each leaf of a tree, and for each layer of a leaf that is a stack.

    Raises:
        portinit.RecipeError: listing all that does not fit.

    Warns:
        UserWarning: listing what is guessed: pairs that names alone do not tell, layouts of
            square arrays that nothing tells, and kernels that may be stacked layers; and naming
            each scheme of which no rule matches a parameter.
    """
    known, kept = tree.knowledge, recipe.memory.get(_LAST)
    if kept is not None and kept[0] == known and request == MatchRequest():
        return [*kept[1]]
    matcher = Matcher(tree, recipe, request)
    plans, misfits = plans_of(matcher, recipe)
    if misfits:
        raise RecipeError(headline(matcher, misfits), misfits)
    if recipe.schemes:
        warn_of_missed(recipe.schemes, parameters_of(matcher))
    guesses, stacks = matcher.guesses, likely_stacks(matcher)
    warn_of_guesses(guesses, tree.adapter)
    warn_of_stacks(stacks)
    by_names = request == MatchRequest() and not matcher.is_aligned
    if by_names and not (guesses or stacks or recipe.schemes) and _are_lasting(plans):
        recipe.memory[_LAST] = known, tuple(plans)  # there is nothing to warn of again
    return plans


def _are_lasting(plans: Iterable[LeafPlan]) -> bool:
    """Whether plans stay right: no file is read anew, and no user's class asks for more."""
    different = {id(plan.values): plan for plan in plans}.values()
    return all(plan.values.lasting and not knows_names(plan.rule.initializer) for plan in different)


_LAST = "the plans of the last model"
"""Models of one form are often filled again, with another key, and need not be matched again."""


def parameters_of(matcher: Matcher) -> list[Parameter]:
    """The parameters that leaves are, or are parts of, as a recipe's patterns see them."""
    forms = matcher.tree.forms
    return [
        Parameter(found.parameter.name, found.leaf.shape, forms[found.leaf.path].kind)
        for found in matcher.found_leaves
    ]


def match(tree: Tree, recipe: Recipe, request: MatchRequest, *, strict: bool = True) -> Matching:
    """The pairs of a tree's leaves and a recipe's parameters, and what is left over.

    Raises:
        portinit.RecipeError: listing all that does not fit, if ``strict``.
    """
    require_recipe(recipe)
    matcher = Matcher(tree, recipe, request)
    misfits = plans_of(matcher, recipe)[1]
    if strict and misfits:
        raise RecipeError(headline(matcher, misfits), misfits)
    left = tuple(leaf.label for leaf in matcher.unmatched)
    return Matching(
        matcher.pairs,
        left,
        tuple(matcher.unclaimed),
        tuple(misfits),
        matcher.extras,
        request.ignore,
    )


def warn_of_guesses(guessed: Sequence[Pair], adapter: str) -> None:
    """Warn of the pairs and the layouts that are guessed."""
    if guessed:
        lines = [*map(str, guessed[:_SHOWN])]
        more = [f"and {len(guessed) - _SHOWN} more"] if len(guessed) > _SHOWN else []
        text = (
            f"{len(guessed)} arrays are matched by a guess; prove them by the models' outputs "
            "(portinit.testing.prove_match, portinit port), or state the pairs in names= "
            f"({adapter}.match(...).as_table() is such a table):"
        )
        warn_caller("\n  ".join([text, *lines, *more]))


def likely_stacks(matcher: Matcher) -> list[str]:
    """The kernels that are taken for convolutions, and may be stacked layers, with the reasons."""
    lines = []
    for found in matcher.found_leaves:
        if len(found.leaf.shape) != 3 or found.layout is not None:
            continue
        rule = matcher.known.rule(found.parameter.name)
        reason = matcher.tree.likely_stack(found.leaf.path)
        if reason is not None and (rule is None or rule.shape is None):
            lines.append(reason)
    return lines


def warn_of_stacks(lines: Sequence[str]) -> None:
    """Warn of kernels that may be stacked layers."""
    if lines:
        more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        taken = "1 kernel is" if len(lines) == 1 else f"{len(lines)} kernels are"
        text = f"{taken} taken for convolutions', as nothing tells otherwise:"
        warn_caller("\n  ".join([text, *lines[:_SHOWN], *more]))


_SHOWN = 20
"""How many guesses a warning lists."""


def plans_of(matcher: Matcher, recipe: Recipe) -> tuple[list[LeafPlan], list[str]]:
    """A plan for each leaf that has a rule, and a line for all that does not fit."""
    misfits = [*matcher.misfits_of_names, *without_partners(matcher), *without_arrays(matcher)]
    if not matcher.known.is_complete:
        misfits += unused(recipe, matcher.claimed)
    places, layouts = _Places(matcher, recipe), matcher.layouts
    plans: list[LeafPlan] = []
    parts: list[ParameterSlice] = []
    undefined: list[str] = []
    for found in matcher.found_leaves:
        leaf, parameter = found.leaf, found.parameter
        try:
            rule, place = places.of(found, layouts[leaf.path].layout)
        except RecipeError as error:
            misfits += error.misfits
            continue
        except ValueError as error:
            misfits.append(f"{leaf.label}: {error}")
            continue
        if not parameter.is_whole:
            parts.append(parameter)
        try:
            values = places.values(place, leaf)
        except (ValueError, TypeError) as error:
            undefined.append(f"{leaf.label} {leaf.shape}: {error}")
            continue
        extra = found.initializer is not None
        plans.append(LeafPlan(leaf, parameter, rule, *place, values, extra))
    return plans, [*misfits, *_uncovered(parts, matcher), *undefined]


class _Place(NamedTuple):
    """What leaves have in common that hold alike parameters in one way."""

    initializer: Initializer
    layout: Layout
    grid: Grid
    kind: str | None


class _Places:
    """The places of a tree's leaves, found once for all that are alike."""

    def __init__(self, matcher: Matcher, recipe: Recipe) -> None:
        self._known, self._tree, self._recipe = matcher.known, matcher.tree, recipe
        self._equal = EqualInitializers()
        self._places: dict[Hashable, _Place] = {}
        self._values: dict[tuple[int, Any], tuple[_Place, Plan]] = {}

    def of(self, found: FoundLeaf, layout: Layout) -> tuple[Rule, _Place]:
        """The rule and the place of a leaf.

        Raises:
            ValueError: the leaf cannot hold the parameter, or no rule is for it.
        """
        path = found.leaf.path
        own = self._known.own_rules.get(found.parameter.name)
        if own is None or not self._is_plain(found, own):
            return self._asked(found, layout, own)
        same, form = self._equal.same(own.initializer), self._tree.forms[path]
        siblings = self._tree.siblings(path)
        alike = form, id(layout), id(same.first), own.shape, siblings
        if alike not in self._places or same.knows_names:
            self._places[alike] = self._asked(found, layout, own)[1]
        return own, self._places[alike]

    def _is_plain(self, found: FoundLeaf, own: Rule) -> bool:
        """Whether a leaf holds all of a parameter whose own rule is the first for its name."""
        is_first = self._known.is_complete and own.kind is None and own.shape is not None
        return is_first and found.parameter.is_whole and found.initializer is None

    def _asked(self, found: FoundLeaf, layout: Layout, own: Rule | None) -> tuple[Rule, _Place]:
        """The rule and the place of a leaf, by what the recipe says of its parameter."""
        leaf, parameter, tree = found.leaf, found.parameter, self._tree
        whole = own.shape if own else None
        if whole is None and found.layout is None and found.initializer is None:
            unstated = tree.unstated_stack(leaf.path)
            if unstated is not None:
                raise ValueError(unstated)
        grid = Grid.whole(layout.seen(leaf.shape), layout)
        described = tree.describe(leaf.path, parameter.name, grid.shape)
        asked = replace(described, shape=whole) if whole and not parameter.is_whole else described
        if found.initializer is None:
            rule, initializer = self._recipe.rule_and_initializer(asked)
            drawn_as = rule.draws_with(asked)
            rule = rule if drawn_as == rule.drawn_as else replace(rule, drawn_as=drawn_as)
        else:
            rule = Rule(described.name, found.initializer)
            initializer = found.initializer.bound(described)
        if layout.roles == "oi" and self._equal.same(initializer).names_axes:
            layout = replace(layout, roles="as is")  # axes are PyTorch's, on either side
            grid = Grid.whole(layout.seen(leaf.shape), layout)
        if not parameter.is_whole:
            wanted = None if whole is None else parameter.shape_in(whole)
            if whole is None or described.shape != wanted:
                raise ValueError(
                    f"{parameter} needs an array of {wanted} in PyTorch, got {described.shape}"
                )
            grid = _grid_within(grid, parameter, whole)
        return rule, _Place(initializer, layout, grid, described.kind)

    def values(self, place: _Place, leaf: Leaf) -> Plan:
        """The plan of a leaf's values.

        Raises:
            TypeError, ValueError: the initializer is not defined for the shape or the dtype.
        """
        form = id(place), leaf.dtype
        if form not in self._values:
            first, dtype = self._equal.same(place.initializer).first, dtype_name(leaf.dtype)
            is_empty = 0 in leaf.shape  # nothing to draw, and no fans
            plan = Full(0.0) if is_empty else first.planned(place.grid, dtype)
            self._values[form] = place, plan  # which keeps its id its own
        return self._values[form][1]


def _grid_within(grid: Grid, parameter: ParameterSlice, whole: Shape) -> Grid:
    """The grid of an array that holds a part of a parameter; all of it where the part has none."""
    if parameter.elements is None:
        limits = parameter.limits(whole)
        starts = zip(range(len(whole)), limits, strict=True)
        if all(grid.can_start(axis, r.start) and r.step == 1 for axis, r in starts):
            for axis, (size, limit) in enumerate(zip(whole, limits, strict=True)):
                if len(limit) != size:
                    grid = grid.within(size, limit.start, axis)
            return grid
    return Grid.whole(whole, replace(grid.layout, axis0=(0,), axis1=(1,), flip=False, view=None))


def _uncovered(parts: Iterable[ParameterSlice], matcher: Matcher) -> Iterator[str]:
    """Parameters of which some elements are in no array, or in two."""
    of_name: dict[str, list[ParameterSlice]] = {}
    for part in parts:
        if not matcher.request.ignores(part.name):
            of_name.setdefault(part.name, []).append(part)
    for name, held in of_name.items():
        rule = matcher.known.own_rules[name]
        shape = rule.shape or (0,)
        uses = times_held(held, shape)
        rows = uses.reshape(shape[0], -1) if len(shape) > 0 else uses
        absent = np.flatnonzero((rows == 0).any(axis=1)).tolist() if rows.ndim > 1 else []
        if (uses > 1).any() or (absent and not may_lack(rule, absent)):
            texts = [part.rows or str(part) for part in held]
            yield f"{name}: each of its {shape[0]} rows must be in one array, got {texts}"
