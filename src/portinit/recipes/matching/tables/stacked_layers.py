"""Arrays that hold several parameters: stacks of layers, and parameters joined along an axis."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from portinit.arrays.layouts import Shape
from portinit.recipes.elements import Elements, Vector
from portinit.recipes.matching.names.by_name import NameIndex
from portinit.recipes.matching.tables.table import Table
from portinit.recipes.matching.tables.targets import Target
from portinit.recipes.matching.trees.leaf import Leaf, Path

Shapes = Mapping[str, Shape | None]
"""PyTorch's shapes by the recipe's names; None where it is not known."""


@dataclass(frozen=True)
class Split:
    """The leaves of a tree with what an array joins in its place.

    Attributes:
        leaves: whole arrays and parts of them.
        targets: what the table says of each, by path: a target, and what of the path lies below.
        misfits: a line for all that does not fit.
    """

    leaves: list[Leaf]
    targets: dict[Path, tuple[Target, Path]]
    misfits: list[str]


class Stacks:
    """Which leaves of a tree hold several parameters.

    A leaf is taken for a stack if the table or ``stacked`` says so, or if its axis 0 is as long as
    the recipe has layers of its name, all of them there and of the shape that is left.

    Args:
        shapes: the recipe's names of single parameters, and their shapes.
        index: of these names.
        table: what the user states; in a name, ``*`` stands for a layer's number.
        stacked: from the path of what is repeated to the axis that the layers lie along.
    """

    def __init__(
        self, shapes: Shapes, index: NameIndex, table: Table, stacked: Mapping[str, int]
    ) -> None:
        self._shapes, self._index, self._table = shapes, index, table
        self._is_stated, self._is_named = bool(table), bool(index)
        self._axes = {
            tuple(path.split("/")) if path else (): axis for path, axis in stacked.items()
        }

    def split(self, found: Sequence[Leaf]) -> Split:
        """The leaves, with the parts of those that hold several parameters in their place."""
        split = Split([], {}, [])
        for prefix in self._axes:
            if not any(leaf.path[: len(prefix)] == prefix for leaf in found):
                line = f"{'/'.join(prefix)}: among the stacked paths, but not in the tree"
                split.misfits.append(line)
        rest = [leaf for leaf in found if not self._split_one(leaf, split)]
        series = self._layers_by_structure(rest) if self._is_named else {}
        for leaf in found:
            if leaf.path in series:
                number = split.leaves.index(leaf)
                split.leaves[number : number + 1] = _layers(leaf, *series[leaf.path])
        return split

    def _split_one(self, leaf: Leaf, split: Split) -> bool:
        """Add a leaf or its parts; whether the table, ``stacked`` or its name has decided."""
        if not (self._is_stated or self._axes) and self._index.exact(leaf.path):
            split.leaves.append(leaf)
            return True
        stated = self._table.target(leaf.label) if self._is_stated else None
        if stated is not None and stated[0].parts:
            self._join(leaf, stated[0], split)
            return True
        is_known = stated is None and self._is_named and bool(self._index.exact(leaf.path))
        place = self._place(leaf, stated, is_known=is_known)
        if place is None:
            split.leaves.append(leaf)
            if stated is not None:
                split.targets[leaf.path] = stated
            return stated is not None or is_known
        if not -len(leaf.shape) <= place[1] < len(leaf.shape):
            split.misfits.append(
                f"{leaf.label} {leaf.shape}: has no axis {place[1]} for its layers"
            )
            return True
        layers = list(_layers(leaf, *place))
        split.leaves.extend(layers)
        if stated is not None:
            target, below = stated
            for one in layers:
                split.targets[one.path] = target.with_stars([str(one.layer)]), below
        return True

    def _place(
        self, leaf: Leaf, stated: tuple[Target, Path] | None, *, is_known: bool
    ) -> tuple[int, int] | None:
        """How many words of a stack's path stand before a layer's number, and the layers' axis."""
        path = leaf.path
        prefixes = [p for p in self._axes if path[: len(p)] == p]
        if prefixes:
            longest = max(prefixes, key=len)
            return len(longest), self._axes[longest]
        if stated is not None:
            return (min(1, len(path) - 1), 0) if stated[0].stars else None
        if not leaf.shape or not self._is_named or is_known:
            return None
        for words in range(1, len(path)):
            if self._all_layers(leaf, words):
                return words, 0
        return None

    def _all_layers(self, leaf: Leaf, words: int) -> bool:
        """Whether a leaf's axis 0 has exactly the layers that the recipe has of its name."""
        count, size = leaf.shape[0], math.prod(leaf.shape[1:])
        for layer in range(count + 1):
            names = self._index.exact((*leaf.path[:words], str(layer), *leaf.path[words:]))
            if layer == count:
                return count > 0 and not names
            if not names:
                return False
            shape = self._shapes[names[0]]
            if shape is not None and math.prod(shape) != size:
                return False
        return False

    def _join(self, leaf: Leaf, target: Target, split: Split) -> None:
        """Add the parts of an array that the table says several parameters are joined in."""
        try:
            parts = [*self._parts(replace(leaf, whole=leaf.shape), target)]
        except ValueError as error:
            split.misfits.append(f"{leaf.label} {leaf.shape}: {error}")
            return
        split.leaves.extend(part for part, _ in parts)
        split.targets.update({part.path: (own, ()) for part, own in parts})

    def _parts(self, leaf: Leaf, target: Target) -> Iterator[tuple[Leaf, Target]]:
        """The parts of an array, each with what it holds; a ValueError if they are not its."""
        if target.places:
            yield from _pieces(leaf, target)
            return
        axis = _axis(leaf, target.axis)
        target = target.with_layers(leaf.shape[axis])
        if target.is_stack:
            if leaf.shape[axis] != len(target.parts):
                raise ValueError(
                    f"axis {axis} must have {len(target.parts)} parts, got {leaf.shape[axis]}"
                )
            ones = list(_layers(leaf, len(leaf.path) - 1, axis))
        else:
            ones = list(_slices(leaf, self._extents(leaf, target.parts, axis), axis))
        if not any(part.parts for part in target.parts):
            yield from zip(ones, target.parts, strict=True)
            return
        places = np.arange(math.prod(leaf.shape)).reshape(leaf.shape)
        for one, part in zip(ones, target.parts, strict=True):
            yield from self._nested(one, part, one.part_of(places))

    def _nested(self, leaf: Leaf, target: Target, places: Vector) -> Iterator[tuple[Leaf, Target]]:
        """The parts of a part, by the elements of the whole array that they are."""
        if not target.parts:
            yield _at(leaf, places), target
            return
        alone = replace(leaf, axis=None, extent=None, layer=0, start=0)
        for one, part in self._parts(alone, target):
            yield _at(one, one.part_of(places)), part

    def _extents(self, leaf: Leaf, parts: Sequence[Target], axis: int) -> list[int]:
        """How much of an axis each of the parts that are set side by side takes."""
        across = math.prod(leaf.shape) // max(1, leaf.shape[axis])
        sizes = [self._size(part) for part in parts]
        known = sum(size for size in sizes if size is not None)
        if sizes.count(None) == 1:  # what is no parameter takes the rest
            rest = math.prod(leaf.shape) - known
            sizes = [rest if size is None else size for size in sizes]
        extents = [
            size // across
            for size in sizes
            if size is not None and size > 0 and across and size % across == 0
        ]
        if len(extents) != len(parts) or sum(extents) != leaf.shape[axis]:
            said = ", ".join(str(one) for part in parts for one in part.parameters)
            raise ValueError(f"the parts must fill axis {axis}: {said}")
        return extents

    def _size(self, target: Target) -> int | None:
        """How many elements a part has; None if the recipe does not tell."""
        if target.parameter is not None:
            shape = self._shapes.get(target.parameter.name)
            return None if shape is None else math.prod(target.parameter.shape_in(shape))
        sizes = [self._size(part) for part in target.parts]
        return None if None in sizes or not sizes else sum(size or 0 for size in sizes)

    def _layers_by_structure(self, rest: Sequence[Leaf]) -> dict[Path, tuple[int, int]]:
        """Stacks of other names: modules that hold what each of a list of the recipe's holds."""
        lists = _lists_of(self._shapes) if rest else []
        found: dict[Path, tuple[int, int]] = {}
        taken: set[Path] = set()
        for prefix, below in _modules(rest):
            if any(prefix[: len(other)] == other for other in taken):
                continue
            for axis in (0, 1):
                counts = {leaf.shape[axis] if len(leaf.shape) > axis else 0 for leaf in below}
                count = counts.pop() if len(counts) == 1 else 0
                if count < 2 or len(below) < 2:
                    continue
                sizes = Counter(math.prod(leaf.shape) // count for leaf in below)
                if sum(number == count and held == sizes for number, held in lists) == 1:
                    found |= {leaf.path: (len(prefix), axis) for leaf in below}
                    taken.add(prefix)
                    break
        return found


def _modules(rest: Sequence[Leaf]) -> list[tuple[Path, list[Leaf]]]:
    """The modules above some leaves with what is below them, outer before inner."""
    below: dict[Path, list[Leaf]] = {}
    for leaf in rest:
        for depth in range(1, len(leaf.path)):
            below.setdefault(leaf.path[:depth], []).append(leaf)
    return sorted(below.items(), key=lambda item: len(item[0]))


def _lists_of(shapes: Shapes) -> list[tuple[int, Counter[int]]]:
    """The lists of equal modules in a recipe: their lengths, and the sizes that a member holds."""
    members: dict[tuple[str, ...], dict[int, Counter[int]]] = {}
    for name, shape in shapes.items():
        parts = name.split(".")
        for i, part in enumerate(parts[:-1]):
            if part.isdigit():
                member = members.setdefault(tuple(parts[:i]), {}).setdefault(int(part), Counter())
                member[-1 if shape is None else math.prod(shape)] += 1
    return [
        (len(held), held[0])
        for held in members.values()
        if sorted(held) == list(range(len(held))) and all(one == held[0] for one in held.values())
    ]


def _axis(leaf: Leaf, axis: int) -> int:
    if not -len(leaf.shape) <= axis < len(leaf.shape):
        raise ValueError(f"has no axis {axis} to join along")
    return axis % len(leaf.shape)


def _pieces(leaf: Leaf, target: Target) -> Iterator[tuple[Leaf, Target]]:
    """Parts that lie anywhere in an array, each a vector."""
    size = math.prod(leaf.shape)
    held = np.concatenate([places.numbers for places in target.places])
    if not np.array_equal(np.sort(held), np.arange(size)):
        raise ValueError(f"the pieces must be each of its {size} elements once")
    for number, (part, places) in enumerate(zip(target.parts, target.places, strict=True)):
        path = (*leaf.path[:-1], f"piece {number}", leaf.path[-1])
        one = replace(leaf, path=path, shape=(len(places),), layer=number, places=places)
        yield one, part


def _at(leaf: Leaf, places: Vector) -> Leaf:
    """A part of an array by the elements that it is."""
    return replace(leaf, axis=None, extent=None, start=0, places=Elements.of(places))


def _layers(leaf: Leaf, words: int, axis: int) -> Iterator[Leaf]:
    axis %= len(leaf.shape)
    shape = (*leaf.shape[:axis], *leaf.shape[axis + 1 :])
    for layer in range(leaf.shape[axis]):
        path = (*leaf.path[:words], str(layer), *leaf.path[words:])
        yield replace(leaf, path=path, shape=shape, axis=axis, layer=layer)


def _slices(leaf: Leaf, extents: Sequence[int], axis: int) -> Iterator[Leaf]:
    start = 0
    for number, extent in enumerate(extents):
        shape = (*leaf.shape[:axis], extent, *leaf.shape[axis + 1 :])
        path = (*leaf.path[:-1], f"{start}:{start + extent}", leaf.path[-1])
        part = replace(leaf, path=path, shape=shape, axis=axis, extent=extent)
        yield replace(part, layer=number, start=start)
        start += extent
