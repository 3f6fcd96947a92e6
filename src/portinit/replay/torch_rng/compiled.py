"""The engine in machine code, where numba is installed.

``loops`` and the formulas it calls are plain Python; what NumPy does to whole arrays for them is
here an instruction on one number: a fused multiply-add, the bits of a float, a select.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portinit.backends.object_code import ObjectCode
from portinit.backends.threads import compile_all, find_numba, intrinsics
from portinit.replay.torch_math import arithmetic
from portinit.replay.torch_rng import cephes, loops
from portinit.replay.torch_rng.engines import KEY_SIZE, Values, Words

_FORMULAS = [cephes.unit, cephes.log, cephes._with_sign, cephes.sine_cosine, cephes.box_muller]
_HELPERS = [
    loops.twist,
    loops.advance,
    loops.temper,
    loops.apart,
    loops.pairs,
    loops.together,
]
_LOOPS = [loops.draw, loops.skip, loops.uniform, loops.normal, loops.shuffle, loops.insert]

Kernels = Mapping[str, Callable[..., int]]


def engine(key: Words, used: int) -> CompiledEngine | None:
    """A compiled engine; none where numba is not installed."""
    kernels = _kernels()
    return None if kernels is None else CompiledEngine(key.copy(), used, kernels)


class CompiledEngine:
    """:class:`~portinit.replay.torch_rng.engines.Engine` in machine code."""

    def __init__(self, key: Words, used: int, kernels: Kernels) -> None:
        self._key = np.ascontiguousarray(key)
        self._used = used
        self._kernels = kernels
        self._scratch = np.empty((4, loops.PAIRS), np.uint32)

    def words(self, n: int) -> Words:
        """See ``Engine``."""
        out = np.empty(n, np.uint32)
        self._used = self._kernels["draw"](self._key.ctypes.data, self._used, out.ctypes.data, n)
        return out

    def skip(self, n: int) -> None:
        """See ``Engine``."""
        self._used = self._kernels["skip"](self._key.ctypes.data, self._used, n)

    def position(self) -> tuple[Words, int]:
        """See ``Engine``."""
        return self._key, self._used

    def uniform(self, words: Words, low: np.float32, width: np.float32) -> Values:
        """See ``Engine``."""
        words = np.ascontiguousarray(words)
        out = words.view(np.float32)
        address = words.ctypes.data
        self._kernels["uniform"](address, float(low), float(width), address, words.size)
        return out

    def normal(self, words: Words, mean: np.float32, std: np.float32) -> Values:
        """See ``Engine``."""
        words = np.ascontiguousarray(words)
        out = words.view(np.float32)
        address, scratch = words.ctypes.data, self._scratch.ctypes.data
        self._kernels["normal"](address, float(mean), float(std), address, words.size, scratch)
        return out

    def shuffle(self, order: NDArray[np.int64], words: Words, start: int) -> None:
        """See ``Engine``."""
        addresses = order.ctypes.data, words.ctypes.data
        self._kernels["shuffle"](addresses[0], order.size, addresses[1], words.size, start)

    def insert(self, order: NDArray[np.int64], words: NDArray[np.uint64], start: int) -> None:
        """See ``Engine``."""
        addresses = order.ctypes.data, words.ctypes.data
        self._kernels["insert"](addresses[0], order.size, addresses[1], words.size, start)


_WORDS, _SINGLES = "CPointer(uint32)", "CPointer(float32)"
_SIGNATURES = {
    "draw": f"int64({_WORDS}, int64, {_WORDS}, int64)",
    "skip": f"int64({_WORDS}, int64, int64)",
    "uniform": f"int64({_WORDS}, float32, float32, {_SINGLES}, int64)",
    "normal": f"int64({_WORDS}, float32, float32, {_SINGLES}, int64, {_WORDS})",
    "shuffle": "int64(CPointer(int64), int64, CPointer(uint32), int64, int64)",
    "insert": "int64(CPointer(int64), int64, CPointer(uint64), int64, int64)",
}


def is_kept() -> bool:
    """Whether the machine code is on disk, and needs no compiling."""
    return _CODE.is_kept()


@cache
def _kernels() -> Kernels | None:
    return _CODE.load()


def _entries() -> dict[str, FunctionType]:
    """The loops on addresses instead of arrays."""
    carray = importlib.import_module("numba").carray
    functions: list[Any] = [*_FORMULAS, *_HELPERS, *_LOOPS]
    loop = compile_all(functions, _scalar_arithmetic())
    _draw, _skip, _uniform, _normal, _shuffle, _insert = (loop[f.__name__] for f in _LOOPS)
    pairs = loops.PAIRS

    def draw(key: Any, used: int, out: Any, n: int) -> Any:
        return _draw(carray(key, KEY_SIZE), used, carray(out, n))

    def skip(key: Any, used: int, n: int) -> Any:
        return _skip(carray(key, KEY_SIZE), used, n)

    def uniform(words: Any, low: float, width: float, out: Any, n: int) -> int:
        _uniform(carray(words, n), low, width, carray(out, n))
        return 0

    def normal(words: Any, mean: float, std: float, out: Any, n: int, scratch: Any) -> int:
        _normal(carray(words, n), mean, std, carray(out, n), carray(scratch, (4, pairs)))
        return 0

    def shuffle(order: Any, size: int, words: Any, n: int, start: int) -> int:
        _shuffle(carray(order, size), carray(words, n), start)
        return 0

    def insert(order: Any, size: int, words: Any, n: int, start: int) -> int:
        _insert(carray(order, size), carray(words, n), start)
        return 0

    entries: list[Any] = [draw, skip, uniform, normal, shuffle, insert]
    return {entry.__name__: entry for entry in entries}


def _scalar_arithmetic() -> dict[str, Any]:
    """The names of ``arithmetic`` for one number; each becomes an instruction."""
    fuse, reinterpret = intrinsics()
    functions: list[tuple[str, Any]] = [
        ("fma", lambda x, y, z: fuse(np.float32(x), np.float32(y), np.float32(z))),
        ("bits_of", lambda x: reinterpret(np.float32(x), np.int32(0))),
        ("float_of", lambda bits: reinterpret(np.int32(bits), np.float32(0))),
        ("as_float", lambda x: np.float32(np.int32(x))),
        ("as_int", lambda x: np.int32(x)),
        ("choose", lambda condition, x, y: x if condition else y),
        ("sqrt", lambda x: np.sqrt(x)),
    ]
    compiled = find_numba().njit(error_model="numpy")
    return {name: compiled(function) for name, function in functions}


_CODE = ObjectCode(
    "torch_rng",
    _SIGNATURES,
    (__file__, loops.__file__, cephes.__file__, arithmetic.__file__),
    _entries,
)
