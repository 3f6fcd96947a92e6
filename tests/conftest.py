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


_CELLS = pytest.StashKey[list[tuple[str, int, int]]]()


def _cells(config: pytest.Config) -> list[tuple[str, int, int]]:
    return config.stash.setdefault(_CELLS, [])


@pytest.fixture
def matrix(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """A function that keeps a row of the matrix for the summary."""

    def keep(row: Any) -> None:
        mode = f"{row.backend} {row.mode} on {row.device}"
        _cells(request.config).append((mode, int(row.tried), int(row.identical)))

    return keep


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the rows over, where pytest-xdist runs the tests in several processes."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["cells"] = _cells(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the rows of a process that is done."""
    _cells(node.config).extend(getattr(node, "workeroutput", {}).get("cells", []))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say which devices the matrix was tested on, and how many cells held."""
    modes: dict[str, list[tuple[int, int]]] = {}
    for mode, *counts in _cells(config):
        modes.setdefault(mode, []).append((counts[0], counts[1]))
    if modes:
        terminalreporter.section("exactness matrix")
    for mode, parts in modes.items():
        tried, same = map(sum, zip(*parts, strict=True))
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
