"""What a proof by forward passes found."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from portinit.recipes.matching.evidence import Evidence, LayoutEvidence
from portinit.recipes.matching.result import Matching, Pair, joined
from portinit.recipes.matching.tables.targets import Target
from portinit.recipes.matching.trees.leaf import Leaf

_SHOWN = 8
"""How many pairs a line lists."""


@dataclass
class MatchProof:
    """Whether a matching makes two models compute the same, and of which pairs that is known.

    Attributes:
        matching: the pairs that the forward passes agree under; where they do not agree, those
            that were asked about.
        agrees: whether the forward passes agree, with random weights in all parameters.
        gap: the largest absolute difference of their outputs.
        excess: the largest ratio of an output's difference to what its tolerance allows.
        decided: pairs that were guessed wrong, as they are in ``matching``.
        unproved: pairs whose parameters change no output, so that nothing is known of them.
        indistinct: guessed pairs that can be exchanged and no output changes.
        where: where the activations part, where the forward passes do not agree.
        hints: changes of what was stated or certain that would make the forward passes agree.
        notes: what was decided on the way.
        problems: why the outputs cannot be compared.
    """

    matching: Matching
    agrees: bool = False
    gap: float = 0.0
    excess: float = 0.0
    decided: tuple[Pair, ...] = ()
    unproved: tuple[Pair, ...] = ()
    indistinct: tuple[tuple[Pair, Pair], ...] = ()
    where: str | None = None
    hints: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        """Whether the outputs were compared and differ."""
        return not self.agrees and not self.problems

    @property
    def proved(self) -> tuple[Pair, ...]:
        """The pairs that are proved; none if the forward passes do not agree."""
        if not self.agrees:
            return ()
        open_pairs = {pair.path for pair in self.unproved}
        open_pairs |= {pair.path for couple in self.indistinct for pair in couple}
        return tuple(pair for pair in self.matching.pairs if pair.path not in open_pairs)

    @property
    def doubtful(self) -> tuple[Pair, ...]:
        """The pairs that neither outputs, nor names, nor what their modules hold tell right."""
        if not self.agrees:
            return self.matching.pairs
        proved = {pair.path for pair in self.proved}
        by_module: dict[str, list[Pair]] = {}
        for pair in self.matching.pairs:
            by_module.setdefault(_module(pair), []).append(pair)
        return tuple(
            pair
            for pair in self.matching.pairs
            if pair.path not in proved
            and not _is_told(pair)
            and not _is_told_by_its_module(pair, by_module[_module(pair)], proved)
        )

    @property
    def suspects(self) -> tuple[Pair, ...]:
        """The pairs and layouts that are guessed, where the forward passes do not agree."""
        return () if self.agrees else self.matching.suspects

    @property
    def is_complete(self) -> bool:
        """Whether every pair is proved, or told by its own name where no output depends on it."""
        return bool(self.proved) and not self.doubtful

    def lines(self) -> list[str]:
        """What was found, in sentences: first what was proved."""
        total = len(self.matching)
        if self.problems:
            return [*self.problems]
        if not self.agrees:
            return [*self._failure()]
        found = (
            f"proved by random weights: {_count(len(self.proved), total)} matter, "
            f"outputs within {self.gap:.1e}"
        )
        return [found, *self._decisions(), *self._open()]

    def _decisions(self) -> list[str]:
        if not self.decided:
            return []
        return [
            f"decided by comparing outputs: {_listed(map(_pairing, self.decided))}",
            f"to state it: {table_lines(self.matching.pairs, self.decided)}",
        ]

    def _open(self) -> list[str]:
        lines = []
        if self.unproved:
            names = [f"{pair.path} = {pair.parameter}" for pair in self.unproved]
            lines.append(f"no output depends on these, and they are not proved: {_listed(names)}")
        if self.indistinct:
            names = [f"{a.path} and {b.path}" for a, b in self.indistinct]
            lines.append(f"no output tells these from one another: {_listed(names)}")
        return lines

    def _failure(self) -> list[str]:
        head = (
            f"with random weights in place of initial ones the outputs differ by {self.gap:.1e}, "
            f"{self.excess:.2g} times what is allowed: a name or a layout is wrong, or the models "
            "compute different things"
        )
        lines = [head, *([self.where] if self.where else []), *self.hints]
        layouts = [p for p in self.suspects if p.layout_evidence > LayoutEvidence.CONVENTION]
        names = [p for p in self.suspects if p.evidence > Evidence.REWRITTEN]
        if names:
            lines.append(f"suspects, paired by a guess: {_listed(map(_pairing, names))}")
        if layouts:
            lines.append(f"suspects, of an assumed layout: {_listed(map(_pairing, layouts))}")
        return lines

    def __str__(self) -> str:
        return "\n".join([*self.lines(), *self.notes])

    def __repr__(self) -> str:
        outcome = "agree" if self.agrees else "differ"
        counts = f"{len(self.proved)} of {len(self.matching)} pairs proved"
        return f"<MatchProof: outputs {outcome}, {counts}>"


def _is_told(pair: Pair) -> bool:
    """Whether its name and shape leave nothing to guess."""
    return pair.evidence in (Evidence.NAME, Evidence.REWRITTEN) and (
        pair.layout_evidence <= LayoutEvidence.CLASS or not pair.others
    )


def _module(pair: Pair) -> str:
    """The path of the module that holds a pair's array."""
    return "/".join(pair.leaf.path[:-1])


def _is_told_by_its_module(pair: Pair, module: list[Pair], proved: set[str]) -> bool:
    """Whether all else of a pair's module is proved, and is of one module of PyTorch's with it.

    So the bias of attention's keys goes with their kernel.
    """
    owners = {(p.parameter.name.rpartition(".")[0], p.parameter.rows) for p in module}
    others = [one for one in module if one is not pair]
    is_clear = pair.layout_evidence <= LayoutEvidence.CLASS or not pair.others
    return (
        is_clear
        and len(owners) == 1
        and bool(others)
        and all(one.path in proved and one.shape != pair.shape for one in others)
    )


def _pairing(pair: Pair) -> str:
    return f"{pair.path} = {pair.parameter}"


def table_lines(pairs: Iterable[Pair], chosen: Iterable[Pair]) -> str:
    """The lines of a table of names for the arrays of some pairs, as JSON writes them."""
    positions = {pair.leaf.position for pair in chosen}
    held: dict[int, list[tuple[Leaf, Target]]] = {}
    for pair in pairs:
        if pair.leaf.position in positions:
            held.setdefault(pair.leaf.position, []).append((pair.leaf, pair.target))
    return _listed(
        f"{json.dumps('/'.join(parts[0][0].array or parts[0][0].path))}: "
        f"{json.dumps(joined(parts).to_data())}"
        for parts in held.values()
    )


def _count(number: int, total: int) -> str:
    return f"all {total} parameters" if number == total else f"{number} of {total} parameters"


def _listed(texts: Iterable[str]) -> str:
    shown = [*texts]
    more = f", and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more
