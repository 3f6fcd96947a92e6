"""The proof: both models with random weights, their outputs compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from portinit.random.keys import key as make_key
from portinit.recipes.matching.result import Matching, Pair
from portinit.testing.proof.first_difference import first_difference
from portinit.testing.proof.outputs import ComparedLeaf
from portinit.testing.proof.result import MatchProof, table_lines
from portinit.testing.proof.search import ANYTHING, GUESSES, Pairs, Search, changed, layers_of
from portinit.testing.proof.sides import Reference, Twin, twin_arrays
from portinit.testing.proof.trial import Trial

_GAINS = (1.0, 2.0, 0.5)
"""Factors of matrices in the rounds of a proof; in a later one other units are active."""

_EXCHANGES = 64
"""How many exchanges of guessed pairs are tried."""

_KEY = make_key(0).fold_in("portinit.prove")


def prove(
    ours: Reference, theirs: Twin, matching: Matching, tolerance: float | None = None
) -> MatchProof:
    """Prove a matching by forward passes with random weights.

    Each parameter gets random values (:func:`visible`), and both models run. If the outputs agree,
    every pair is right whose parameter moves them by more than twice what is allowed: had it
    another's values, or its own transposed, the outputs would not agree. What moves them is told by
    gradients, and by new values where these do not tell. Up to three rounds of other values are
    made until every parameter is seen.

    If the outputs do not agree, the guesses are changed until they do: layouts, and pairs of equal
    shapes, led by the outputs of layers. What is stated or certain is not changed; if a change of
    it would help, that is a hint.

    Args:
        ours: PyTorch's model; its weights stay as they are.
        theirs: its twin.
        matching: the pairs in question.
        tolerance: for the outputs; as for :func:`compare_outputs`.
    """
    with ours.held():
        return _Proof(ours, theirs, matching, tolerance).run()


class _Proof:
    """The rounds of a proof."""

    def __init__(
        self, ours: Reference, theirs: Twin, matching: Matching, tolerance: float | None
    ) -> None:
        self._ours, self._theirs, self._tolerance = ours, theirs, tolerance
        self._initial = ours.tensors()
        self._asked = tuple(p for p in matching.pairs if p.parameter.name in self._initial)
        self._pairs: Pairs = self._asked
        self._open = {pair.path for pair in self._asked}
        self._result = MatchProof(replace(matching, pairs=self._asked))

    def run(self) -> MatchProof:
        """All rounds."""
        rounds = 0
        for number, gain in enumerate(_GAINS):
            trial = Trial(
                self._ours, self._theirs, self._initial, self._pairs, _KEY.fold_in(number), gain,
                self._tolerance,
            )  # fmt: skip
            if not trial.is_finite:
                continue
            rounds += 1
            if not self._round(trial):
                return self._result
            if not self._open:
                break
        if not rounds:
            self._result.problems.append(
                "with random weights in place of initial ones PyTorch's outputs are not finite: "
                "nothing is proved"
            )
        return self._result

    def _round(self, trial: Trial) -> bool:
        """One round; whether the outputs agree, maybe after a search."""
        result, compared = self._result, trial.compare(self._pairs)
        result.notes = compared.notes
        if compared.problems:
            result.agrees, result.problems = False, compared.problems
            return False
        if not compared.agrees:
            found = Search(trial, self._ours, self._pairs, GUESSES).run()
            if found is None:
                result.gap, result.excess = compared.gap, compared.excess
                self._fail(trial)
                return False
            self._pairs, compared = found, trial.compare(found)
            result.matching = replace(result.matching, pairs=found)
            result.decided = changed(self._asked, found)
        result.agrees = True
        result.gap = max(result.gap, compared.gap)
        result.excess = max(result.excess, compared.excess)
        self._see(trial, [leaf for leaf in compared.leaves if not leaf.constant])
        return True

    def _see(self, trial: Trial, leaves: Sequence[ComparedLeaf]) -> None:
        """Note which pairs the outputs depend on."""
        unseen = [pair for pair in self._pairs if pair.path in self._open]
        seen = trial.visible_pairs(unseen, leaves)
        self._open -= seen
        self._result.unproved = tuple(pair for pair in self._pairs if pair.path in self._open)
        self._result.indistinct = tuple(
            couple
            for couple in self._exchangeable()
            if not {pair.path for pair in couple} & self._open
            and not trial.tells_apart(*couple, leaves)
        )

    def _exchangeable(self) -> Iterator[tuple[Pair, Pair]]:
        """Guessed pairs of one shape: those that follow one another in a group."""
        couples = [
            couple for group in self._result.matching.exchangeable() for couple in pairwise(group)
        ]
        yield from couples[:_EXCHANGES]

    def _fail(self, trial: Trial) -> None:
        result = self._result
        result.agrees = False
        arrays = twin_arrays(self._theirs.arrays, self._pairs, trial.weights)
        theirs = layers_of(lambda: self._theirs.layers(arrays))
        result.where = first_difference(
            layers_of(self._ours.layers), theirs, self._pairs, self._theirs.framework
        )
        better = Search(trial, self._ours, self._pairs, ANYTHING).run()
        if better is not None:
            result.hints = (
                "the outputs agree with " + table_lines(better, changed(self._pairs, better)),
            )
