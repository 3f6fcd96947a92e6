"""Where the core meets a framework: namespaces, keys, dtypes and devices.

Algorithms know only an array namespace ``xp``. What the array API leaves open (what a key is,
whether to compile, how to place the result) a framework's adapter answers with a subclass of
:class:`Backend`. The core never imports a framework: an adapter is imported when an object of its
framework is already at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid
from portinit.backends.linalg import orthonormal
from portinit.backends.threads import in_threads
from portinit.random.keys import Key
from portinit.sampling.distributions import Distribution
from portinit.sampling.transform import Transform

Words = tuple[Any, Any]

_TILE = 1 << 16  # elements computed at a time: temporaries that stay in the cache
_FUSED_TILE = 1 << 17  # likewise where a compiled pass has no temporaries


class Evaluable(Hashable, Protocol):
    """What a backend runs: an initializer."""

    @property
    def elementwise(self) -> bool:
        """Whether each element can be computed without the others."""

    @property
    def hosted(self) -> bool:
        """Whether values are computed in NumPy."""

    def settled(self, draw: Any) -> Evaluable:
        """Itself, with what needs the whole parameter worked out."""

    def values(self, draw: Any, factor: float = 1.0) -> Any:
        """The initializer's values for one draw."""

    def element_law(self, grid: Grid, dtype: str, factor: float = 1.0) -> Distribution | None:
        """The distribution that each element is an independent draw from."""


class Draw(NamedTuple):
    """One call of an initializer: whose words, which elements, which dtype, where."""

    backend: Backend
    key: Words
    grid: Grid
    dtype: str
    device: Any = None
    threads: int | None = None

    @property
    def xp(self) -> Any:
        """The namespace to compute in."""
        return self.backend.xp

    def on(self, grid: Grid, dtype: str | None = None) -> Draw:
        """The same draw for other elements, and perhaps another dtype."""
        return self._replace(grid=grid, dtype=dtype or self.dtype)


