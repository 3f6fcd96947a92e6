"""The layouts of leaves whose parameters are found: stated, told by shapes, or by convention."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from portinit.arrays.layouts import LAYOUTS, Layout, Shape
from portinit.initializers.base import Initializer
from portinit.recipes.matching.evidence import Evidence, LayoutEvidence
from portinit.recipes.matching.layouts.fitting import Choice, decide, fitting_layouts, same_order
from portinit.recipes.matching.names.known_names import KnownNames
from portinit.recipes.matching.trees.leaf import Leaf, Path
from portinit.recipes.matching.trees.tree import Form, Tree
from portinit.recipes.matching.uses.uses import TwinUses, agrees, common_use
from portinit.recipes.names import ParameterSlice
from portinit.recipes.rule import is_usual


class FoundLeaf(NamedTuple):
    """A leaf whose parameter is found."""

    leaf: Leaf
    parameter: ParameterSlice
    evidence: Evidence
    layout: Layout | None = None
    initializer: Initializer | None = None
    note: str = ""


class LeafLayout(NamedTuple):
    """The layout of a leaf, what it rests on, and others that fit the shapes as well."""

    layout: Layout
    evidence: LayoutEvidence
    others: tuple[Layout, ...] = ()


def layouts_of(
    found: Iterable[FoundLeaf], known: KnownNames, tree: Tree, uses: TwinUses | None = None
) -> dict[Path, LeafLayout]:
    """The layout of each leaf whose parameter is found."""
    numbers: dict[Hashable, int] = {}
    number_of: dict[Path, int] = {}
    told: dict[int, LeafLayout] = {}
    choices: dict[int, tuple[Choice, Shape]] = {}
    for one in found:
        asked, path = _Asked.of(one, known, tree), one.leaf.path
        # without uses, leaves of which the same is asked lie alike
        new = len(numbers)
        number = number_of[path] = numbers.setdefault(asked if uses is None else path, new)
        if number < new:
            continue
        if asked.stated is not None:
            told[new] = LeafLayout(asked.stated, LayoutEvidence.STATED)
            continue
        choice = None if asked.wanted is None else _choice(one, asked, tree, uses)
        if choice is None:
            prior = asked.form.layout if asked.wanted is None else _prior(asked.form)
            told[new] = LeafLayout(prior, LayoutEvidence.CONVENTION)
        else:
            choices[new] = choice, asked.form.shape
    told |= zip(choices, _decided([*choices.values()]), strict=True)
    return {path: told[number] for path, number in number_of.items()}


def _decided(choices: Sequence[tuple[Choice, Shape]]) -> Iterator[LeafLayout]:
    for (choice, _), (layout, evidence) in zip(choices, decide(choices), strict=True):
        others = tuple(other for other in choice.layouts if other != layout)
        yield LeafLayout(layout, evidence, others)


class _Asked(NamedTuple):
    """All that a leaf's layout depends on, apart from how the leaf is used.

    Attributes:
        form: the leaf's.
        wanted: the parameter's shape in PyTorch, where it has a part in the choice.
        stated: the layout that the table or the rule states.
        of_rule: the layout of the parameter's rule.
    """

    form: Form
    wanted: Shape | None
    stated: Layout | None
    of_rule: Layout | None

    @classmethod
    def of(cls, found: FoundLeaf, known: KnownNames, tree: Tree) -> _Asked:
        form, stated = tree.forms[found.leaf.path], found.layout
        rule = known.own_rules.get(found.parameter.name)
        if rule is None:
            return cls(form, None, stated, None)
        wanted = None if rule.shape is None else found.parameter.shape_in(rule.shape)
        if stated is None and (wanted is None or not is_usual(rule.layout)):
            stated = rule.layout
        if stated is not None:
            if found.evidence is Evidence.TABLE and stated.roles == "oi":
                stated = replace(stated, roles=rule.torch_layout.roles)
            if wanted is not None:
                stated = _with_ones(stated, form.shape, wanted)
            return cls(form, None, stated, None)
        return cls(form, wanted if found.initializer is None else None, None, rule.layout)


def _choice(found: FoundLeaf, asked: _Asked, tree: Tree, uses: TwinUses | None) -> Choice | None:
    form, wanted, of_rule = asked.form, asked.wanted or (), asked.of_rule
    shape, of_class, prior = form.shape, form.of_class, _prior(form)
    roles = "oi" if of_rule is None else of_rule.roles
    layouts = fitting_layouts(shape, wanted, roles)
    if of_rule is not None and not layouts:
        layouts = _if_it_fits(of_rule, shape, wanted)
    if not layouts:
        return None
    usual = tree.usual_layout(found.leaf, of_rule)
    if usual is not None and _if_it_fits(usual, shape, wanted):
        layouts = (usual, *(one for one in layouts if one != usual))
        prior = usual
    contracted = None if uses is None else _contracted(found, layouts, uses)
    own = form.word in tree.words or len(shape) < 2
    if own and of_class in tree.one_layout_classes and len(shape) > 1 and contracted is None:
        layouts = tuple(one for one in layouts if same_order(one, prior, shape))
        if not layouts:
            return None
    group: Hashable = (form.word, roles, len(wanted) > 2, of_class)
    by_class = of_class in tree.own_classes and own
    return Choice(layouts, prior, own, by_class, group, contracted)


def _contracted(found: FoundLeaf, layouts: tuple[Layout, ...], uses: TwinUses) -> Layout | None:
    """The only layout in which both forward passes sum over the same axes."""
    common = common_use(uses.of_name(found.parameter.name), uses.of_leaf(found.leaf))
    if common is None:
        return None
    verdicts = [agrees(layout, found.leaf.shape, *common) for layout in layouts]
    told = [layout for layout, good in zip(layouts, verdicts, strict=True) if good]
    return told[0] if len(told) == 1 and None not in verdicts else None


def _prior(form: Form) -> Layout:
    """The layout that names speak for."""
    if form.word == "w" and len(form.shape) > 1:
        return LAYOUTS["flax"]
    return form.layout


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
