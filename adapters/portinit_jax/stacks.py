"""Arrays that differ in constants, and layers that lie in one array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isinf
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from portinit.arrays.dtypes import Format, float_format
from portinit.arrays.grids import Grid
from portinit.backends.base import Draw, Evaluable
from portinit.initializers.base import sample
from portinit.sampling.distributions import Distribution
from portinit.sampling.transform import Transform, rounded


def common_steps(
    initializers: Sequence[Evaluable], grid: Grid, dtype: str
) -> tuple[Transform | None, tuple[Any, ...]]:
    """The steps that initializers' elements share, and the constants in which they differ.

    Returns:
        The steps without their scale and bounds, and a vector of each of these three, of a number
        for each initializer; or none and nothing.
    """
    fmt = float_format(dtype) if all(i.elementwise for i in initializers) else None
    laws = [i.element_law(grid, dtype) for i in initializers] if fmt else [None]
    steps = [law.transform(fmt) if law and fmt and not fmt.is_complex else None for law in laws]
    several = [s for s in steps if isinstance(s, Transform)]
    alike = {replace(s, scale=0.0, low=_kind(s.low), high=_kind(s.high)) for s in several}
    if fmt is None or len(several) < len(steps) or len(alike) > 1:
        return None, ()
    columns = zip(*((rounded(s.scale, fmt), s.low, s.high) for s in several), strict=True)
    return alike.pop(), tuple(np.asarray(column, fmt.work) for column in columns)


def _kind(bound: float) -> float:
    return bound if isinf(bound) else 0.0


@dataclass(frozen=True, eq=False)
class _Given(Distribution):
    """A distribution by its steps and by constants that may be traced: scale, low and high."""

    common: Transform
    constants: Sequence[Any]

    def transform(self, fmt: Format) -> None:
        return None  # what is not known yet no fused fill takes

    def sample(self, xp: Any, words: Any, fmt: Format) -> Any:
        scale, low, high = self.constants
        values = self.common.integers(xp, words, fmt.bits).astype(fmt.work) * scale
        unbounded = isinf(self.common.low) and isinf(self.common.high)
        return values if unbounded else xp.clip(values, low, high)


def values_by(draw: Draw, steps: Transform, constants: Sequence[Any]) -> Any:
    """The values of a draw by what :func:`common_steps` gives."""
    return sample(draw, _Given(steps, constants))


def stacked(
    draw: Draw, initializers: Sequence[Evaluable], steps: Transform | None, axis: int, *own: Any
) -> Any:
    """The values of layers in one array.

    Args:
        draw: which elements of a layer, in which dtype; its key is two vectors, of the words of
            the layers' keys.
        initializers: those that layers have; none if there are steps.
        steps: what they have in common.
        axis: the axis of the result that layers lie along.
        own: vectors of what each layer has: its constants, or the number of its initializer.
    """

    def layer(high: Any, low: Any, *own: Any) -> Any:
        one = draw._replace(key=(high, low))
        return values_by(one, steps, own) if steps else initializers[0].values(one)

    if steps or (len(initializers) == 1 and initializers[0].elementwise):
        return jax.vmap(layer, out_axes=axis)(*draw.key, *own)
    return _one_by_one(draw, initializers, axis, *own)


def _one_by_one(draw: Draw, initializers: Sequence[Evaluable], axis: int, choices: Any) -> Any:
    """As :func:`stacked`, with the memory that one layer needs besides the result."""
    high, low = draw.key

    def branch(initializer: Evaluable) -> Any:
        return lambda key: initializer.values(draw._replace(key=key))

    def put(i: Any, out: Any) -> Any:
        layer = lax.switch(choices[i], [*map(branch, initializers)], (high[i], low[i]))
        return lax.dynamic_update_index_in_dim(out, layer, i, axis)

    shape = list(draw.grid.array_shape)
    shape.insert(axis, len(choices))
    empty = jnp.zeros(shape, draw.backend.native_dtype(draw.dtype))
    return lax.fori_loop(0, len(choices), put, empty)
