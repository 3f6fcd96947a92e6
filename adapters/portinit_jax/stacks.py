"""Plans that differ in constants, and layers that lie in one array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isinf
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from portinit.arrays.dtypes import Format
from portinit.backends.base import Request
from portinit.backends.plan import Elementwise, Pieces, Plan, Select
from portinit.sampling.quantile import quantile as normal_quantile
from portinit.sampling.transform import Quantile, Transform, rounded


def without_constants(plan: Plan) -> tuple[Plan, tuple[float, ...]]:
    """A plan without the last constants of its real draws, and these constants.

    They are the scale and the bounds, three for each draw. :func:`with_constants` puts them back.
    """
    if isinstance(plan, Elementwise) and plan.imaginary is None:
        t = plan.transform
        common = replace(t, scale=0.0, low=_kind(t.low), high=_kind(t.high))
        constants = rounded(t.scale, plan.format), t.low, t.high
        return replace(plan, transform=common), constants
    if isinstance(plan, Select):
        (inside, some), (outside, others) = map(without_constants, (plan.inside, plan.outside))
        return Select(plan.mask, inside, outside), (*some, *others)
    if isinstance(plan, Pieces):
        pairs = [without_constants(piece.plan) for piece in plan.pieces]
        pieces = (p._replace(plan=q) for p, (q, _) in zip(plan.pieces, pairs, strict=True))
        return Pieces(plan.axis, tuple(pieces)), tuple(c for _, own in pairs for c in own)
    return plan, ()


def _kind(bound: float) -> float:
    return bound if isinf(bound) else 0.0


def with_constants(plan: Plan, constants: Sequence[Any]) -> Plan:
    """A plan with constants that may be traced, in the order of :func:`without_constants`."""
    return _bound(plan, iter(constants)) if constants else plan


def _bound(plan: Plan, constants: Iterator[Any]) -> Plan:
    if isinstance(plan, Elementwise) and plan.imaginary is None:
        own = next(constants), next(constants), next(constants)
        return replace(plan, transform=BoundTransform(plan.transform, own))
    if isinstance(plan, Select):
        inside, outside = (_bound(part, constants) for part in (plan.inside, plan.outside))
        return Select(plan.mask, inside, outside)
    if isinstance(plan, Pieces):
        pieces = tuple(p._replace(plan=_bound(p.plan, constants)) for p in plan.pieces)
        return Pieces(plan.axis, pieces)
    return plan


class BoundTransform(Transform):
    """A transform whose scale and bounds may be traced; no kernel takes what is not known yet."""

    def __init__(self, common: Transform, constants: tuple[Any, Any, Any]) -> None:
        object.__setattr__(self, "__dict__", dict(common.__dict__))
        object.__setattr__(self, "constants", constants)

    def apply(self, xp: Any, words: Any, fmt: Format, quantile: Quantile = normal_quantile) -> Any:
        scale, low, high = self.constants  # type: ignore[attr-defined]
        values = self.integers(xp, words, fmt.bits, quantile).astype(fmt.work) * scale
        return values if isinf(self.low) and isinf(self.high) else xp.clip(values, low, high)


@dataclass(frozen=True)
class Layers:
    """Layers along an axis of one array.

    Attributes:
        axis: the array's axis that they lie along.
        count: how many there are.
    """

    axis: int
    count: int


def stacked(request: Request, plans: Sequence[Plan], layers: Layers, *operands: Any) -> Any:
    """The values of layers in one array.

    Args:
        request: which elements of a layer, in which dtype; its words are two vectors, of the words
            of the layers' keys.
        plans: the different ones that layers have.
        layers: where they lie.
        operands: if there is one plan, vectors of the constants of each layer; otherwise the
            number of each layer's plan.
    """

    def values(plan: Plan, high: Any, low: Any, *constants: Any) -> Any:
        one = request._replace(words=(high, low))
        return request.backend.values(with_constants(plan, constants), one)

    if len(plans) == 1 and plans[0].divisible:
        return jax.vmap(lambda *own: values(plans[0], *own), out_axes=layers.axis)(
            *request.words, *operands
        )

    def put(i: Any, out: Any) -> Any:  # with the memory that one layer needs besides the result
        own = tuple(vector[i] for vector in (*request.words, *operands))
        if len(plans) == 1:
            layer = values(plans[0], *own)
        else:
            branches = [lambda *words, plan=plan: values(plan, *words) for plan in plans]
            layer = lax.switch(own[2], branches, *own[:2])
        return lax.dynamic_update_index_in_dim(out, layer, i, layers.axis)

    shape = list(request.grid.array_shape)
    shape.insert(layers.axis, layers.count)
    empty = jnp.zeros(shape, request.backend.native_dtype(request.dtype))
    return lax.fori_loop(0, layers.count, put, empty)
