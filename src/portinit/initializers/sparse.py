"""The sparse initializer: a fraction of each column of a matrix is zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid
from portinit.backends.base import TILE, Request
from portinit.backends.plan import Full, Mask, Plan, Select, independent_draws
from portinit.backends.threads import in_threads
from portinit.initializers.base import Initializer
from portinit.initializers.matrices import require_dimensions
from portinit.initializers.numbers import set_floats
from portinit.random.integers import take
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

    def prepare(self, request: Request) -> Mask:
        columns, first = request.grid.columns()
        words, rows = _last_of_smallest(request.on(columns), self.count)
        return WordsUpTo(words, rows, first)


@dataclass(frozen=True, eq=False)
class WordsUpTo(Mask):
    """The elements whose words are at most their column's limit.

    Attributes:
        words: the limit of each column.
        rows: the last row in which an element may equal its column's limit; None if any may.
        first: the number of the first of these columns.
    """

    words: Any
    rows: Any
    first: Any

    def at(self, request: Request) -> Any:
        xp, words = request.xp, request.backend.draw_words(request, _PLACES)
        row, column = (request.grid.coordinate(xp, axis, request.device) for axis in (0, 1))
        column = column - self.first
        limit = take(xp, self.words, column)
        if self.rows is None:
            return words <= limit
        last = take(xp, self.rows, column)
        return (words < limit) | ((words == limit) & (row <= last))


def _last_of_smallest(request: Request, k: int) -> tuple[Any, Any]:
    """The word and the place of the k-th smallest element in each row of a grid.

    No places are given where no row has an equal of it further on.
    """
    grid, backend = request.grid, request.backend
    rows, length = grid.array_shape
    together = max(1, TILE // length) if backend.can_slice else rows
    alone = request._replace(threads=1)

    def find(start: int) -> tuple[Any, Any]:
        part = alone.on(grid.part(0, slice(start, start + together)))
        return kth_smallest(backend.xp, lambda: backend.draw_words(part, _PLACES), k)

    starts = range(0, rows, together)
    threads = backend.threads(request) if len(starts) > 1 else 1
    words, places = zip(*in_threads(find, starts, threads), strict=True)
    if all(place is None for place in places):
        return backend.xp.concat(words), None
    known = [
        backend.xp.full_like(word, length - 1) if place is None else place
        for word, place in zip(words, places, strict=True)
    ]
    return backend.xp.concat(words), backend.xp.concat(known)


def kth_smallest(xp: Any, draw: Callable[[], Any], k: int) -> tuple[Any, Any]:
    """The k-th smallest integer of each row, and its column; columns decide between equals.

    No columns are given where no row has an equal of it further on: all equals count then.

    Args:
        xp: the array's namespace.
        draw: gives the rows, each time anew.
        k: 1 or more.
    """
    x = draw()
    if isinstance(x, np.ndarray):
        x.partition(k - 1, axis=1)
        last = x[:, k - 1].copy()
        if not (x[:, k:] == last[:, None]).any():
            return last, None
        x = draw()
    column = xp.argsort(x, axis=1, stable=True)[:, k - 1]
    return xp.sort(x, axis=1)[:, k - 1], xp.astype(column, xp.int32)
