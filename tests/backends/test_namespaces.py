"""Namespaces without an adapter: what ``xp=`` asks of them, and what it finds out by itself."""

import types
from collections.abc import Callable
from typing import Any

import array_api_compat
import array_api_strict
import numpy as np
import pytest
from tests.support.bits import same_bits

import portinit
from portinit.backends.namespaces import NamespaceBackend, with_array_api
from portinit.backends.registry import backend_of

KEY = portinit.key(3)
LARGE = (420, 360)  # more than a tile
INITIALIZERS = [
    portinit.normal(),
    portinit.sparse(0.3),
    portinit.blocks((portinit.normal(), portinit.zeros, portinit.uniform())),
    portinit.where(3, portinit.ones, portinit.normal()),
]


def copying(refuses: bool) -> types.ModuleType:
    """NumPy, but for slices that are copies, or that cannot be written to."""

    class Array(np.ndarray[Any, Any]):
        def __getitem__(self, index: Any) -> Any:
            return np.asarray(self)[index].copy().view(Array)

        def __setitem__(self, index: Any, values: Any) -> None:
            if refuses:
                raise TypeError("arrays cannot be written to")
            np.asarray(self)[index] = values

    def made(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            found = function(*args, **kwargs)
            return found.view(Array) if isinstance(found, np.ndarray) else found

        return call

    xp = types.ModuleType("copying")
    for name, value in vars(np).items():
        setattr(xp, name, value)
    for name in ("zeros", "empty", "full", "asarray", "arange"):
        setattr(xp, name, made(getattr(np, name)))
    return xp


@pytest.mark.parametrize("initializer", INITIALIZERS, ids=str)
@pytest.mark.parametrize("refuses", [False, True])
def test_arrays_whose_slices_are_copies_are_filled_as_well(
    initializer: portinit.Initializer, refuses: bool
) -> None:
    xp = copying(refuses)
    assert not NamespaceBackend(xp).shares_slices
    drawn = initializer(KEY, LARGE, xp=xp)
    assert same_bits(np.asarray(drawn), initializer(KEY, LARGE))


def test_whether_slices_are_shared_is_found_out() -> None:
    assert NamespaceBackend(array_api_strict).shares_slices
    assert NamespaceBackend(np).shares_slices


def test_a_namespace_is_taken_as_the_array_api_has_it() -> None:
    assert with_array_api(array_api_strict) is array_api_strict
    with pytest.raises(TypeError, match="xp must be an array namespace"):
        backend_of(KEY, np.zeros(3))


def test_plain_dask_is_the_wrapped_one() -> None:
    dask = pytest.importorskip("dask.array")
    wrapped: Any = backend_of(KEY, dask).xp
    assert wrapped.__name__ == "array_api_compat.dask.array"
    assert array_api_compat.is_dask_namespace(wrapped)
    for initializer in INITIALIZERS:
        for dtype in ("float32", "float64", "complex64"):
            drawn = initializer(KEY, LARGE, dtype, xp=dask)
            assert type(drawn).__module__.startswith("dask")
            assert same_bits(np.asarray(drawn), initializer(KEY, LARGE, dtype))
    with pytest.raises(TypeError, match="no dtype float16"):
        portinit.normal()(KEY, (3,), "float16", xp=dask)


def test_plain_cupy_is_the_wrapped_one() -> None:
    cupy = pytest.importorskip("cupy")
    wrapped: Any = backend_of(KEY, cupy).xp
    assert wrapped.__name__ == "array_api_compat.cupy"
    assert array_api_compat.is_cupy_namespace(wrapped)
    assert backend_of(KEY, cupy).native_dtype("float16") is cupy.float16
    with pytest.raises(TypeError, match="no dtype bfloat16"):
        backend_of(KEY, cupy).native_dtype("bfloat16")
