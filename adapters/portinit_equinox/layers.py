"""The outputs of an Equinox model's layers, one call after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import equinox as eqx
import jax
import numpy as np

from portinit.probes.outputs import output_leaves
from portinit_jax.paths import path_of

Call = tuple[str, str, Any]


def layer_outputs(model: Any, run: Callable[[], Any]) -> list[Call]:
    """The path, the class and the output of each call of a module that has no other in it.

    Calls inside a transformation, such as ``jax.vmap(self.norm)``, are not seen.

    Args:
        model: a pytree of modules.
        run: calls it.
    """
    layers = {id(layer): (path, layer) for path, layer in _layers(model)}
    calls: list[Call] = []

    def note(layer: Any, output: Any) -> None:
        if id(layer) in layers:
            arrays = [x for x in output_leaves(output).values() if not _is_traced(x)]
            path, kind = layers[id(layer)][0], type(layer).__name__
            calls.extend((path, kind, np.asarray(x)) for x in arrays[:1])

    with _watched({type(layer) for _, layer in layers.values()}, note):
        run()
    return calls


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    for keys, node in jax.tree_util.tree_flatten_with_path(model, is_leaf=_is_layer)[0]:
        if _is_layer(node):
            yield "/".join(path_of(keys)), node


def _is_layer(node: Any) -> bool:
    """Whether a node is a module that can be called and has no other in it."""
    if not isinstance(node, eqx.Module) or not callable(node):
        return False
    inner = jax.tree.leaves(node, is_leaf=lambda x: x is not node and isinstance(x, eqx.Module))
    return not any(isinstance(x, eqx.Module) and callable(x) for x in inner)


def _is_traced(array: Any) -> bool:
    return isinstance(array, jax.core.Tracer)


@contextmanager
def _watched(kinds: set[Any], note: Callable[[Any, Any], None]) -> Iterator[None]:
    """Have the classes' calls noted: a module is frozen, so that its own cannot be replaced."""
    own = {kind: vars(kind).get("__call__") for kind in kinds}
    called, running = {kind: kind.__call__ for kind in kinds}, set[int]()
    try:
        for kind in kinds:
            kind.__call__ = _noted(called[kind], note, running)
        yield
    finally:
        for kind, function in own.items():
            if function is None:
                del kind.__call__
            else:
                kind.__call__ = function


def _noted(function: Any, note: Callable[[Any, Any], None], running: set[int]) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if id(self) in running:  # a class calls the one that it comes from
            return function(self, *args, **kwargs)
        running.add(id(self))
        try:
            output = function(self, *args, **kwargs)
        finally:
            running.discard(id(self))
        note(self, output)
        return output

    return call
