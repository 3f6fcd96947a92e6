"""What a matching found: pairs with their evidence, and all that is left over or in doubt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from portinit.arrays.layouts import Layout, Shape
from portinit.initializers.base import Initializer
from portinit.recipes.matching.evidence import Evidence, LayoutEvidence, is_sure
from portinit.recipes.matching.tables.compact import compact, series
from portinit.recipes.matching.tables.files import Names
from portinit.recipes.matching.tables.targets import Target
from portinit.recipes.matching.trees.leaf import Leaf
from portinit.recipes.names import ParameterSlice


@dataclass(frozen=True)
class Pair:
    """An array and the parameter, or the part of one, that it holds.

    Attributes:
        leaf: the array, or the part of it: a stack's layer, a slice.
        parameter: PyTorch's parameter, or some of its rows.
        layout: how its axes are PyTorch's.
        evidence: what the pair rests on.
        layout_evidence: what the layout rests on.
        others: layouts that fit the shapes as well.
        note: what speaks against the pair; empty if nothing does.
    """

    leaf: Leaf
    parameter: ParameterSlice
    layout: Layout
    evidence: Evidence
    layout_evidence: LayoutEvidence
    others: tuple[Layout, ...] = ()
    note: str = ""

    @property
    def path(self) -> str:
        """The array's path, joined by ``/``; a stack's layer has its number in it."""
        return self.leaf.label

    @property
    def shape(self) -> Shape:
        """The shape of the array, or of the part of it."""
        return self.leaf.shape

    @property
    def target(self) -> Target:
        """The parameter as a table states it, with the layout unless the shape tells it."""
        is_told = self.layout_evidence == LayoutEvidence.SHAPE or not self.shape
        told = is_told and self.parameter.elements is None
        return Target(self.parameter, None if told else self.layout)

    @property
    def is_sure(self) -> bool:
        """Whether neither the pair nor its layout is a guess."""
        return is_sure(self.evidence, self.layout_evidence)

    def __str__(self) -> str:
        words = f"{self.evidence.name.lower()}; layout by {self.layout_evidence.name.lower()}"
        note = f"; {self.note}" if self.note else ""
        return f"{self.path} = {self.parameter} ({words}{note})"


@dataclass(frozen=True, repr=False)
class Matching(Mapping[str, tuple[str, Layout]]):
    """How a Flax model's arrays and PyTorch's parameters correspond.

    A mapping from each array's path to PyTorch's name and the layout: a table of names that says
    all that was found.

    Attributes:
        pairs: in the order of the tree.
        leftover_paths: arrays that hold no parameter.
        leftover_names: parameters that no array holds.
        misfits: a line for all that stands in the way of filling the model; none if all fits.
        extras: arrays, and parts of them, that the table gives an initializer of their own.
        ignored: patterns of PyTorch's names that the tree need not have.
    """

    pairs: tuple[Pair, ...]
    leftover_paths: tuple[str, ...] = ()
    leftover_names: tuple[str, ...] = ()
    misfits: tuple[str, ...] = ()
    extras: tuple[tuple[Leaf, Initializer], ...] = ()
    ignored: tuple[str, ...] = ()
    _by_path: Mapping[str, Pair] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_path", {pair.path: pair for pair in self.pairs})

    def __getitem__(self, path: str) -> tuple[str, Layout]:
        pair = self._by_path[path]
        return str(pair.parameter), pair.layout

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_path)

    def __len__(self) -> int:
        return len(self._by_path)

    def pair(self, path: str) -> Pair:
        """The pair of one array."""
        return self._by_path[path]

    @property
    def suspects(self) -> tuple[Pair, ...]:
        """The guessed pairs, and those of a guessed layout, which a proof has to look at first."""
        return tuple(pair for pair in self.pairs if not pair.is_sure)

    @property
    def is_certain(self) -> bool:
        """Whether everything fits, and names and shapes leave nothing to be told otherwise."""
        return not self.misfits and all(pair.is_sure and not pair.others for pair in self.pairs)

    def exchangeable(self) -> tuple[tuple[Pair, ...], ...]:
        """Groups of guessed pairs whose parameters could be exchanged, as their shapes are equal.

        A wrong pairing that shapes do not reveal lies within one of these groups.
        """
        groups: dict[Any, list[Pair]] = {}
        for pair in self.pairs:
            if pair.evidence > Evidence.REWRITTEN:
                groups.setdefault((pair.shape, pair.layout), []).append(pair)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)

    def as_table(self) -> Names:
        """A table for ``names=`` that states every pair, with the layouts that are no certainty.

        An array that holds several parameters is stated as they are joined, and lines that differ
        in numbers only are one. ``to_json()`` writes the file that ``--names`` takes.
        """
        held: dict[int, list[tuple[Leaf, Target]]] = {}
        for pair in self.pairs:
            held.setdefault(pair.leaf.position, []).append((pair.leaf, pair.target))
        for leaf, initializer in self.extras:
            target = Target(initializer=initializer)
            held.setdefault(leaf.position, []).append((leaf, target))
        table = {}
        for _, parts in sorted(held.items()):
            leaf = parts[0][0]
            table["/".join(leaf.array or leaf.path)] = joined(parts)
        return Names(compact(table, self.leftover_paths), self.ignored)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.pairs), *self.misfits])

    def __repr__(self) -> str:
        counts = f"{len(self.pairs)} pairs, {len(self.suspects)} of them guessed"
        return f"<Matching of {counts}; {len(self.misfits)} misfits>"


def joined(parts: list[tuple[Leaf, Target]]) -> Target:
    """What a table says of an array by its parts."""
    leaf, target = parts[0]
    if leaf.is_whole:
        return target
    parts = sorted(parts, key=lambda part: part[0].layer)
    targets = tuple(target for _, target in parts)
    if leaf.axis is not None:
        is_stack = leaf.extent is None
        return series(Target(parts=targets, axis=leaf.axis, is_stack=is_stack))
    places = [one.places for one, _ in parts if one.places is not None]
    return Target(parts=targets, places=tuple(places))
