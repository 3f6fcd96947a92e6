"""The modules of a model as subtrees, with what they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from portinit.recipes.matching.evidence import Evidence
from portinit.recipes.matching.names.words import numbers_of, path_words, role_of, without_numbers
from portinit.recipes.matching.trees.leaf import Path
from portinit.recipes.matching.uses.uses import Operation, Use, common_use

_ROLES = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Item:
    """A parameter of one side.

    Attributes:
        path: its name, in parts.
        size: the number of its elements.
        order: its place in the order of definition.
        uses: how the forward pass uses it; none if that is not known.
    """

    path: Path
    size: int
    order: int
    uses: tuple[Use, ...] = ()


@dataclass(eq=False)
class Subtree:
    """A module, or a parameter, which is a module without children."""

    path: Path
    children: list[Subtree] = field(default_factory=list)
    item: int | None = None
    size: int = 0
    order: int = 0
    anchors: frozenset[int] = frozenset()  # numbers of pairs that are known, below it
    uses: tuple[Use, ...] = ()  # of a module, those of the part that runs first

    @cached_property
    def sizes(self) -> Counter[int]:
        """The sizes of the parameters below it that have no partner yet."""
        if self.item is not None:
            return Counter() if self.anchors else Counter([self.size])
        return sum((child.sizes for child in self.children), Counter[int]())

    @cached_property
    def signature(self) -> int:
        """A number that modules of the same sizes have in common."""
        return hash(tuple(sorted(self.sizes.items())))

    @cached_property
    def signatures(self) -> Counter[int]:
        """How often a signature comes up in it and below."""
        below = sum((child.signatures for child in self.children), Counter[int]())
        below[self.signature] += 1
        return below

    @cached_property
    def total(self) -> int:
        """The number of elements below it."""
        return sum(size * count for size, count in self.sizes.items())

    @cached_property
    def series(self) -> str:
        """Its path without numbers."""
        return without_numbers(self.path)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The numbers in its path."""
        return numbers_of(self.path)

    def words(self, depth: int) -> tuple[str, ...]:
        """The words of its path below a depth; numbers, which count from 0 or 1, are left out."""
        words = path_words(self.path[depth:], leaf=self.item is not None)
        return tuple(word for word in words if not word.isdigit())

    @cached_property
    def inner(self) -> tuple[str, ...]:
        """The words of what lies in it, each once."""
        words = (w for child in self.children for w in (*child.words(len(self.path)), *child.inner))
        return tuple(dict.fromkeys(words))


class SubtreePair(NamedTuple):
    """Two nodes that were paired, why, and what speaks against it."""

    left: Subtree
    right: Subtree
    evidence: Evidence
    note: str = ""


def root_of(items: Sequence[Item], anchors: dict[int, int]) -> Subtree:
    """The root of the tree of some parameters.

    Args:
        items: the parameters.
        anchors: numbers of pairs that are known, by the numbers of the items in them.
    """
    root = Subtree(())
    modules: dict[Path, Subtree] = {(): root}
    for number, item in enumerate(items):
        known = frozenset({anchors[number]} if number in anchors else ())
        leaf = Subtree(item.path, [], number, item.size, item.order, known, item.uses)
        _module(modules, item.path[:-1]).children.append(leaf)
    _settle(root)
    return root


def _module(modules: dict[Path, Subtree], path: Path) -> Subtree:
    if path not in modules:
        modules[path] = Subtree(path)
        _module(modules, path[:-1]).children.append(modules[path])
    return modules[path]


def _settle(node: Subtree) -> None:
    """Fill in what a module has from its children, and skip modules of a single child."""
    for i, child in enumerate(node.children):
        while child.item is None and len(child.children) == 1:
            child = child.children[0]
        node.children[i] = child
        _settle(child)
    if node.item is None:
        node.order = min((child.order for child in node.children), default=0)
        node.anchors = frozenset().union(*(child.anchors for child in node.children))
        used = [child.uses for child in node.children if child.uses]
        node.uses = min(used, key=lambda uses: uses[0].order, default=())


def may_pair(a: Subtree, b: Subtree) -> bool:
    """Whether two parameters can be the same: a bias is no weight."""
    if a.item is None or b.item is None:
        return True
    if a.uses and b.uses and common_use(a.uses, b.uses) is None:
        used = {use.operation for use in (*a.uses, *b.uses)}
        return Operation.OTHER in used
    roles = role_of(a.path[-1]), role_of(b.path[-1])
    return roles[0] == roles[1] or not all(role in _ROLES for role in roles)
