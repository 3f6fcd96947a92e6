"""Arrays made by NumPy, where they are to lie on the host anyway: nothing is compiled.

XLA compiles every form of an array, which takes longer than making most arrays, and its code for
CPUs is slower than the fused fills. The bits are the same.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from portinit.arrays.dtypes import numpy_dtype
from portinit.arrays.grids import Grid
from portinit.backends.base import TILE, Request, Words
from portinit.backends.kernels import filling
from portinit.backends.numpy import NUMPY
from portinit.backends.plan import Plan, is_drawn, is_drawn_apart

_SMALL = 1 << 13  # elements: of larger arrays each is best made by itself
_KNOWN = frozenset({int, np.int32})
_MANY = 1 << 9  # arrays of one form: worth compiling what takes them into JAX
_ALIGNMENT = 64  # bytes: of memory that XLA takes as it is


def can_make_on_host(plan: Plan, grid: Grid) -> bool:
    """Whether NumPy's array is had sooner than a compiled program's.

    Not within a computation that is traced, nor where a mesh is set, nor on other devices than the
    host. Without machine code, large arrays are left to XLA.
    """
    if not (is_drawn(plan) and _on_host()):
        return False
    return filling.is_ready(grid) or grid.size < filling.WORTH_LOADING


def _on_host() -> bool:
    made = jax.device_put(np.int32(0))  # where arrays are made here, and whether they are
    if isinstance(made, jax.core.Tracer) or not jax.sharding.get_abstract_mesh().empty:
        return False
    return all(device.platform == "cpu" for device in made.devices())


def make_on_host(plan: Plan, grid: Grid, dtype: str, words: Words) -> jax.Array | None:
    """The array, in memory that becomes JAX's own; None where XLA is to make it."""
    if not _KNOWN.issuperset(map(type, words)) or not can_make_on_host(plan, grid):
        return None
    high, low = (int(word) & 0xFFFFFFFF for word in words)
    out = _aligned(grid.array_shape, numpy_dtype(dtype), 1)[0, ...]
    NUMPY.execute(plan, Request(NUMPY, (high, low), grid, dtype), out)
    array: jax.Array = jax.device_put(out, may_alias=True)
    return array


def make_each_on_host(
    plan: Plan, grid: Grid, dtype: str, words: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
) -> list[jax.Array] | None:
    """An array for each of several keys; None where XLA is to make them.

    Args:
        plan: what the values are.
        grid: the elements of one array.
        dtype: their dtype.
        words: the keys' two words, two vectors of int32.
    """
    if not can_make_on_host(plan, grid):
        return None
    number, native = len(words[0]), numpy_dtype(dtype)
    together = TILE // max(1, grid.size) if _are_many(plan, grid, number) else 1
    arrays: list[np.ndarray[Any, Any]] = []
    for start in range(0, number, together):
        high, low = (vector[start : start + together] for vector in words)
        out = _aligned(grid.array_shape, native, len(high))
        if together > 1:
            NUMPY.execute_each(plan, (high, low), grid, dtype, out)
        else:
            key = int(high[0]) & 0xFFFFFFFF, int(low[0]) & 0xFFFFFFFF
            NUMPY.execute(plan, Request(NUMPY, key, grid, dtype), out[0, ...])
        arrays += [out[i, ...] for i in range(len(out))]
    if grid.size <= _SMALL and number >= _MANY:
        with jax.transfer_guard_host_to_device("allow"):  # as for device_put, which is explicit
            return [*map(_taken, arrays)]
    return [jax.device_put(array, may_alias=True) for array in arrays]


_taken = jax.jit(jnp.asarray)
"""JAX's array of NumPy's, in a third of ``device_put``'s time once it is compiled for a form."""


def _are_many(plan: Plan, grid: Grid, number: int) -> bool:
    """Whether arrays are so small, and so many, that drawing them in one pass is faster."""
    return number > 1 and grid.size <= _SMALL and is_drawn_apart(plan)


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any], number: int) -> np.ndarray[Any, Any]:
    """Memory for arrays of one shape, each of which XLA takes as it is."""
    size = math.prod(shape) * dtype.itemsize
    apart = -(-size // _ALIGNMENT) * _ALIGNMENT
    memory = np.empty(number * apart + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    each = memory[start : start + number * apart].reshape(number, apart)[:, :size]
    return each.view(dtype).reshape(number, *shape)
