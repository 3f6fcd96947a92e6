"""Initializers as JSON data and back. Reading runs no code and calls nothing by name but these."""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import fields
from typing import Any

from portinit import combinators, expressions, initializers, layers, structured
from portinit.base import Initializer
from portinit.layouts import LAYOUTS, Layout
from portinit.program import Node, node_to_data, nodes_from_data

_CLASSES: dict[str, type[Initializer]] = {
    c.__name__: c
    for c in (
        initializers.uniform,
        initializers.normal,
        initializers.trunc_normal,
        initializers.truncated_normal,
        initializers.xavier_uniform,
        initializers.xavier_normal,
        initializers.kaiming_uniform,
        initializers.kaiming_normal,
        initializers.variance_scaling,
        initializers.constant,
        structured.eye,
        structured.dirac,
        structured.orthogonal,
        structured.delta_orthogonal,
        structured.sparse,
        combinators.scaled,
        combinators.blocks,
        combinators.where,
        combinators.assigned,
        combinators.from_safetensors,
        layers.fan_in_uniform,
        layers.padded,
        layers.per_gate,
        expressions.expression,
        expressions.unavailable,
    )
}
_CONSTANTS = {"zeros": initializers.zeros, "ones": initializers.ones}
_NON_FINITE = {"inf": math.inf, "-inf": -math.inf}


def initializer_to_data(initializer: Initializer) -> dict[str, Any]:
    """An initializer as JSON data: its name and all its arguments."""
    for name, value in _CONSTANTS.items():
        if initializer is value or initializer == value:
            return {"init": name}
    name = type(initializer).__name__
    if _CLASSES.get(name) is not type(initializer):
        raise TypeError(f"{type(initializer).__qualname__} is not one of portinit's initializers")
    arguments = {f.name: _value_to_data(getattr(initializer, f.name)) for f in fields(initializer)}
    return {"init": name, **arguments}


def _value_to_data(value: Any) -> Any:
    if isinstance(value, Initializer):
        return initializer_to_data(value)
    if isinstance(value, Node):
        return node_to_data(value)
    if isinstance(value, tuple):
        return [_value_to_data(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def initializer_from_data(data: Any) -> Initializer:
    """The initializer of JSON data; a ValueError says what is wrong with the data."""
    if not isinstance(data, dict) or not isinstance(data.get("init"), str):
        raise ValueError(f'an initializer must be an object with a name in "init", got {data!r}')
    arguments = dict(data)
    name = arguments.pop("init")
    if name in _CONSTANTS and not arguments:
        return _CONSTANTS[name]
    if name not in _CLASSES:
        known = ", ".join(sorted({*_CLASSES, *_CONSTANTS}))
        raise ValueError(f"an initializer must be one of {known}; got {name!r}")
    allowed = {f.name for f in fields(_CLASSES[name])}
    if extra := set(arguments) - allowed:
        raise ValueError(f"{name} takes {sorted(allowed)}, got {sorted(extra)}")
    values = {key: _value_from_data(key, value) for key, value in arguments.items()}
    try:
        return _CLASSES[name](**values)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{name} cannot be made of {arguments!r}: {error}") from error


def _value_from_data(key: str, value: Any) -> Any:
    if key == "nodes" and isinstance(value, list):
        return nodes_from_data(value)
    if isinstance(value, dict):
        return initializer_from_data(value)
    if isinstance(value, list):
        return tuple(_value_from_data(key, item) for item in value)
    if key == "data":
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise ValueError(f"data must be base64 text: {error}") from error
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


def layout_to_data(layout: Layout) -> Any:
    """A layout as its name, or as its fields where it has none."""
    for name, value in LAYOUTS.items():
        if layout == value:
            return name
    return {f.name: _value_to_data(getattr(layout, f.name)) for f in fields(layout)}


def layout_from_data(data: Any) -> Layout:
    """The layout of JSON data; a ValueError says what is wrong with the data."""
    if isinstance(data, str) and data in LAYOUTS:
        return LAYOUTS[data]
    allowed = {f.name for f in fields(Layout)}
    if not isinstance(data, dict) or set(data) - allowed:
        names = ", ".join(map(repr, LAYOUTS))
        raise ValueError(f"a layout must be one of {names} or have {sorted(allowed)}; got {data!r}")
    try:
        return Layout(**{key: _value_from_data(key, value) for key, value in data.items()})
    except TypeError as error:
        raise ValueError(f"a layout cannot be made of {data!r}: {error}") from error
