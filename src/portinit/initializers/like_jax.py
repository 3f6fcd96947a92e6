"""The combinator that makes a portinit initializer give what JAX's own gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import is_jax_namespace

from portinit.arrays.grids import Axis, Grid, place, row_major
from portinit.arrays.layouts import LAYOUTS, Shape
from portinit.backends.base import Request
from portinit.backends.linalg import orthonormal
from portinit.backends.plan import Computed, Full, Plan
from portinit.initializers.base import Initializer
from portinit.initializers.basic import constant, normal, truncated_normal, uniform
from portinit.initializers.fans import jax_fans
from portinit.initializers.jax_schemes import variance_scaling
from portinit.initializers.matrices import delta_orthogonal, orthogonal
from portinit.initializers.schemes import FAN_MODES, TRUNCATION_STD
from portinit.initializers.xla import WORDS, Rounding, erf


@dataclass(frozen=True)
class like_jax(Initializer):
    """JAX's own values: those of jax.nn.initializers for the same key.

    Elements are counted as Flax holds the parameter: row-major over the kernel, (..., in, out);
    for transposed convolutions (a layout whose roles are ``"io"``) space runs in reverse.

    Args:
        initializer: ``uniform`` from 0, ``normal`` of mean 0, ``truncated_normal``,
            ``variance_scaling`` (so the Glorot, LeCun and He schemes), ``orthogonal``,
            ``delta_orthogonal`` or a constant; in float32, float64, bfloat16 and float16.

    Against JAX 0.10 on a CPU: constants, uniform draws, and every draw in bfloat16 and float16 are
    equal bit for bit. float32 normals are within 4 ulps, 99 of 100 equal; float64 ones within
    2e-14 of their standard deviation (1e-11 if truncated at six). Orthogonal matrices are within
    1e-6 where JAX's own float32 factorisation is: ill-conditioned square ones to about 1e-5.
    XLA's logarithm and QR differ by as much from one platform to another.

    Raises:
        TypeError: an initializer that JAX has not; a dtype that JAX does not draw it in; JAX as
            the namespace: there, call jax.nn.initializers.
        ValueError: from the initializer, or a block of a packed parameter, whose parts have a key
            each in Flax.

    Source: jax 0.10's ``jax.nn.initializers`` and ``jax.random``.

    >>> import portinit
    >>> like_jax(portinit.glorot_uniform())(portinit.key(0), (2, 1))
    array([[1.2661935],
           [1.3536283]], dtype=float32)
    """

    initializer: Initializer

    def __post_init__(self) -> None:
        inner, known = self.initializer, (*_SAMPLERS, *_MATRICES)
        if type(inner) not in known and not isinstance(inner, constant):
            names = ", ".join(initializer.__name__ for initializer in (*known, constant))
            raise TypeError(f"JAX's initializers are {names}; got {_described(inner)}")
        if isinstance(inner, uniform) and inner.a != 0:
            raise TypeError(f"JAX's uniform starts at a=0, got {inner}")
        if isinstance(inner, normal) and inner.mean != 0:
            raise TypeError(f"JAX's normal has mean=0, got {inner}")

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        inner = self.initializer
        if isinstance(inner, constant):
            return inner.plan(grid, dtype, factor)
        by_element = type(inner) in _SAMPLERS
        drawn = tuple(WORDS) if by_element else ("float32", "float64")
        if dtype not in drawn:
            name = type(inner).__name__
            raise TypeError(f"JAX's {name} needs a dtype of {', '.join(drawn)}; got {dtype}")
        _counted_as_in_flax(grid)
        inner.planned(grid if by_element else _outputs_first(grid), dtype)
        if not by_element and 0 in grid.shape:
            return Full(0.0)
        return Computed(_drawn_as_jax_does, (inner, factor), divisible=by_element)


def _drawn_as_jax_does(request: Request, inner: Initializer, factor: float) -> Any:
    if is_jax_namespace(request.xp):
        raise TypeError(
            "like_jax needs another namespace than JAX's, such as xp=numpy; in JAX call "
            f"jax.nn.initializers; got {request.xp.__name__}"
        )
    if type(inner) in _MATRICES:
        return _MATRICES[type(inner)](request, inner, factor)
    rounding = Rounding(request.on(_counted_as_in_flax(request.grid)))
    drawn, scale = _SAMPLERS[type(inner)](rounding, inner)
    for number in (scale, factor):
        drawn = rounding.own(drawn * rounding.host(number))
    return rounding.result(drawn)


def _described(value: Any) -> str:
    return str(value) if isinstance(value, Initializer) else type(value).__name__


# The order in which JAX counts


def _kernel_order(grid: Grid) -> tuple[int, ...]:
    """PyTorch's axes in the order of Flax's kernel, (..., in, out)."""
    axes = tuple(range(len(grid.shape)))
    if len(axes) < 2 or grid.layout.roles == "as is":
        return axes
    return (*axes[2:], 0, 1) if grid.layout.roles == "io" else (*axes[2:], 1, 0)


def _counted_as_in_flax(grid: Grid) -> Grid:
    """The grid's elements with JAX's counters: row-major over the kernel."""
    if grid.offset or grid.strides != row_major(grid.shape):
        raise ValueError(
            "like_jax needs a whole parameter, as Flax gives each gate or projection a key of its "
            f"own; got a block of shape {grid.shape}"
        )
    order = _kernel_order(grid)
    strides = dict(zip(order, row_major(_kernel_shape(grid)), strict=True))
    axes = tuple(_in_flax(axis, grid) for axis in grid.axes)
    return replace(grid, axes=axes, strides=tuple(strides[i] for i in range(len(order))))


def _in_flax(axis: Axis, grid: Grid) -> Axis:
    if grid.layout.roles != "io" or axis.of < 2:
        return axis
    r, last = axis.indices, grid.shape[axis.of] - 1
    return replace(axis, indices=range(last - r.start, last - r.stop, -r.step))


def _kernel_shape(grid: Grid) -> Shape:
    return tuple(grid.shape[i] for i in _kernel_order(grid))


# Elementwise: the draw, and what JAX multiplies it by

_Drawn = tuple[Any, float]


def _uniform(r: Rounding, initializer: uniform) -> _Drawn:
    return r.unit(), initializer.b


def _normal(r: Rounding, initializer: normal) -> _Drawn:
    return _standard_normal(r), initializer.std


def _truncated_normal(r: Rounding, initializer: truncated_normal) -> _Drawn:
    return _standard_truncated(r, initializer.lower, initializer.upper), initializer.stddev


def _variance_scaling(r: Rounding, initializer: variance_scaling) -> _Drawn:
    axes = (initializer.in_axis, initializer.out_axis, initializer.batch_axis)
    fan = FAN_MODES[initializer.mode](*jax_fans(r.request.grid.kernel_shape, *axes))
    variance = r.host(initializer.scale / fan)
    if initializer.distribution == "uniform":
        return r.between(-1.0, 1.0), math.sqrt(r.host(3 * variance))
    if initializer.distribution == "normal":
        return _standard_normal(r), math.sqrt(variance)
    return _standard_truncated(r, -2.0, 2.0), r.host(math.sqrt(variance)) / r.host(TRUNCATION_STD)


def _standard_normal(r: Rounding) -> Any:
    """``jax.random.normal``: sqrt(2) erf_inv(U(-1, 1)), without -1."""
    u = r.between(-r.fmt.below(1.0), 1.0)
    return r.own(r.erf_inv(u) * r.host(math.sqrt(2)))


def _standard_truncated(r: Rounding, lower: float, upper: float) -> Any:
    """``jax.random.truncated_normal``: the same between two quantiles, kept off the bounds."""
    low, high, root = r.host(lower), r.host(upper), r.host(math.sqrt(2))
    u = r.between(*(erf(r.host(bound / root), r.dtype) for bound in (low, high)))
    z = r.own(r.erf_inv(u) * root)
    return r.xp.clip(z, -r.fmt.below(-low), r.fmt.below(high))


_SAMPLERS: dict[type[Initializer], Callable[[Rounding, Any], _Drawn]] = {
    uniform: _uniform,
    normal: _normal,
    truncated_normal: _truncated_normal,
    variance_scaling: _variance_scaling,
}


# Matrices


def _orthonormal(request: Request, rows: int, columns: int, scale: float) -> Any:
    """``scale`` times ``jax.random.orthogonal``: normals drawn tall, factored, transposed."""
    tall = Grid.whole((max(rows, columns), min(rows, columns)), LAYOUTS["rows"])
    rounding = Rounding(request.on(tall))
    normals = rounding.result(_standard_normal(rounding))
    q = orthonormal(request.backend, normals, scale, rounding.fmt)
    return request.xp.matrix_transpose(q) if rows < columns else q


def _outputs_first(grid: Grid) -> Grid:
    """The grid as PyTorch's convolutions are, for checks that read their shape."""
    kernel = _kernel_shape(grid)
    return replace(grid, shape=(*kernel[:-3:-1], *kernel[:-2]))


