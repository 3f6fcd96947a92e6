"""A matching that makes two models compute the same, looked for near one that does not."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, product

from portinit.arrays.layouts import Layout
from portinit.recipes.matching.evidence import Evidence, LayoutEvidence
from portinit.recipes.matching.layouts.fitting import fitting_layouts, same_order
from portinit.recipes.matching.result import Pair
from portinit.testing.proof.layers import Call, LayerOutput, found_again, layer_outputs
from portinit.testing.proof.outputs import Comparison
from portinit.testing.proof.sides import Reference, twin_arrays
from portinit.testing.proof.trial import Trial

Pairs = tuple[Pair, ...]
Change = Mapping[int, Pair]
"""Other pairs by their numbers in a matching."""

Couples = Sequence[tuple[int, int]]
"""Pairs by their numbers, whose parameters are to be exchanged."""

_MOST, _LEAST = 400, 20
"""Changes that a search tries: fewer in larger models."""

_LAYERS = 8
"""How many of the first layers that are not found a change may concern."""

_ELEMENTS = 10**10
"""Elements of weights that a search passes through a model."""


@dataclass(frozen=True)
class Freedom:
    """What a search may change.

    Attributes:
        names: the weakest :class:`Evidence` of a pair that stays; -1 if none stays.
        layouts: the weakest :class:`LayoutEvidence` of a layout that stays; -1 if none stays.
    """

    names: int
    layouts: int


GUESSES = Freedom(Evidence.REWRITTEN, LayoutEvidence.CLASS)
"""Pairs that names do not tell, and layouts that neither shape nor class nor user tells."""

ANYTHING = Freedom(-1, -1)
"""What is stated or certain, too."""


class Search:
    """A search for pairs under which the outputs agree, led by the outputs of layers.

    The layers of PyTorch whose outputs are found in the twin too are counted. A change that raises
    the count is kept; the changes that concern the first layers not found are tried first. So a
    model is put right from its input to its output, and the effort is linear in its depth. Where
    no change raises the count, the one that brings the outputs nearest is kept.

    Args:
        trial: both models with random weights.
        ours: PyTorch's model, with the trial's weights.
        pairs: those that do not agree.
        freedom: what may be changed.
    """

    def __init__(self, trial: Trial, ours: Reference, pairs: Pairs, freedom: Freedom) -> None:
        self._trial, self._freedom = trial, freedom
        self._reference = layers_of(ours.layers)
        size = sum(values.size for values in trial.weights.values())
        self._left = max(_LEAST, min(_MOST, _ELEMENTS // max(size, 1)))
        self._take(pairs)

    def _take(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._groups: dict[object, list[int]] = {}
        self._by_module: dict[str, dict[str, int]] = {}
        self._by_series: dict[str, dict[tuple[str, ...], int]] = {}
        for i, pair in enumerate(pairs):
            module, _, word = str(pair.parameter).rpartition(".")
            self._by_module.setdefault(module, {})[word] = i
            series, numbers = _numbered(str(pair.parameter))
            self._by_series.setdefault(series, {})[numbers] = i
            if pair.evidence > self._freedom.names:
                self._groups.setdefault(_kind(pair), []).append(i)

    def run(self) -> Pairs | None:
        """The pairs under which the outputs agree; None if the effort ends before."""
        best, gap = self._found(self._pairs), self._trial.compare(self._pairs).gap
        gap = math.inf if math.isnan(gap) else gap
        while True:
            nearer: Pairs | None = None
            for change in self._changes(best):
                pairs = self._changed(change)
                comparison = self._compare(pairs)
                if comparison is None:
                    return None
                if comparison.agrees:
                    return pairs
                found = self._found(pairs)
                if sum(found) > sum(best):
                    best, gap, nearer = found, comparison.gap, pairs
                    break
                if sum(found) == sum(best) and comparison.gap < gap:
                    gap, nearer = comparison.gap, pairs
            if nearer is None:
                return None
            self._take(nearer)

    def _compare(self, pairs: Pairs) -> Comparison | None:
        if self._left <= 0:
            return None
        self._left -= 1
        return self._trial.compare(pairs)

    def _found(self, pairs: Pairs) -> list[bool]:
        """Of each layer of PyTorch's, whether its output is found in the twin."""
        if not self._reference:
            return []
        arrays = twin_arrays(self._trial.theirs.arrays, pairs, self._trial.weights)
        return found_again(self._reference, layers_of(lambda: self._trial.theirs.layers(arrays)))

    def _changed(self, change: Change) -> Pairs:
        return tuple(change.get(i, pair) for i, pair in enumerate(self._pairs))

    # What can be changed

    def _changes(self, found: Sequence[bool]) -> Iterator[Change]:
        """Changes to try, the likeliest first."""
        names = {one.name for one, is_found in zip(self._reference, found, strict=True) if is_found}
        open_numbers = [i for i, pair in enumerate(self._pairs) if _owner(pair) not in names]
        tried: set[tuple[tuple[int, str, Layout], ...]] = set()
        others = [i for i, pair in enumerate(self._pairs) if _owner(pair) in names]
        candidates = chain(
            self._candidates(open_numbers, self._by_first_use(open_numbers)),
            self._exchanges(others),  # layers in parallel, each with another's weights
        )
        for change in candidates:
            mark = tuple((i, str(p.parameter), p.layout) for i, p in sorted(change.items()))
            if change and mark not in tried:
                tried.add(mark)
                yield change

    def _candidates(self, every: Sequence[int], order: Sequence[int]) -> Iterator[Change]:
        """Whole classes of arrays first: a mistake is mostly made in every layer alike."""
        yield from self._layouts_alike(every, lambda pair: pair.leaf.path[-1])
        yield from self._layouts_alike(every, lambda pair: _numbered(pair.path)[0])
        for i in order:
            yield from self._layouts_of(i)
            yield from self._exchanges([i])
        for i in order:
            for couples in (*self._series(i), *self._singles(i)):
                yield from self._with_other_layouts(self._exchange(couples))
        for kind in (self._series, self._singles):
            for i, j in combinations(order, 2):  # a layer of which two parameters are wrong
                if _owner(self._pairs[i]) == _owner(self._pairs[j]):
                    for first, second in product(kind(i), kind(j)):
                        yield self._exchange(second, self._exchange(first))

    def _exchanges(self, numbers: Sequence[int]) -> Iterator[Change]:
        for i in numbers:
            for couples in chain(self._series(i), self._modules(i), self._singles(i)):
                yield self._exchange(couples)

    def _by_first_use(self, numbers: Sequence[int]) -> list[int]:
        """The numbers of pairs by the first use of their layers, without those of later layers."""
        places: dict[str, int] = {}
        for layer in self._reference:
            places.setdefault(layer.name, len(places))
        owners = {_owner(self._pairs[i]) for i in numbers} & places.keys()
        late = {*sorted(owners, key=places.__getitem__)[_LAYERS:]}
        kept = [i for i in numbers if _owner(self._pairs[i]) not in late]
        return sorted(kept, key=lambda i: places.get(_owner(self._pairs[i]), len(places)))

    def _other_layouts(self, pair: Pair) -> tuple[Layout, ...]:
        if pair.layout_evidence <= self._freedom.layouts or len(pair.shape) < 2:
            return ()
        try:
            wanted = pair.layout.logical_shape(pair.shape)
        except ValueError:
            return ()
        fitting = (*pair.others, *fitting_layouts(pair.shape, wanted, pair.layout.roles))
        return tuple(
            one for one in dict.fromkeys(fitting) if not same_order(one, pair.layout, pair.shape)
        )

    def _layouts_alike(
        self, order: Sequence[int], alike: Callable[[Pair], str]
    ) -> Iterator[Change]:
        """Another layout for all square arrays that have something in common."""
        groups: dict[object, list[int]] = {}
        for i in order:
            pair = self._pairs[i]
            if self._other_layouts(pair):
                groups.setdefault((alike(pair), len(pair.shape)), []).append(i)
        for group in groups.values():
            if len(group) > 1:
                yield {
                    i: _laid_out(self._pairs[i], self._other_layouts(self._pairs[i])[0])
                    for i in group
                }

    def _layouts_of(self, i: int) -> Iterator[Change]:
        pair = self._pairs[i]
        for layout in self._other_layouts(pair):
            yield {i: _laid_out(pair, layout)}

    def _partners(self, i: int) -> Iterator[int]:
        """The pairs whose parameters a pair's may be exchanged with."""
        pair = self._pairs[i]
        if pair.evidence > self._freedom.names:
            for j in self._groups[_kind(pair)]:
                if str(self._pairs[j].parameter) != str(pair.parameter):
                    yield j

    def _singles(self, i: int) -> Iterator[Couples]:
        """A pair, and another whose parameter has its shape."""
        for j in self._partners(i):
            yield [(i, j)]

    def _series(self, i: int) -> Iterator[Couples]:
        """A pair and another, and the pairs like them in every layer."""
        series, _ = _numbered(str(self._pairs[i].parameter))
        own, tried = self._by_series[series], {series}
        for j in self._partners(i):
            other, _ = _numbered(str(self._pairs[j].parameter))
            others = self._by_series[other]
            if other not in tried and own.keys() == others.keys() and len(own) > 1:
                tried.add(other)
                yield [(own[numbers], others[numbers]) for numbers in own]

    def _modules(self, i: int) -> Iterator[Couples]:
        """All pairs of a module, and those of another that holds the same."""
        module, _, _ = str(self._pairs[i].parameter).rpartition(".")
        own, tried = self._by_module[module], {module}
        for j in self._partners(i):
            other, _, _ = str(self._pairs[j].parameter).rpartition(".")
            others = self._by_module[other]
            if other not in tried and own.keys() == others.keys() and len(own) > 1:
                tried.add(other)
                yield [(own[word], others[word]) for word in own]

    def _exchange(self, couples: Couples, before: Change | None = None) -> Change:
        """The parameters of couples exchanged, after another change; {} if one may not be."""
        change = {**(before or {})}
        for i, j in couples:
            a, b = (change.get(number, self._pairs[number]) for number in (i, j))
            if _kind(a) != _kind(b) or min(a.evidence, b.evidence) <= self._freedom.names:
                return {}
            change[i] = replace(a, parameter=b.parameter)
            change[j] = replace(b, parameter=a.parameter)
        return change

    def _with_other_layouts(self, change: Change) -> Iterator[Change]:
        """An exchange together with other layouts of what is exchanged."""
        for i, pair in change.items():
            for layout in self._other_layouts(pair):
                yield {**change, i: _laid_out(pair, layout)}


def layers_of(layers: Callable[[], Iterable[Call]]) -> list[LayerOutput]:
    """The outputs of a model's layers; none if they cannot be watched, though the model runs."""
    try:
        return layer_outputs(layers())
    except Exception:
        return []


def _laid_out(pair: Pair, layout: Layout) -> Pair:
    return replace(pair, layout=layout, layout_evidence=LayoutEvidence.ASSUMED)


def _owner(pair: Pair) -> str:
    """The module of PyTorch's that a pair's parameter is of."""
    return pair.parameter.name.rpartition(".")[0]


def _kind(pair: Pair) -> object:
    """What parameters have in common that can be exchanged."""
    return pair.layout.logical_shape(pair.shape), pair.parameter.is_whole


def _numbered(name: str) -> tuple[str, tuple[str, ...]]:
    """A name with its numbers left open, and these."""
    return _NUMBER.sub("#", name), tuple(_NUMBER.findall(name))


_NUMBER = re.compile(r"\d+")


def changed(before: Iterable[Pair], after: Iterable[Pair]) -> Pairs:
    """The pairs that are not as they were."""
    return tuple(
        new
        for old, new in zip(before, after, strict=True)
        if (str(old.parameter), old.layout) != (str(new.parameter), new.layout)
    )
