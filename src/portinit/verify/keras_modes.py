"""Draws through Keras's variables, on the backend that Keras runs on."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

from portinit.verify.cases import LAYOUTS, Cell, key
from portinit.verify.devices import Device


def variables(device: Device, cells: Sequence[Cell]) -> Iterable[Sequence[Any]]:
    """A Keras variable of each cell, made by an initializer of portinit_keras, in NumPy."""
    keras = importlib.import_module("keras")
    adapter = importlib.import_module("portinit_keras")
    to_array = importlib.import_module("portinit_keras.drawing").to_array
    for cell in cells:
        made = adapter.Initializer(cell.initializer, key(), LAYOUTS[cell.layout])
        yield [to_array(keras.Variable(made, shape=cell.shape, dtype=cell.dtype))]


def no_backend(device: Device) -> str | None:
    """Why Keras cannot be imported, if it cannot."""
    try:
        importlib.import_module("keras")
    except ImportError as error:
        chosen = os.environ.get("KERAS_BACKEND", "its default")
        return f"Keras's backend is {chosen}, and {error}; set KERAS_BACKEND to one that is here"
    return None
