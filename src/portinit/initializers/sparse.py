"""The sparse initializer: a fraction of each column of a matrix is zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid
from portinit.backends.base import Draw
from portinit.initializers.base import Initializer, draw_words
from portinit.initializers.basic import normal
from portinit.initializers.matrices import require_dimensions
from portinit.random.integers import take
from portinit.random.words import numbered_stream
from portinit.sampling.distributions import Distribution, Normal

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
    """

    sparsity: float
    std: float = 0.01
    independent: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity <= 1:
            raise ValueError(f"sparsity must be in [0, 1], got {self.sparsity}")
        Normal(0.0, self.std)

    def check(self, grid: Grid, dtype: str) -> None:
        float_format(dtype)
        require_dimensions("sparse", grid.shape, (2,))

    def settled(self, draw: Draw) -> Initializer:
        count = math.ceil(self.sparsity * draw.grid.shape[0])
        law = normal(0.0, self.std)
        if not count or not draw.grid.size:
            return law
        columns, first = draw.grid.columns()
        return _thinned(law, *_last_zeros(draw, columns, count), first)

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        return self.settled(draw).values(draw, factor)


@dataclass(frozen=True, eq=False)
class _thinned(Initializer):
    """An initializer with zeros where a column's words are its smallest: elementwise."""

    dense: Initializer
    word: Any  # of each column, that the words of zeros are at most
    row: Any  # and the last row where that word does; none if equal words do not matter
    first: Any  # the number of the first of these columns

    def element_law(self, grid: Grid, dtype: str, factor: float = 1.0) -> Distribution | None:
        return None

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        dense = self.dense.values(draw, factor)
        zero = draw.xp.zeros((), dtype=dense.dtype, device=draw.device)
        return draw.xp.where(self._hit(draw), zero, dense)

    def _hit(self, draw: Draw) -> Any:
        xp, words = draw.xp, draw_words(draw, _PLACES)
        row, column = (draw.grid.coordinate(xp, axis, draw.device) for axis in (0, 1))
        column = column - self.first
        # What torch settled NumPy may go on with, in the same memory.
        word = take(xp, xp.asarray(self.word), column)
        if self.row is None:
            return words <= word
        last = take(xp, xp.asarray(self.row), column)
        return (words < word) | ((words == word) & (row <= last))


def _last_zeros(draw: Draw, by_columns: Grid, count: int) -> tuple[Any, Any]:
    """Of each column, the word and the row of the last of its ``count`` smallest elements."""
    columns, rows = by_columns.array_shape
    step = max(1, draw.backend.tile(draw) // rows)
    alone = draw._replace(threads=1)

    def find(part: Grid) -> tuple[Any, Any]:
        words = partial(draw_words, alone.on(part), _PLACES)
        return draw.backend.kth_smallest(words, count)

    threads = draw.backend.threads(draw) if step < columns else 1
    found = draw.backend.by_rows(find, by_columns, step, threads)
    words, last_rows = zip(*found, strict=True)
    if all(part is None for part in last_rows):
        return draw.xp.concat(words), None
    none = draw.xp.full(step, rows - 1, dtype=draw.xp.int32, device=draw.device)
    known = [none[: len(w)] if r is None else r for w, r in zip(words, last_rows, strict=True)]
    return draw.xp.concat(words), draw.xp.concat(known)
