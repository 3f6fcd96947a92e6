"""Watching the calls inside a Flax model."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from flax import linen, nnx

from portinit.probes.recording import is_public
from portinit_jax.probing import JaxRecorder

_PATH = "_portinit_path"
"""An attribute of nnx modules, static: the copies that ``nnx.vmap`` and others make have it too."""


@contextmanager
def watched(model: Any, recorder: JaxRecorder) -> Iterator[None]:
    """Tell the recorder of the calls of an nnx module's parts, or of all linen modules.

    An nnx module must be a copy: each of its parts is given its path.
    """
    if isinstance(model, nnx.Module):
        for path, part in nnx.iter_modules(model):
            setattr(part, _PATH, "/".join(map(str, path)))
        with wrapped({type(part) for _, part in nnx.iter_modules(model)}, recorder):
            yield
        return

    def interceptor(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module, method = context.module, context.method_name
        if method == "setup":
            return call(*args, **kwargs)
        name = "/".join(module.path)
        return recorder.call(functools.partial(call, *args, **kwargs), module, name, method)

    with linen.intercept_methods(interceptor):
        yield


@contextmanager
def wrapped(classes: set[type], recorder: JaxRecorder) -> Iterator[None]:
    """Tell the recorder of the public methods of modules, by the classes that define them.

    The classes are changed while it lasts: not for two threads at once.
    """
    defining = {base for cls in classes for base in cls.__mro__ if issubclass(base, nnx.Module)}
    with ExitStack() as undo:
        for cls in defining - {nnx.Module}:
            for method, function in [*vars(cls).items()]:
                if inspect.isfunction(function) and is_public(method):
                    setattr(cls, method, _told(function, method, recorder))
                    undo.callback(setattr, cls, method, function)
        yield


def _told(function: Any, method: str, recorder: JaxRecorder) -> Any:
    @functools.wraps(function)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = functools.partial(function, self, *args, **kwargs)
        name = getattr(self, _PATH, None)  # none for one made on the way
        return call() if name is None else recorder.call(call, self, name, method)

    return wrapper
