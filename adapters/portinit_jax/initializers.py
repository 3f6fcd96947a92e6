"""The initializers of jax.nn.initializers, drawn from portinit's stream.

Names, arguments, defaults and error types are JAX's: ``from portinit_jax import initializers``.
Every factory returns an ``Initializer``, called as ``init(key, shape, dtype, out_sharding)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer as Initializer

import portinit
from portinit import Layout
from portinit.arrays.dtypes import dtype_name
from portinit.initializers.fans import as_axes

Axes = int | Sequence[int]


@dataclass(frozen=True)
class Typed:
    """A portinit initializer called JAX's way, with a default dtype and layout of its own.

    As in JAX, the arguments are looked at when it is called, not when it is built.
    """

    build: Callable[..., portinit.Initializer]
    arguments: tuple[Any, ...]
    dtype: Any = None
    column_axis: int | None = None

    def __call__(
        self, key: Any, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None
    ) -> jax.Array:
        """Values for an array of ``shape``; the dtype falls back to the factory's, then float."""
        made, dtype, layout = self.resolved(shape, dtype)
        values: jax.Array = made(key, shape, dtype, out_sharding, xp=jnp, layout=layout)
        return values

    def resolved(
        self, shape: Sequence[int], dtype: Any
    ) -> tuple[portinit.Initializer, Any, Layout | None]:
        """The initializer, dtype and layout of a call for an array of ``shape``."""
        layout = None if self.column_axis is None else _columns(self.column_axis, len(shape))
        return self.build(*self.arguments), _dtype(self.dtype if dtype is None else dtype), layout


def _dtype(dtype: Any) -> str | None:
    if dtype is None:
        return None
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise ValueError(f"dtype must be a float or complex dtype, got {jnp.dtype(dtype)}")
    return dtype_name(jax.dtypes.canonicalize_dtype(dtype))


def _columns(axis: int, ndim: int) -> Layout | None:
    """The layout in which one axis is PyTorch's axis 0."""
    if ndim < 2:  # refused by the initializer, in its own words
        return None
    if not -ndim <= axis < ndim:
        raise IndexError(f"column_axis must be within a shape of {ndim} dimensions, got {axis}")
    others = [i for i in range(ndim) if i != axis % ndim]
    return Layout(axis0=(axis,), axis1=(others[-1],))


def zeros(key: Any, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> jax.Array:
    """An array of zeros; the key is ignored."""
    return jnp.zeros(shape, _or_float(dtype), out_sharding=out_sharding)


def ones(key: Any, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> jax.Array:
    """An array of ones; the key is ignored."""
    return jnp.ones(shape, _or_float(dtype), out_sharding=out_sharding)


def constant(value: Any, dtype: Any = None) -> Initializer:
    """Arrays full of a value, which may itself be an array to broadcast."""

    def init(
        key: Any, shape: Sequence[int], dtype: Any = dtype, out_sharding: Any = None
    ) -> jax.Array:
        filled = jnp.zeros(shape, _or_float(dtype), out_sharding=out_sharding)
        return filled + jnp.asarray(value, filled.dtype)

    return init


def _or_float(dtype: Any) -> Any:
    return jnp.result_type(float) if dtype is None else dtype


def uniform(scale: Any = 1e-2, dtype: Any = None) -> Initializer:
    """U[0, scale); see :class:`portinit.uniform`."""
    return Typed(portinit.uniform, (0.0, float(scale)), dtype)


def normal(stddev: Any = 1e-2, dtype: Any = None) -> Initializer:
    """N(0, stddev^2); see :class:`portinit.normal`."""
    return Typed(portinit.normal, (0.0, float(stddev)), dtype)


def truncated_normal(
    stddev: Any = 1e-2, dtype: Any = None, lower: Any = -2.0, upper: Any = 2.0
) -> Initializer:
    """Stddev * N(0, 1) within [lower, upper]; see :class:`portinit.truncated_normal`."""
    bounds = float(stddev), float(lower), float(upper)
    return Typed(portinit.truncated_normal, bounds, dtype)


Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Distribution = Literal["truncated_normal", "normal", "uniform"]


@dataclass(frozen=True)
class Scaling(Typed):
    """Variance scaling, with JAX's errors for shapes that have no fans."""

    def __call__(
        self, key: Any, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None
    ) -> jax.Array:
        if self.arguments[3] == -2 and len(shape) <= 1:
            raise ValueError(
                f"Can't compute input and output sizes of a {len(shape)}-dimensional weights "
                "tensor with default in_axis. Must be at least 2D or specify in_axis explicitly."
            )
        named = [axis for axes in self.arguments[3:] for axis in _several(axes)]
        if any(not -len(shape) <= axis < len(shape) for axis in named):
            raise IndexError(f"axes {named} must be within a shape of {len(shape)} dimensions")
        if 0 in shape:
            raise ZeroDivisionError(f"fans need sizes of 1 or more, got shape {tuple(shape)}")
        return super().__call__(key, shape, dtype, out_sharding)


def _several(axes: Any) -> tuple[int, ...]:
    return (axes,) if isinstance(axes, int) else axes


def variance_scaling(
    scale: Any,
    mode: Mode,
    distribution: Distribution,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = None,
) -> Initializer:
    """A distribution of variance scale / fan; see :class:`portinit.variance_scaling`."""
    axes = as_axes(in_axis), as_axes(out_axis), as_axes(batch_axis)
    return Scaling(portinit.variance_scaling, (float(scale), mode, distribution, *axes), dtype)


def glorot_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Variance scaling of 1, fan_avg, uniform; see :func:`portinit.glorot_uniform`."""
    return variance_scaling(1.0, "fan_avg", "uniform", in_axis, out_axis, batch_axis, dtype)


def glorot_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Variance scaling of 1, fan_avg, truncated normal; see :func:`portinit.glorot_normal`."""
    return variance_scaling(
        1.0, "fan_avg", "truncated_normal", in_axis, out_axis, batch_axis, dtype
    )


def lecun_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Variance scaling of 1, fan_in, uniform; see :func:`portinit.lecun_uniform`."""
    return variance_scaling(1.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def lecun_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Variance scaling of 1, fan_in, truncated normal; see :func:`portinit.lecun_normal`."""
    return variance_scaling(1.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


def he_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Variance scaling of 2, fan_in, uniform; see :func:`portinit.he_uniform`."""
    return variance_scaling(2.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def he_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Variance scaling of 2, fan_in, truncated normal; see :func:`portinit.he_normal`."""
    return variance_scaling(2.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


xavier_uniform = glorot_uniform
xavier_normal = glorot_normal
kaiming_uniform = he_uniform
kaiming_normal = he_normal


def orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """A (semi-)orthogonal matrix, one axis against the rest; see :class:`portinit.orthogonal`."""
    return Typed(portinit.orthogonal, (float(scale),), dtype, column_axis)


def delta_orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """An orthogonal matrix at a convolution's centre; see :class:`portinit.delta_orthogonal`.

    ``column_axis`` is taken for JAX's sake: rows and columns of the matrix are orthonormal
    alike, as there are never more inputs than outputs.
    """
    return Typed(portinit.delta_orthogonal, (float(scale),), dtype)