class Backend:
    """Eager arrays of one array-API namespace; frameworks refine it.

    Attributes:
        cuts: whether arrays are cut and joined freely; not where they may lie on many devices.
    """

    cuts: ClassVar[bool] = True

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    def default_dtype(self) -> str:
        """The dtype of an initializer that is called without one."""
        return "float32"

    def native_dtype(self, name: str) -> Any:
        """The namespace's own dtype of a name."""
        try:
            return getattr(self.xp, name)
        except AttributeError:
            raise TypeError(f"{self.xp.__name__} has no dtype {name}") from None

    def words(self, key: Any) -> Words:
        """The two words of a portinit key, or of a key of the backend's own framework."""
        return key_words(key)

    def known_words(self, words: Words) -> tuple[int, int]:
        """The words as Python integers; a TypeError where they are not known yet."""
        high, low = words
        return int(high), int(low)

    def cast(self, x: Any, dtype: str) -> Any:
        """Round a real array to a narrower real dtype, to nearest, ties to even."""
        native = self.native_dtype(dtype)
        return x if x.dtype == native else self.xp.astype(x, native)

    def fusible(self, draw: Draw) -> frozenset[str]:
        """The dtypes that :meth:`fuse` writes besides words; none where it is of no use."""
        return frozenset()

    def fuse(
        self,
        out: Any,
        draw: Draw,
        steps: Transform | None,
        stream: int = 0,
    ) -> bool:
        """Fill ``out`` with values, or words, in one compiled pass; False if none can."""
        return False

    def tile(self, draw: Draw) -> int:
        """How many elements of a draw are computed at a time."""
        return _FUSED_TILE if self.fusible(draw) else _TILE

    def threads(self, draw: Draw) -> int:
        """How many tiles of a draw are computed side by side."""
        return 1

    def fused(self, draw: Draw, steps: Transform | None, stream: int = 0) -> Any:
        """A new array that :meth:`fuse` filled, or none."""
        if not self.fusible(draw):
            return None
        dtype = self.native_dtype("float32" if steps else "int32")
        out = self.xp.empty(draw.grid.array_shape, dtype=dtype, device=draw.device)
        return out if self.fuse(out, draw, steps, stream) else None

    def seal(self, x: Any) -> Any:
        """Finite values as they are, kept apart from what a compiler makes of a caller's code."""
        return x

    def complex(self, real: Any, imag: Any, dtype: str) -> Any:
        """A complex array of two real ones."""
        return self.xp.astype(real, self.native_dtype(dtype)) + 1j * imag

    def run(self, initializer: Evaluable, draw: Draw, out_sharding: Any = None) -> Any:
        """Evaluate an initializer, here eagerly."""
        if out_sharding is not None:
            raise TypeError(f"out_sharding is for JAX arrays only, got {out_sharding!r}")
        if draw.grid.size <= _TILE:
            return initializer.values(draw)
        initializer = initializer.settled(draw)
        if not initializer.elementwise:
            return initializer.values(draw)
        native = self.native_dtype(draw.dtype)
        out = self.xp.empty(draw.grid.array_shape, dtype=native, device=draw.device)
        self.fill(initializer, draw, out)
        return out

    def fill(self, initializer: Evaluable, draw: Draw, out: Any) -> None:
        """Evaluate an initializer into an array, with no second array of its size if it can."""
        if draw.dtype in self.fusible(draw):
            initializer = initializer.settled(draw)
            steps = _kept_steps(initializer, draw.grid, draw.dtype)
            if steps is not None and self.fuse(out, draw, steps):
                return
        self.fill_by_arrays(initializer, draw, out)

    def fill_by_arrays(self, initializer: Evaluable, draw: Draw, out: Any) -> None:
        """As :meth:`fill`, in array operations, tile by tile."""
        initializer = initializer.settled(draw)
        if not initializer.elementwise:
            out[...] = initializer.values(draw)
            return

        threads = self.threads(draw) if draw.grid.size > self.tile(draw) else 1
        alone = draw._replace(threads=1) if threads > 1 else draw

        def compute(tile: tuple[tuple[slice, ...], Grid]) -> None:
            positions, grid = tile
            out[(*positions, ...)] = initializer.values(alone.on(grid))

        in_threads(compute, draw.grid.tiles(self.tile(draw)), threads)

    def by_rows(
        self, find: Callable[[Grid], tuple[Any, ...]], grid: Grid, rows: int, threads: int
    ) -> list[tuple[Any, ...]]:
        """What is found in ``rows`` rows of an array at a time, from the first on."""
        starts = range(0, grid.array_shape[0], rows)
        parts = (grid.part(0, slice(start, start + rows)) for start in starts)
        return in_threads(find, parts, threads)

    def kth_smallest(self, rows: Callable[[], Any], k: int) -> tuple[Any, Any]:
        """Of each row of integers, the k-th smallest and its column; columns decide of equals.

        No columns are given where no row has an equal of it further on.
        """
        x = rows()
        last = self.xp.sort(x, axis=1)[:, k - 1 : k]
        below, equal = (self.xp.astype(where, self.xp.int32) for where in (x < last, x == last))
        wanted = k - self.xp.sum(below, axis=1, keepdims=True, dtype=self.xp.int32)
        reached = self.xp.cumulative_sum(equal, axis=1) == wanted
        column = self.xp.argmax(self.xp.astype(reached, self.xp.int32), axis=1)
        return last[:, 0], self.xp.astype(column, self.xp.int32)

    def orthonormal(self, matrix: Any, gain: float) -> Any:
        """See :func:`orthonormal`."""
        return orthonormal(self.xp, matrix, gain, self.native_dtype)


def _steps(initializer: Evaluable, grid: Grid, dtype: str) -> Transform | None:
    """What every element's word goes through; none where they differ."""
    law = initializer.element_law(grid, dtype)
    steps = law.transform(float_format(dtype)) if law else None
    return steps if isinstance(steps, Transform) else None


_kept_steps = lru_cache(maxsize=4096)(_steps)


def key_words(key: Any) -> Words:
    """The words of a :class:`Key`, or of a raw uint32 array of shape (2,)."""
    if isinstance(key, Key):
        return key.words
    if isinstance(key, np.ndarray) and key.dtype == np.uint32 and key.shape == (2,):
        return int(key[0]), int(key[1])
    raise TypeError(
        "a key must be a portinit.Key, a JAX threefry key, or a raw uint32 array of shape (2,); "
        f"got {_describe(key)}"
    )


def _describe(key: Any) -> str:
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    kind = type(key).__name__
    return kind if dtype is None else f"{kind} of dtype {dtype} and shape {tuple(shape or ())}"
