"""Two trees of modules aligned by what they hold, what they are called, and their order.

Modules are paired from the root down. A pair needs the same sizes of parameters below it, or
nearly the same; where several would do, the flow of data decides where it is known, then names,
then the numbers of a series, then the order of definition. A module without a partner gives way to
its children, so that levels which one side has and the other lacks do no harm. Nothing is paired
by chance: what is left in doubt is left over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from portinit.recipes.matching.result import Evidence
from portinit.recipes.matching.uses import Operation, Use, common_use
from portinit.recipes.matching.words import (
    likeness,
    numbers_of,
    path_words,
    role_of,
    without_numbers,
)

Path = tuple[str, ...]

_LEAST, _MARGIN = 0.34, 0.12
"""How alike the names of a pair must be, and by how much more than with any other partner."""

_SAME = 0.95
"""How alike the words of two names must be that are the same but for aliases."""

_OVERLAP = 0.6
"""The share of parameters that two modules which are not quite the same must have in common."""

_SCORED = 64
"""Modules of one shape that are compared by their names; of more, only series are."""

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


@dataclass(frozen=True)
class Aligned:
    """Two parameters that were paired, by their numbers among the items of each side."""

    left: int
    right: int
    evidence: Evidence
    note: str = ""


@dataclass(eq=False)
class _Node:
    """A module, or a parameter, which is a module without children."""

    path: Path
    children: list[_Node] = field(default_factory=list)
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
    roots = [_tree(items, a) for items, a in zip((left, right), anchors, strict=True)]
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


def _tree(items: Sequence[Item], anchors: dict[int, int]) -> _Node:
    root = _Node(())
    modules: dict[Path, _Node] = {(): root}
    for number, item in enumerate(items):
        known = frozenset({anchors[number]} if number in anchors else ())
        leaf = _Node(item.path, [], number, item.size, item.order, known, item.uses)
        _module(modules, item.path[:-1]).children.append(leaf)
    _settle(root)
    return root


def _module(modules: dict[Path, _Node], path: Path) -> _Node:
    if path not in modules:
        modules[path] = _Node(path)
        _module(modules, path[:-1]).children.append(modules[path])
    return modules[path]


def _settle(node: _Node) -> None:
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


class _Pair(NamedTuple):
    """Two nodes that were paired, why, and what speaks against it."""

    left: _Node
    right: _Node
    evidence: Evidence
    note: str = ""


def _pairs(lefts: list[_Node], rights: list[_Node], *, ordered: bool) -> list[_Pair]:
    """Pair the modules of two lists, replacing what has no partner by its children."""
    found: list[_Pair] = []
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


def _open(lefts: list[_Node], rights: list[_Node]) -> tuple[list[_Node], list[_Node]] | None:
    """The lists with the largest module replaced by its children; None if there is no module."""
    closed = [node for node in (*lefts, *rights) if node.item is None]
    if not closed:
        return None
    largest = max(node.total for node in closed)
    return _opened(lefts, largest), _opened(rights, largest)


def _opened(nodes: list[_Node], total: int) -> list[_Node]:
    opened: list[_Node] = []
    for node in nodes:
        if node.item is None and node.total == total:
            opened += [child for child in node.children if child.sizes]
        else:
            opened.append(node)
    return opened


def _by_anchors(lefts: list[_Node], rights: list[_Node]) -> list[_Pair]:
    """Modules that hold the same known pairs, and no others hold any of them."""
    owner = {anchor: node for node in rights for anchor in node.anchors}
    count = Counter(anchor for node in lefts for anchor in node.anchors)
    found = []
    for node in lefts:
        partners = {id(owner[a]): owner[a] for a in node.anchors if a in owner}
        if len(partners) == 1:
            (partner,) = partners.values()
            if partner.anchors == node.anchors and all(count[a] == 1 for a in node.anchors):
                found.append(_Pair(node, partner, Evidence.REWRITTEN))
    return found


def _by_content(
    lefts: list[_Node], rights: list[_Node], *, ordered: bool, last: bool = False
) -> list[_Pair]:
    """Modules of the same sizes: alone of their kind, or told apart by names, numbers, order."""
    everywhere = [sum((n.signatures for n in side), Counter[int]()) for side in (lefts, rights)]
    buckets = [_bucket(side) for side in (lefts, rights)]
    found: list[_Pair] = []
    for signature, mine in buckets[0].items():
        theirs = buckets[1].get(signature, [])
        complete = len(mine) == len(theirs) and all(
            seen[signature] == len(here)
            for seen, here in zip(everywhere, (mine, theirs), strict=True)
        )
        if complete:
            found += _choose(mine, theirs, ordered=ordered, last=last)
        elif theirs:
            found += _by_names(mine, theirs, least=0.8) or (
                _by_series(mine, theirs) if last else []
            )
    return found


def _bucket(nodes: list[_Node]) -> dict[int, list[_Node]]:
    buckets: dict[int, list[_Node]] = {}
    for node in nodes:
        buckets.setdefault(node.signature, []).append(node)
    return buckets


def _choose(lefts: list[_Node], rights: list[_Node], *, ordered: bool, last: bool) -> list[_Pair]:
    """Pair as many modules of one shape as are told apart."""
    if len(lefts) == 1:
        a, b = lefts[0], rights[0]
        if not _may_pair(a, b):
            return []
        return [_Pair(a, b, Evidence.REWRITTEN if _same_end(a, b) else Evidence.STRUCTURE)]
    turns = _by_use(lefts, rights, ordered=ordered, last=last)
    if turns is None:
        return _choose_by_names(lefts, rights, ordered=ordered, last=last)
    return turns


def _by_use(
    lefts: list[_Node], rights: list[_Node], *, ordered: bool, last: bool
) -> list[_Pair] | None:
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
        found: list[_Pair] = []
        for a, b in turns:
            found += _in_turn(a, b, ordered=ordered, last=last)
        return _with_doubts(found, lefts, rights) if ordered else found
    return None


def _in_turn(lefts: list[_Node], rights: list[_Node], *, ordered: bool, last: bool) -> list[_Pair]:
    """Pair modules of one shape that data reaches in the same turn."""
    if len(lefts) > 1:
        return _choose(lefts, rights, ordered=ordered, last=last)
    a, b = lefts[0], rights[0]
    evidence = Evidence.REWRITTEN if _same_but_for_prefix(a, b) else Evidence.USE
    return [_Pair(a, b, evidence)] if _may_pair(a, b) else []


def _with_doubts(found: list[_Pair], lefts: list[_Node], rights: list[_Node]) -> list[_Pair]:
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


def _grouped(nodes: list[_Node], key: Callable[[_Node], Any]) -> dict[Any, list[_Node]]:
    groups: dict[Any, list[_Node]] = {}
    for node in nodes:
        groups.setdefault(key(node), []).append(node)
    return groups


def _depth(node: _Node) -> int | None:
    return node.uses[0].depth if node.uses else None


def _operation(node: _Node) -> str | None:
    return node.uses[0].operation.kind if node.uses else None


def _functions(node: _Node) -> tuple[str, ...] | None:
    return tuple(sorted(node.uses[0].functions)) if node.uses else None


def _choose_by_names(
    lefts: list[_Node], rights: list[_Node], *, ordered: bool, last: bool
) -> list[_Pair]:
    """Pair modules of one shape by the numbers of a series and by names; by order if it is time."""
    found = _by_series(lefts, rights)
    done = {id(node) for pair in found for node in pair[:2]}
    mine, theirs = ([n for n in side if id(n) not in done] for side in (lefts, rights))
    found += _by_names(mine, theirs)
    done = {id(node) for pair in found for node in pair[:2]}
    mine, theirs = ([n for n in side if id(n) not in done] for side in (lefts, rights))
    if len(mine) == len(theirs) == 1 and _may_pair(mine[0], theirs[0]):
        evidence = max((pair.evidence for pair in found), default=Evidence.STRUCTURE)
        found.append(_Pair(mine[0], theirs[0], max(evidence, Evidence.STRUCTURE)))
    elif mine and last and len(mine) == len(theirs):
        is_used = all(node.uses for node in (*mine, *theirs))
        if is_used or ordered:
            place = _turn if is_used else _order
            by_order = zip(sorted(mine, key=place), sorted(theirs, key=place), strict=True)
            found += [_Pair(a, b, Evidence.ORDER) for a, b in by_order if _may_pair(a, b)]
    return found


def _order(node: _Node) -> tuple[int, int]:
    return 0, node.order


def _turn(node: _Node) -> tuple[int, int]:
    return node.uses[0].depth, node.uses[0].order


def _by_series(lefts: list[_Node], rights: list[_Node]) -> list[_Pair]:
    """Series of as many members, chosen by their names, paired in the order of their numbers."""
    series = [_series(side) for side in (lefts, rights)]
    if all(len(members) == 1 for side in series for members in side.values()):
        return []
    chosen = _best(
        [(key, members[0], len(members)) for key, members in series[0].items()],
        [(key, members[0], len(members)) for key, members in series[1].items()],
    )
    found: list[_Pair] = []
    for mine, theirs, evidence in chosen:
        pair = zip(series[0][mine], series[1][theirs], strict=True)
        found += [_Pair(a, b, evidence) for a, b in pair if _may_pair(a, b)]
    return found


def _series(nodes: list[_Node]) -> dict[str, list[_Node]]:
    series: dict[str, list[_Node]] = {}
    for node in sorted(nodes, key=lambda node: node.numbers):
        series.setdefault(node.series, []).append(node)
    return series


def _best(
    lefts: list[tuple[str, _Node, int]], rights: list[tuple[str, _Node, int]]
) -> Iterator[tuple[str, str, Evidence]]:
    """Series of the same length whose names go best together, or that are alone."""
    if len(lefts) == len(rights) == 1 and lefts[0][2] == rights[0][2]:
        same = _same_words(lefts[0][1], rights[0][1])
        yield lefts[0][0], rights[0][0], Evidence.REWRITTEN if same else Evidence.WORDS
        return
    if len(lefts) > _SCORED or len(rights) > _SCORED:
        return
    scores = {
        (i, j): _score(a, b)
        for i, (_, a, count) in enumerate(lefts)
        for j, (_, b, other) in enumerate(rights)
        if count == other
    }
    for i, j in _mutual(scores):
        same = _same_words(lefts[i][1], rights[j][1])
        yield lefts[i][0], rights[j][0], Evidence.REWRITTEN if same else Evidence.WORDS


def _by_names(lefts: list[_Node], rights: list[_Node], least: float = _LEAST) -> list[_Pair]:
    """Modules whose names go together, and with no other's."""
    if not 0 < len(lefts) <= _SCORED or not 0 < len(rights) <= _SCORED:
        return []
    scores = {
        (i, j): _score(a, b)
        for i, a in enumerate(lefts)
        for j, b in enumerate(rights)
        if _may_pair(a, b)
    }
    return [
        _Pair(
            lefts[i],
            rights[j],
            Evidence.REWRITTEN if _same_words(lefts[i], rights[j]) else Evidence.WORDS,
        )
        for i, j in _mutual(scores, least)
    ]


