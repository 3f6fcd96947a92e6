"""Arrays that hold several parameters: stacks of layers, and parameters joined along an axis."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from portinit.arrays.layouts import Shape
from portinit.recipes.matching.by_name import NameIndex
from portinit.recipes.matching.leaf import Leaf, Path
from portinit.recipes.matching.tables import Table, Target

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
        series = self._layers_by_structure(rest) if self._index else {}
        for leaf in found:
            if leaf.path in series:
                number = split.leaves.index(leaf)
                split.leaves[number : number + 1] = _layers(leaf, *series[leaf.path])
        return split

    def _split_one(self, leaf: Leaf, split: Split) -> bool:
        """Add a leaf or its parts; whether the table, ``stacked`` or its name has decided."""
        stated = self._table.target(leaf.label)
        if stated is not None and stated[0].parts:
            self._join(leaf, stated[0], split)
            return True
        is_known = stated is None and bool(self._index and self._index.exact(leaf.path))
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
        if not leaf.shape or not self._index or is_known:
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
        parts, axis, ndim = target.parts, target.axis, len(leaf.shape)
        if not -ndim <= axis < ndim:
            split.misfits.append(f"{leaf.label} {leaf.shape}: has no axis {axis} to join along")
            return
        axis %= ndim
        length = leaf.shape[axis]
        if target.is_stack:
            if length != len(parts):
                line = f"axis {axis} must have {len(parts)} parts"
                split.misfits.append(f"{leaf.label} {leaf.shape}: {line}, got {length}")
                return
            ones = list(_layers(leaf, len(leaf.path) - 1, axis))
        else:
            sizes = self._extents(leaf, parts, axis)
            if sizes is None:
                line = (
                    f"the parts must fill axis {axis}: {', '.join(str(p.parameter) for p in parts)}"
                )
                split.misfits.append(f"{leaf.label} {leaf.shape}: {line}")
                return
            ones = list(_slices(leaf, sizes, axis))
        split.leaves.extend(ones)
        for one, part in zip(ones, parts, strict=True):
            split.targets[one.path] = part, ()

    def _extents(self, leaf: Leaf, parts: Sequence[Target], axis: int) -> list[int] | None:
        """How much of an axis each of the parts that are set side by side takes."""
        across = math.prod(leaf.shape) // max(1, leaf.shape[axis])
        extents = []
        for part in parts:
            shape = self._shapes.get(part.parameter.name) if part.parameter else None
            if part.parameter is None or shape is None:
                return None
            size = math.prod(part.parameter.shape_in(shape))
            if across == 0 or size % across:
                return None
            extents.append(size // across)
        return extents if sum(extents) == leaf.shape[axis] else None

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
