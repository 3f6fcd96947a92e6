"""Modules of one shape, paired by the flow of data, by their names, or by their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portinit.recipes.matching.evidence import Evidence
from portinit.recipes.matching.structure.names import (
    by_names,
    by_series,
    same_but_for_prefix,
    same_end,
)
from portinit.recipes.matching.structure.subtrees import Subtree, SubtreePair, may_pair


def choose(
    lefts: list[Subtree], rights: list[Subtree], *, ordered: bool, last: bool
) -> list[SubtreePair]:
    """Pair as many modules of one shape as are told apart."""
    if len(lefts) == 1:
        a, b = lefts[0], rights[0]
        if not may_pair(a, b):
            return []
        return [SubtreePair(a, b, Evidence.REWRITTEN if same_end(a, b) else Evidence.STRUCTURE)]
    turns = _by_use(lefts, rights, ordered=ordered, last=last)
    if turns is None:
        return _choose_by_names(lefts, rights, ordered=ordered, last=last)
    return turns


def _by_use(
    lefts: list[Subtree], rights: list[Subtree], *, ordered: bool, last: bool
) -> list[SubtreePair] | None:
    """Pair modules of one shape in the turns in which data reaches them; None if it cannot tell.

    Those that data reaches side by side are told apart by what is done with them, then by names.
    """
    for key in (_depth, _operation, _functions):
        mine, theirs = _grouped(lefts, key), _grouped(rights, key)
        if None in mine or None in theirs or len(mine) != len(theirs):
            continue
        sides = (sorted(mine.items()), sorted(theirs.items()))
        turns = [(a, b) for (_, a), (_, b) in zip(*sides, strict=True)]
        if len(turns) == 1 or any(len(a) != len(b) for a, b in turns):
            continue
        if key is not _depth and {*mine} != {*theirs}:
            continue
        found: list[SubtreePair] = []
        for a, b in turns:
            found += _in_turn(a, b, ordered=ordered, last=last)
        return _with_doubts(found, lefts, rights) if ordered else found
    return None


def _in_turn(
    lefts: list[Subtree], rights: list[Subtree], *, ordered: bool, last: bool
) -> list[SubtreePair]:
    """Pair modules of one shape that data reaches in the same turn."""
    if len(lefts) > 1:
        return choose(lefts, rights, ordered=ordered, last=last)
    a, b = lefts[0], rights[0]
    evidence = Evidence.REWRITTEN if same_but_for_prefix(a, b) else Evidence.USE
    return [SubtreePair(a, b, evidence)] if may_pair(a, b) else []


def _with_doubts(
    found: list[SubtreePair], lefts: list[Subtree], rights: list[Subtree]
) -> list[SubtreePair]:
    """The pairs, with a note on those that the order of definition would pair otherwise."""
    defined = zip(sorted(lefts, key=_order), sorted(rights, key=_order), strict=True)
    partners = {id(a): b for a, b in defined}
    return [
        pair._replace(note=_AGAINST)
        if pair.evidence is Evidence.USE and partners[id(pair.left)] is not pair.right
        else pair
        for pair in found
    ]


_AGAINST = "the order of definition says otherwise"


def _grouped(nodes: list[Subtree], key: Callable[[Subtree], Any]) -> dict[Any, list[Subtree]]:
    groups: dict[Any, list[Subtree]] = {}
    for node in nodes:
        groups.setdefault(key(node), []).append(node)
    return groups


def _depth(node: Subtree) -> int | None:
    return node.uses[0].depth if node.uses else None


def _operation(node: Subtree) -> str | None:
    return node.uses[0].operation.kind if node.uses else None


def _functions(node: Subtree) -> tuple[str, ...] | None:
    return tuple(sorted(node.uses[0].functions)) if node.uses else None


def _choose_by_names(
    lefts: list[Subtree], rights: list[Subtree], *, ordered: bool, last: bool
) -> list[SubtreePair]:
    """Pair modules of one shape by the numbers of a series and by names; by order if it is time."""
    found = by_series(lefts, rights)
    done = {id(node) for pair in found for node in pair[:2]}
    mine, theirs = ([n for n in side if id(n) not in done] for side in (lefts, rights))
    found += by_names(mine, theirs)
    done = {id(node) for pair in found for node in pair[:2]}
    mine, theirs = ([n for n in side if id(n) not in done] for side in (lefts, rights))
    if len(mine) == len(theirs) == 1 and may_pair(mine[0], theirs[0]):
        evidence = max((pair.evidence for pair in found), default=Evidence.STRUCTURE)
        found.append(SubtreePair(mine[0], theirs[0], max(evidence, Evidence.STRUCTURE)))
    elif mine and last and len(mine) == len(theirs):
        is_used = all(node.uses for node in (*mine, *theirs))
        if is_used or ordered:
            place = _turn if is_used else _order
            by_order = zip(sorted(mine, key=place), sorted(theirs, key=place), strict=True)
            found += [SubtreePair(a, b, Evidence.ORDER) for a, b in by_order if may_pair(a, b)]
    return found


def _order(node: Subtree) -> tuple[int, int]:
    return 0, node.order


def _turn(node: Subtree) -> tuple[int, int]:
    return node.uses[0].depth, node.uses[0].order
