"""Watching the calls inside an MLX module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import mlx.core as mx

from portinit.probes.recording import CallRecorder, Change


def recorder(change: Change | None = None) -> CallRecorder:
    """A recorder of MLX's arrays."""
    return CallRecorder(is_float, change)


def is_float(array: Any) -> bool:
    """Whether an array is one of real numbers, with at least one."""
    return (
        isinstance(array, mx.array) and mx.issubdtype(array.dtype, mx.floating) and array.size > 0
    )


@contextmanager
def watched(model: Any, recorder: CallRecorder) -> Iterator[None]:
    """Tell the recorder of the calls of a module's parts, which have other classes meanwhile."""
    parts = {
        id(module): (name.replace(".", "/"), module, type(module))
        for name, module in reversed(model.named_modules())  # inner ones first: the model last
        if callable(module)
    }
    try:
        for path, module, kind in parts.values():
            module.__class__ = _told(kind, path, recorder)
        yield
    finally:
        for _, module, kind in parts.values():
            module.__class__ = kind


def _told(kind: type, path: str, recorder: CallRecorder) -> type:
    """A class whose objects are called as those of another, and tell of it."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return recorder.call(partial(kind.__call__, self, *args, **kwargs), self, path)

    return type(kind.__name__, (kind,), {"__call__": call})
