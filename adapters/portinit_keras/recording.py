"""Watching the calls inside a Keras model, on any backend."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras

from portinit.probes.inputs import is_array
from portinit.probes.recording import CallRecorder, Change
from portinit_keras.tree import layers_of


def recorder(change: Change | None = None) -> CallRecorder:
    """A recorder of tensors of Keras's backend."""
    return CallRecorder(is_float, change)


def is_float(tensor: Any) -> bool:
    """Whether a tensor is one of real numbers that are known, with at least one."""
    if not is_array(tensor) or _is_traced(tensor):
        return False
    is_one = keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))
    return bool(is_one and math.prod(tensor.shape))


def _is_traced(tensor: Any) -> bool:
    """Whether JAX is compiling what computes a tensor, as a layer may have its loop compiled."""
    if keras.backend.backend() != "jax":
        return False
    return isinstance(tensor, importlib.import_module("jax").core.Tracer)


@contextmanager
def watched(model: Any, recorder: CallRecorder) -> Iterator[None]:
    """Tell the recorder of the calls of a model's layers, of which a recurrent one is whole."""
    inner = [*layers_of(model, every=True)]
    whole = [path for path, layer in inner if isinstance(layer, keras.layers.RNN)]
    parts = [
        ("/".join(path), layer)
        for path, layer in inner
        if not any(path[: len(one)] == one != path for one in whole)
    ]
    for path, layer in parts:
        layer.call = _told(layer.call, layer, path, recorder)
    try:
        yield
    finally:
        for _, layer in parts:
            del layer.call  # the instance's own; the class's comes back


def _told(call: Any, layer: Any, path: str, recorder: CallRecorder) -> Any:
    def told(*args: Any, **kwargs: Any) -> Any:
        return recorder.call(partial(call, *args, **kwargs), layer, path)

    return told
