"""Combinators taken apart: what each part of an array is drawn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from portinit.arrays.dtypes import dtype_name
from portinit.arrays.grids import Grid
from portinit.backends.base import Request
from portinit.backends.registry import backend_of
from portinit.initializers.base import Initializer, Parameter
from portinit.initializers.combinators import blocks, scaled, where
from portinit.initializers.like_jax import like_jax
from portinit.layers import padded
from portinit.random.keys import key
from portinit.testing.arrays import Array


@dataclass(frozen=True)
class Part:
    """Values that one initializer gives: an array's, or those of some elements of it.

    Attributes:
        initializer: what they are said to be drawn from, times ``factor``.
        grid: the elements of the array.
        values: the array; a part of it where ``assert_distribution`` was told its shape.
        chosen: which elements of the array are meant; all if not told.
        label: the way here: ``"block 0, inside"``.
    """

    initializer: Initializer
    grid: Grid
    values: Array
    factor: float = 1.0
    chosen: Array | None = None
    label: str = ""

    @property
    def dtype(self) -> str:
        """The name of the values' dtype."""
        return dtype_name(self.values.dtype)

    @cached_property
    def flat(self) -> Array:
        """The values of the elements that are meant, of one axis."""
        return self.values.reshape(-1) if self.chosen is None else self.values[self.chosen]

    def draw(self, grid: Grid | None = None) -> Array:
        """The values that portinit gives for some key."""
        request = self._request(grid or self.grid)
        plan = self.initializer.planned(self.grid, self.dtype, self.factor)
        return np.asarray(request.backend.execute(plan, request))

    def _request(self, grid: Grid) -> Request:
        backend = backend_of(key(0))
        return Request(backend, backend.words(key(0)), grid, self.dtype)

    def split(self) -> Iterator[Part]:
        """The parts that each have one distribution, or one structure."""
        match self.initializer:
            case scaled(inner, factor):
                yield from self._of(inner, factor=self.factor * factor).split()
            case like_jax(inner):
                yield from self._of(inner).split()
            case padded():
                parameter = Parameter("", self.grid.shape)
                yield from self._of(self.initializer.bound(parameter)).split()
            case blocks():
                yield from self._blocks(self.initializer)
            case where():
                yield from self._where(self.initializer)
            case _:
                yield self

    def _of(self, initializer: Initializer, step: str = "", **changes: Any) -> Part:
        label = ", ".join(filter(None, [self.label, step]))
        return replace(self, initializer=initializer, label=label, **changes)

    def _blocks(self, packed: blocks) -> Iterator[Part]:
        for i, (initializer, start, stop) in enumerate(packed.extents(self.grid)):
            grid, axis, positions = self.grid.block(packed.axis, start, stop)
            index = (*(slice(None) for _ in range(axis)), positions)
            chosen = None if self.chosen is None else self.chosen[index]
            block = self._of(initializer, f"block {i}", grid=grid, chosen=chosen)
            yield from replace(block, values=self.values[index]).split()

    def _where(self, both: where) -> Iterator[Part]:
        inside = both.mask(self.grid.shape).at(self._request(self.grid))
        mask = np.broadcast_to(np.asarray(inside), self.values.shape)
        for initializer, step, here in (
            (both.inside, "inside", mask),
            (both.outside, "outside", ~mask),
        ):
            chosen = here if self.chosen is None else here & self.chosen
            yield from self._of(initializer, step, chosen=chosen).split()
