"""Which of many parameters or arrays may be the counterpart of one that has none."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence

from portinit.arrays.layouts import Shape
from portinit.recipes.matching.names.words import likeness, numbers_of, path_words

Named = tuple[str, Shape]
"""A name as messages write it, and its shape."""

_Words = tuple[str, ...]


class Candidates:
    """Names with shapes, found by size, those of the most alike names first.

    Args:
        named: paths, names as messages write them, and shapes.
    """

    def __init__(self, named: Iterable[tuple[Sequence[str], str, Shape]]) -> None:
        self._groups: dict[int, dict[_Words, list[tuple[frozenset[int], Named]]]] = {}
        for path, label, shape in named:
            groups = self._groups.setdefault(math.prod(shape), {})
            groups.setdefault(_words(path), []).append(
                (frozenset(numbers_of(path)), (label, shape))
            )

    def like(self, path: Sequence[str], shape: Shape, count: int) -> tuple[list[Named], int]:
        """The most likely few for a path and a shape, and how many there are of this size."""
        groups = self._groups.get(math.prod(shape), {})
        words, numbers = _words(path), frozenset(numbers_of(path))

        def distance(member: tuple[frozenset[int], Named]) -> int:
            return len(numbers ^ member[0])

        found: list[Named] = []
        for one in sorted(groups, key=lambda other: -likeness(words, other)):
            nearest = heapq.nsmallest(count - len(found), groups[one], key=distance)
            found += [named for _, named in nearest]
            if len(found) == count:
                break
        return found, sum(map(len, groups.values()))


def _words(path: Sequence[str]) -> _Words:
    return tuple(word for word in path_words(path, leaf=True) if not word.isdigit())
