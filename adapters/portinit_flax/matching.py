"""Which rule, layout and name each leaf of a Flax tree gets."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from portinit import Layout, Parameter, Recipe, Rule
from portinit.arrays.dtypes import dtype_name
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import LAYOUTS, Shape
from portinit.initializers.base import Initializer
from portinit.initializers.jax_schemes import variance_scaling
from portinit.initializers.like_jax import like_jax
from portinit.recipes.matching.alignment import Item, align
from portinit.recipes.matching.by_name import NameIndex
from portinit.recipes.matching.layouts import Choice, decide, fitting_layouts, same_order
from portinit.recipes.matching.result import Evidence, LayoutEvidence, Matching, Pair
from portinit.recipes.matching.tables import NameTable, Table, Target
from portinit.recipes.matching.words import likeness, path_words, role_of, words_of
from portinit.recipes.names import ParameterSlice, torch_name
from portinit.recipes.packed import may_lack
from portinit.recipes.pretrained import unused, used_tensors
from portinit.recipes.rule import RecipeError, is_usual, raise_misfits
from portinit_flax.recurrent import names_of_cells
from portinit_flax.stacked_layers import Stacks
from portinit_flax.tree import Leaf, Path, Tree, classes_of, definition_order, leaves, tree_of


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


@dataclass(frozen=True)
class MatchRequest:
    """What is asked of a matching.

    Attributes:
        names: the user's table, as for :func:`portinit_flax.initialize`.
        stacked: from the path of what is repeated to the axis that its layers lie along.
        ignore: patterns of the recipe's names that the tree need not have.
    """

    names: NameTable = field(default_factory=dict)
    stacked: Mapping[str, int] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        names: NameTable | None,
        stacked: Mapping[str, int] | None = None,
        ignore: str | Iterable[str] = (),
    ) -> MatchRequest:
        """A request as callers write it."""
        patterns = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        return cls(names or {}, stacked or {}, patterns)


def leaf_plans(model: Any, recipe: Recipe, request: MatchRequest) -> list[LeafPlan]:
    """A plan for each leaf of a model, and for each layer of a leaf that is a stack.

    Raises:
        portinit.RecipeError: listing all that does not fit.

    Warns:
        UserWarning: listing what is guessed: pairs that names alone do not tell, and layouts of
            square arrays that nothing tells.
    """
    matcher = Matcher(model, recipe, request)
    plans, misfits = matcher.plans()
    raise_misfits("the tree and the recipe must fit", misfits)
    warn_of_guesses(matcher.pairs)
    return plans


def warn_of_guesses(pairs: Iterable[Pair]) -> None:
    """Warn of the pairs and the layouts that are guessed."""
    guessed = [pair for pair in pairs if not pair.is_sure]
    if guessed:
        lines = [*map(str, guessed[:_SHOWN])]
        more = [f"and {len(guessed) - _SHOWN} more"] if len(guessed) > _SHOWN else []
        text = (
            f"{len(guessed)} arrays are matched by a guess; compare the models' outputs, or state "
            "the pairs in names= (portinit_flax.match(...).as_table() is such a table):"
        )
        warnings.warn("\n  ".join([text, *lines, *more]), stacklevel=5)


_SHOWN = 20
"""How many guesses a warning lists."""


@dataclass(frozen=True)
class FoundLeaf:
    """A leaf whose parameter is found."""

    leaf: Leaf
    parameter: ParameterSlice
    evidence: Evidence
    layout: Layout | None = None
    initializer: Initializer | None = None


class Matcher:
    """A model's leaves and a recipe's rules, matched: by the table, by names, by structure.

    Args:
        model: an nnx module, or a tree.
        recipe: rules for PyTorch's names.
        request: what the user states.
    """

    def __init__(self, model: Any, recipe: Recipe, request: MatchRequest) -> None:
        self._recipe, self._request = recipe, request
        self._rules = {rule.name: rule for rule in recipe.rules[::-1] if rule.name is not None}
        self._is_complete = bool(recipe.rules) and len(recipe.patterns) == 0
        self._table = Table(request.names)
        self._model = model
        found = leaves(tree_of(model))[0]
        self._known = _known_names(recipe, found)
        shapes = {name: self._shape(name) for name in self._known}
        index = NameIndex(self._known)
        split = Stacks(shapes, index, self._table, request.stacked).split(found)
        self.tree = Tree(split.leaves, classes_of(model))
        self._targets = split.targets
        self._misfits = list(split.misfits)
        self._found: dict[Path, FoundLeaf] = {}
        self._unmatched: list[Leaf] = []
        self._claims: dict[str, list[str]] = {}
        self._run(index)

    # Names and structure

    def _run(self, index: NameIndex) -> None:
        stated = {"/".join(path) for path in self._targets}
        cells, amiss = names_of_cells(self.tree, self._recipe, dict.fromkeys(stated))
        self._misfits += [
            f"{k}: in the table of names, but not in the tree" for k in self._table.unused()
        ]
        self._misfits += amiss
        for leaf in self.tree.leaves.values():
            if leaf.path in self._targets:
                self._take_stated(leaf, *self._targets[leaf.path], index)
            elif leaf.label in cells:
                self._take(leaf, ParameterSlice.parse(cells[leaf.label]), Evidence.NAME)
            else:
                self._take_by_name(leaf, leaf.path, index)
        if self._unmatched and self._is_complete:
            self._align()
        for leaf in () if self._is_complete else self._unmatched:
            self._take(leaf, ParameterSlice(torch_name(leaf.path)), Evidence.NAME)
        self._found = {path: self._found[path] for path in self.tree.leaves if path in self._found}

    def _take(
        self,
        leaf: Leaf,
        parameter: ParameterSlice,
        evidence: Evidence,
        layout: Layout | None = None,
        initializer: Initializer | None = None,
    ) -> None:
        self._claims.setdefault(str(parameter), []).append(leaf.label)
        own = self._known.get(parameter.name, parameter)
        if parameter.rows is not None:
            own = replace(own, rows=parameter.rows)
        self._found[leaf.path] = FoundLeaf(leaf, own, evidence, layout, initializer)

    def _take_stated(self, leaf: Leaf, target: Target, below: Path, index: NameIndex) -> None:
        if target.initializer is not None:
            own = ParameterSlice(torch_name(leaf.path))
            self._take(leaf, own, Evidence.TABLE, initializer=target.initializer)
            return
        parameter = target.parameter or ParameterSlice("")
        if below:
            self._take_by_name(leaf, (*parameter.name.split("."), *below), index)
            if leaf.path in self._found:
                self._found[leaf.path] = replace(self._found[leaf.path], evidence=Evidence.TABLE)
            return
        if self._is_complete and parameter.name not in self._known:
            self._misfits.append(f"{leaf.label}: the recipe has no {parameter}")
        self._take(leaf, parameter, Evidence.TABLE, target.layout)

    def _take_by_name(self, leaf: Leaf, path: Path, index: NameIndex) -> None:
        names, evidence = index.find(path)
        if evidence is Evidence.REWRITTEN and not (len(names) == 1 and self._fits(leaf, names[0])):
            names = []
        if len(names) == 1:
            self._take(leaf, ParameterSlice(names[0]), evidence)
        elif names:
            self._misfits.append(f"{leaf.label}: could be any of {', '.join(names)}")
        else:
            self._unmatched.append(leaf)

    def _fits(self, leaf: Leaf, name: str) -> bool:
        """Whether a leaf can hold a parameter that it is not by its own words."""
        shape = self._shape(name)
        return self._is_complete and (shape is None or bool(fitting_layouts(leaf.shape, shape)))

    def _shape(self, name: str) -> Shape | None:
        """PyTorch's shape of a parameter by one of its names; None if it is not known."""
        known = self._known[name]
        whole = self._rules[known.name].shape
        return None if whole is None else known.shape_in(whole)

    def _align(self) -> None:
        """Pair what names have left over by the structure of both models."""
        names = [name for name in self._known if self._takes_part(name)]
        self._align_with(names)
        if self._unmatched:  # an array of its own for a tied parameter's other name
            others = [n for n in self._known if self._is_other_name(n) and n not in self._claims]
            self._align_with([*names, *others] if others else [])

    def _align_with(self, names: Sequence[str]) -> None:
        """Pair what is left over with some of the names."""
        numbers = {str(self._known[name]): i for i, name in reversed([*enumerate(names)])}
        every = [
            leaf
            for leaf in self.tree.leaves.values()
            if leaf.path not in self._found or str(self._found[leaf.path].parameter) in numbers
        ]
        places = {path: i for i, path in enumerate(definition_order(self._model) or ())}
        ordered = bool(places) and all(leaf.array in places for leaf in every)
        left = [
            Item(leaf.path, math.prod(leaf.shape), places[leaf.array] if ordered else i)
            for i, leaf in enumerate(every)
        ]
        right = [
            Item(tuple(name.split(".")), math.prod(self._shape(name) or ()), i)
            for i, name in enumerate(names)
        ]
        known = [
            (i, numbers[str(self._found[leaf.path].parameter)])
            for i, leaf in enumerate(every)
            if leaf.path in self._found
        ]
        for pair in align(left, right, known, ordered=ordered):
            leaf, name = every[pair.left], names[pair.right]
            if leaf.path not in self._found and self._fits(leaf, name):
                self._take(leaf, ParameterSlice(name), pair.evidence)
        self._unmatched = [leaf for leaf in self._unmatched if leaf.path not in self._found]

    def _takes_part(self, name: str) -> bool:
        """Whether a parameter may be paired by structure: not a buffer that the tree lacks."""
        known = self._known[name]
        rule = self._rules[known.name]
        is_whole = known.rows is None and name in self._packed
        if (
            is_whole
            or self._is_other_name(name)
            or rule.shape is None
            or self._is_ignored(known.name)
            or may_lack(rule)
        ):
            return False
        return not rule.buffer or name.rpartition(".")[2] in self._roles

    def _is_other_name(self, name: str) -> bool:
        """Whether a name is a tied parameter's, and not its first."""
        return self._known[name].rows is None and self._known[name].name != name

    @cached_property
    def _packed(self) -> set[str]:
        """The parameters whose parts are known by names of their own."""
        return {known.name for known in self._known.values() if known.rows is not None}

    @cached_property
    def _roles(self) -> frozenset[str]:
        return frozenset(role_of(path[-1]) for path in self.tree.leaves) - {"weight", "bias"}

    def _is_ignored(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._request.ignore)

    # What is left over

    def _unclaimed(self) -> list[str]:
        """The parameters that must have an array and have none."""
        claimed = {found.parameter.name for found in self._found.values()}
        used = used_tensors(self._recipe, claimed)
        return [
            name
            for name, rule in self._rules_in_order
            if name not in claimed
            and rule.initializer not in used
            and not rule.buffer
            and not self._is_ignored(name)
            and not may_lack(rule)
        ]

    @property
    def _rules_in_order(self) -> Iterator[tuple[str, Rule]]:
        return ((name, self._rules[name]) for name in self._recipe.names)

    def _no_partner(self, leaf: Leaf) -> str:
        line = f"{leaf.label}: the recipe has no such name"
        claimed = {found.parameter.name for found in self._found.values()}
        size, words = math.prod(leaf.shape), path_words(leaf.path, leaf=True)
        likely = [
            name
            for name, rule in self._rules_in_order
            if name not in claimed and rule.shape is not None and math.prod(rule.shape) == size
        ]
        likely.sort(key=lambda name: -likeness(words, path_words(name.split("."), leaf=True)))
        if not likely:
            return line
        more = ", ..." if len(likely) > _CANDIDATES else ""
        return f"{line}; of its size {leaf.shape}: {', '.join(likely[:_CANDIDATES])}{more}"

    def _twice(self) -> Iterator[str]:
        """A line for each name that several arrays are for."""
        for name, labels in self._claims.items():
            if len(labels) > 1 and not self._may_share(name, labels):
                yield f"{name}: claimed by {' and '.join(labels)}"

    def _may_share(self, name: str, labels: Sequence[str]) -> bool:
        """Whether arrays may be copies of one parameter: the table says so of all but one."""
        stated = [
            label
            for label in labels
            for found in self._found.values()
            if found.leaf.label == label and found.evidence is Evidence.TABLE
        ]
        return len(stated) == len(labels)

    # Layouts

    @cached_property
    def _layouts(self) -> dict[Path, tuple[Layout, LayoutEvidence, tuple[Layout, ...]]]:
        """The layout of each leaf that is matched, what it rests on, and others that fit."""
        layouts: dict[Path, tuple[Layout, LayoutEvidence, tuple[Layout, ...]]] = {}
        open_choices: list[tuple[FoundLeaf, Choice]] = []
        for path, found in self._found.items():
            rule = self._rules.get(found.parameter.name)
            wanted = None if rule is None or rule.shape is None else rule.shape
            stated = found.layout
            if (
                stated is None
                and rule is not None
                and (wanted is None or not is_usual(rule.layout))
            ):
                stated = rule.layout
            if stated is not None:
                if wanted is not None:
                    stated = _with_ones(stated, found.leaf.shape, found.parameter.shape_in(wanted))
                layouts[path] = stated, LayoutEvidence.STATED, ()
            elif wanted is None or found.initializer is not None:
                layouts[path] = self.tree.layout(path), LayoutEvidence.CONVENTION, ()
            else:
                choice = self._choice(found, rule, found.parameter.shape_in(wanted))
                if choice is None:
                    layouts[path] = self._prior(found.leaf, rule), LayoutEvidence.CONVENTION, ()
                else:
                    open_choices.append((found, choice))
        decided = decide([(choice, found.leaf.shape) for found, choice in open_choices])
        for (found, choice), (layout, evidence) in zip(open_choices, decided, strict=True):
            others = tuple(one for one in choice.layouts if one != layout)
            layouts[found.leaf.path] = layout, evidence, others
        return layouts

    def _choice(self, found: FoundLeaf, rule: Rule | None, wanted: Shape) -> Choice | None:
        leaf = found.leaf
        roles = rule.layout.roles if rule is not None and rule.layout is not None else "oi"
        layouts = fitting_layouts(leaf.shape, wanted, roles)
        if rule is not None and rule.layout is not None and not layouts:
            layouts = _if_it_fits(rule.layout, leaf.shape, wanted)
        if not layouts:
            return None
        prior = self._prior(leaf, rule)
        usual = rule.layout if rule is not None else None
        if usual is not None and _if_it_fits(usual, leaf.shape, wanted):
            layouts = (usual, *(one for one in layouts if one != usual))
            prior = usual
        word = leaf.path[-1]
        of_class = self.tree.class_of(leaf.path)
        own = word in _CONVENTIONS or len(leaf.shape) < 2
        if own and of_class in _OF_ONE_LAYOUT and len(leaf.shape) > 1:
            layouts = tuple(one for one in layouts if same_order(one, prior, leaf.shape))
            if not layouts:
                return None
        group: Hashable = (word, roles, len(wanted) > 2, of_class)
        return Choice(layouts, prior, own, of_class in _OWN_CLASSES and own, group)

    def _prior(self, leaf: Leaf, rule: Rule | None) -> Layout:
        """The layout that names speak for."""
        path = leaf.path
        if path[-1] == "w" and len(leaf.shape) > 1:
            return LAYOUTS["flax"]
        return self.tree.layout(path)

    # Results

    @property
    def found(self) -> list[tuple[FoundLeaf, Layout]]:
        """The leaves whose parameters are found, with their layouts."""
        return [(found, self._layouts[path][0]) for path, found in self._found.items()]

    @property
    def unmatched(self) -> list[Leaf]:
        """The leaves whose parameters are not found."""
        return self._unmatched if self._is_complete else []

    @property
    def unclaimed(self) -> list[str]:
        """The parameters that must have an array and have none."""
        return self._unclaimed() if self._is_complete else []

    @property
    def misfits_of_names(self) -> list[str]:
        """A line for all that is wrong with the table, the names, the stacks and the cells."""
        return [*self._misfits, *self._twice()]

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs of leaves and parameters, with their evidence."""
        return tuple(
            Pair(found.leaf, found.parameter, layout, found.evidence, evidence, others)
            for found, (layout, evidence, others) in (
                (found, self._layouts[path]) for path, found in self._found.items()
            )
        )

    @cached_property
    def matching(self) -> Matching:
        """The pairs, and what is left over."""
        left = tuple(leaf.label for leaf in self.unmatched)
        return Matching(self.pairs, left, tuple(self.unclaimed), tuple(self.plans()[1]))

    def plans(self) -> tuple[list[LeafPlan], list[str]]:
        """A plan for each leaf that has a rule, and a line for all that does not fit."""
        return self._plans

    @cached_property
    def _plans(self) -> tuple[list[LeafPlan], list[str]]:
        misfits = [*self.misfits_of_names, *map(self._no_partner, self.unmatched)]
        misfits += [f"{name}: no such parameter in the tree" for name in self.unclaimed]
        if not self._is_complete:
            claimed = {found.parameter.name for found in self._found.values()}
            misfits += unused(self._recipe, claimed)
        plans = []
        for found in self._found.values():
            try:
                plans.append(self._plan(found))
            except RecipeError as error:
                misfits += error.misfits
            except ValueError as error:
                misfits.append(f"{found.leaf.label}: {error}")
        return plans, [*misfits, *_uncovered(plans), *_unsuited(plans)]

    def _plan(self, found: FoundLeaf) -> LeafPlan:
        leaf, parameter = found.leaf, found.parameter
        layout = self._layouts[leaf.path][0]
        rule = self._rules.get(parameter.name)
        whole = rule.shape if rule else None
        if whole is None and found.layout is None and found.initializer is None:
            stacked = self.tree.stacked_kernel(leaf.path)
            if stacked is not None:
                raise ValueError(stacked)
        described = self.tree.describe(leaf.path, parameter.name, layout)
        whole_shape = whole if whole is not None and parameter.rows is not None else None
        bound = self._bound(found, replace(described, shape=whole_shape or described.shape))
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

    def _bound(self, found: FoundLeaf, described: Parameter) -> Rule:
        if found.initializer is not None:
            return Rule(described.name, found.initializer).bound(described)
        return self._recipe.rule_for(described)


def _known_names(recipe: Recipe, found: Sequence[Leaf]) -> dict[str, ParameterSlice]:
    """What a recipe's names stand for: parameters, a tied one's other names, packed parts.

    ``in_proj_weight`` of PyTorch's attention is three parameters to a tree that has them apart.
    """
    known = {name: ParameterSlice(name) for name in recipe.names}
    for rule in recipe.rules:
        for alias in rule.other_names:
            known.setdefault(alias, ParameterSlice(rule.name or rule.pattern))
    words = {word for leaf in found for part in leaf.path for word in words_of(part)}
    if not {"query", "q"} & words or any("in_proj" in leaf.label for leaf in found):
        return known
    for rule in recipe.rules:
        module, _, leaf_name = (rule.name or "").rpartition(".in_proj_")
        if leaf_name in ("weight", "bias") and rule.shape is not None and rule.shape[0] % 3 == 0:
            rows = rule.shape[0] // 3
            for i, part in enumerate(("query", "key", "value")):
                own = ParameterSlice(str(rule.name), range(i * rows, (i + 1) * rows))
                known[f"{module}.{part}.{leaf_name}"] = own
    return known


def _names_axes(initializer: Initializer) -> bool:
    """Whether an initializer computes fans on axes that are named; not in JAX's own order."""
    if isinstance(initializer, variance_scaling):
        return initializer.names_axes
    return not isinstance(initializer, like_jax) and any(map(_names_axes, initializer.parts()))


