"""Numbers that users give: one rule for all initializers."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np


def as_float(name: str, value: Any) -> float:
    """A real number of any kind as a Python float.

    It may be Python's, a NumPy scalar, an array of no axes or a tensor of no axes. Equal arguments
    so make equal initializers with equal draws; minus zero becomes zero.

    Raises:
        TypeError: anything else: bools, texts, complex numbers, arrays of one axis or more.
        ValueError: an integer past the largest float.
    """
    if type(value) is float:
        return value + 0.0
    if not _is_scalar(value) or isinstance(_item(value), complex):
        raise TypeError(f"{name} must be a real number, got {_described(value)}")
    try:
        return float(value) + 0.0
    except OverflowError as error:
        raise ValueError(f"{name} must be within the range of a float, got {value}") from error


def as_number(name: str, value: Any) -> int | float | complex:
    """A number of any kind as Python's of the same kind; see :func:`as_float`."""
    if not _is_scalar(value):
        raise TypeError(f"{name} must be a number, got {_described(value)}")
    number = _item(value)
    if isinstance(number, int | float | complex):
        return number
    return float(number)


def as_int(name: str, value: Any) -> int:
    """An integer of any kind as a Python int; a TypeError for bools and all that is no integer."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an integer, got {_described(value)}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {_described(value)}") from None


def as_bool(name: str, value: Any) -> bool:
    """True or False; a TypeError for anything else."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {_described(value)}")


def set_floats(instance: Any, *names: str) -> None:
    """Replace attributes of a frozen dataclass by their :func:`as_float`, in ``__post_init__``."""
    for name in names:
        object.__setattr__(instance, name, as_float(name, getattr(instance, name)))


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str | bytes) or getattr(value, "shape", ()) != ():
        return False
    if isinstance(_item(value), bool):
        return False
    return hasattr(value, "__float__") or hasattr(value, "__complex__")


def _item(value: Any) -> Any:
    """A scalar of an array library as Python's; of a format that Python lacks, a float."""
    item = getattr(value, "item", None)
    value = value if item is None else item()
    return bool(value) if isinstance(value, np.bool_) else value


def _described(value: Any) -> str:
    return f"{value!r} of type {type(value).__name__}"
