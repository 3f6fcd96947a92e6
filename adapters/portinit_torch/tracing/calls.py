"""What a call of an ATen operation says of its arguments."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten

Named = dict[str, Any]
"""An operation's arguments by name."""


def tensors_in(args: Any, kwargs: Any) -> list[Tensor]:
    """All tensors among the arguments, those in lists too."""
    return [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]


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
