"""NumPy's arrays: threads, and compiled fills where numba is installed."""

from __future__ import annotations

from typing import Any

import numpy as np

from portinit.arrays.dtypes import numpy_dtype
from portinit.arrays.grids import Grid
from portinit.backends.base import Backend, Request, Words
from portinit.backends.kernels import filling
from portinit.backends.plan import Plan, Select, is_zero
from portinit.backends.threads import thread_count
from portinit.sampling.transform import Transform

_NONE: frozenset[str] = frozenset()
_INTEGERS = {2: np.int16, 4: np.int32}


class NumpyBackend(Backend):
    """NumPy's arrays."""

    def native_dtype(self, name: str) -> Any:
        return numpy_dtype(name)

    def from_numpy(self, array: np.ndarray[Any, Any], request: Request) -> Any:
        return array.copy()  # nobody may write into an initializer's own values

    def kernel_dtypes(self, request: Request, *, draws: bool = False) -> frozenset[str]:
        one_key = not isinstance(request.words[0], np.ndarray)
        return filling.DTYPES if one_key and filling.is_ready(request.grid, draws=draws) else _NONE

    def run_kernel(
        self, out: Any, request: Request, transform: Transform | None, stream: int = 0
    ) -> bool:
        threads = self.threads(request)
        return filling.fill(out, request.words, request.grid, transform, stream, threads)

    def execute_each(
        self, plan: Plan, words: Words, grid: Grid, dtype: str, out: np.ndarray[Any, Any]
    ) -> None:
        """Fill ``out[i]`` with a plan's values for the i-th of several keys, all in one pass.

        Args:
            plan: what the values are; :func:`is_drawn_apart` holds for it.
            words: the keys' two words, two vectors of int32.
            grid: the elements of one array; there are at most ``TILE`` for all keys together.
            dtype: their dtype.
            out: a new array for each key along axis 0.
        """
        along = (-1,) + (1,) * len(grid.axes)
        high, low = (vector.reshape(along) for vector in words)
        self._fill(plan, Request(self, (high, low), grid.repeated(len(out)), dtype), out)

    def threads(self, request: Request) -> int:
        return request.threads or thread_count()

    def _fill_select(self, plan: Select, request: Request, out: Any) -> None:
        # Tiles along the memory, whatever the order of the axes.
        order = sorted(range(out.ndim), key=lambda axis: -abs(out.strides[axis]))
        grid = request.grid.transposed(order)
        super()._fill_select(plan, request.on(grid), out.transpose(order))

    def overwrite(self, out: Any, mask: Any, plan: Plan, request: Request) -> None:
        if is_zero(plan) and out.itemsize in _INTEGERS:
            bits = out.view(_INTEGERS[out.itemsize])
            kept = np.logical_not(mask, order="C")
            np.multiply(bits, kept, out=bits)  # without a branch for each element
        else:
            super().overwrite(out, mask, plan, request)

    def complex(self, real: Any, imag: Any, dtype: str) -> Any:
        out = np.empty(real.shape, self.native_dtype(dtype))
        out.real, out.imag = real, imag  # a sum would lose the sign of a zero
        return out


NUMPY = NumpyBackend(np)
