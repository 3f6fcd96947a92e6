"""Parameters that a constructor made from one draw: copies, a weight's magnitudes, two halves.

With torch's generator they are related because they come of one value. With a key each parameter
draws from a stream of its own, so relations would be lost. Parameters that have a draw in common
therefore draw with one key, of the parameter that holds the draw, or else of the first of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from portinit import Rule
from portinit.initializers.expression import expression, unavailable
from portinit.replay.program import DRAWS, Node, Program


def related(rules: Sequence[Rule], program: Program) -> list[Rule]:
    """The rules, those of parameters with a draw in common made to draw it once."""
    made = list(rules)
    for group in _groups(rules, program.nodes):
        for place, rule in _of_one_key(rules, group, program.nodes).items():
            made[place] = rule
    return made


def subprogram(
    nodes: Sequence[Node], value: int, streams: Mapping[int, int] | None = None
) -> tuple[Node, ...]:
    """The nodes that one value needs, renumbered.

    Args:
        nodes: of the whole program.
        value: the position of the value's node.
        streams: which of its key's streams each draw takes; in the draws' order if not given.
    """
    needed = sorted(_needed(nodes, value))
    places = {number: place for place, number in enumerate(needed)}
    made = []
    for number in needed:
        node = nodes[number]
        attributes = node.attributes
        if streams is not None and number in streams:
            attributes = {**attributes, "number": streams[number]}
        inputs = tuple(places[i] for i in node.inputs)
        made.append(replace(node, inputs=inputs, attributes=attributes))
    return tuple(made)


def _needed(nodes: Sequence[Node], value: int) -> set[int]:
    needed, stack = {value}, [value]
    while stack:
        missing = [i for i in nodes[stack.pop()].inputs if i not in needed]
        needed.update(missing)
        stack += missing
    return needed


def _groups(rules: Sequence[Rule], nodes: Sequence[Node]) -> list[list[int]]:
    """The places of rules that have a draw in common, directly or through others."""
    draws: dict[int, frozenset[int]] = {}
    owner: dict[int, int] = {}  # a draw's first rule
    parent = list(range(len(rules)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = place = parent[parent[place]]
        return place

    for place, rule in enumerate(rules):
        if rule.value is None or isinstance(rule.initializer, unavailable):
            continue
        if rule.value not in draws:
            draws[rule.value] = _draws(nodes, rule.value)
        for draw in draws[rule.value]:
            first, second = sorted((root(owner.setdefault(draw, place)), root(place)))
            parent[second] = first
    groups: dict[int, list[int]] = {}
    for place in range(len(rules)):
        groups.setdefault(root(place), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _draws(nodes: Sequence[Node], value: int) -> frozenset[int]:
    needed = _needed(nodes, value)
    return frozenset(i for i in needed if nodes[i].op in DRAWS and nodes[i].op != "seed")


def _of_one_key(rules: Sequence[Rule], group: list[int], nodes: Sequence[Node]) -> dict[int, Rule]:
    """The rules of parameters with a draw in common, by their places."""
    values = {place: rules[place].value or 0 for place in group}
    holders = [place for place in group if nodes[values[place]].op in DRAWS]
    first = (holders or group)[0]
    name = rules[first].key_name
    if len(set(values.values())) == 1:  # copies
        return {place: replace(rules[place], drawn_as=name) for place in group if place != first}
    draws = sorted(_draws(nodes, values[first]))
    others = frozenset[int]().union(*(_draws(nodes, value) for value in values.values()))
    streams = {draw: n for n, draw in enumerate([*draws, *sorted(others.difference(draws))])}
    made: dict[int, Rule] = {}
    for place, value in values.items():
        rule = rules[place]
        if streams.get(value) != 0:  # the draw itself keeps its initializer's name
            rule = replace(rule, initializer=expression(subprogram(nodes, value, streams)))
        made[place] = rule if place == first else replace(rule, drawn_as=name)
    return made