_CANDIDATES = 4
_CONVENTIONS = frozenset({"kernel", "embedding", "bias", "scale", "mean", "var"})
"""Words for arrays that Flax's own layers use, always for the same layout."""

_OF_ONE_LAYOUT = frozenset({"Dense", "Linear", "Conv", "Embed"})
"""Classes of Flax whose arrays lie in one way, whatever PyTorch's shape."""

_OWN_CLASSES = _OF_ONE_LAYOUT | {"DenseGeneral", "LinearGeneral", "ConvTranspose"}


def _if_it_fits(layout: Layout, shape: Shape, wanted: Shape) -> tuple[Layout, ...]:
    try:
        return (layout,) if layout.logical_shape(shape) == wanted else ()
    except ValueError:
        return ()


def _with_ones(layout: Layout, shape: Shape, wanted: Shape) -> Layout:
    """A stated layout of a vector, seen with PyTorch's axes of length 1 that the array lacks.

    The magnitudes of weight norm are (out, 1, 1) in PyTorch and (out,) in Flax.
    """
    lacks_ones = len(shape) < 2 and [n for n in wanted if n != 1] == [n for n in shape if n != 1]
    if not lacks_ones or layout.view is not None or wanted == shape:
        return layout
    return Layout(roles=layout.roles, view=wanted)


def _uncovered(plans: list[LeafPlan]) -> Iterator[str]:
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


def _unsuited(plans: list[LeafPlan]) -> Iterator[str]:
    for plan in plans:
        try:
            plan.rule.initializer.planned(plan.grid, dtype_name(plan.leaf.dtype))
        except (ValueError, TypeError) as error:
            yield f"{plan.leaf.label} {plan.leaf.shape}: {error}"