def _orthogonal(request: Request, initializer: orthogonal, factor: float) -> Any:
    kernel = _kernel_shape(request.grid)
    q = _orthonormal(request, math.prod(kernel[:-1]), kernel[-1], initializer.gain * factor)
    return _place_kernel(request, request.xp.reshape(q, kernel))


def _delta_orthogonal(request: Request, initializer: delta_orthogonal, factor: float) -> Any:
    kernel, xp = _kernel_shape(request.grid), request.xp
    q = _orthonormal(request, kernel[-2], kernel[-1], initializer.scale * factor)
    space = kernel[:-2]
    middle = sum((n - 1) // 2 * step for n, step in zip(space, row_major(space), strict=True))
    centre = xp.arange(math.prod(space), device=request.device) == middle
    centre = xp.reshape(centre, (*space, 1, 1))
    q = xp.broadcast_to(q, kernel)
    return _place_kernel(request, xp.where(centre, q, xp.zeros_like(q)))


def _place_kernel(request: Request, kernel: Any) -> Any:
    """Arrange values of Flax's kernel as the request's array."""
    grid, xp = request.grid, request.xp
    order = _kernel_order(grid)
    if grid.layout.roles == "io":
        kernel = xp.flip(kernel, axis=tuple(range(len(order) - 2)))
    logical = xp.permute_dims(kernel, tuple(order.index(i) for i in range(len(order))))
    return place(xp, logical, grid)


_MATRICES: dict[type[Initializer], Callable[[Request, Any, float], Any]] = {
    orthogonal: _orthogonal,
    delta_orthogonal: _delta_orthogonal,
}
