"""The layouts of leaves whose parameters are found: stated, told by shapes, or by convention."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
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
    open_choices: list[tuple[FoundLeaf, Choice]] = []
    for one in found:
        rule = known.rule(one.parameter.name)
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
            choice = _choice(one, rule, one.parameter.shape_in(wanted), tree, uses)
            if choice is None:
                layouts[path] = LeafLayout(_prior(one.leaf, tree), LayoutEvidence.CONVENTION)
            else:
                open_choices.append((one, choice))
    decided = decide([(choice, one.leaf.shape) for one, choice in open_choices])
    for (one, choice), (layout, evidence) in zip(open_choices, decided, strict=True):
        others = tuple(other for other in choice.layouts if other != layout)
        layouts[one.leaf.path] = LeafLayout(layout, evidence, others)
    return layouts


def _choice(
    found: FoundLeaf, rule: Rule | None, wanted: Shape, tree: Tree, uses: TwinUses | None
) -> Choice | None:
    leaf = found.leaf
    roles = rule.layout.roles if rule is not None and rule.layout is not None else "oi"
    layouts = fitting_layouts(leaf.shape, wanted, roles)
    if rule is not None and rule.layout is not None and not layouts:
        layouts = _if_it_fits(rule.layout, leaf.shape, wanted)
    if not layouts:
        return None
    prior = _prior(leaf, tree)
    usual = tree.usual_layout(leaf.path, rule.layout if rule is not None else None)
    if usual is not None and _if_it_fits(usual, leaf.shape, wanted):
        layouts = (usual, *(one for one in layouts if one != usual))
        prior = usual
    word = leaf.path[-1]
    contracted = None if uses is None else _contracted(found, layouts, uses)
    of_class = tree.class_of(leaf.path)
    own = word in tree.words or len(leaf.shape) < 2
    if own and of_class in tree.one_layout_classes and len(leaf.shape) > 1 and contracted is None:
        layouts = tuple(one for one in layouts if same_order(one, prior, leaf.shape))
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