def _mutual(scores: dict[tuple[int, int], float], least: float = _LEAST) -> list[tuple[int, int]]:
    """The pairs that are each other's best by a margin, again and again among those that remain."""
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


def _score(a: _Node, b: _Node) -> float:
    own, whole = likeness(_end(a), _end(b)), likeness(a.words(0), b.words(0))
    score = max(own, (own + whole) / 2)
    if a.inner and b.inner:
        return 0.75 * score + 0.25 * likeness(a.inner, b.inner)
    return score


def _end(node: _Node) -> tuple[str, ...]:
    """The words that tell a node from its neighbours: its last part, and a parameter's module."""
    parts = 2 if node.item is not None else 1
    return node.words(max(0, len(node.path) - parts))


def _same_words(a: _Node, b: _Node) -> bool:
    return a.words(0) == b.words(0) and a.numbers == b.numbers


def _same_but_for_prefix(a: _Node, b: _Node) -> bool:
    """Whether one path is the end of the other, of two words at least, with the same numbers."""
    shorter, longer = sorted((a.words(0), b.words(0)), key=len)
    is_end = len(shorter) > 1 and longer[-len(shorter) :] == shorter
    return a.numbers == b.numbers and (is_end or shorter == longer)


def _same_end(a: _Node, b: _Node) -> bool:
    """Whether two nodes of paired modules are called the same there, in the words of the field."""
    last = [node.words(len(node.path) - 1) for node in (a, b)]
    return likeness(*last) >= _SAME


