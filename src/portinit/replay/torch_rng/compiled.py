"""The engine in machine code, where numba is installed.

``loops`` and the formulas it calls are plain Python; what NumPy does to whole arrays for them is
here an instruction on one number: a fused multiply-add, the bits of a float, a select.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portinit.backends.threads import compile_all, find_numba, intrinsics
from portinit.replay.torch_rng import cephes, loops
from portinit.replay.torch_rng.engines import Values, Words

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


def engine(key: Words, used: int) -> CompiledEngine | None:
    """A compiled engine; none where numba is not installed."""
    kernels = _kernels()
    return None if kernels is None else CompiledEngine(key.copy(), used, kernels)


class CompiledEngine:
    """:class:`~portinit.replay.torch_rng.engines.Engine` in machine code."""

    def __init__(self, key: Words, used: int, kernels: SimpleNamespace) -> None:
        self._key = key
        self._used = used
        self._kernels = kernels

    def words(self, n: int) -> Words:
        """See ``Engine``."""
        out = np.empty(n, np.uint32)
        self._used = self._kernels.draw(self._key, self._used, out)
        return out

    def skip(self, n: int) -> None:
        """See ``Engine``."""
        self._used = self._kernels.skip(self._key, self._used, n)

    def position(self) -> tuple[Words, int]:
        """See ``Engine``."""
        return self._key, self._used

    def uniform(self, words: Words, low: np.float32, width: np.float32) -> Values:
        """See ``Engine``."""
        out = words.view(np.float32)
        self._kernels.uniform(words, low, width, out)
        return out

    def normal(self, words: Words, mean: np.float32, std: np.float32) -> Values:
        """See ``Engine``."""
        out = words.view(np.float32)
        self._kernels.normal(words, mean, std, out)
        return out

    def shuffle(self, order: NDArray[np.int64], words: Words, start: int) -> None:
        """See ``Engine``."""
        self._kernels.shuffle(order, words, start)

    def insert(self, order: NDArray[np.int64], words: NDArray[np.uint64], start: int) -> None:
        """See ``Engine``."""
        self._kernels.insert(order, words, start)


@cache
def _kernels() -> SimpleNamespace | None:
    if find_numba() is None:
        return None
    functions: list[Any] = [*_FORMULAS, *_HELPERS, *_LOOPS]
    return SimpleNamespace(**compile_all(functions, _scalar_arithmetic()))


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
