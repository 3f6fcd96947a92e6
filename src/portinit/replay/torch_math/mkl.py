"""Intel's MKL, whose functions PyTorch calls on x86-64, where a copy of it is installed.

MKL's source is not public, so its last bits cannot be computed otherwise. The same version gives
the same bits on the same processor: those of another instruction set differ, in PyTorch as here.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Version = tuple[int, int]

_WANTED: dict[str, tuple[Version, Version]] = {"2024.2": ((2, 7), (2, 14))}
"""The versions of MKL, and the first and last torch whose Linux wheels are built with each."""

VECTOR_FUNCTIONS = {
    "acos": "Acos",
    "asin": "Asin",
    "atan": "Atan",
    "cos": "Cos",
    "erf": "Erf",
    "erfc": "Erfc",
    "erfinv": "ErfInv",
    "exp": "Exp",
    "log": "Ln",
    "log10": "Log10",
    "log2": "Log2",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "tan": "Tan",
    "tanh": "Tanh",
}
"""PyTorch's functions of float32 and float64 that are MKL's, and their names there."""

_HIGH_ACCURACY, _DENORMALS_KEPT, _NO_ERRORS = 0x2, 0x140000, 0x100
_MODE = _HIGH_ACCURACY | _DENORMALS_KEPT | _NO_ERRORS
_SEQUENTIAL, _GNU_THREADS = 1, 3
"""MKL's threading layers. PyTorch has GNU's; the sequential one factorises small matrices in
another order, by other bits."""
_LONGEST = 1 << 30  # elements a call; MKL counts in 32 bits
_ALIGNMENT = 64  # as PyTorch allocates: MKL's sums may depend on it


class Library:
    """A loaded MKL.

    Attributes:
        path: where it lies.
        version: its version, such as ``"2024.2"``.
        has_pytorchs_layer: whether its threading layer is PyTorch's, on which the last bits of
            products and factorisations depend.
    """

    def __init__(self, path: Path, library: ctypes.CDLL, has_pytorchs_layer: bool) -> None:
        self.path = path
        self.has_pytorchs_layer = has_pytorchs_layer
        self._library = library
        text = ctypes.create_string_buffer(200)
        library.MKL_Get_Version_String(text, len(text))
        self.version = _version_in(text.value.decode("ascii", "replace"))
        self._library.vmsExp, self._library.sgeqrf_, self._library.sgemm_  # noqa: B018

    def function(self, name: str, x: Array) -> Array:
        """A function of :data:`VECTOR_FUNCTIONS` of each element of a float32 or float64 array."""
        kind = "s" if x.dtype == np.float32 else "d"
        call = getattr(self._library, f"vm{kind}{VECTOR_FUNCTIONS[name]}")
        flat = np.ascontiguousarray(x).reshape(-1)
        out = np.empty_like(flat)
        with self._one_thread():
            for start in range(0, flat.size, _LONGEST):
                part, result = (y[start : start + _LONGEST] for y in (flat, out))
                call(
                    ctypes.c_int(part.size),
                    _pointer(part),
                    _pointer(result),
                    ctypes.c_int64(_MODE),
                )
        return out.reshape(x.shape)

    def qr(self, x: Array) -> tuple[Array, Array]:
        """The reduced QR factorisation of a float32 or float64 matrix, as ``torch.linalg.qr``'s."""
        m, n = x.shape
        k = min(m, n)
        kind = "s" if x.dtype == np.float32 else "d"
        a, tau = _aligned((m, n), x.dtype), _aligned((k,), x.dtype)
        a[...] = x
        with self._one_thread():
            self._lapack(f"{kind}geqrf_", [m, n], a, m, tau)
            r = np.triu(a[:k])
            q = _aligned((m, k), x.dtype)
            q[...] = a[:, :k]
            self._lapack(f"{kind}orgqr_", [m, k, k], q, m, tau)
        return np.ascontiguousarray(q), r

    def _lapack(self, name: str, sizes: list[int], a: Array, leading: int, tau: Array) -> None:
        """Call a function that overwrites a matrix, with as much working memory as it asks for."""
        call = getattr(self._library, name)
        asked = _aligned((1,), a.dtype)
        for work, count in self._workspaces(asked):
            info = ctypes.c_int(0)
            call(
                *(ctypes.byref(ctypes.c_int(size)) for size in sizes),
                _pointer(a),
                ctypes.byref(ctypes.c_int(leading)),
                _pointer(tau),
                _pointer(work),
                ctypes.byref(ctypes.c_int(count)),
                ctypes.byref(info),
            )
            if info.value:
                raise ValueError(f"{name} must succeed, got info={info.value}")

    @staticmethod
    def _workspaces(asked: Array) -> Iterator[tuple[Array, int]]:
        yield asked, -1  # a question, answered in its first element
        count = max(int(asked[0]), 1)
        yield _aligned((count,), asked.dtype), count

    def matmul(self, x: Array, y: Array) -> Array:
        """The product of two float32 or float64 matrices."""
        (m, k), n = x.shape, y.shape[1]
        single = x.dtype == np.float32
        one, zero = ((ctypes.c_float if single else ctypes.c_double)(n) for n in (1.0, 0.0))
        (x, x_as, x_row), (y, y_as, y_row) = _operand(x), _operand(y)
        out = _aligned((m, n), x.dtype, "C")
        call = self._library.sgemm_ if single else self._library.dgemm_
        integer = [ctypes.byref(ctypes.c_int(i)) for i in (n, m, k, y_row, x_row, max(n, 1))]
        with self._one_thread():  # the transposed product, of matrices column by column
            call(
                *(y_as, x_as, *integer[:3], ctypes.byref(one)),
                *(_pointer(y), integer[3], _pointer(x), integer[4]),
                *(ctypes.byref(zero), _pointer(out), integer[5]),
            )
        return out

    @contextmanager
    def _one_thread(self) -> Iterator[None]:
        """Keep MKL to the calling thread: LAPACK's results depend on how many there are."""
        before = self._library.MKL_Set_Num_Threads_Local(1)
        try:
            yield
        finally:
            self._library.MKL_Set_Num_Threads_Local(before)


