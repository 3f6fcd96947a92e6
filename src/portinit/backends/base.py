"""Where the core meets a framework: requests, and the backend that executes plans for them.

Algorithms know only an array namespace ``xp``. What the array API leaves open (what a key is, how
to round, how to fill memory in one pass) a framework's adapter answers with a subclass of
:class:`Backend`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple

import numpy as np

from portinit.arrays.convert import converted
from portinit.arrays.dtypes import Format
from portinit.arrays.grids import Grid, place
from portinit.backends.plan import (
    Computed,
    Elementwise,
    Full,
    Hosted,
    Mask,
    Pieces,
    Plan,
    Select,
    TileMask,
    is_drawn_apart,
)
from portinit.backends.threads import in_threads
from portinit.random.keys import Key
from portinit.random.words import SECOND_STREAM, random_words
from portinit.sampling.quantile import quantile
from portinit.sampling.transform import Quantile, Transform

Words = tuple[Any, Any]

TILE = 1 << 16  # elements computed at a time: temporaries that stay in the cache
KERNEL_TILE = 1 << 18  # where a kernel has no temporaries, or a mask needs whole lines


class Request(NamedTuple):
    """Which elements of a parameter are wanted: whose words, in which dtype, and where.

    Attributes:
        backend: which executes plans for it.
        words: the key's two words.
        grid: the elements.
        dtype: the name of their dtype.
        device: where the array is to lie.
        threads: how many threads may work at it; None for the backend's default.
    """

    backend: Backend
    words: Words
    grid: Grid
    dtype: str
    device: Any = None
    threads: int | None = None

    @property
    def xp(self) -> Any:
        """The namespace to compute in."""
        return self.backend.xp

    def on(self, grid: Grid, dtype: str | None = None) -> Request:
        """The same request for other elements, and perhaps another dtype."""
        return self._replace(grid=grid, dtype=dtype or self.dtype)


class UnknownWordsError(TypeError):
    """A key is traced, and what is to be computed needs its words."""


class Backend:
    """Eager arrays of one array-API namespace; frameworks refine it.

    Attributes:
        can_slice: whether arrays are cut and joined freely; not where they may lie on many devices.
        quantile: the normal quantile of words, as :func:`portinit.sampling.quantile.quantile`.
    """

    can_slice: ClassVar[bool] = True
    quantile: Quantile = staticmethod(quantile)

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    # What the array API leaves open

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
        return (key.high, key.low) if type(key) is Key else key_words(key)

    def known_words(self, words: Words) -> tuple[int, int]:
        """The words as unsigned Python integers; an UnknownWordsError where they are traced."""
        high, low = words
        return int(high) & _WORD, int(low) & _WORD

    def cast(self, x: Any, dtype: str) -> Any:
        """Round a real array to a narrower real dtype, to nearest, ties to even."""
        native = self.native_dtype(dtype)
        return x if x.dtype == native else self.xp.astype(x, native)

    def fusion_barrier(self, x: Any) -> Any:
        """Finite values as they are, kept apart from what a compiler makes of a caller's code."""
        return x

    def complex(self, real: Any, imag: Any, dtype: str) -> Any:
        """A complex array of two real ones."""
        return self.xp.astype(real, self.native_dtype(dtype)) + 1j * imag

    def double_precision(self) -> AbstractContextManager[Any]:
        """A context in which float64 and complex128 arrays can be computed with."""
        return nullcontext()

    def from_numpy(self, array: np.ndarray[Any, Any], request: Request) -> Any:
        """An array of the request's dtype, which NumPy has computed."""
        if array.dtype.isbuiltin != 1:  # ml_dtypes', which float32 holds
            array = array.astype(np.float32)
        return self.cast(self.xp.asarray(array.copy(), device=request.device), request.dtype)

    def threads(self, request: Request) -> int:
        """How many tiles of a request are computed side by side."""
        return 1

    def kernel_dtypes(self, request: Request, *, draws: bool = False) -> frozenset[str]:
        """The dtypes that :meth:`run_kernel` writes besides words; none where it is of no use.

        Args:
            request: which elements, in which dtype.
            draws: whether array operations draw them at once if there are none.
        """
        return frozenset()

    def run_kernel(
        self, out: Any, request: Request, transform: Transform | None, stream: int = 0
    ) -> bool:
        """Fill ``out`` with values, or words, in one compiled pass; False if none can."""
        return False

    def kernel_values(self, request: Request, transform: Transform | None, stream: int = 0) -> Any:
        """A new array of float32, or of words as int32, that a kernel filled; None if none can."""
        if not self.kernel_dtypes(request, draws=True):
            return None
        dtype = self.native_dtype("float32" if transform else "int32")
        out = self.xp.empty(request.grid.array_shape, dtype=dtype, device=request.device)
        return out if self.run_kernel(out, request, transform, stream) else None

    # Executing plans

    def run(self, plan: Plan, request: Request, out_sharding: Any = None) -> Any:
        """The array that an initializer's caller gets."""
        if out_sharding is not None:
            raise TypeError(f"out_sharding is for JAX arrays only, got {out_sharding!r}")
        return self.execute(plan, request)

    def execute(self, plan: Plan, request: Request, out: Any = None) -> Any:
        """The values of a plan at the request's elements.

        Args:
            plan: what the values are.
            request: which elements, in which dtype.
            out: an array to write them to, of the request's shape and dtype; a new one by default.

        Returns:
            The array.
        """
        if out is None:
            if request.grid.size <= TILE or not plan.divisible:
                return self.values(plan, request)
            native = self.native_dtype(request.dtype)
            out = self.xp.empty(request.grid.array_shape, dtype=native, device=request.device)
        self._fill(plan, request, out)
        return out

    def _fill(self, plan: Plan, request: Request, out: Any) -> None:
        if isinstance(plan, Pieces):
            for start, stop, part in plan.pieces:
                grid, axis, positions = request.grid.block(plan.axis, start, stop)
                if grid.size:
                    index = (*(slice(None),) * axis, positions, ...)
                    self._fill(part, request.on(grid), out[index])
            return
        if isinstance(plan, Full):
            out[...] = plan.value
            return
        if isinstance(plan, Select) and plan.divisible:
            self._fill_select(plan, request, out)
            return
        dtypes = self.kernel_dtypes(request)
        transform = _kernel_transform(plan) if request.dtype in dtypes else None
        if transform is None or not self.run_kernel(out, _moved(plan, request), transform):
            self._fill_by_tiles(plan, request, out, KERNEL_TILE if dtypes else TILE)

    def _fill_by_tiles(self, plan: Plan, request: Request, out: Any, size: int) -> None:
        if request.grid.size <= size or not plan.divisible:
            out[...] = self.values(plan, request)
            return

        def compute(part: Request, positions: Any) -> None:
            out[positions] = self.values(plan, part)

        self._by_tiles(compute, request, size)

    def _fill_select(self, plan: Select, request: Request, out: Any) -> None:
        """Fill an array tile by tile: what is outside, and the rest over it while it is cached."""
        size = KERNEL_TILE if self.kernel_dtypes(request) else TILE
        by_tiles = is_drawn_apart(plan.outside)
        if not by_tiles:
            self._fill(plan.outside, request, out)
        mask = self.tile_mask(plan.mask, request)

        def compute(part: Request, positions: Any) -> None:
            tile = out[positions]
            if by_tiles:
                self._fill(plan.outside, part, tile)
            self.overwrite(tile, mask(part, positions), plan.inside, part)

        self._by_tiles(compute, request, size)

    def tile_mask(self, mask: Mask, request: Request) -> TileMask:
        """The mask of each tile of a request, as an array of this backend."""
        return mask.of_tiles(request)

    def overwrite(self, out: Any, mask: Any, plan: Plan, request: Request) -> None:
        """Write a plan's values to an array where a mask holds."""
        out[...] = self.xp.where(mask, self.values(plan, request), out)

    def _by_tiles(
        self, compute: Callable[[Request, Any], None], request: Request, size: int
    ) -> None:
        """Call a function with the request of each tile and its positions, on several threads."""
        threads = self.threads(request)
        alone = request._replace(threads=1) if threads > 1 else request

        def run(tile: tuple[tuple[slice, ...], Grid]) -> None:
            positions, grid = tile
            compute(alone.on(grid), (*positions, ...))

        in_threads(run, request.grid.tiles(size), threads)

    def values(self, plan: Plan, request: Request) -> Any:
        """The values of a plan as one new array."""
        if isinstance(plan, Elementwise):
            return self._elementwise(plan, request)
        if isinstance(plan, Full):
            native = self.native_dtype(request.dtype)
            shape = request.grid.array_shape
            return self.xp.full(shape, plan.value, dtype=native, device=request.device)
        if isinstance(plan, Select):
            mask = plan.mask.at(request)
            inside, outside = (self.values(p, request) for p in (plan.inside, plan.outside))
            return self.xp.where(mask, inside, outside)
        if isinstance(plan, Pieces):
            return (self._joined if self.can_slice else self._overlaid)(plan, request)
        if isinstance(plan, Computed):
            return plan.compute(request, *plan.arguments)
        return self._hosted(plan, request)

    def _elementwise(self, plan: Elementwise, request: Request) -> Any:
        request = _moved(plan, request)
        real = self._draw(plan.transform, plan.format, request, 0)
        if plan.imaginary is None:
            return real if request.dtype == plan.format.work else self.cast(real, request.dtype)
        imag = self._draw(plan.imaginary, plan.format, request, SECOND_STREAM)
        return self.complex(real, imag, request.dtype)

    def _draw(self, transform: Transform, fmt: Format, request: Request, stream: int) -> Any:
        """Values in ``fmt.work``, by a kernel or by array operations."""
        if fmt.bits == 32:
            values = self.kernel_values(request, transform, stream)
            if values is not None:
                return values
        return self.draw_by_arrays(transform, fmt, request, stream)

    def draw_by_arrays(
        self, transform: Transform, fmt: Format, request: Request, stream: int
    ) -> Any:
        """Values in ``fmt.work``, by array operations."""
        words = random_words(self.xp, request.words, self.counters(request), fmt.bits, stream)
        values = transform.apply(self.xp, words, fmt, self.quantile)
        if not transform.is_bounded:  # bounds keep values apart too
            values = self.fusion_barrier(values)
        return self.xp.reshape(values, request.grid.array_shape)

    def draw_words(self, request: Request, stream: int) -> Any:
        """The 32-bit words of the request's elements, as int32."""
        words = self.kernel_values(request, None, stream)
        if words is not None:
            return words
        return random_words(self.xp, request.words, self.counters(request), 32, stream)

    def counters(self, request: Request) -> tuple[Any, Any]:
        """High and low words of the elements' 64-bit counters."""
        return request.grid.counters(self.xp, request.device)

    def _joined(self, plan: Pieces, request: Request) -> Any:
        """The blocks computed by themselves and put together."""
        parts = [(*request.grid.block(plan.axis, a, b), part) for a, b, part in plan.pieces]
        parts.sort(key=lambda part: part[2].start)  # a flipped axis holds the blocks in reverse
        arrays = [self.values(part, request.on(grid)) for grid, _, _, part in parts]
        return self.xp.concat(arrays, axis=parts[0][1])

    def _overlaid(self, plan: Pieces, request: Request) -> Any:
        """Each block computed for the whole array, and kept from where it starts."""
        values: Any = None
        for start, stop, part in plan.pieces:
            block = self.values(part, request.on(request.grid.frame(plan.axis, start, stop)))
            from_here = request.grid.coordinate(self.xp, plan.axis, request.device) >= start
            values = block if values is None else self.xp.where(from_here, block, values)
        return values

    def _hosted(self, plan: Hosted, request: Request) -> Any:
        array = place(np, self.host_values(plan, request), request.grid)
        return self.from_numpy(array, request)

    def host_values(self, plan: Hosted, request: Request) -> np.ndarray[Any, Any]:
        """A hosted plan's values of the whole parameter, in PyTorch's order and the dtype."""
        words = (self.known_words(request.words),) if plan.keyed else ()
        return converted(plan.compute(*words, *plan.arguments), request.dtype)


