"""Recipes, initializers and layouts as JSON and back. Nothing in the text is executed.

Reading calls nothing by name but portinit's own initializers, with arguments of the types that
their fields declare.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np

from portinit import layers, recurrent
from portinit.arrays.dtypes import numpy_dtype
from portinit.arrays.layouts import LAYOUTS, Layout, as_shape
from portinit.initializers import basic, expression
from portinit.initializers.assigned import assigned
from portinit.initializers.base import Initializer
from portinit.recipes.rule import RecipeError, Rule
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

_CONSTANTS = {"zeros": basic.zeros, "ones": basic.ones}
_NON_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_DEFINING = (expression, layers, recurrent)
"""Modules that define initializers and are imported so that these are known."""


@cache
def _classes() -> dict[str, type[Initializer]]:
    """Initializers by name: the public classes that the package itself defines."""
    return {c.__name__: c for c in _subclasses(Initializer) if c.__name__[0].islower()}


def _subclasses(base: type[Initializer]) -> Iterator[type[Initializer]]:
    for subclass in base.__subclasses__():
        if subclass.__module__.partition(".")[0] == "portinit":
            yield subclass
            yield from _subclasses(subclass)


def initializer_to_data(initializer: Initializer) -> dict[str, Any]:
    """An initializer as JSON data: its name and all its arguments."""
    for name, value in _CONSTANTS.items():
        if initializer is value or initializer == value:
            return {"init": name}
    name = type(initializer).__name__
    if _classes().get(name) is not type(initializer):
        raise TypeError(f"{type(initializer).__qualname__} is not one of portinit's initializers")
    arguments = {f.name: _value_to_data(getattr(initializer, f.name)) for f in fields(initializer)}
    return {"init": name, **arguments}


def _value_to_data(value: Any) -> Any:
    if isinstance(value, Initializer):
        return initializer_to_data(value)
    if isinstance(value, Node):
        return node_to_data(value)
    if isinstance(value, Layout):
        return layout_to_data(value)
    if isinstance(value, tuple):
        return [_value_to_data(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, np.generic):
        return _value_to_data(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def initializer_from_data(data: Any) -> Initializer:
    """The initializer of JSON data; a ValueError says what is wrong with the data."""
    if not isinstance(data, dict) or not isinstance(data.get("init"), str):
        raise ValueError(f'an initializer must be an object with a name in "init", got {data!r}')
    arguments = dict(data)
    name = arguments.pop("init")
    if name in _CONSTANTS and not arguments:
        return _CONSTANTS[name]
    if name not in _classes():
        known = ", ".join(sorted({*_classes(), *_CONSTANTS}))
        raise ValueError(f"an initializer must be one of {known}; got {name!r}")
    types = {f.name: str(f.type) for f in fields(_classes()[name])}
    if extra := set(arguments) - set(types):
        raise ValueError(f"{name} takes {sorted(types)}, got {sorted(extra)}")
    values = {key: _value_from_data(types[key], value) for key, value in arguments.items()}
    try:
        return _classes()[name](**values)
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{name} cannot be made of {arguments!r}: {error}") from error


def _value_from_data(kind: str, value: Any) -> Any:
    """An argument of the type that the initializer's field is declared with."""
    if value is None and kind.endswith("None"):
        return None
    for declared, read in _READERS.items():
        if kind.startswith(declared):
            return read(value)
    return _tuples(value)


def _number(value: Any) -> float:
    if isinstance(value, str) and value in _NON_FINITE:
        return _NON_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a number is needed, got {value!r}")
    try:
        float(value)
    except OverflowError:
        raise ValueError("a number must be within a float's range, got a larger one") from None
    return value


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"an integer is needed, got {value!r}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text is needed, got {value!r}")
    return value


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except binascii.Error as error:
        raise ValueError(f"data must be base64 text: {error}") from error


def _list_of(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def read_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(f"a list is needed, got {value!r}")
        return tuple(map(read, value))

    return read_all


def _axes(value: Any) -> Any:
    return _list_of(_integer)(value) if isinstance(value, list) else _integer(value)


def _name_or_number(value: Any) -> Any:
    return value if isinstance(value, str) else _number(value)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


_READERS: dict[str, Callable[[Any], Any]] = {
    "float": _number,
    "str | float": _name_or_number,
    "str": _text,
    "int": _integer,
    "Axes": _axes,
    "bytes": _bytes,
    "Shape": _list_of(_integer),
    "tuple[int": _list_of(_integer),
    "Layout": lambda value: layout_from_data(value),
    "Initializer": initializer_from_data,
    "tuple[Initializer": _list_of(initializer_from_data),
    "tuple[Node": nodes_from_data,
}
"""How to read a field, by how its declared type begins; the first that fits."""


def layout_to_data(layout: Layout) -> Any:
    """A layout as its name, or as its fields where it has none."""
    for name, value in LAYOUTS.items():
        if layout == value:
            return name
    data = {f.name: _value_to_data(getattr(layout, f.name)) for f in fields(layout)}
    return {name: value for name, value in data.items() if name != "view" or value is not None}


def layout_from_data(data: Any) -> Layout:
    """The layout of JSON data; a ValueError says what is wrong with the data."""
    if isinstance(data, str) and data in LAYOUTS:
        return LAYOUTS[data]
    allowed = {f.name for f in fields(Layout)}
    if not isinstance(data, dict) or set(data) - allowed:
        names = ", ".join(map(repr, LAYOUTS))
        raise ValueError(f"a layout must be one of {names} or have {sorted(allowed)}; got {data!r}")
    try:
        return Layout(**{key: _tuples(value) for key, value in data.items()})
    except TypeError as error:
        raise ValueError(f"a layout cannot be made of {data!r}: {error}") from error


# Recipes


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
    if rule.layer is not None:
        data["layer"] = rule.layer
    if rule.shape is not None:
        data["shape"] = list(rule.shape)
    if rule.layout is not None:
        data["layout"] = layout_to_data(rule.layout)
    if rule.buffer:
        data["buffer"] = True
    if rule.other_names:
        data["other_names"] = list(rule.other_names)
    if rule.scheme is not None:
        data["scheme"] = rule.scheme
    traced = {"source": rule.source, "value": rule.value, "drawn_as": rule.drawn_as}
    data |= {key: value for key, value in traced.items() if value is not None}
    shared = _is_shared(rule, program)
    return data | {"initializer": _SHARED if shared else initializer_to_data(rule.initializer)}


def _rule_from_data(number: int, data: Any, program: Program | None) -> Rule:
    allowed = {"name", "kind", "layer", "shape", "layout", "buffer", "source", "value"}
    allowed |= {"initializer", "drawn_as", "other_names", "scheme"}
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
            data.get("layer"),
            data.get("drawn_as"),
            tuple(map(_text, data.get("other_names", ()))),
            data.get("scheme"),
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
