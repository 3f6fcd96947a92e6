"""Pairs whose names read the same in other words, and what may speak against them.

``Conv_1`` reads as ``conv1``; but if one model counts from 0 and the other from 1, the two are
different layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from portinit.arrays.layouts import Shape
from portinit.recipes.matching.names.words import numbers_of, without_numbers
from portinit.recipes.matching.trees.leaf import Leaf, Path
from portinit.recipes.matching.uses.uses import TwinUses, Use


def shifted(pairs: Mapping[Path, str], paths: Iterable[Path], names: Iterable[str]) -> set[Path]:
    """The paths whose series does not have the numbers of its partner's.

    Args:
        pairs: from paths to names.
        paths: all that the tree has.
        names: all that the recipe has.
    """
    ours = _series((path, path) for path in paths)
    theirs = _series((name, tuple(name.split("."))) for name in names)
    members = {path: own for own in ours.values() for path in own}
    partners = {name: own for own in theirs.values() for name in own}
    found = set()
    for path, name in pairs.items():
        mine, other = {*members[path].values()}, {*partners[name].values()}
        if not (mine <= other or other <= mine):
            found.add(path)
    return found


def _series(named: Iterable[tuple[Any, Path]]) -> dict[str, dict[Any, tuple[int, ...]]]:
    """The members of each series with their numbers."""
    series: dict[str, dict[Any, tuple[int, ...]]] = {}
    for key, path in named:
        series.setdefault(without_numbers(path), {})[key] = numbers_of(path)
    return series


def out_of_turn(
    pairs: Mapping[Path, str], leaves: Sequence[Leaf], shapes: Mapping[str, Shape], uses: TwinUses
) -> set[Path]:
    """The paths whose partner is reached by the data in another turn than they are.

    Turns are counted among all parameters of one size that are used alike, where both sides have
    as many.

    Args:
        pairs: from paths to names.
        leaves: those of the tree that have no partner yet.
        shapes: the recipe's names that have none, and PyTorch's shapes.
        uses: how both models use them.
    """
    mine = _turns((leaf.path, math.prod(leaf.shape), uses.of_leaf(leaf)) for leaf in leaves)
    theirs = _turns((name, math.prod(shape), uses.of_name(name)) for name, shape in shapes.items())
    found = set()
    for kind, turns in mine.items():
        others = theirs.get(kind, {})
        if sorted(turns.values()) == sorted(others.values()):
            found |= {
                path
                for path in turns
                if path in pairs and others.get(pairs[path], turns[path]) != turns[path]
            }
    return found


def _turns(
    used: Iterable[tuple[Any, int, tuple[Use, ...]]],
) -> dict[tuple[int, str], dict[Any, int]]:
    """The turn of each parameter among those of its size that are used alike."""
    depths: dict[tuple[int, str], dict[Any, int]] = {}
    for key, size, uses in used:
        if uses:
            depths.setdefault((size, uses[0].operation.kind), {})[key] = uses[0].depth
    return {kind: dict(_ranked(own)) for kind, own in depths.items()}


def _ranked(depths: Mapping[Any, int]) -> Iterator[tuple[Any, int]]:
    ranks = {depth: rank for rank, depth in enumerate(sorted({*depths.values()}))}
    return ((key, ranks[depth]) for key, depth in depths.items())
