"""Stacked layers: one array of a tree that holds a parameter of each of several layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from portinit.recipes.names import by_signature, candidates
from portinit_flax.tree import Leaf, Path

Names = Mapping[str, Any]


class Stacks:
    """Which leaves of a tree are stacks, and their layers as leaves of their own.

    Args:
        known: the recipe's names of single parameters.
        names: from paths to names, or to pairs of a name and a layout; a ``*`` in a name stands
            for a layer's number.
        stacked: from the path of what is repeated to the axis that the layers lie along.
    """

    def __init__(self, known: tuple[str, ...], names: Names, stacked: Mapping[str, int]) -> None:
        self._known = by_signature(known)
        self._names = names
        self._axes = {tuple(path.split("/")): axis for path, axis in stacked.items()}

    def layers(self, found: list[Leaf]) -> tuple[list[Leaf], dict[str, Any], list[str]]:
        """The leaves with a stack's layers in its place; the table of their names; misfits."""
        table, leaves = dict(self._names), list[Leaf]()
        misfits = [
            f"{'/'.join(prefix)}: among the stacked paths, but not in the tree"
            for prefix in self._axes
            if not any(leaf.path[: len(prefix)] == prefix for leaf in found)
        ]
        for leaf in found:
            label = "/".join(leaf.path)
            place = self._place(leaf.path)
            if place is None:
                leaves.append(leaf)
            elif not -len(leaf.shape) <= place[1] < len(leaf.shape):
                misfits.append(f"{label} {leaf.shape}: has no axis {place[1]} for its layers")
            else:
                layers = list(_layers(leaf, *place))
                leaves += layers
                if label in table:
                    target = table.pop(label)
                    table |= {"/".join(one.path): _numbered(target, one.layer) for one in layers}
        return leaves, table, misfits

    def _place(self, path: Path) -> tuple[int, int] | None:
        """How many words of a stack's path stand before a layer's number; the layers' axis."""
        prefixes = [p for p in self._axes if path[: len(p)] == p]
        if prefixes:
            longest = max(prefixes, key=len)
            return len(longest), self._axes[longest]
        label = "/".join(path)
        if label in self._names:
            return (min(1, len(path) - 1), 0) if "*" in _name(self._names[label]) else None
        if candidates(path, self._known):
            return None
        for words in range(1, len(path)):
            if candidates((*path[:words], "0", *path[words:]), self._known):
                return words, 0
        return None


def _layers(leaf: Leaf, words: int, axis: int) -> Iterator[Leaf]:
    axis %= len(leaf.shape)
    shape = (*leaf.shape[:axis], *leaf.shape[axis + 1 :])
    for layer in range(leaf.shape[axis]):
        path = (*leaf.path[:words], str(layer), *leaf.path[words:])
        yield replace(leaf, path=path, shape=shape, axis=axis, layer=layer)


def _name(target: Any) -> str:
    return target if isinstance(target, str) else str(target[0])


def _numbered(target: Any, layer: int) -> Any:
    name = _name(target).replace("*", str(layer))
    return name if isinstance(target, str) else (name, target[1])
