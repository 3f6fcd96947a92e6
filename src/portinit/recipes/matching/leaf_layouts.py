"""The layouts of leaves whose parameters are found: stated, told by shapes, or by convention."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from portinit.arrays.layouts import LAYOUTS, Layout, Shape
from portinit.initializers.base import Initializer
from portinit.recipes.matching.known_names import KnownNames
from portinit.recipes.matching.layouts import Choice, decide, fitting_layouts, same_order
from portinit.recipes.matching.leaf import Leaf, Path
from portinit.recipes.matching.result import Evidence, LayoutEvidence
from portinit.recipes.matching.tree import Tree
from portinit.recipes.matching.uses import TwinUses, agrees, common_use
from portinit.recipes.names import ParameterSlice
from portinit.recipes.rule import Rule, is_usual


@dataclass(frozen=True)
class FoundLeaf:
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
    layouts: dict[Path, LeafLayout] = {}
    choices: dict[Hashable, Choice | None] = {}
    open_choices: dict[Hashable, tuple[Choice, Shape]] = {}
    open_leaves: list[tuple[Path, Hashable]] = []
    for one in found:
        rule = known.own_rules.get(one.parameter.name)
        wanted = None if rule is None or rule.shape is None else rule.shape
        path, stated = one.leaf.path, one.layout
        if stated is None and rule is not None and (wanted is None or not is_usual(rule.layout)):
            stated = rule.layout
        if stated is not None:
            if one.evidence is Evidence.TABLE and rule is not None and stated.roles == "oi":
                stated = replace(stated, roles=rule.torch_layout.roles)
            if wanted is not None:
                stated = _with_ones(stated, one.leaf.shape, one.parameter.shape_in(wanted))
            layouts[path] = LeafLayout(stated, LayoutEvidence.STATED)
        elif wanted is None or one.initializer is not None:
            layouts[path] = LeafLayout(tree.layout(path), LayoutEvidence.CONVENTION)
        else:
            asked = _Asked.of(one, rule, one.parameter.shape_in(wanted), tree)
            form = asked if uses is None else path  # what equal leaves have in common
            if form not in choices:
                choices[form] = choice = _choice(one, asked, tree, uses)
                if choice is not None:
                    open_choices[form] = choice, one.leaf.shape
            if form in open_choices:
                open_leaves.append((path, form))
            else:
                layouts[path] = LeafLayout(asked.prior, LayoutEvidence.CONVENTION)
    decided = dict(zip(open_choices, _decided([*open_choices.values()]), strict=True))
    return layouts | {path: decided[form] for path, form in open_leaves}


def _decided(choices: Sequence[tuple[Choice, Shape]]) -> Iterator[LeafLayout]:
    for (choice, _), (layout, evidence) in zip(choices, decide(choices), strict=True):
        others = tuple(other for other in choice.layouts if other != layout)
        yield LeafLayout(layout, evidence, others)


class _Asked(NamedTuple):
    """All that the choice of a leaf's layout depends on, apart from how the leaf is used.

    Attributes:
        shape: the leaf's.
        wanted: the parameter's shape in PyTorch.
        of_rule: the layout of the parameter's rule.
        word: the leaf's own name.
        of_class: the class of the leaf's module.
        prior: the layout that names speak for.
        usual: the layout by the kind of PyTorch's layer.
    """

    shape: Shape
    wanted: Shape
    of_rule: Layout | None
    word: str
    of_class: str | None
    prior: Layout
    usual: Layout | None

    @classmethod
    def of(cls, found: FoundLeaf, rule: Rule | None, wanted: Shape, tree: Tree) -> _Asked:
        leaf, of_rule = found.leaf, None if rule is None else rule.layout
        prior, usual = _prior(leaf, tree), tree.usual_layout(leaf.path, of_rule)
        of_class = tree.class_of(leaf.path)
        return cls(leaf.shape, wanted, of_rule, leaf.path[-1], of_class, prior, usual)


def _choice(found: FoundLeaf, asked: _Asked, tree: Tree, uses: TwinUses | None) -> Choice | None:
    shape, wanted, of_rule, word, of_class, prior, usual = asked
    roles = "oi" if of_rule is None else of_rule.roles
    layouts = fitting_layouts(shape, wanted, roles)
    if of_rule is not None and not layouts:
        layouts = _if_it_fits(of_rule, shape, wanted)
    if not layouts:
        return None
    if usual is not None and _if_it_fits(usual, shape, wanted):
        layouts = (usual, *(one for one in layouts if one != usual))
        prior = usual
    contracted = None if uses is None else _contracted(found, layouts, uses)
    own = word in tree.words or len(shape) < 2
    if own and of_class in tree.one_layout_classes and len(shape) > 1 and contracted is None:
        layouts = tuple(one for one in layouts if same_order(one, prior, shape))
        if not layouts:
            return None
    group: Hashable = (word, roles, len(wanted) > 2, of_class)
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


def _prior(leaf: Leaf, tree: Tree) -> Layout:
    """The layout that names speak for."""
    if leaf.path[-1] == "w" and len(leaf.shape) > 1:
        return LAYOUTS["flax"]
    return tree.layout(leaf.path)


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
