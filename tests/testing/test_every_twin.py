"""Every kind of twin: the right match is proved, and no wrong one is, whichever is tried."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from rich.console import Console
from tests.support.twins.every import TWINS

import portinit
from portinit.cli import porting
from portinit.cli.tables import print_port
from portinit.recipes.matching.evidence import Evidence, LayoutEvidence
from portinit.recipes.matching.layouts.fitting import fitting_layouts, same_order
from portinit.recipes.matching.result import Matching, Pair
from portinit.testing import MatchProof
from portinit.testing.matches import two_sides
from portinit.testing.proof.proof import prove
from portinit.testing.proof.sides import Reference, Twin
from portinit.testing.proof.trial import Trial

every_twin = pytest.mark.parametrize("name", TWINS)


@functools.cache
def sides(name: str) -> tuple[Reference, Twin, Matching]:
    case = TWINS[name]
    return two_sides(
        case.torch_model(), case.flax_model(), *case.inputs, case.names, stacked=case.stacked
    )


@functools.cache
def proof(name: str) -> MatchProof:
    return prove(*sides(name))


def is_invisible(name: str, pair: Pair) -> bool:
    return str(pair.parameter).endswith(TWINS[name].invisible or ("?",))


@every_twin
def test_the_right_match_is_proved(name: str):
    found = proof(name)
    assert found.agrees
    assert found.is_complete
    assert all(is_invisible(name, pair) for pair in found.unproved)
    assert not found.indistinct


def exchanges(matching: Matching) -> Iterator[tuple[Pair, Pair]]:
    """Pairs of one shape: the first with each other one, and those that follow one another."""
    groups: dict[Any, list[Pair]] = {}
    for pair in matching.pairs:
        groups.setdefault(pair.layout.logical_shape(pair.shape), []).append(pair)
    for group in groups.values():
        yield from ((group[0], other) for other in group[1:])
        yield from pairwise(group[1:])


def exchange(matching: Matching, a: Pair, b: Pair) -> tuple[Pair, ...]:
    """A matching as a user would state it, with two parameters exchanged."""
    others = {a.path: b.parameter, b.path: a.parameter}
    return tuple(
        replace(
            pair, parameter=others.get(pair.path, pair.parameter), evidence=Evidence.TABLE,
            layout_evidence=LayoutEvidence.STATED,
        )
        for pair in matching.pairs
    )  # fmt: skip


def transposes(matching: Matching) -> Iterator[tuple[Pair, ...]]:
    """The matching with another layout for an array that has one."""
    for turned in matching.pairs:
        wanted = turned.layout.logical_shape(turned.shape)
        for layout in fitting_layouts(turned.shape, wanted, turned.layout.roles):
            if not same_order(layout, turned.layout, turned.shape):
                yield tuple(
                    replace(pair, layout=layout) if pair is turned else pair
                    for pair in matching.pairs
                )


def trial(name: str) -> Trial:
    ours, theirs, _ = sides(name)
    return Trial(ours, theirs, ours.tensors(), proof(name).matching.pairs, portinit.key(5))


@every_twin
def test_each_exchange_of_equal_shapes_is_caught(name: str):
    matching, count = proof(name).matching, 0
    with sides(name)[0].held():
        tried = trial(name)
        assert tried.compare(matching.pairs).agrees
        for a, b in exchanges(matching):
            unseen = is_invisible(name, a) and is_invisible(name, b)
            assert tried.compare(exchange(matching, a, b)).agrees == unseen, (a, b)
            count += 1
    assert count >= 4


@every_twin
def test_each_other_layout_of_a_square_is_caught(name: str):
    with sides(name)[0].held():
        tried, count = trial(name), 0
        for pairs in transposes(proof(name).matching):
            assert not tried.compare(pairs).agrees
            count += 1
    assert count >= 1


def port(name: str, matching: Matching) -> tuple[porting.Port, str]:
    """The port of a twin with a stated table, and what it prints."""
    case = TWINS[name]
    inputs = dict(zip(("torch_input", "twin_input"), case.inputs, strict=True))
    names = {**case.names, **matching.as_table()}
    done = porting.port(porting.Task(case.torch_model, case.flax_model, names=names, **inputs))
    console = Console(record=True, width=200)
    print_port(console, "", done, verbose=False)
    return done, console.export_text()


def stated(pairs: tuple[Pair, ...]) -> Matching:
    return Matching(tuple(replace(p, layout_evidence=LayoutEvidence.ASSUMED) for p in pairs))


@every_twin
def test_port_calls_nothing_identical_that_is_not(name: str):
    matching = proof(name).matching
    a, b = list(exchanges(matching))[-1]
    for wrong in (exchange(matching, a, b), next(transposes(matching))):
        done, text = port(name, stated(wrong))
        assert not (done.same and done.proved)
        assert "✓" not in text
        assert "identical" not in text
        assert "a name or a layout is wrong" in text


@every_twin
def test_guesses_are_put_right(name: str):
    ours, theirs, _ = sides(name)
    matching = proof(name).matching
    a, b = next(
        couple for couple in exchanges(matching) if not any(is_invisible(name, p) for p in couple)
    )
    wrong = tuple(
        replace(pair, evidence=Evidence.ORDER, layout_evidence=LayoutEvidence.ASSUMED)
        for pair in exchange(matching, a, b)
    )
    found = prove(ours, theirs, Matching(wrong))
    assert found.agrees
    assert {a.path, b.path} <= {pair.path for pair in found.decided}
