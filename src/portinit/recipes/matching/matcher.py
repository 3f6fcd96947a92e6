"""A tree's leaves and a recipe's rules, matched: by the table, by names, by structure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

from portinit.arrays.layouts import LAYOUTS, Layout
from portinit.initializers.assigned import Given
from portinit.initializers.base import Initializer
from portinit.recipes.matching.evidence import Evidence, is_sure
from portinit.recipes.matching.layouts.fitting import fitting_layouts
from portinit.recipes.matching.layouts.leaf_layouts import FoundLeaf, LeafLayout, layouts_of
from portinit.recipes.matching.names.by_name import NameIndex
from portinit.recipes.matching.names.known_names import KnownNames
from portinit.recipes.matching.names.rewritten import out_of_turn, shifted
from portinit.recipes.matching.names.words import role_of
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Pair
from portinit.recipes.matching.structure.alignment import align
from portinit.recipes.matching.structure.subtrees import Item
from portinit.recipes.matching.tables.stacked_layers import Split, Stacks
from portinit.recipes.matching.tables.table import Table
from portinit.recipes.matching.tables.targets import Target
from portinit.recipes.matching.trees.leaf import Leaf, Path
from portinit.recipes.matching.trees.tree import Tree
from portinit.recipes.names import ParameterSlice, torch_name
from portinit.recipes.packed import may_lack
from portinit.recipes.pretrained import used_tensors
from portinit.recipes.recipe import Recipe


class Matcher:
    """A tree's leaves and a recipe's rules, matched: by the table, by names, by structure.

    Args:
        tree: the model's arrays, each whole.
        recipe: rules for PyTorch's names.
        request: what the user states.

    Attributes:
        tree: the model's leaves; arrays that hold several parameters are split.
        known: what the recipe's names stand for.
        request: what the user states.
        is_aligned: whether names have left leaves over, which the structure of both models told.
    """

    def __init__(self, tree: Tree, recipe: Recipe, request: MatchRequest) -> None:
        found = [*tree.leaves.values()]
        self._recipe, self.request = recipe, request
        self.known = KnownNames(recipe, found)
        self._table, split = Table(request.names), Split(found, {}, [])
        if self.known.slices or request.names or request.stacked:
            shapes = self.known.shapes
            split = Stacks(shapes, self._index, self._table, request.stacked).split(found)
        self.tree = tree.with_leaves(split.leaves)
        self._targets = split.targets
        self._misfits = list(split.misfits)
        self._found: dict[Path, FoundLeaf] = {}
        self._unmatched: list[Leaf] = []
        self._rewritten: dict[Path, str] = {}
        self._misnamed: dict[Path, str] = {}
        self._claims: dict[str, Leaf] = {}
        self._further_claims: dict[str, list[Leaf]] = {}
        self._run()

    def _run(self) -> None:
        stated = {"/".join(path) for path in self._targets}
        cells, amiss = self.tree.names_of_cells(self._recipe, dict.fromkeys(stated))
        for entry in self._table.unused() if self.request.names else ():
            self._misfits.append(f"{entry}: in the table of names, but not in the tree")
        self._misfits += amiss
        for leaf in self.tree.leaves.values():
            if leaf.path in self._targets:
                self._take_stated(leaf, *self._targets[leaf.path])
            elif cells and leaf.label in cells:
                self._take(leaf, ParameterSlice.parse(cells[leaf.label]), Evidence.NAME)
            elif self.known.slices:
                self._take_by_name(leaf, leaf.path, self.tree.reading(leaf.path))
            else:
                self._unmatched.append(leaf)
        if self._rewritten:
            self._take_rewritten()
        self.is_aligned = bool(self._unmatched) and self.known.is_complete
        if self.is_aligned:
            self._align()
        if self._misnamed:
            self._take_misnamed()
        if not self.known.is_complete:
            self._take_translated()
        self._found = {path: self._found[path] for path in self.tree.leaves if path in self._found}

    # Names

    @cached_property
    def _index(self) -> NameIndex:
        return NameIndex(self.known.slices)

    def _take(
        self,
        leaf: Leaf,
        parameter: ParameterSlice,
        evidence: Evidence,
        layout: Layout | None = None,
        initializer: Initializer | None = None,
        note: str = "",
    ) -> None:
        name = str(parameter)
        if self._claims.setdefault(name, leaf) is not leaf:
            self._further_claims.setdefault(name, []).append(leaf)
        own = self.known.meant(parameter)
        self._found[leaf.path] = FoundLeaf(leaf, own, evidence, layout, initializer, note)

    def _take_stated(self, leaf: Leaf, target: Target, below: Path) -> None:
        if target.initializer is not None:
            layout = LAYOUTS["torch"] if isinstance(target.initializer, Given) else None
            own = self._translated(leaf)
            self._take(leaf, own, Evidence.TABLE, layout, target.initializer)
            return
        parameter = target.parameter or ParameterSlice("")
        if below:
            above, start = parameter.name.split("."), len(leaf.path) - len(below)
            paths = (*above, *below), (*above, *self.tree.reading(leaf.path, start))
            self._take_by_name(leaf, *paths, is_stated=True)
            if leaf.path in self._found:
                stated = self._found[leaf.path]._replace(evidence=Evidence.TABLE)
                self._found[leaf.path] = stated
            return
        if self.known.is_complete and parameter.name not in self.known.slices:
            self._misfits.append(f"{leaf.label}: the recipe has no {parameter}")
        reason = self.known.reason_against(parameter)
        if reason is not None:
            self._misfits.append(f"{leaf.label}: {reason}")
            parameter = ParameterSlice(parameter.name)
        self._take(leaf, parameter, Evidence.TABLE, target.layout)

    def _translated(self, leaf: Leaf) -> ParameterSlice:
        """The name that PyTorch would write for a leaf."""
        return ParameterSlice(torch_name(self.tree.reading(leaf.path)))

    def _take_translated(self) -> None:
        """Take the leaves that no name is known of by those that PyTorch would write."""
        paths = [self.tree.reading(leaf.path) for leaf in self._unmatched]
        names = [torch_name(path) for path in paths]
        for leaf, name in zip(self._unmatched, names, strict=True):
            self._take(leaf, ParameterSlice(name), Evidence.NAME)

    def _take_by_name(self, leaf: Leaf, *paths: Path, is_stated: bool = False) -> None:
        """Pair a leaf with the parameter that one of its paths reads as."""
        names, evidence = self._index.find(*paths)
        if evidence is Evidence.REWRITTEN:
            fits = len(names) == 1 and self._fits(leaf, names[0])
            if fits and not is_stated:
                self._rewritten[leaf.path] = names[0]  # others may speak against it
            names = names if fits and is_stated else ()
        if len(names) == 1 and evidence is Evidence.NAME and self._is_misfit(leaf, names[0]):
            self._misnamed[leaf.path] = names[0]  # others may fit
            self._unmatched.append(leaf)
        elif len(names) == 1:
            self._take(leaf, ParameterSlice(names[0]), evidence)
        elif names:
            self._misfits.append(f"{leaf.label}: could be any of {', '.join(names)}")
        else:
            self._unmatched.append(leaf)

    def _take_rewritten(self) -> None:
        """Take the leaves whose names read the same in other words, unless more speaks against it.

        ``Conv_1`` is no ``conv1`` if one list begins with 0 and the other with 1.
        """
        pairs = self._rewritten
        doubtful = shifted(pairs, self.tree.leaves, self.known.slices)
        if self.request.uses is not None:
            shapes = {
                name: self.known.shape(name) or ()
                for name in self.known.slices
                if name not in self._claims and self._takes_part(name)
            }
            doubtful |= out_of_turn(pairs, self._unmatched, shapes, self.request.uses)
        left, self._unmatched = self._unmatched, []
        for leaf in left:
            if leaf.path in pairs and leaf.path not in doubtful:
                self._take(leaf, ParameterSlice(pairs[leaf.path]), Evidence.REWRITTEN)
            else:
                self._unmatched.append(leaf)

    def _is_misfit(self, leaf: Leaf, name: str) -> bool:
        """Whether a leaf cannot hold the parameter of its own name, as its size is another."""
        shape = self.known.shape(name)
        return (
            self.known.is_complete
            and shape is not None
            and math.prod(shape) != math.prod(leaf.shape)
        )

    def _take_misnamed(self) -> None:
        """Take the leaves that fit no parameter by their names, for the misfit to be said."""
        left, self._unmatched = self._unmatched, []
        for leaf in left:
            name = self._misnamed.get(leaf.path)
            if name is not None and str(self.known.slices[name]) not in self._claims:
                self._take(leaf, ParameterSlice(name), Evidence.NAME)
            else:
                self._unmatched.append(leaf)

    def _fits(self, leaf: Leaf, name: str) -> bool:
        """Whether a leaf can hold a parameter that it is not by its own words."""
        shape = self.known.shape(name)
        if not self.known.is_complete:
            return False
        if shape is None:
            return True
        layouts, uses = fitting_layouts(leaf.shape, shape), self.request.uses
        own = self.known.slices[name].name
        return bool(layouts) and (uses is None or uses.may_pair(leaf, own, layouts))

    # Structure

    def _align(self) -> None:
        """Pair what names have left over by the structure of both models."""
        names = [name for name in self.known.slices if self._takes_part(name)]
        self._align_with(names)
        if self._unmatched:  # an array of its own for a tied parameter's other name
            known = self.known
            others = [n for n in known.slices if known.is_other_name(n) and n not in self._claims]
            self._align_with([*names, *others] if others else [])

    def _align_with(self, names: Sequence[str]) -> None:
        """Pair what is left over with some of the names."""
        numbers = {str(self.known.slices[name]): i for i, name in reversed([*enumerate(names)])}
        every = [
            leaf
            for leaf in self.tree.leaves.values()
            if leaf.path not in self._found or str(self._found[leaf.path].parameter) in numbers
        ]
        left, ordered = self._items_of_leaves(every)
        known = [
            (i, numbers[str(self._found[leaf.path].parameter)])
            for i, leaf in enumerate(every)
            if leaf.path in self._found
        ]
        for pair in align(left, self._items_of_names(names), known, ordered=ordered):
            leaf, name = every[pair.left], names[pair.right]
            if leaf.path not in self._found and self._fits(leaf, name):
                evidence, note = pair.evidence, pair.note
                if leaf.path in self._misnamed:
                    evidence = max(evidence, Evidence.STRUCTURE)
                    note = f"{self._misnamed[leaf.path]}, its own name, has another shape"
                self._take(leaf, ParameterSlice(name), evidence, note=note)
        self._unmatched = [leaf for leaf in self._unmatched if leaf.path not in self._found]

    def _items_of_leaves(self, leaves: Sequence[Leaf]) -> tuple[list[Item], bool]:
        """The leaves as structure sees them, and whether they are in the order of definition."""
        uses = self.request.uses
        places = {path: i for i, path in enumerate(self.tree.definition_order() or ())}
        ordered = bool(places) and all(leaf.array in places for leaf in leaves)
        items = [
            Item(
                leaf.path,
                math.prod(leaf.shape),
                places[leaf.array] if ordered else i,
                uses.of_leaf(leaf) if uses is not None else (),
            )
            for i, leaf in enumerate(leaves)
        ]
        return items, ordered

    def _items_of_names(self, names: Sequence[str]) -> list[Item]:
        """The recipe's parameters as structure sees them."""
        uses = self.request.uses
        return [
            Item(
                tuple(name.split(".")),
                math.prod(self.known.shape(name) or ()),
                i,
                uses.of_name(self.known.slices[name].name) if uses is not None else (),
            )
            for i, name in enumerate(names)
        ]

    def _takes_part(self, name: str) -> bool:
        """Whether a parameter may be paired by structure: not a buffer that the tree lacks."""
        own = self.known.slices[name].name
        rule = self.known.rule(own)
        if rule is None or self.request.ignores(own) or not self.known.needs_an_array(name):
            return False
        return not rule.buffer or name.rpartition(".")[2] in self._roles

    @cached_property
    def _roles(self) -> frozenset[str]:
        return frozenset(role_of(path[-1]) for path in self.tree.leaves) - {"weight", "bias"}

    # Results

    @property
    def found_leaves(self) -> list[FoundLeaf]:
        """The leaves whose parameters are found, in the order of the tree."""
        return [*self._found.values()]

    @cached_property
    def layouts(self) -> dict[Path, LeafLayout]:
        """The layout of each leaf whose parameter is found."""
        return layouts_of(self._found.values(), self.known, self.tree, self.request.uses)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs of leaves and parameters, with their evidence."""
        return tuple(
            [
                _pair(found, self.layouts[path])
                for path, found in self._found.items()
                if found.initializer is None
            ]
        )

    @property
    def guesses(self) -> list[Pair]:
        """The pairs that are guessed, or whose layout is."""
        return [
            _pair(found, self.layouts[path])
            for path, found in self._found.items()
            if found.initializer is None
            and not is_sure(found.evidence, self.layouts[path].evidence)
        ]

    @property
    def extras(self) -> tuple[tuple[Leaf, Initializer], ...]:
        """The leaves that the table gives an initializer of their own."""
        return tuple(
            (found.leaf, found.initializer)
            for found in self._found.values()
            if found.initializer is not None
        )

    @property
    def unmatched(self) -> list[Leaf]:
        """The leaves whose parameters are not found."""
        return self._unmatched if self.known.is_complete else []

    @cached_property
    def claimed(self) -> frozenset[str]:
        """The parameters that leaves hold, whole or in part."""
        held = (found for found in self._found.values() if found.initializer is None)
        return frozenset(found.parameter.name for found in held)

    @cached_property
    def unclaimed(self) -> list[str]:
        """The parameters that must have an array and have none."""
        if not self.known.is_complete:
            return []
        used = used_tensors(self._recipe, self.claimed)
        return [
            name
            for name, rule in self.known.rules()
            if name not in self.claimed
            and rule.initializer not in used
            and not rule.buffer
            and not self.request.ignores(name)
            and not may_lack(rule)
        ]

    # Misfits

    @property
    def misfits_of_names(self) -> list[str]:
        """A line for all that is wrong with the table, the names, the stacks and the cells."""
        return [*self._misfits, *self._twice()]

    def _twice(self) -> Iterator[str]:
        """A line for each name that several arrays are for."""
        for name in self._claims if self._further_claims else ():
            leaves = [self._claims[name], *self._further_claims.get(name, ())]
            if len(leaves) > 1 and not self._may_share(leaves):
                yield f"{name}: claimed by {' and '.join(leaf.label for leaf in leaves)}"

    def _may_share(self, leaves: Sequence[Leaf]) -> bool:
        """Whether arrays may be copies of one parameter: the table says so of all."""
        found = [self._found.get(leaf.path) for leaf in leaves]
        return all(one is not None and one.evidence is Evidence.TABLE for one in found)


def _pair(found: FoundLeaf, at: LeafLayout) -> Pair:
    evidence = found.evidence, at.evidence
    return Pair(found.leaf, found.parameter, at.layout, *evidence, at.others, found.note)
