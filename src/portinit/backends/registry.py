"""Which backend serves a namespace or a key, and the words of every kind of key.

An adapter is imported when an object of its framework is already at hand.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from portinit.backends.base import Backend, Words
from portinit.backends.namespaces import NamespaceBackend, with_array_api
from portinit.backends.numpy import NUMPY
from portinit.random.keys import Key

_ADAPTERS = {
    "torch": "portinit_torch",
    "jax": "portinit_jax",
    "jaxlib": "portinit_jax",
    "mlx": "portinit_mlx",
}
_NAMESPACES = {"portinit_jax": "jax.numpy", "portinit_mlx": "mlx.core"}
"""Where a key of the framework decides, the namespace of what is drawn with it."""

_BACKENDS: dict[Any, Backend] = {np: NUMPY}


def backend_of(key: Any, xp: Any = None) -> Backend:
    """The backend of a namespace, or else of the kind of key: JAX's, MLX's, or NumPy's."""
    if isinstance(xp, ModuleType) and xp in _BACKENDS:
        return _BACKENDS[xp]
    if xp is None:
        root = type(key).__module__.partition(".")[0]
        adapter = _ADAPTERS.get(root, "")
        xp = importlib.import_module(_NAMESPACES.get(adapter, "numpy"))
    if not isinstance(xp, ModuleType):
        raise TypeError(f"xp must be an array namespace such as numpy or torch, got {xp!r}")
    root = xp.__name__.removeprefix("array_api_compat.").partition(".")[0]
    if root == "numpy":
        xp = np
    adapter = _ADAPTERS.get(root, "")
    if xp not in _BACKENDS:
        _BACKENDS[xp] = _adapter(adapter) if adapter else NamespaceBackend(with_array_api(xp))
    return _BACKENDS[xp]


def _adapter(name: str) -> Backend:
    backend: Backend = importlib.import_module(f"{name}.backend").BACKEND
    return backend


def words_of(key: Any, backend: Backend) -> Words:
    """The two words of a key for a backend; a framework's own key is read by its adapter."""
    if type(key) is Key:
        return backend.words(key)
    adapter = _ADAPTERS.get(type(key).__module__.partition(".")[0])
    other = backend if adapter is None else _adapter(adapter)
    if other is backend:
        return backend.words(key)
    return other.known_words(other.words(key))
