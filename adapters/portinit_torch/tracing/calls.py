"""What a call of an ATen operation says of its arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

Named = dict[str, Any]
"""An operation's arguments by name."""


def tensors_in(args: Any, kwargs: Any) -> list[Tensor]:
    """All tensors among the arguments, those in lists too."""
    return [x for x in leaves((args, kwargs)) if isinstance(x, Tensor)]


def leaves(value: Any) -> Iterator[Any]:
    """What lists, tuples and dicts hold, nested ones too.

    ATen's arguments and results are made of these alone; torch's own walks take ten times as long.
    """
    if isinstance(value, list | tuple):
        for part in value:
            yield from leaves(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from leaves(part)
    else:
        yield value


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """The same lists, tuples and dicts with a function of each thing that they hold."""
    if isinstance(value, list | tuple):
        parts = [map_leaves(function, part) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    if isinstance(value, dict):
        return {key: map_leaves(function, part) for key, part in value.items()}
    return function(value)


def mutated(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The arguments that the operation writes."""
    found = []
    for position, name in _written(func):
        value = args[position] if position < len(args) else kwargs.get(name)
        found += tensors_in(value, {})
    return found


@functools.cache
def _written(func: Any) -> tuple[tuple[int, str], ...]:
    arguments = enumerate(func._schema.arguments)
    return tuple((i, a.name) for i, a in arguments if a.alias_info and a.alias_info.is_write)


def arguments_of(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """An operation's arguments by the names in its schema, defaults included."""
    names, defaults = _parameters(func)
    named = defaults | dict(zip(names, args, strict=False))
    return named | kwargs if kwargs else named


@functools.cache
def _parameters(func: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    arguments = func._schema.arguments
    defaults = {a.name: a.default_value if a.has_default_value() else None for a in arguments}
    return tuple(defaults), defaults
