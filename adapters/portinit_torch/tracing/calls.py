"""What a call of an ATen operation says of its arguments."""

from __future__ import annotations

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
    schema = func._schema.arguments
    found = []
    for position, argument in enumerate(schema):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            found += tensors_in(value, {})
    return found


def arguments_of(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """An operation's arguments by the names in its schema, defaults included."""
    named = {}
    for position, argument in enumerate(func._schema.arguments):
        if position < len(args):
            named[argument.name] = args[position]
        elif argument.name in kwargs:
            named[argument.name] = kwargs[argument.name]
        else:
            named[argument.name] = argument.default_value if argument.has_default_value() else None
    return named
