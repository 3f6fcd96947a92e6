"""NumPy's arrays: threads, and compiled fills where numba is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from portinit.arrays.dtypes import numpy_dtype
from portinit.backends.base import Backend, Draw
from portinit.backends.kernels import filling
from portinit.backends.threads import thread_count
from portinit.sampling.transform import Transform


class NumpyBackend(Backend):
    """NumPy's arrays."""

    def native_dtype(self, name: str) -> Any:
        return numpy_dtype(name)

    def fusible(self, draw: Draw) -> frozenset[str]:
        return filling.DTYPES if filling.is_ready(draw.grid) else frozenset()

    def fuse(
        self,
        out: Any,
        draw: Draw,
        steps: Transform | None,
        stream: int = 0,
    ) -> bool:
        return filling.fill(out, draw.key, draw.grid, steps, stream, self.threads(draw))

    def threads(self, draw: Draw) -> int:
        return draw.threads or thread_count()

    def complex(self, real: Any, imag: Any, dtype: str) -> Any:
        out = np.empty(real.shape, self.native_dtype(dtype))
        out.real, out.imag = real, imag  # a sum would lose the sign of a zero
        return out

    def kth_smallest(self, rows: Callable[[], Any], k: int) -> tuple[Any, Any]:
        x = rows()
        x.partition(k - 1, axis=1)
        last = x[:, k - 1]
        if (x[:, k:] == last[:, None]).any():
            return super().kth_smallest(rows, k)
        return last.copy(), None  # two equal words are rare: all of a row's equals count


NUMPY = NumpyBackend(np)
