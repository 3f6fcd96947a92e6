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
import numpy as np
from jax.nn.initializers import Initializer as Initializer

import portinit
from portinit import Layout
from portinit.arrays.dtypes import dtype_name
from portinit.initializers.fans import as_axes

Axes = int | Sequence[int]


@dataclass(frozen=True)
class Typed:
    """A portinit initializer called JAX's way, with a default dtype and layout of its own.

    The arguments are checked when it is called, not when it is built, as in JAX.

    Attributes:
        build: the portinit initializer.
        arguments: its arguments.
        dtype: the default dtype of the arrays; JAX's default float if None.
        column_axis: the axis that is one side of a matrix; None for a kernel's last axis.
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


@dataclass(frozen=True, eq=False)
class Scaled:
    """An initializer of unit scale, and a factor that is an array or is traced.

    The product is rounded to the dtype, as in JAX: it may differ in the last bit from the values
    for a scale that is a number, which are rounded once.
    """

    unit: Typed
    factor: Any

    def __call__(
        self, key: Any, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None
    ) -> jax.Array:
        """Values for an array of ``shape``."""
        values = self.unit(key, shape, dtype, out_sharding)
        real = jnp.finfo(values.dtype).dtype  # type: ignore[no-untyped-call]
        return values * jnp.broadcast_to(jnp.asarray(self.factor, real), values.shape)


def _is_number(value: Any) -> bool:
    """Whether a scale is known now, and one for all elements."""
    return not isinstance(value, jax.core.Tracer) and np.ndim(value) == 0


def _bound(name: str, value: Any) -> float:
    if not _is_number(value):
        raise TypeError(f"{name} must be a number that is known when the initializer is made")
    return float(value)


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
    """Return an array of zeros; the key is ignored.

    Args:
        key: ignored.
        shape: the shape of the array.
        dtype: the dtype; by default JAX's default float.
        out_sharding: where the array lies.

    Returns:
        The array.

    Source: ``jax.nn.initializers.zeros``.

    >>> import jax
    >>> from portinit_jax import initializers
    >>> initializers.zeros(jax.random.key(0), (2,))
    Array([0., 0.], dtype=float32)
    """
    return jnp.zeros(shape, _or_float(dtype), out_sharding=out_sharding)


def ones(key: Any, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> jax.Array:
    """Return an array of ones; the key is ignored.

    Args:
        key: ignored.
        shape: the shape of the array.
        dtype: the dtype; by default JAX's default float.
        out_sharding: where the array lies.

    Returns:
        The array.

    Source: ``jax.nn.initializers.ones``.

    >>> import jax
    >>> from portinit_jax import initializers
    >>> initializers.ones(jax.random.key(0), (2,))
    Array([1., 1.], dtype=float32)
    """
    return jnp.ones(shape, _or_float(dtype), out_sharding=out_sharding)


def constant(value: Any, dtype: Any = None) -> Initializer:
    """Return an initializer of arrays full of a value.

    Args:
        value: a number, or an array to broadcast.
        dtype: the default dtype of the initializer's arrays.

    Returns:
        An initializer, called as ``init(key, shape, dtype, out_sharding)``.

    Source: ``jax.nn.initializers.constant``.

    >>> import jax
    >>> from portinit_jax import initializers
    >>> initializers.constant(0.5)(jax.random.key(0), (2,))
    Array([0.5, 0.5], dtype=float32)
    """

    def init(
        key: Any, shape: Sequence[int], dtype: Any = dtype, out_sharding: Any = None
    ) -> jax.Array:
        filled = jnp.zeros(shape, _or_float(dtype), out_sharding=out_sharding)
        return filled + jnp.asarray(value, filled.dtype)

    return init


def _or_float(dtype: Any) -> Any:
    return jnp.result_type(float) if dtype is None else dtype


def uniform(scale: Any = 1e-2, dtype: Any = None) -> Initializer:
    """Return an initializer that draws from U[0, scale); see :class:`portinit.uniform`.

    Args:
        scale: the upper bound, excluded.
        dtype: the default dtype of the initializer's arrays.

    Returns:
        An initializer, called as ``init(key, shape, dtype, out_sharding)``.

    Source: ``jax.nn.initializers.uniform``.

    >>> import jax
    >>> from portinit_jax import initializers
    >>> values = initializers.uniform(1.0)(jax.random.key(0), (100,))
    >>> bool((0 <= values).all() and (values < 1).all())
    True
    """
    if not _is_number(scale):
        return Scaled(Typed(portinit.uniform, (0.0, 1.0), dtype), scale)
    return Typed(portinit.uniform, (0.0, float(scale)), dtype)


def normal(stddev: Any = 1e-2, dtype: Any = None) -> Initializer:
    """Return an initializer that draws from N(0, stddev^2); see :class:`portinit.normal`.

    Args:
        stddev: the standard deviation, 0 or more.
        dtype: the default dtype of the initializer's arrays.

    Returns:
        An initializer, called as ``init(key, shape, dtype, out_sharding)``.

    Source: ``jax.nn.initializers.normal``.

    >>> import jax
    >>> from portinit_jax import initializers
    >>> initializers.normal(0.02)(jax.random.key(0), (4, 8)).shape
    (4, 8)
    """
    if not _is_number(stddev):
        return Scaled(Typed(portinit.normal, (0.0, 1.0), dtype), stddev)
    return Typed(portinit.normal, (0.0, float(stddev)), dtype)


def truncated_normal(
    stddev: Any = 1e-2, dtype: Any = None, lower: Any = -2.0, upper: Any = 2.0
) -> Initializer:
    """Return an initializer that draws from stddev * N(0, 1), cut at [lower, upper].

    See :class:`portinit.truncated_normal`.

    Args:
        stddev: the standard deviation before truncation, 0 or more.
        dtype: the default dtype of the initializer's arrays.
        lower: the lower bound, in units of stddev.
        upper: the upper bound, in units of stddev.

    Returns:
        An initializer, called as ``init(key, shape, dtype, out_sharding)``.

    Source: ``jax.nn.initializers.truncated_normal``.

    >>> import jax
    >>> from portinit_jax import initializers
    >>> values = initializers.truncated_normal(1.0)(jax.random.key(0), (100,))
    >>> bool((abs(values) <= 2).all())
    True
    """
    bounds = _bound("lower", lower), _bound("upper", upper)
    if not _is_number(stddev):
        return Scaled(Typed(portinit.truncated_normal, (1.0, *bounds), dtype), stddev)
    return Typed(portinit.truncated_normal, (float(stddev), *bounds), dtype)


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
    """Return an initializer of variance scale / n, n a fan or a mean of both.

    See :class:`portinit.variance_scaling`.

    Args:
        scale: the variance times n, 0 or more.
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``.
        distribution: ``"truncated_normal"``, ``"normal"`` or ``"uniform"``.
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.
        dtype: the default dtype of the initializer's arrays.

    Returns:
        An initializer, called as ``init(key, shape, dtype, out_sharding)``.

    Raises:
        ValueError: when called, an unknown mode or distribution, or a shape without fans.

    Source: ``jax.nn.initializers.variance_scaling``.

    >>> import jax
    >>> from portinit_jax import initializers
    >>> initializers.variance_scaling(2.0, "fan_in", "normal")(jax.random.key(0), (4, 8)).shape
    (4, 8)
    """
    axes = as_axes(in_axis), as_axes(out_axis), as_axes(batch_axis)
    if not _is_number(scale):
        unit = Scaling(portinit.variance_scaling, (1.0, mode, distribution, *axes), dtype)
        return Scaled(unit, jnp.sqrt(jnp.asarray(scale)))
    return Scaling(portinit.variance_scaling, (float(scale), mode, distribution, *axes), dtype)


def glorot_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Return an initializer of uniform values of variance 1 / fan_avg.

    See :func:`portinit.glorot_uniform`.

    Args:
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.
        dtype: the default dtype of the initializer's arrays.

    Returns:
        An initializer, called as ``init(key, shape, dtype, out_sharding)``.

    Raises:
        ValueError: when called, a shape of fewer than 2 dimensions with the default axes.

    Source: ``jax.nn.initializers.glorot_uniform``.

    >>> import jax
    >>> from portinit_jax import initializers
    >>> initializers.glorot_uniform()(jax.random.key(0), (4, 8)).shape
    (4, 8)
    """
    return variance_scaling(1.0, "fan_avg", "uniform", in_axis, out_axis, batch_axis, dtype)


