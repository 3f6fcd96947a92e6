"""Example inputs of a model: one rule for probes, reports and ports, in both frameworks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments."""

INFERENCE = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "use_running_average": True,
}
"""The names of Flax's mode arguments, and the value of each for inference."""


def arguments_of(inputs: Any, convert: Callable[[Any], Any]) -> Arguments:
    """The arguments that a model is called with.

    Args:
        inputs: an array; a tuple of positional arguments; or a mapping of keyword arguments.
        convert: applied to each array, of any framework, also inside lists, tuples and mappings.
    """
    if isinstance(inputs, Mapping):
        return (), {str(name): map_arrays(x, convert) for name, x in inputs.items()}
    given = inputs if isinstance(inputs, tuple) and not hasattr(inputs, "_fields") else (inputs,)
    return tuple(map_arrays(x, convert) for x in given), {}


def map_arrays(value: Any, convert: Callable[[Any], Any]) -> Any:
    """A value with each array in it converted."""
    if is_array(value):
        return convert(value)
    if isinstance(value, Mapping):
        return {name: map_arrays(x, convert) for name, x in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_arrays(x, convert) for x in value))
    if isinstance(value, list | tuple):
        return type(value)(map_arrays(x, convert) for x in value)
    return value


def is_array(value: Any) -> bool:
    """Whether a value is an array of some framework, or a NumPy scalar."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def inference_flags(
    function: Callable[..., Any], arguments: Arguments, *, required: bool = False
) -> dict[str, bool]:
    """The keyword arguments that put a call into inference mode.

    Those of :data:`INFERENCE` that the signature has and the arguments leave open.

    Args:
        function: what is called.
        arguments: what it is called with.
        required: leave those out that have a default.
    """
    try:
        signature = inspect.signature(function)
        given = signature.bind_partial(*arguments[0], **arguments[1]).arguments
    except (TypeError, ValueError):  # the call itself says what does not fit
        return {}
    return {
        name: value
        for name, value in INFERENCE.items()
        if name in signature.parameters
        and name not in given
        and not (required and signature.parameters[name].default is not inspect.Parameter.empty)
    }


def written_call(inputs: str, flags: Mapping[str, bool]) -> str:
    """Arguments as Python writes them, ``*example_input()``, with the flags of a mode."""
    if not flags:
        return inputs
    if inputs.startswith("**"):
        return f"**{{{inputs}, {', '.join(f'{name!r}: {value}' for name, value in flags.items())}}}"
    return ", ".join([inputs, *(f"{name}={value}" for name, value in flags.items())])
