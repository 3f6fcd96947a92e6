"""The sparse initializer: a fraction of each column of a matrix is zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid
from portinit.backends.base import KERNEL_TILE, TILE, Request
from portinit.backends.kernels import filling
from portinit.backends.plan import Full, Mask, Plan, Select, TileMask, independent_draws
from portinit.backends.threads import in_threads
from portinit.initializers.base import Initializer
from portinit.initializers.matrices import require_dimensions
from portinit.initializers.numbers import set_floats
from portinit.random.words import numbered_stream
from portinit.sampling.distributions import Normal

_PLACES = numbered_stream(1)  # whose words say where zeros are


@dataclass(frozen=True)
class sparse(Initializer):
    """N(0, std^2) with ceil(sparsity * rows) zeros at random places of each column.

    The places are those of the column's smallest words in a stream of their own.

    Args:
        sparsity: the fraction of each column that is zero, in [0, 1].
        std: the standard deviation of the rest.

    Raises:
        ValueError: a shape of other than 2 axes, a sparsity outside [0, 1], a negative std.

    Source: Martens, "Deep learning via Hessian-free optimization", ICML 2010;
    ``torch.nn.init.sparse_``.

    >>> import portinit
    >>> weight = portinit.sparse(0.2)(portinit.key(0), (10, 3), layout="torch")
    >>> (weight == 0).sum(axis=0).tolist()
    [2, 2, 2]
    """

    sparsity: float
    std: float = 0.01

    def __post_init__(self) -> None:
        set_floats(self, "sparsity", "std")
        if not 0 <= self.sparsity <= 1:
            raise ValueError(f"sparsity must be in [0, 1], got {self.sparsity}")
        Normal(0.0, self.std)

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        float_format(dtype)
        require_dimensions("sparse", grid.shape, (2,))
        rest = independent_draws(Normal(0.0, self.std).scaled(factor), dtype)
        count = math.ceil(self.sparsity * grid.shape[0])
        if not count or 0 in grid.shape:
            return rest
        return Select(SmallestWords(count), Full(0.0), rest)


@dataclass(frozen=True)
class SmallestWords(Mask):
    """The elements whose words are the smallest of their column's; earlier rows before equals.

    Attributes:
        count: how many of each column.
    """

    count: int

    def at(self, request: Request) -> Any:
        return self.of_tiles(request)(request, ...)

    def of_tiles(self, request: Request) -> TileMask:
        grid, xp = request.grid, request.xp
        if grid.size <= TILE and request.backend.can_slice and grid.lines(0).size == grid.size:
            mask = _of_whole_columns(request, self.count)
            if mask is not None:
                return lambda _, positions: mask[positions]
        limits, last = (
            x if x is None else xp.broadcast_to(grid.from_lines(xp, x, 0), grid.array_shape)
            for x in _last_of_smallest(request.on(grid.lines(0)), self.count)
        )
        assert limits is not None

        def mask_of(tile: Request, positions: Any) -> Any:
            words = tile.backend.draw_words(tile, _PLACES)
            limit = limits[positions]
            if last is None:
                return words <= limit
            places = tile.grid.coordinate(xp, 0, tile.device)
            return (words < limit) | ((words == limit) & (places <= last[positions]))

        return mask_of


def _of_whole_columns(request: Request, k: int) -> Any:
    """The mask from one draw of the words; None where the places of equal words decide."""
    grid, xp = request.grid, request.xp
    words = request.backend.draw_words(request, _PLACES)
    limits, last = kth_smallest(xp, grid.to_lines(xp, words, 0), k)
    return words <= grid.from_lines(xp, limits, 0) if last is None else None


def _last_of_smallest(columns: Request, k: int) -> tuple[Any, Any]:
    """The word and the place of the k-th smallest element along a grid's last axis.

    No places are given where all that equal the k-th are among the k.
    """
    grid, backend = columns.grid, columns.backend
    alone = columns._replace(threads=1)

    def find(tile: tuple[tuple[slice, ...], Grid]) -> tuple[Any, Any]:
        words = backend.draw_words(alone.on(tile[1]), _PLACES)
        return kth_smallest(backend.xp, backend.xp.reshape(words, (-1, grid.array_shape[-1])), k)

    tiles = list(grid.tiles(KERNEL_TILE if backend.can_slice else grid.size, whole=0))
    threads = backend.threads(columns) if len(tiles) > 1 else 1
    limits, places = zip(*in_threads(find, tiles, threads), strict=True)
    if all(place is None for place in places):
        return backend.xp.concat(limits), None
    end = grid.array_shape[-1] - 1
    known = [
        backend.xp.full_like(limit, end) if place is None else place
        for limit, place in zip(limits, places, strict=True)
    ]
    return backend.xp.concat(limits), backend.xp.concat(known)


def kth_smallest(xp: Any, x: Any, k: int) -> tuple[Any, Any]:
    """The k-th smallest of each row, and its place; places decide between equals.

    No places are given where exactly k are at most the first result, which then need not be one
    of the row.

    Args:
        xp: the array's namespace.
        x: a matrix of int32.
        k: 1 or more.
    """
    if isinstance(x, np.ndarray):
        limits = filling.thresholds(x, k)
        if limits is not None:
            return limits, None
        limits = np.partition(x, k - 1, axis=1)[:, k - 1]
        if np.count_nonzero(x <= limits[:, None]) == k * len(x):
            return limits, None
    places = xp.argsort(x, axis=1, stable=True)[:, k - 1]
    return xp.sort(x, axis=1)[:, k - 1], xp.astype(places, xp.int32)
