"""Subtrees paired by their names: by the numbers of a series, and by words that are alike."""

from __future__ import annotations

from collections.abc import Iterator

from portinit.recipes.matching.evidence import Evidence
from portinit.recipes.matching.names.words import likeness
from portinit.recipes.matching.structure.subtrees import Subtree, SubtreePair, may_pair

_LEAST, _MARGIN = 0.34, 0.12
"""How alike the names of a pair must be, and by how much more than with any other partner."""

_SAME = 0.95
"""How alike the words of two names must be that are the same but for aliases."""

_SCORED = 64
"""Modules of one shape that are compared by their names; of more, only series are."""


def by_series(lefts: list[Subtree], rights: list[Subtree]) -> list[SubtreePair]:
    """Series of as many members, chosen by their names, paired in the order of their numbers."""
    series = [series_of(side) for side in (lefts, rights)]
    if all(len(members) == 1 for side in series for members in side.values()):
        return []
    chosen = _best(
        [(key, members[0], len(members)) for key, members in series[0].items()],
        [(key, members[0], len(members)) for key, members in series[1].items()],
    )
    found: list[SubtreePair] = []
    for mine, theirs, evidence in chosen:
        pair = zip(series[0][mine], series[1][theirs], strict=True)
        found += [SubtreePair(a, b, evidence) for a, b in pair if may_pair(a, b)]
    return found


def series_of(nodes: list[Subtree]) -> dict[str, list[Subtree]]:
    """The nodes by their paths without numbers, in the order of these."""
    series: dict[str, list[Subtree]] = {}
    for node in sorted(nodes, key=lambda node: node.numbers):
        series.setdefault(node.series, []).append(node)
    return series


def _best(
    lefts: list[tuple[str, Subtree, int]], rights: list[tuple[str, Subtree, int]]
) -> Iterator[tuple[str, str, Evidence]]:
    """Series of the same length whose names go best together, or that are alone."""
    if len(lefts) == len(rights) == 1 and lefts[0][2] == rights[0][2]:
        same = same_words(lefts[0][1], rights[0][1])
        yield lefts[0][0], rights[0][0], Evidence.REWRITTEN if same else Evidence.WORDS
        return
    if len(lefts) > _SCORED or len(rights) > _SCORED:
        return
    scores = {
        (i, j): likeness_of(a, b)
        for i, (_, a, count) in enumerate(lefts)
        for j, (_, b, other) in enumerate(rights)
        if count == other
    }
    for i, j in mutual_best(scores):
        same = same_words(lefts[i][1], rights[j][1])
        yield lefts[i][0], rights[j][0], Evidence.REWRITTEN if same else Evidence.WORDS


def by_names(
    lefts: list[Subtree], rights: list[Subtree], least: float = _LEAST
) -> list[SubtreePair]:
    """Modules whose names go together, and with no other's."""
    if not 0 < len(lefts) <= _SCORED or not 0 < len(rights) <= _SCORED:
        return []
    scores = {
        (i, j): likeness_of(a, b)
        for i, a in enumerate(lefts)
        for j, b in enumerate(rights)
        if may_pair(a, b)
    }
    return [
        SubtreePair(
            lefts[i],
            rights[j],
            Evidence.REWRITTEN if same_words(lefts[i], rights[j]) else Evidence.WORDS,
        )
        for i, j in mutual_best(scores, least)
    ]


def mutual_best(
    scores: dict[tuple[int, int], float], least: float = _LEAST
) -> list[tuple[int, int]]:
    """The pairs that are each other's best by a margin, and again among those that remain."""
    found: list[tuple[int, int]] = []
    rest = dict(scores)
    while rest:
        best: dict[tuple[int, int], list[float]] = {}  # of each row and column, the best two
        for (i, j), score in rest.items():
            for line in ((0, i), (1, j)):
                best[line] = sorted((*best.get(line, ()), score), reverse=True)[:2]
        new = [
            (i, j)
            for (i, j), score in rest.items()
            if score >= least
            and all(
                score == best[line][0] and score >= sum(best[line][1:]) + _MARGIN
                for line in ((0, i), (1, j))
                if len(best[line]) > 1
            )
        ]
        if not new:
            break
        found += new
        mine, theirs = {i for i, _ in new}, {j for _, j in new}
        rest = {(i, j): s for (i, j), s in rest.items() if i not in mine and j not in theirs}
    return found


def likeness_of(a: Subtree, b: Subtree) -> float:
    """How alike the names of two nodes and of what lies in them are, from 0 to 1."""
    own, whole = likeness(_end(a), _end(b)), likeness(a.words(0), b.words(0))
    score = max(own, (own + whole) / 2)
    if a.inner and b.inner:
        return 0.75 * score + 0.25 * likeness(a.inner, b.inner)
    return score


def _end(node: Subtree) -> tuple[str, ...]:
    """The words that tell a node from its neighbours: its last part, and a parameter's module."""
    parts = 2 if node.item is not None else 1
    return node.words(max(0, len(node.path) - parts))


def same_words(a: Subtree, b: Subtree) -> bool:
    """Whether two paths have the same words and numbers."""
    return a.words(0) == b.words(0) and a.numbers == b.numbers


def same_but_for_prefix(a: Subtree, b: Subtree) -> bool:
    """Whether one path is the end of the other, of two words at least, with the same numbers."""
    shorter, longer = sorted((a.words(0), b.words(0)), key=len)
    is_end = len(shorter) > 1 and longer[-len(shorter) :] == shorter
    return a.numbers == b.numbers and (is_end or shorter == longer)


def same_end(a: Subtree, b: Subtree) -> bool:
    """Whether two nodes of paired modules are called the same there, in the words of the field."""
    last = [node.words(len(node.path) - 1) for node in (a, b)]
    return likeness(*last) >= _SAME
