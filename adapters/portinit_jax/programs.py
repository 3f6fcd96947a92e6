"""Compiled programs: one for each spec of a parameter, which makes what a device holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec, Sharding

from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Shape
from portinit.backends.base import Backend, Request, Words
from portinit.backends.plan import Plan
from portinit_jax.blocks import block_of
from portinit_jax.stacks import Layers, stacked, with_constants, without_constants


@dataclass(frozen=True)
class FillSpec:
    """The properties of arrays that one compiled program serves.

    Attributes:
        grid: the elements of the array, or of one layer of a stack.
        dtype: the array's dtype.
        plans: the plan, or the different ones of a stack's layers.
        text: the plans', which tells -0.0 from 0.0, which are equal.
        constants: how many constants of the plan are arguments of the program.
        layers: where a stack's layers lie.
        sharding: where the array lies; None for the default device.
    """

    grid: Grid
    dtype: str
    plans: tuple[Plan, ...]
    text: str
    constants: int = 0
    layers: Layers | None = None
    sharding: Sharding | None = None

    @property
    def shape(self) -> Shape:
        """The shape of the array."""
        shape = self.grid.array_shape
        if self.layers is None:
            return shape
        return (*shape[: self.layers.axis], self.layers.count, *shape[self.layers.axis :])


def single(plan: Plan, grid: Grid, dtype: str, sharding: Sharding | None = None) -> FillSpec:
    """The spec of one plan's values, with its constants in the program."""
    return FillSpec(grid, dtype, (plan,), repr(plan), sharding=sharding)


def shared(
    plans: Sequence[Plan], grid: Grid, dtype: str, sharding: Sharding | None, axis: int | None
) -> tuple[FillSpec, tuple[Any, ...]]:
    """A spec that as many arrays as possible share, and the arguments that are one array's own.

    Args:
        plans: the plan, or those of a stack's layers.
        grid: the elements of the array, or of a layer.
        dtype: the array's dtype.
        sharding: where it lies.
        axis: the axis that a stack's layers lie along.

    Returns:
        The spec, and the arguments of its program behind the words of the key. Plans that differ
        in their last constants only, such as standard deviations, have one spec.
    """
    layers = None if axis is None else Layers(axis, len(plans))
    common, constants = zip(*map(without_constants, plans), strict=True)
    texts = {*map(repr, common)}
    if len(texts) == 1:
        columns = zip(*constants, strict=True)
        work = float_format(dtype).work if constants[0] else ""
        own = tuple(np.asarray(c if layers else c[0], work) for c in columns)
        spec = FillSpec(grid, dtype, common[:1], texts.pop(), len(own), layers, sharding)
        return spec, own
    different = {repr(plan): plan for plan in plans}
    numbers = np.asarray([[*different].index(repr(plan)) for plan in plans], np.int32)
    kept, text = tuple(different.values()), "; ".join(different)
    return FillSpec(grid, dtype, kept, text, layers=layers, sharding=sharding), (numbers,)


def run(backend: Backend, spec: FillSpec, words: Words, own: Sequence[Any] = ()) -> Any:
    """The array of a spec for the words of a key, or for vectors of the words of layers' keys."""
    return _program(spec.sharding)(backend, spec, *words, *own)


def lower(backend: Backend, spec: FillSpec) -> Any:
    """The program of a spec, lowered: a ``jax.stages.Lowered`` of what :func:`run` gives it."""
    shape = () if spec.layers is None else (spec.layers.count,)
    dtypes: list[Any] = [np.int32, np.int32]
    if spec.constants:
        dtypes += [float_format(spec.dtype).work] * spec.constants
    elif len(spec.plans) > 1:
        dtypes += [np.int32]
    arguments = [jax.ShapeDtypeStruct(shape, d) for d in dtypes]  # type: ignore[no-untyped-call]
    return _program(spec.sharding).lower(backend, spec, *arguments)


def require_fit(shape: Shape, sharding: Sharding | None) -> None:
    """A ValueError unless the sharding divides an array of the shape evenly."""
    if sharding is not None:
        sharding.shard_shape(shape)
    if isinstance(sharding, NamedSharding):
        split_names(sharding.spec, shape)


