"""Watching the calls inside an MLX module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import mlx.core as mx

from portinit.arrays.convert import to_numpy
from portinit.probes.recording import CallRecorder, Change


def recorder(change: Change | None = None) -> CallRecorder:
    """A recorder of MLX's arrays."""
    return CallRecorder(is_float, change)


def is_float(array: Any) -> bool:
    """Whether an array is one of real numbers, with at least one."""
    return (
        isinstance(array, mx.array) and mx.issubdtype(array.dtype, mx.floating) and array.size > 0
    )


class VmapRecorder(CallRecorder):
    """A recorder that sees what is under ``mx.vmap`` too, with the mapped axes.

    The rule of a custom function is given the whole of an output, once the ``vmap`` is done.
    """

    def __init__(self) -> None:
        super().__init__(is_float)

    def taken(self, array: Any, change: Callable[[Any], Any]) -> Any:
        """Record an output, and what takes its place at the end of a ``vmap``."""
        self.outputs.append(array)
        return self._noted(array, len(self.outputs) - 1)

    def _noted(self, array: Any, number: int) -> Any:
        note = mx.custom_function(lambda x: x)

        @note.vmap
        def rule(x: Any, axis: int) -> tuple[Any, int]:
            self.outputs[number] = x
            return self._noted(x, number), axis  # one ``vmap`` in another

        return note(array)

    def known(self) -> list[tuple[str, str, Any]]:
        """The calls with what they returned, but for those inside ``mx.compile``."""
        calls = zip(self.calls, self.outputs, strict=True)
        return [(*call, to_numpy(x)) for call, x in calls if _is_known(x)]


def _is_known(array: mx.array) -> bool:
    try:
        mx.eval(array)
    except (ValueError, RuntimeError):  # a placeholder of ``mx.compile``
        return False
    return True


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
