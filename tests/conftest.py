"""What the tests share: the four namespaces, and a way to compare results bit for bit.

A test that takes ``xp`` runs in NumPy, PyTorch, JAX and array-api-strict, which refuses whatever
the array API does not promise.
"""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")  # before anything imports Keras

import array_api_strict
import jax.numpy
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from portinit_jax import host
from portinit_jax.host_call import primitive
from tests.support import bits as support

NAMESPACES = {
    "numpy": np,
    "torch": torch,
    "jax": jax.numpy,
    "array_api_strict": array_api_strict,
}


_ROWS = pytest.StashKey[list[Any]]()


@pytest.fixture
def matrix(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """A function that keeps a row of the matrix for the summary."""
    rows: list[Any] = request.config.stash.setdefault(_ROWS, [])
    return rows.append


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say which devices the matrix was tested on, and how many cells held."""
    rows = config.stash.get(_ROWS, [])
    modes: dict[str, list[Any]] = {}
    for row in rows:
        modes.setdefault(f"{row.backend} {row.mode} on {row.device}", []).append(row)
    if modes:
        terminalreporter.section("exactness matrix")
    for mode, parts in modes.items():
        tried, same = (sum(getattr(p, field) for p in parts) for field in ("tried", "identical"))
        terminalreporter.line(f"{mode}: {same} of {tried} cells bit-identical")


@pytest.fixture(params=NAMESPACES.values(), ids=NAMESPACES)
def xp(request: pytest.FixtureRequest) -> ModuleType:
    """An array namespace."""
    namespace: ModuleType = request.param
    return namespace


@pytest.fixture(autouse=True)
def by_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have XLA make JAX's arrays, as where JAX has a GPU; on the host NumPy would make many."""
    monkeypatch.setattr(host, "can_make_on_host", lambda *_: False)
    monkeypatch.setattr(primitive, "runs_here", lambda *_: False)


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """golden/make.py: what portinit computes, on Python's integers and mpmath alone."""
    path = Path(__file__).parent / "golden" / "make.py"
    spec = importlib.util.spec_from_file_location("golden_make", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def to_numpy() -> Callable[[Any], NDArray[Any]]:
    """A function that turns any framework's array into NumPy's, bits kept (bf16 by ml_dtypes)."""
    return support.to_numpy


@pytest.fixture
def bits() -> Callable[[Any], tuple[str, tuple[int, ...], bytes]]:
    """A function that gives an array's dtype, shape and bytes: equal only if every bit is."""
    return support.bits