def _may_pair(a: _Node, b: _Node) -> bool:
    """Whether two parameters can be the same: a bias is no weight."""
    if a.item is None or b.item is None:
        return True
    if a.uses and b.uses and common_use(a.uses, b.uses) is None:
        used = {use.operation for use in (*a.uses, *b.uses)}
        return Operation.OTHER in used
    roles = role_of(a.path[-1]), role_of(b.path[-1])
    return roles[0] == roles[1] or not all(role in _ROLES for role in roles)


def _nearly(lefts: list[_Node], rights: list[_Node]) -> list[_Pair]:
    """Modules that have most of their parameters in common, each the other's best partner."""
    mine = [node for node in lefts if node.item is None]
    theirs = [node for node in rights if node.item is None]
    if not mine or not theirs:
        return []
    series = [_series(side) for side in (mine, theirs)]
    scores: dict[tuple[int, int], float] = {}
    keys = [list(side) for side in series]
    for i, key in enumerate(keys[0]):
        for j, other in enumerate(keys[1]):
            a, b = series[0][key], series[1][other]
            if len(a) == len(b):
                shared = [_shared(x, y) for x, y in zip(a, b, strict=True)]
                if min(shared) >= _OVERLAP:
                    scores[i, j] = 0.5 * sum(shared) / len(shared) + 0.5 * _score(a[0], b[0])
    found: list[_Pair] = []
    for i, j in _mutual(scores, least=0.0):
        a, b = series[0][keys[0][i]], series[1][keys[1][j]]
        same = _same_words(a[0], b[0])
        evidence = Evidence.REWRITTEN if same else Evidence.WORDS
        found += [_Pair(x, y, evidence) for x, y in zip(a, b, strict=True)]
    return found


def _shared(a: _Node, b: _Node) -> float:
    common = (a.sizes & b.sizes).total()
    return common / max(a.sizes.total(), b.sizes.total())
