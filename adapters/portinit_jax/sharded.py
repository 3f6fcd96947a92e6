"""Parts of a parameter: a slice whose place is traced, a device's block within ``shard_map``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from portinit import Initializer, Layout
from portinit.arrays.dtypes import dtype_name
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Shape, as_layout, as_shape
from portinit.backends.base import Request
from portinit_jax.backend import BACKEND
from portinit_jax.blocks import block_of
from portinit_jax.initializers import Typed
from portinit_jax.programs import FillSpec, origin_of, single, split_names


def block(
    initializer: Initializer | Typed,
    key: Any,
    shape: Sequence[int],
    start_indices: Sequence[Any],
    slice_sizes: Sequence[int],
    dtype: Any = None,
    *,
    layout: Layout | str | None = None,
) -> jax.Array:
    """A block of a parameter, with the bits that it has there, computed without the rest.

    ``lax.dynamic_slice(initializer(key, shape, dtype), start_indices, slice_sizes)``, in the
    memory of the block; ``orthogonal`` and ``delta_orthogonal`` need the whole matrix. Axes are
    limited to 2^31 positions, the array to 2^63 elements.

    Args:
        initializer: of portinit, or of ``portinit_jax.initializers``.
        key: a :class:`portinit.Key`, or a JAX key of threefry2x32 or rbg.
        shape: the shape of the whole array.
        start_indices: where the block begins along each axis: integers, traced or not. As with
            ``dynamic_slice``, a block that would reach out of the array is moved into it.
        slice_sizes: the block's shape.
        dtype: as for a call of the initializer.
        layout: likewise.

    Raises:
        ValueError: sizes or starts of another length than the shape, or sizes larger than it; or
            the initializer is not defined for the shape.

    >>> import portinit
    >>> init, key = portinit.lecun_normal(), portinit.key(0)
    >>> part = block(init, key, (512, 256), (128, 64), (2, 3))
    >>> bool((part == init(key, (512, 256))[128:130, 64:67]).all())
    True
    """
    whole, sizes, starts = as_shape(shape), as_shape(slice_sizes), tuple(start_indices)
    if not len(starts) == len(sizes) == len(whole) or any(map(int.__gt__, sizes, whole)):
        raise ValueError(
            f"a block of {whole} needs a start and a size that fits for each axis, "
            f"got starts {starts} and sizes {sizes}"
        )
    made, dtype, layout = _resolved(initializer, whole, dtype, layout)
    grid = Grid.whole(whole, as_layout(made.default_layout if layout is None else layout))
    name = BACKEND.default_dtype() if dtype is None else dtype_name(dtype)
    plan = made.planned(grid, name)
    BACKEND.require_width(name)
    spec = single(plan, grid, name)
    part: jax.Array = _block(spec, sizes, jnp.asarray(starts, jnp.int32), *BACKEND.words(key))
    return part


@partial(jax.jit, static_argnums=(0, 1))
def _block(spec: FillSpec, sizes: Shape, starts: Any, high: Any, low: Any) -> Any:
    last = jnp.asarray(spec.shape, jnp.int32) - jnp.asarray(sizes, jnp.int32)
    origin = jnp.clip(starts, 0, last)
    grid = block_of(spec.grid, tuple(origin), sizes)
    return BACKEND.values(spec.plans[0], Request(BACKEND, (high, low), grid, spec.dtype))


def _resolved(
    initializer: Initializer | Typed, shape: Shape, dtype: Any, layout: Any
) -> tuple[Initializer, Any, Any]:
    if isinstance(initializer, Typed):
        own, dtype, columns = initializer.resolved(shape, dtype)
        return own, dtype, columns if layout is None else layout
    if not isinstance(initializer, Initializer):
        raise TypeError(f"a portinit initializer is needed, got {type(initializer).__name__}")
    return initializer, dtype, layout


@dataclass(frozen=True)
class sharded:
    """An initializer for use inside ``jax.shard_map``: each device makes its own block.

    There a plain initializer is called with a block's shape and gives every device the same
    block, as all have the same key. This one is called alike and gives the device's block of the
    array that ``spec`` divides, whose shape is the block's times the mesh.

    Args:
        initializer: of portinit, or of ``portinit_jax.initializers``.
        spec: as ``shard_map``'s ``out_specs`` for the array: mesh axes of the array's axes.
        layout: as for a call of the initializer.

    >>> import jax
    >>> import portinit
    >>> from jax.sharding import PartitionSpec as P
    >>> mesh = jax.make_mesh((1,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> columns = sharded(portinit.lecun_normal(), P(None, "model"))
    >>> make = jax.shard_map(
    ...     lambda key: columns(key, (32, 64 // jax.lax.axis_size("model"))),
    ...     mesh=mesh, in_specs=P(), out_specs=P(None, "model"),
    ... )
    >>> make(jax.random.key(0)).shape
    (32, 64)
    """

    initializer: Initializer | Typed
    spec: PartitionSpec
    layout: Layout | str | None = None

    def __call__(self, key: Any, shape: Sequence[int], dtype: Any = None) -> jax.Array:
        """The device's block, of ``shape``."""
        sizes = as_shape(shape)
        counts = (lax.axis_size(name) if name else 1 for name in split_names(self.spec, sizes))
        whole = tuple(count * size for count, size in zip(counts, sizes, strict=True))
        origin = origin_of(self.spec, sizes)
        return block(self.initializer, key, whole, origin, sizes, dtype, layout=self.layout)
