"""Watching the calls inside a Flax model, and adding zeros to what they return."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from flax.core import tracers

from portinit.probes.measured import ProbedLayer
from portinit.probes.moments import Moments
from portinit.probes.probing import labels

_trace: Callable[[], Any] = tracers.current_trace  # another inside a transformation


class FlaxRecorder:
    """The calls of a model's parts, and what came out of those that call no others."""

    def __init__(self, zeros: list[Any] | None = None) -> None:
        self._labels: list[tuple[str, str]] = []
        self.outputs: list[Any] = []
        self.unseen: dict[str, None] = {}
        self._zeros = zeros
        self._modules: list[Any] = []  # whose calls are under way
        self._trace = _trace()

    def call(self, call: Callable[[], Any], module: Any, name: str, method: str) -> Any:
        """Make a call of a module's method, and record it if it makes none itself."""
        within = bool(self._modules) and self._modules[-1] is module
        if within or not _public(method) or method == "setup":
            return call()
        if _trace() != self._trace:
            if name:  # inside, a path begins anew
                self.unseen[name] = None
            return call()
        begun = len(self.outputs)
        self._modules.append(module)
        output = call()
        self._modules.pop()
        return output if len(self.outputs) > begun else self._record(output, module, name, method)

    def _record(self, output: Any, module: Any, name: str, method: str) -> Any:
        flat, structure = jax.tree_util.tree_flatten(output)
        place = next((i for i, leaf in enumerate(flat) if is_float(leaf)), None)
        if place is None:
            return output
        if self._zeros is not None:
            flat[place] = flat[place] + self._zeros[len(self.outputs)]
        self.outputs.append(flat[place])
        kind = type(module).__name__
        self._labels.append((name, kind if method == "__call__" else f"{kind}.{method}"))
        return jax.tree_util.tree_unflatten(structure, flat)

    @property
    def calls(self) -> list[tuple[str, str]]:
        """The path and the class of each call that was recorded."""
        return list(self._labels)

    def layers(self, gradients: list[Any]) -> Iterator[ProbedLayer]:
        """The records, in the order of calls."""
        names = labels(name for name, _ in self._labels)
        kinds = [kind for _, kind in self._labels]
        for name, kind, x, gradient in zip(names, kinds, self.outputs, gradients, strict=True):
            yield ProbedLayer(name, kind, x.shape, Moments.of(x), Moments.of(gradient))


def is_float(x: Any) -> bool:
    """Whether a leaf is an array of real numbers, with at least one."""
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating) and x.size > 0


@contextmanager
def watched(model: Any, recorder: FlaxRecorder) -> Iterator[None]:
    """Tell the recorder of the calls of an nnx module's parts, or of all linen modules."""
    if isinstance(model, nnx.Module):
        paths = {id(part): "/".join(map(str, path)) for path, part in nnx.iter_modules(model)}
        with wrapped({type(part) for _, part in nnx.iter_modules(model)}, paths, recorder):
            yield
        return

    def interceptor(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module, method = context.module, context.method_name
        name = "/".join(module.path)
        return recorder.call(functools.partial(call, *args, **kwargs), module, name, method)

    with linen.intercept_methods(interceptor):
        yield


@contextmanager
def wrapped(classes: set[type], paths: Mapping[int, str], recorder: FlaxRecorder) -> Iterator[None]:
    """Tell the recorder of the public methods of modules, by the classes that define them.

    The classes are changed while it lasts: not for two threads at once.
    """
    defining = {base for cls in classes for base in cls.__mro__ if issubclass(base, nnx.Module)}
    with ExitStack() as undo:
        for cls in defining - {nnx.Module}:
            for method, function in [*vars(cls).items()]:
                if inspect.isfunction(function) and _public(method):
                    setattr(cls, method, _told(function, method, paths, recorder))
                    undo.callback(setattr, cls, method, function)
        yield


def _told(function: Any, method: str, paths: Mapping[int, str], recorder: FlaxRecorder) -> Any:
    @functools.wraps(function)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = functools.partial(function, self, *args, **kwargs)
        name = paths.get(id(self))  # none for a copy inside a transformation
        return call() if name is None else recorder.call(call, self, name, method)

    return wrapper


def _public(method: str) -> bool:
    return method == "__call__" or not method.startswith("_")
