"""Two trees of modules aligned by what they hold, what they are called, and their order.

Modules are paired from the root down. A pair needs the same sizes of parameters below it, or
nearly the same; where several would do, the flow of data decides where it is known, then names,
then the numbers of a series, then the order of definition. A module without a partner gives way to
its children, so that levels which one side has and the other lacks do no harm. Nothing is paired
by chance: what is left in doubt is left over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from portinit.recipes.matching.evidence import Evidence
from portinit.recipes.matching.structure.choices import choose
from portinit.recipes.matching.structure.names import (
    by_names,
    by_series,
    likeness_of,
    mutual_best,
    same_words,
    series_of,
)
from portinit.recipes.matching.structure.subtrees import Item, Subtree, SubtreePair, root_of

_OVERLAP = 0.6
"""The share of parameters that two modules which are not quite the same must have in common."""


@dataclass(frozen=True)
class Aligned:
    """Two parameters that were paired, by their numbers among the items of each side."""

    left: int
    right: int
    evidence: Evidence
    note: str = ""


def align(
    left: Sequence[Item],
    right: Sequence[Item],
    known: Iterable[tuple[int, int]] = (),
    *,
    ordered: bool,
) -> list[Aligned]:
    """Pair the parameters of two models.

    Args:
        left: of one side.
        right: of the other.
        known: pairs that are known, by their numbers; what holds them belongs together.
        ordered: whether the order of both sides is that of definition or of use.

    Returns:
        The new pairs, each as sure as the least sure of the choices that led to it.
    """
    pairs, found = list(known), list[Aligned]()
    while True:
        least = Evidence.STRUCTURE if found else Evidence.REWRITTEN
        new = _align_once(left, right, pairs, least, ordered=ordered)
        if not new:
            return found
        found += new  # what was left over is tried again between what holds the new pairs
        pairs += [(pair.left, pair.right) for pair in new]


def _align_once(
    left: Sequence[Item],
    right: Sequence[Item],
    known: Sequence[tuple[int, int]],
    least: Evidence,
    *,
    ordered: bool,
) -> list[Aligned]:
    anchors = [{pair[side]: i for i, pair in enumerate(known)} for side in (0, 1)]
    roots = [root_of(items, a) for items, a in zip((left, right), anchors, strict=True)]
    found: list[Aligned] = []
    work = [(roots[0].children, roots[1].children, least, "")]
    while work:
        lefts, rights, evidence, above = work.pop()
        for a, b, sure, said in _pairs(lefts, rights, ordered=ordered):
            weakest, note = max(sure, evidence), said or above
            if a.item is not None and b.item is not None:
                if not a.anchors:
                    found.append(Aligned(a.item, b.item, weakest, note))
            elif a.item is None and b.item is None:
                work.append((a.children, b.children, weakest, note))
            else:  # a parameter and a module of one
                lists = [[n] if n.item is not None else n.children for n in (a, b)]
                work.append((lists[0], lists[1], weakest, note))
    return found


def _pairs(lefts: list[Subtree], rights: list[Subtree], *, ordered: bool) -> list[SubtreePair]:
    """Pair the modules of two lists, replacing what has no partner by its children."""
    found: list[SubtreePair] = []
    lefts = [node for node in lefts if node.sizes]
    rights = [node for node in rights if node.sizes]
    while lefts and rights:
        new = (
            _by_anchors(lefts, rights)
            or _by_content(lefts, rights, ordered=ordered)
            or _nearly(lefts, rights)
        )
        if not new:
            opened = _open(lefts, rights)
            if opened is None:
                new = _by_content(lefts, rights, ordered=ordered, last=True)
                if not new:
                    return found
            else:
                lefts, rights = opened
                continue
        found += new
        done = {id(node) for pair in new for node in pair[:2]}
        lefts = [node for node in lefts if id(node) not in done]
        rights = [node for node in rights if id(node) not in done]
    return found


def _open(
    lefts: list[Subtree], rights: list[Subtree]
) -> tuple[list[Subtree], list[Subtree]] | None:
    """The lists with the largest module replaced by its children; None if there is no module."""
    closed = [node for node in (*lefts, *rights) if node.item is None]
    if not closed:
        return None
    largest = max(node.total for node in closed)
    return _opened(lefts, largest), _opened(rights, largest)


def _opened(nodes: list[Subtree], total: int) -> list[Subtree]:
    opened: list[Subtree] = []
    for node in nodes:
        if node.item is None and node.total == total:
            opened += [child for child in node.children if child.sizes]
        else:
            opened.append(node)
    return opened


def _by_anchors(lefts: list[Subtree], rights: list[Subtree]) -> list[SubtreePair]:
    """Modules that hold the same known pairs, and no others hold any of them."""
    owner = {anchor: node for node in rights for anchor in node.anchors}
    count = Counter(anchor for node in lefts for anchor in node.anchors)
    found = []
    for node in lefts:
        partners = {id(owner[a]): owner[a] for a in node.anchors if a in owner}
        if len(partners) == 1:
            (partner,) = partners.values()
            if partner.anchors == node.anchors and all(count[a] == 1 for a in node.anchors):
                found.append(SubtreePair(node, partner, Evidence.REWRITTEN))
    return found


def _by_content(
    lefts: list[Subtree], rights: list[Subtree], *, ordered: bool, last: bool = False
) -> list[SubtreePair]:
    """Modules of the same sizes: alone of their kind, or told apart by names, numbers, order."""
    everywhere = [sum((n.signatures for n in side), Counter[int]()) for side in (lefts, rights)]
    buckets = [_bucket(side) for side in (lefts, rights)]
    found: list[SubtreePair] = []
    for signature, mine in buckets[0].items():
        theirs = buckets[1].get(signature, [])
        complete = len(mine) == len(theirs) and all(
            seen[signature] == len(here)
            for seen, here in zip(everywhere, (mine, theirs), strict=True)
        )
        if complete:
            found += choose(mine, theirs, ordered=ordered, last=last)
        elif theirs:
            found += by_names(mine, theirs, least=0.8) or (by_series(mine, theirs) if last else [])
    return found


def _bucket(nodes: list[Subtree]) -> dict[int, list[Subtree]]:
    buckets: dict[int, list[Subtree]] = {}
    for node in nodes:
        buckets.setdefault(node.signature, []).append(node)
    return buckets


def _nearly(lefts: list[Subtree], rights: list[Subtree]) -> list[SubtreePair]:
    """Modules that have most of their parameters in common, each the other's best partner."""
    mine = [node for node in lefts if node.item is None]
    theirs = [node for node in rights if node.item is None]
    if not mine or not theirs:
        return []
    series = [series_of(side) for side in (mine, theirs)]
    scores: dict[tuple[int, int], float] = {}
    keys = [list(side) for side in series]
    for i, key in enumerate(keys[0]):
        for j, other in enumerate(keys[1]):
            a, b = series[0][key], series[1][other]
            if len(a) == len(b):
                shared = [_shared(x, y) for x, y in zip(a, b, strict=True)]
                if min(shared) >= _OVERLAP:
                    scores[i, j] = 0.5 * sum(shared) / len(shared) + 0.5 * likeness_of(a[0], b[0])
    found: list[SubtreePair] = []
    for i, j in mutual_best(scores, least=0.0):
        a, b = series[0][keys[0][i]], series[1][keys[1][j]]
        same = same_words(a[0], b[0])
        evidence = Evidence.REWRITTEN if same else Evidence.WORDS
        found += [SubtreePair(x, y, evidence) for x, y in zip(a, b, strict=True)]
    return found


def _shared(a: Subtree, b: Subtree) -> float:
    common = (a.sizes & b.sizes).total()
    return common / max(a.sizes.total(), b.sizes.total())
