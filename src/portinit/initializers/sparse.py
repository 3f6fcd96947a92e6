"""The sparse initializer: a fraction of each column of a matrix is zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid
from portinit.backends.base import TILE, Request
from portinit.backends.plan import Full, Mask, Plan, Select, independent_draws
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
    whole: ClassVar[int | None] = 0

    def at(self, request: Request) -> Any:
        columns = request.on(request.grid.lines(0))
        if request.xp is np and columns.grid.size == request.grid.size:
            return _in_whole_columns(request, columns, self.count)
        return _in_any_part(request, columns, self.count)


def _in_whole_columns(request: Request, columns: Request, k: int) -> Any:
    """The mask of an array of whole columns in NumPy, whose words are drawn once."""
    words = request.backend.draw_words(columns, _PLACES)
    rows = words.reshape(-1, words.shape[-1])
    limits, last = (None if x is None else x[:, None] for x in kth_smallest(np, rows, k))
    inside = _up_to(rows, limits, last, np.arange(rows.shape[1], dtype=np.int32))
    return request.grid.from_lines(np, inside, 0)


def _in_any_part(request: Request, columns: Request, k: int) -> Any:
    """The mask of any part of a matrix, from the limits of its columns."""
    grid, xp = request.grid, request.xp
    limits, last = _last_of_smallest(columns, k)
    limits, last = (
        None if x is None else grid.from_lines(xp, x, 0, whole=False) for x in (limits, last)
    )
    words = request.backend.draw_words(request, _PLACES)
    return _up_to(words, limits, last, grid.coordinate(xp, 0, request.device))


def _up_to(words: Any, limits: Any, last: Any, places: Any) -> Any:
    """Whether words are below their limit, or equal it at a place up to the last that counts."""
    if last is None:
        return words <= limits
    return (words < limits) | ((words == limits) & (places <= last))


def _last_of_smallest(columns: Request, k: int) -> tuple[Any, Any]:
    """The word and the place of the k-th smallest element along a grid's last axis.

    No places are given where all that equal the k-th are among the k.
    """
    grid, backend = columns.grid, columns.backend
    alone = columns._replace(threads=1)

    def find(tile: tuple[tuple[slice, ...], Grid]) -> tuple[Any, Any]:
        words = backend.draw_words(alone.on(tile[1]), _PLACES)
        return kth_smallest(backend.xp, backend.xp.reshape(words, (-1, grid.array_shape[-1])), k)

    tiles = list(grid.tiles(TILE if backend.can_slice else grid.size, whole=0))
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

    No places are given where all that equal the k-th are among the k.

    Args:
        xp: the array's namespace.
        x: a matrix of int32.
        k: 1 or more.
    """
    if isinstance(x, np.ndarray):
        limits = _kth_of_rows(x, k)
        if np.count_nonzero(x <= limits[:, None]) == k * len(x):
            return limits, None
    places = xp.argsort(x, axis=1, stable=True)[:, k - 1]
    return xp.sort(x, axis=1)[:, k - 1], xp.astype(places, xp.int32)


def _kth_of_rows(x: NDArray[Any], k: int) -> NDArray[Any]:
    """The k-th smallest word of each row.

    Random words are spread evenly, so the k-th of n lies near the fraction k/n of their range, and
    only the few words there need to be put in order.
    """
    rows, n = x.shape
    if n >= _WORTH_A_RANGE:
        spread = 4 * math.sqrt(k * (n - k) / n) + 4  # standard deviations of how many lie below
        low, high = (round((k + side * spread) / n * 2**32) - 2**31 for side in (-1, 1))
        low, high = max(low, -(2**31)), min(high, 2**31 - 1)
        offsets = (x - np.int32(low)).view(np.uint32).reshape(-1)
        near = np.flatnonzero(offsets <= np.uint32(high - low))
        row = near // n
        words = (row << 32) | offsets[near]
        words.sort()
        found = np.bincount(row, minlength=rows)
        wanted = k - 1 - np.count_nonzero(x < low, axis=1)
        if ((wanted >= 0) & (wanted < found)).all():
            limit = words[np.cumsum(found) - found + wanted] & 0xFFFFFFFF
            return np.asarray(limit + low, np.int32)
    return np.asarray(np.partition(x, k - 1, axis=1)[:, k - 1])


_WORTH_A_RANGE = 512  # words in a row: of fewer, most are near
