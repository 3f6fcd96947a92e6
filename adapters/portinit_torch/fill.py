"""How a tensor is filled in place: what is refused first, the words of the key, DTensors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.parameter import is_lazy

import portinit
from portinit import Initializer
from portinit.arrays.dtypes import FORMATS, dtype_name
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import as_layout
from portinit.backends.registry import words_of
from portinit_torch import sharded
from portinit_torch.backend import BACKEND
from portinit_torch.keys import words_from_generator
from portinit_torch.memory import has_no_values, lacks_elements, why_unfillable


def fill_(
    tensor: Tensor,
    initializer: Initializer,
    generator: Generator | None = None,
    *,
    key: Any = None,
    layout: portinit.Layout | str = "torch",
) -> Tensor:
    """Fill a tensor in place with any portinit initializer.

    Of a DTensor each rank fills what it holds, with the bytes that an unsharded tensor has there.
    Nothing is sent. Elementwise initializers and ``sparse`` need no memory beyond the shard;
    ``orthogonal`` computes the whole matrix in float64 on each rank.

    Args:
        tensor: a tensor of any device, floating dtype and strides.
        initializer: what to fill it with.
        generator: where the key comes from when none is given. For a DTensor all ranks'
            generators must be in the same state, or their keys, and so their shards, differ.
        key: a :class:`portinit.Key`.
        layout: how the tensor's axes are a PyTorch parameter's: as they are, if not told.

    Returns:
        The tensor.

    Raises:
        ValueError, TypeError: from the initializer, or of a DTensor with a ``Partial`` placement;
            the tensor is untouched.

    >>> fill_(torch.empty(2), portinit.constant(3), key=portinit.key(0))
    tensor([3., 3.])
    """
    refuse_lazy(tensor)
    if tensor.is_meta:
        return tensor
    reason = why_unfillable(tensor)
    if reason:
        raise ValueError(reason)
    return _write(tensor, shape_of(tensor), initializer, generator, key, layout)


def _write(
    tensor: Tensor,
    shape: tuple[int, ...],
    initializer: Initializer,
    generator: Generator | None,
    key: Any,
    layout: portinit.Layout | str = "torch",
) -> Tensor:
    """As :func:`fill_`, for a tensor that can be filled."""
    grid = Grid.whole(shape, as_layout(layout))
    dtype = dtype_name(tensor.dtype)
    plan = initializer.planned(grid, dtype)  # before a key is drawn or anything is written
    in_parts = sharded.is_sharded(tensor)
    if in_parts:
        sharded.require_placements(tensor)
    if has_no_values(tensor):
        return tensor
    words = words_from_generator(generator) if key is None else words_of(key, BACKEND)
    if not in_parts:
        BACKEND.fill(tensor, plan, words, grid, dtype)
        return tensor
    for place, part in sharded.parts(tensor, grid):
        BACKEND.fill(place, plan, words, part, dtype)
    return tensor


_INT = frozenset({int})


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """The tensor's lengths as numbers, which fixes the shape of what a tracer records."""
    shape = tuple(tensor.shape)
    if _INT.issuperset(map(type, shape)):
        return shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        return tuple(map(int, shape))


def refuse_lazy(tensor: Tensor) -> None:
    """Raise a ValueError for a lazy parameter."""
    if is_lazy(tensor):
        raise ValueError("a lazy parameter has no shape yet; run the module once on an input")


def fill_as_torch(
    tensor: Tensor,
    generator: Generator | None,
    key: Any,
    make: Callable[..., Initializer],
    *args: Any,
) -> Tensor:
    """Fill with ``make(*args)``; what torch's samplers refuse is of torch's error types."""
    if tensor.is_meta or is_lazy(tensor):
        return fill_(tensor, portinit.zeros)
    require_fillable(tensor)
    if dtype_name(tensor.dtype) not in FORMATS:
        raise NotImplementedError(
            f'"{make.__name__}_" needs a floating or complex tensor, got {tensor.dtype}'
        )
    if not (known := _KNOWN.issuperset(map(type, args))):
        args = tuple(map(_number, args))
        known = _KNOWN.issuperset(map(type, args))
    try:
        initializer = _made(make, *args) if known else make(*args)
        shape = shape_of(tensor)
        if 0 in shape:  # no fans, and nothing to fill
            return tensor
        return _write(tensor, shape, initializer, generator, key)
    except ValueError as error:
        raise RuntimeError(str(error)) from error


def require_fillable(tensor: Tensor) -> None:
    """Refuse a kind of tensor with torch's error types, before a key is drawn."""
    reason = why_unfillable(tensor)
    if reason:
        raise NotImplementedError(reason) if lacks_elements(tensor) else RuntimeError(reason)


def _number(value: Any) -> Any:
    """An argument as Python's number, if it is a number of NumPy or a tensor of one element."""
    if type(value) in _KNOWN or callable(value) or not hasattr(value, "__float__"):
        return value
    return float(value)


_KNOWN = frozenset({float, int, str})


@lru_cache(maxsize=1024)
def _made(make: Callable[..., Initializer], *args: Any) -> Initializer:
    return make(*args)
