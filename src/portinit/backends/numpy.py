"""NumPy's arrays: threads, and compiled fills where numba is installed."""

from __future__ import annotations

from typing import Any

import numpy as np

from portinit.arrays.dtypes import numpy_dtype
from portinit.backends.base import Backend, Request
from portinit.backends.kernels import filling
from portinit.backends.threads import thread_count
from portinit.sampling.transform import Transform

_NONE: frozenset[str] = frozenset()


class NumpyBackend(Backend):
    """NumPy's arrays."""

    def native_dtype(self, name: str) -> Any:
        return numpy_dtype(name)

    def from_numpy(self, array: np.ndarray[Any, Any], request: Request) -> Any:
        return array.copy()  # nobody may write into an initializer's own values

    def kernel_dtypes(self, request: Request) -> frozenset[str]:
        return filling.DTYPES if filling.is_ready(request.grid) else _NONE

    def run_kernel(
        self, out: Any, request: Request, transform: Transform | None, stream: int = 0
    ) -> bool:
        threads = self.threads(request)
        return filling.fill(out, request.words, request.grid, transform, stream, threads)

    def threads(self, request: Request) -> int:
        return request.threads or thread_count()

    def complex(self, real: Any, imag: Any, dtype: str) -> Any:
        out = np.empty(real.shape, self.native_dtype(dtype))
        out.real, out.imag = real, imag  # a sum would lose the sign of a zero
        return out


NUMPY = NumpyBackend(np)
