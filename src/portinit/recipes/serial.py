"""Initializers as JSON data and back. Reading runs no code and calls nothing by name but these."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

from portinit import layers, recurrent
from portinit.arrays.layouts import LAYOUTS, Layout
from portinit.initializers import (
    assigned,
    basic,
    combinators,
    expression,
    jax_schemes,
    matrices,
    sparse,
    torch_schemes,
)
from portinit.initializers.base import Initializer
from portinit.initializers.like_jax import like_jax
from portinit.replay.program import Node, node_to_data, nodes_from_data

_CLASSES: dict[str, type[Initializer]] = {
    c.__name__: c
    for c in (
        basic.uniform,
        basic.normal,
        basic.trunc_normal,
        basic.truncated_normal,
        torch_schemes.xavier_uniform,
        torch_schemes.xavier_normal,
        torch_schemes.kaiming_uniform,
        torch_schemes.kaiming_normal,
        jax_schemes.variance_scaling,
        basic.constant,
        matrices.eye,
        matrices.dirac,
        matrices.orthogonal,
        matrices.delta_orthogonal,
        sparse.sparse,
        combinators.scaled,
        combinators.blocks,
        combinators.where,
        assigned.assigned,
        assigned.from_file,
        assigned.from_safetensors,
        layers.fan_in_uniform,
        layers.padded,
        layers.per_gate,
        recurrent.gates,
        recurrent.log_uniform,
        recurrent.shifted,
        recurrent.chrono,
        expression.expression,
        like_jax,
        expression.unavailable,
    )
}
_CONSTANTS = {"zeros": basic.zeros, "ones": basic.ones}
_NON_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


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
    if name not in _CLASSES:
        known = ", ".join(sorted({*_CLASSES, *_CONSTANTS}))
        raise ValueError(f"an initializer must be one of {known}; got {name!r}")
    types = {f.name: str(f.type) for f in fields(_CLASSES[name])}
    if extra := set(arguments) - set(types):
        raise ValueError(f"{name} takes {sorted(types)}, got {sorted(extra)}")
    values = {key: _value_from_data(types[key], value) for key, value in arguments.items()}
    try:
        return _CLASSES[name](**values)
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
        return Layout(**{key: _tuples(value) for key, value in data.items()})
    except TypeError as error:
        raise ValueError(f"a layout cannot be made of {data!r}: {error}") from error