def glorot_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Return an initializer of truncated normal values of variance 1 / fan_avg.

    See :func:`portinit.glorot_normal`.

    Args:
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.
        dtype: the default dtype of the initializer's arrays.

    Returns:
        An initializer, called as ``init(key, shape, dtype, out_sharding)``.

    Raises:
        ValueError: when called, a shape of fewer than 2 dimensions with the default axes.

    Source: ``jax.nn.initializers.glorot_normal``.

    >>> import jax
    >>> from portinit_jax import initializers
    >>> initializers.glorot_normal()(jax.random.key(0), (4, 8)).shape
    (4, 8)
    """
    return variance_scaling(
        1.0, "fan_avg", "truncated_normal", in_axis, out_axis, batch_axis, dtype
    )


def lecun_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Return an initializer of uniform values of variance 1 / fan_in.

    See :func:`portinit.lecun_uniform`.

    Args:
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.
        dtype: the default dtype of the initializer's arrays.

    Returns:
        An initializer, called as ``init(key, shape, dtype, out_sharding)``.

    Raises:
        ValueError: when called, a shape of fewer than 2 dimensions with the default axes.

    Source: ``jax.nn.initializers.lecun_uniform``.

    >>> import jax
    >>> from portinit_jax import initializers
    >>> initializers.lecun_uniform()(jax.random.key(0), (4, 8)).shape
    (4, 8)
    """
    return variance_scaling(1.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def lecun_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Return an initializer of truncated normal values of variance 1 / fan_in.

    See :func:`portinit.lecun_normal`.

    Args:
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.
        dtype: the default dtype of the initializer's arrays.

    Returns:
        An initializer, called as ``init(key, shape, dtype, out_sharding)``.

    Raises:
        ValueError: when called, a shape of fewer than 2 dimensions with the default axes.

    Source: ``jax.nn.initializers.lecun_normal``.

    >>> import jax
    >>> from portinit_jax import initializers
    >>> initializers.lecun_normal()(jax.random.key(0), (4, 8)).shape
    (4, 8)
    """
    return variance_scaling(1.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


def he_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Return an initializer of uniform values of variance 2 / fan_in.

    See :func:`portinit.he_uniform`.

    Args:
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.
        dtype: the default dtype of the initializer's arrays.

    Returns:
        An initializer, called as ``init(key, shape, dtype, out_sharding)``.

    Raises:
        ValueError: when called, a shape of fewer than 2 dimensions with the default axes.

    Source: ``jax.nn.initializers.he_uniform``.

    >>> import jax
    >>> from portinit_jax import initializers
    >>> initializers.he_uniform()(jax.random.key(0), (4, 8)).shape
    (4, 8)
    """
    return variance_scaling(2.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def he_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Return an initializer of truncated normal values of variance 2 / fan_in.

    See :func:`portinit.he_normal`.

    Args:
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.
        dtype: the default dtype of the initializer's arrays.

    Returns:
        An initializer, called as ``init(key, shape, dtype, out_sharding)``.

    Raises:
        ValueError: when called, a shape of fewer than 2 dimensions with the default axes.

    Source: ``jax.nn.initializers.he_normal``.

    >>> import jax
    >>> from portinit_jax import initializers
    >>> initializers.he_normal()(jax.random.key(0), (4, 8)).shape
    (4, 8)
    """
    return variance_scaling(2.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


xavier_uniform = glorot_uniform
xavier_normal = glorot_normal
kaiming_uniform = he_uniform
kaiming_normal = he_normal


def orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """Return an initializer of (semi-)orthogonal matrices; see :class:`portinit.orthogonal`.

    Args:
        scale: multiplies the matrix.
        column_axis: the axis that is one side of the matrix; the others are the other side.
        dtype: the default dtype of the initializer's arrays.

    Returns:
        An initializer, called as ``init(key, shape, dtype, out_sharding)``.

    Raises:
        ValueError: when called, a shape of fewer than 2 dimensions.

    Source: ``jax.nn.initializers.orthogonal``.

    >>> import jax
    >>> from portinit_jax import initializers
    >>> q = initializers.orthogonal()(jax.random.key(0), (4, 4))
    >>> bool(jax.numpy.allclose(q @ q.T, jax.numpy.eye(4), atol=1e-6))
    True
    """
    if not _is_number(scale):
        return Scaled(Typed(portinit.orthogonal, (1.0,), dtype, column_axis), scale)
    return Typed(portinit.orthogonal, (float(scale),), dtype, column_axis)


def delta_orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """Return an initializer of convolutions that are orthogonal matrices at their centre.

    See :class:`portinit.delta_orthogonal`. Rows and columns of the matrix are orthonormal
    alike, since there are never more inputs than outputs, so ``column_axis`` changes nothing.

    Args:
        scale: multiplies the matrix.
        column_axis: accepted as in JAX.
        dtype: the default dtype of the initializer's arrays.

    Returns:
        An initializer, called as ``init(key, shape, dtype, out_sharding)``.

    Raises:
        ValueError: when called, a shape of other than 3 to 5 dimensions, or more inputs than
            outputs.

    Source: ``jax.nn.initializers.delta_orthogonal``.

    >>> import jax
    >>> from portinit_jax import initializers
    >>> initializers.delta_orthogonal()(jax.random.key(0), (3, 3, 4, 8)).shape
    (3, 3, 4, 8)
    """
    if not _is_number(scale):
        return Scaled(Typed(portinit.delta_orthogonal, (1.0,), dtype), scale)
    return Typed(portinit.delta_orthogonal, (float(scale),), dtype)