_WORD = 0xFFFFFFFF


def _kernel_transform(plan: Plan) -> Transform | None:
    """The transform that a kernel takes; None if the plan is none for one kernel."""
    if isinstance(plan, Elementwise) and plan.imaginary is None:
        return plan.transform
    return None


def _moved(plan: Plan, request: Request) -> Request:
    """The request whose elements' own counters are those that the plan draws from."""
    offset = plan.offset if isinstance(plan, Elementwise) else 0
    return request.on(request.grid.moved(offset)) if offset else request


def key_words(key: Any) -> Words:
    """The words of a :class:`Key`, or of a raw uint32 array of shape (2,), or (4,) of rbg."""
    if isinstance(key, Key):
        return key.words
    if isinstance(key, np.ndarray) and key.dtype == np.uint32 and key.shape in ((2,), (4,)):
        return int(key[0]), int(key[1])
    raise TypeError(
        "a key must be a portinit.Key, a JAX key of threefry2x32 or rbg, or a raw uint32 array of "
        f"shape (2,), or (4,) of rbg; got {_describe(key)}: {_KEY_OF_A_SEED}"
    )


_KEY_OF_A_SEED = "make one of a seed, as in portinit.key(0)"


def _describe(key: Any) -> str:
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    kind = type(key).__name__
    if isinstance(key, int):
        return f"{kind} {key}"
    return kind if dtype is None else f"{kind} of dtype {dtype} and shape {tuple(shape or ())}"
