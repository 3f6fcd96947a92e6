"""Recipes as JSON text and back. Nothing in the text is executed."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable
from typing import Any

from portinit.arrays.dtypes import numpy_dtype
from portinit.arrays.layouts import as_shape
from portinit.initializers.assigned import assigned
from portinit.initializers.base import Initializer
from portinit.recipes.rule import RecipeError, Rule
from portinit.recipes.serial import (
    initializer_from_data,
    initializer_to_data,
    layout_from_data,
    layout_to_data,
)
from portinit.replay.program import (
    Node,
    Program,
    node_to_data,
    nodes_from_data,
    parse_version,
)

SCHEMA = 1
"""The version of the JSON form that this library writes, and the newest it reads."""

_DEEPEST = 100
"""Levels of JSON that are read: what is nested more deeply could not be printed or written."""


def to_text(rules: Iterable[Rule], program: Program | None) -> str:
    """The rules, and the program of a traced recipe: a rule a line and a node a line."""
    lines = _lines(_rule_to_data(rule, program) for rule in rules)
    text = f'{{"portinit": {SCHEMA}, "rules": [\n{lines}\n]'
    if program is not None:
        nodes = _lines(map(node_to_data, program.nodes))
        text += f',\n"torch": {json.dumps(program.torch)}, "program": [\n{nodes}\n]'
    return text + "}\n"


def from_text(text: str) -> tuple[list[Rule], Program | None]:
    """The rules and the program of a text; a RecipeError says what is wrong with it."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"a recipe must be JSON text: {error}") from error
    if _depth(data) > _DEEPEST:
        raise RecipeError(f"a recipe must be nested in at most {_DEEPEST} levels, got more")
    if not isinstance(data, dict) or not isinstance(data.get("rules"), list):
        raise RecipeError('a recipe must be an object with "portinit" and a list of "rules"')
    if data.get("portinit") != SCHEMA or isinstance(data["portinit"], bool):
        raise RecipeError(
            f"a recipe must be of schema {SCHEMA}, got {data.get('portinit')!r}; "
            "a newer portinit may read it"
        )
    program = _program_from_data(data)
    return [_rule_from_data(i, rule, program) for i, rule in enumerate(data["rules"])], program


def _depth(data: Any) -> int:
    """How deeply lists and objects are nested; found without recursion."""
    depth, level = 0, [data]
    while level := [item for item in level if isinstance(item, dict | list)]:
        level = [child for item in level for child in _children(item)]
        depth += 1
    return depth


def _children(item: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return item.values() if isinstance(item, dict) else item


def _lines(items: Iterable[dict[str, Any]]) -> str:
    return ",\n".join("  " + json.dumps(item, allow_nan=False) for item in items)


def _program_from_data(data: dict[str, Any]) -> Program | None:
    if "program" not in data:
        return None
    try:
        program = Program(nodes_from_data(data["program"]), str(data.get("torch")))
        parse_version(program.torch)
    except (ValueError, TypeError, RecursionError) as error:
        raise RecipeError(f"the program: {error}") from error
    return program


_SHARED = {"init": "program's data"}
"""In the place of an initializer whose data the program has."""


def _is_shared(rule: Rule, program: Program | None) -> bool:
    if program is None or rule.value is None or not isinstance(rule.initializer, assigned):
        return False
    return rule.initializer == _shared(program.nodes[rule.value])


def _shared(node: Node) -> Initializer | None:
    if node.op != "data":
        return None
    return assigned(numpy_dtype(node.dtype).name, node.shape, node.attributes["bytes"])


def _rule_to_data(rule: Rule, program: Program | None) -> dict[str, Any]:
    data: dict[str, Any] = {"name": rule.pattern}
    if rule.kind is not None:
        data["kind"] = rule.kind
    if rule.shape is not None:
        data["shape"] = list(rule.shape)
    if rule.layout is not None:
        data["layout"] = layout_to_data(rule.layout)
    if rule.buffer:
        data["buffer"] = True
    traced = {"source": rule.source, "value": rule.value}
    data |= {key: value for key, value in traced.items() if value is not None}
    shared = _is_shared(rule, program)
    return data | {"initializer": _SHARED if shared else initializer_to_data(rule.initializer)}


def _rule_from_data(number: int, data: Any, program: Program | None) -> Rule:
    allowed = {"name", "kind", "shape", "layout", "buffer", "source", "value", "initializer"}
    try:
        known = isinstance(data, dict) and {"name", "initializer"} <= set(data) <= allowed
        if not known:
            raise ValueError(f"a rule must have {sorted(allowed)}, got {data!r}")
        layout, shape = data.get("layout"), data.get("shape")
        return Rule(
            data["name"],
            _rule_initializer(data, program),
            None if layout is None else layout_from_data(layout),
            data.get("kind"),
            None if shape is None else as_shape(list(shape)),
            bool(data.get("buffer", False)),
            data.get("source"),
            None if data.get("value") is None else _value_of(data["value"], program),
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise RecipeError(f"rule {number}: {error}") from error


def _value_of(value: Any, program: Program | None) -> int:
    number = operator.index(value)
    if program is None or not 0 <= number < len(program.nodes):
        raise ValueError(f"a value must be a node of the program, got {number}")
    return number


def _rule_initializer(data: dict[str, Any], program: Program | None) -> Initializer:
    if data["initializer"] != _SHARED:
        return initializer_from_data(data["initializer"])
    node = None if program is None else program.nodes[_value_of(data.get("value"), program)]
    initializer = None if node is None else _shared(node)
    if initializer is None:
        raise ValueError("the program must have this rule's data, got none")
    return initializer