def place(values: Any, sharding: Sharding | None) -> Any:
    """An array that each process has in full, as one of which each device has its part."""
    if sharding is None:
        return jnp.asarray(values)
    traced = isinstance(getattr(sharding, "mesh", None), AbstractMesh)
    if traced or isinstance(values, jax.Array):
        return jax.jit(lambda whole: whole, out_shardings=sharding)(values)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


@lru_cache
def _program(sharding: Sharding | None) -> Any:
    if sharding is None:
        return jax.jit(_array, static_argnums=(0, 1))
    return jax.jit(_array, static_argnums=(0, 1), out_shardings=sharding)


def _array(backend: Backend, spec: FillSpec, *operands: Any) -> Any:
    part = partial(_part, backend, spec)
    if not isinstance(spec.sharding, NamedSharding):
        return part((0,) * len(spec.shape), spec.shape, *operands)
    along = None if spec.layers is None else spec.layers.axis
    return in_blocks(part, spec.shape, spec.sharding, along)(*operands)


def in_blocks(
    part: Callable[..., Any], shape: Shape, sharding: NamedSharding, along: int | None = None
) -> Callable[..., Any]:
    """``part(origin, sizes, *operands)`` on each device of a mesh, which makes its block.

    The operands are vectors along one of the array's axes, or the same on all devices.
    """
    sizes, spec = sharding.shard_shape(shape), sharding.spec

    def local(*operands: Any) -> Any:
        return part(origin_of(spec, sizes), sizes, *operands)

    mesh, names = sharding.mesh, () if along is None else spec[along : along + 1]
    split = PartitionSpec(*names)  # type: ignore[no-untyped-call]
    blocks = jax.shard_map(local, mesh=mesh, in_specs=split, out_specs=spec, check_vma=False)
    if not _are_explicit(mesh, names):
        return blocks
    place = NamedSharding(mesh, split)  # which shard_map does not move operands to
    return lambda *operands: blocks(*(jax.sharding.reshard(x, place) for x in operands))  # type: ignore[no-untyped-call]


def _are_explicit(mesh: Any, names: Sequence[Any]) -> bool:
    """Whether any of a spec's axes is one of which JAX's types say where an array lies."""
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    axes = [
        axis for name in names if name for axis in (name if isinstance(name, tuple) else [name])
    ]
    return any(kinds[axis] == AxisType.Explicit for axis in axes)


def split_names(spec: PartitionSpec, sizes: Shape) -> tuple[Any, ...]:
    """Of each of an array's axes, the mesh axes that divide it; none if none does."""
    if len(spec) > len(sizes):
        raise ValueError(f"a spec must have at most {len(sizes)} entries for {sizes}, got {spec}")
    return (*spec, *(None for _ in sizes[len(spec) :]))


def origin_of(spec: PartitionSpec, sizes: Shape) -> tuple[Any, ...]:
    """Where this device's block of ``sizes`` begins, within ``jax.shard_map``."""
    names = split_names(spec, sizes)
    return tuple(
        lax.axis_index(name) * size if name else 0 for name, size in zip(names, sizes, strict=True)
    )


def _part(
    backend: Backend, spec: FillSpec, origin: Sequence[Any], sizes: Shape, *operands: Any
) -> Any:
    """The part of a spec's array that begins at ``origin``."""
    layers = spec.layers
    if layers is not None:
        layers = replace(layers, count=sizes[layers.axis])
        origin, sizes = _without(origin, layers.axis), _without(sizes, layers.axis)
    whole = sizes == spec.grid.array_shape
    grid = spec.grid if whole else block_of(spec.grid, origin, sizes)
    high, low, *own = operands
    request = Request(backend, (high, low), grid, spec.dtype)
    if layers is not None:
        return stacked(request, spec.plans, layers, *own)
    return backend.values(with_constants(spec.plans[0], own), request)


def _without(items: Sequence[Any], axis: int) -> tuple[Any, ...]:
    return (*items[:axis], *items[axis + 1 :])
