"""The outputs of a model: arrays by name, in any framework and any container."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from portinit.probes.inputs import is_array


def output_leaves(output: Any, name: str = "") -> dict[str, Any]:
    """The arrays of an output by name: keys, fields or places in it, joined by dots."""
    if is_array(output):
        return {name: output}
    if isinstance(output, bool | int | float | complex):
        return {name: np.asarray(output)}
    if not isinstance(output, Mapping | tuple | list) and not is_dataclass(output):
        return {}
    found: dict[str, Any] = {}
    for label, part in _children(output):
        found |= output_leaves(part, f"{name}.{label}" if name else label)
    return found


def _children(output: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(output, Mapping):  # transformers' outputs too, without what is None
        yield from ((str(label), part) for label, part in output.items())
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        yield from zip(output._fields, output, strict=True)
    elif isinstance(output, tuple | list):
        yield from ((str(place), part) for place, part in enumerate(output))
    else:
        yield from ((one.name, getattr(output, one.name)) for one in fields(output))