def is_supported() -> bool:
    """Whether PyTorch computes with MKL on this platform."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def version_of(torch: Version) -> str | None:
    """The version of MKL that a version of torch is built with; None if it is not known."""
    return next((mkl for mkl, (first, last) in _WANTED.items() if first <= torch <= last), None)


@cache
def find(torch: Version) -> Library | None:
    """The installed MKL that a version of torch is built with; None where there is none.

    It is the package mkl's, or the copy that an installed PyTorch has in it.
    """
    wanted = version_of(torch)
    if wanted is None or not is_supported():
        return None
    loaded = (_load(path) for path in _candidates())
    return next((mkl for mkl in loaded if mkl is not None and mkl.version == wanted), None)


def _candidates() -> Iterator[Path]:
    try:
        files = metadata.files("mkl") or ()
    except metadata.PackageNotFoundError:
        files = ()
    yield from (Path(str(f.locate())) for f in files if f.name.startswith("libmkl_rt.so"))
    yield from sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so*"))  # conda's
    # PyTorch's wheels link MKL statically and export its functions. Nothing of PyTorch runs.
    spec = importlib.util.find_spec("torch")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(folder, "lib", "libtorch_cpu.so")


@cache
def _load(path: Path) -> Library | None:
    if not path.is_file():
        return None
    of_torch = not path.name.startswith("libmkl_rt")
    try:
        already = ctypes.CDLL(str(path), os.RTLD_NOLOAD | os.RTLD_LAZY)
        return Library(path, already, of_torch)  # whoever loaded mkl_rt chose its layer
    except (OSError, AttributeError):
        pass
    try:
        library = ctypes.CDLL(str(path))
        return Library(path, library, of_torch or _choose_layer(library))
    except (OSError, AttributeError):
        return None


def _choose_layer(library: ctypes.CDLL) -> bool:
    """Choose PyTorch's threading layer, which needs GNU's OpenMP; whether that is there."""
    try:
        ctypes.CDLL("libgomp.so.1", ctypes.RTLD_GLOBAL)
    except OSError:
        library.MKL_Set_Threading_Layer(_SEQUENTIAL)
        return False
    return bool(library.MKL_Set_Threading_Layer(_GNU_THREADS) == _GNU_THREADS)


def _version_in(text: str) -> str:
    """``"2024.2"`` of "Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build …"."""
    version = text.partition(" Version ")[2].partition(" ")[0].partition("-")[0]
    return ".".join(version.split(".")[:2])


def _operand(x: Array) -> tuple[Array, bytes, int]:
    """A matrix, how it lies in memory, and the length of a row there."""
    if x.flags.f_contiguous and not x.flags.c_contiguous:
        return _copied(x.T), b"T", max(x.shape[0], 1)
    return _copied(x), b"N", max(x.shape[1], 1)


def _copied(x: Array) -> Array:
    out = _aligned(x.shape, x.dtype, "C")
    out[...] = x
    return out


def _aligned(shape: tuple[int, ...], dtype: Any, order: Any = "F") -> Array:
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(count + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    aligned: Array = memory[start : start + count].view(dtype).reshape(shape, order=order)
    return aligned


def _pointer(x: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.ctypes.data)
