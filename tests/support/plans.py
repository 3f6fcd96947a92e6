"""An initializer's values at some elements of a parameter, by way of its plan."""

from typing import Any

from portinit import Initializer
from portinit.arrays.grids import Grid
from portinit.backends.base import Request, Words
from portinit.backends.numpy import NUMPY, Backend


def values(
    initializer: Initializer,
    words: Words,
    grid: Grid,
    dtype: str = "float32",
    backend: Backend = NUMPY,
) -> Any:
    """The values as one array, computed together."""
    return backend.values(initializer.plan(grid, dtype), Request(backend, words, grid, dtype))
