"""Compiled programs: one for each form of a parameter, which makes what a device holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec, Sharding

from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Shape
from portinit.backends.base import Backend, Draw, Evaluable, Words
from portinit.sampling.transform import Transform
from portinit_jax.blocks import block_of
from portinit_jax.stacks import common_steps, stacked, values_by


@dataclass(frozen=True)
class Form:
    """What arrays have in common that one compiled program serves.

    Attributes:
        grid: the elements of the array, or of one layer of a stack.
        dtype: the array's dtype.
        initializers: the initializer, or the different ones of a stack's layers; none if there are
            steps.
        texts: theirs, which tell -0.0 from 0.0, which are equal.
        steps: the way from a word to a value, but for its last constants, which are arguments.
        layers: of a stack, the axis that its layers lie along and their number.
        sharding: where the array lies; none for the default device.
    """

    grid: Grid
    dtype: str
    initializers: tuple[Evaluable, ...] = ()
    texts: tuple[str, ...] = ()
    steps: Transform | None = None
    layers: tuple[int, int] | None = None
    sharding: Sharding | None = None

    @property
    def shape(self) -> Shape:
        """The shape of the array."""
        shape = self.grid.array_shape
        if self.layers is None:
            return shape
        axis, count = self.layers
        return (*shape[:axis], count, *shape[axis:])


def single(
    initializer: Evaluable, grid: Grid, dtype: str, sharding: Sharding | None = None
) -> Form:
    """The form of one initializer's values, with its constants in the program."""
    return Form(grid, dtype, (initializer,), (repr(initializer),), sharding=sharding)


def shared(
    initializers: Sequence[Evaluable],
    grid: Grid,
    dtype: str,
    sharding: Sharding | None,
    axis: int | None,
) -> tuple[Form, tuple[Any, ...]]:
    """A form that as many arrays as possible share, and what is one array's own.

    Args:
        initializers: the initializer, or those of a stack's layers.
        grid: the elements of the array, or of a layer.
        dtype: the array's dtype.
        sharding: where it lies.
        axis: the axis that a stack's layers lie along.

    Returns:
        The form, and the arguments of its program behind the words of the key. Initializers that
        differ in their last constants only, such as standard deviations, have one form.
    """
    layers = None if axis is None else (axis, len(initializers))
    steps, constants = common_steps(initializers, grid, dtype)
    if steps is not None:
        own = constants if layers else tuple(column[0] for column in constants)
        return Form(grid, dtype, steps=steps, layers=layers, sharding=sharding), own
    different = {repr(initializer): initializer for initializer in initializers}
    texts, kept = tuple(different), tuple(different.values())
    numbers = [texts.index(repr(initializer)) for initializer in initializers]
    form = Form(grid, dtype, kept, texts, layers=layers, sharding=sharding)
    return form, (np.asarray(numbers, np.int32),) if layers else ()


def run(backend: Backend, form: Form, words: Words, own: Sequence[Any] = ()) -> Any:
    """The array of a form for the words of a key, or for vectors of the words of layers' keys."""
    return _program(form.sharding)(backend, form, *words, *own)


def lower(backend: Backend, form: Form) -> Any:
    """The program of a form, lowered: a ``jax.stages.Lowered`` of what :func:`run` gives it."""
    shape = () if form.layers is None else form.layers[1:]
    dtypes: list[Any] = [np.int32, np.int32]
    if form.steps is not None:
        dtypes += [float_format(form.dtype).work] * 3
    elif form.layers is not None:
        dtypes += [np.int32]
    arguments = [jax.ShapeDtypeStruct(shape, d) for d in dtypes]  # type: ignore[no-untyped-call]
    return _program(form.sharding).lower(backend, form, *arguments)


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


def _array(backend: Backend, form: Form, *operands: Any) -> Any:
    part = partial(_part, backend, form)
    if not isinstance(form.sharding, NamedSharding):
        return part((0,) * len(form.shape), form.shape, *operands)
    along = None if form.layers is None else form.layers[0]
    return in_blocks(part, form.shape, form.sharding, along)(*operands)


def in_blocks(
    part: Callable[..., Any], shape: Shape, sharding: NamedSharding, along: int | None = None
) -> Callable[..., Any]:
    """``part(origin, sizes, *operands)`` on each device of a mesh, which makes its block.

    The operands are vectors along one of the array's axes, or the same on all devices.
    """
    sizes, spec = sharding.shard_shape(shape), sharding.spec

    def local(*operands: Any) -> Any:
        return part(origin_of(spec, sizes), sizes, *operands)

    names = () if along is None else spec[along : along + 1]
    split = PartitionSpec(*names)  # type: ignore[no-untyped-call]
    return jax.shard_map(local, mesh=sharding.mesh, in_specs=split, out_specs=spec, check_vma=False)


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


def _part(backend: Backend, form: Form, origin: Sequence[Any], sizes: Shape, *operands: Any) -> Any:
    """The part of a form's array that begins at ``origin``."""
    axis = None if form.layers is None else form.layers[0]
    if axis is not None:
        origin, sizes = _without(origin, axis), _without(sizes, axis)
    whole = sizes == form.grid.array_shape
    grid = form.grid if whole else block_of(form.grid, origin, sizes)
    high, low, *own = operands
    draw = Draw(backend, (high, low), grid, form.dtype)
    if axis is not None:
        return stacked(draw, form.initializers, form.steps, axis, *own)
    return values_by(draw, form.steps, own) if form.steps else form.initializers[0].values(draw)


def _without(items: Sequence[Any], axis: int) -> tuple[Any, ...]:
    return (*items[:axis], *items[axis + 1 :])
