"""Layouts: how an array's axes are a PyTorch parameter's axes.

The logical shape of a parameter is the shape it has in PyTorch, and its elements are counted
row-major over that shape. A layout names the axes of some array that make up PyTorch's axis 0,
its axis 1 and, in order, the rest; so the same element has the same number, and the same random
word, wherever it is stored.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Which of an array's axes are PyTorch's axis 0, axis 1 and the rest.

    Attributes:
        axis0: the array's axes that PyTorch holds as its axis 0, slowest first; negative
            numbers count from the end. Several axes are one flattened axis of PyTorch's.
        axis1: likewise for PyTorch's axis 1. Axes named in neither are PyTorch's axes 2, 3, ...
        flip: whether those remaining (spatial) axes run backwards, as between PyTorch's
            transposed convolution and Flax's.
        roles: what axes 0 and 1 are to a layer, for fans on named axes (``in_axis=-2``), which see
            the parameter as a Flax kernel, (..., in, out): ``"oi"``, outputs and inputs;
            ``"io"``, inputs and outputs (transposed convolutions); ``"as is"``, no kernel:
            named axes are PyTorch's own.
        view: the shape that the axes are named in, where it is not the array's own: an axis split
            in two, ``(in, heads, size / 2, 2)`` of a kernel whose rows are interleaved for rotary
            embeddings, or axes of length 1 that one side lacks.

    An array of fewer than two axes (a bias, a scalar) is taken as it stands. ``axis1`` may be empty
    for a parameter of one axis that an array holds in several, such as a bias of (heads, size).

    >>> Layout(axis0=(1, 2), axis1=(0,)).logical_shape((64, 8, 16))  # an attention query kernel
    (128, 64)
    """

    axis0: tuple[int, ...] = (0,)
    axis1: tuple[int, ...] = (1,)
    flip: bool = False
    roles: str = "oi"
    view: Shape | None = None

    def __post_init__(self) -> None:
        for name in ("axis0", "axis1"):
            object.__setattr__(self, name, tuple(map(operator.index, getattr(self, name))))
        if self.view is not None:
            object.__setattr__(self, "view", as_shape(self.view))
        if not self.axis0:
            raise ValueError("axis0 must name at least one axis, got none")
        if not isinstance(self.flip, bool):
            raise TypeError(f"flip must be True or False, got {self.flip!r}")
        if self.roles not in ("oi", "io", "as is"):
            raise ValueError(f"roles must be 'oi', 'io' or 'as is', got {self.roles!r}")

    def groups(self, ndim: int) -> tuple[tuple[int, ...], ...]:
        """For each of PyTorch's axes, the array's axes that form it, slowest first."""
        return _groups(self.axis0, self.axis1, ndim)

    @property
    def is_torchs(self) -> bool:
        """Whether the array's axes are PyTorch's own, in their order."""
        return (self.axis0, self.axis1, self.view) == ((0,), (1,), None)

    def kernel_shape(self, logical: Shape) -> Shape:
        """The shape on which in_axis, out_axis and batch_axis are named."""
        if len(logical) < 2 or self.roles == "as is":
            return logical
        last = logical[:2] if self.roles == "io" else logical[1::-1]
        return (*logical[2:], *last)

    def logical_shape(self, shape: Sequence[int]) -> Shape:
        """PyTorch's shape of the parameter that an array of ``shape`` holds."""
        return _logical_shape(self, tuple(shape))

    def seen(self, shape: Sequence[int]) -> Shape:
        """The shape in which the layout reads an array of ``shape``: its view, or the shape."""
        if self.view is None:
            return tuple(shape)
        if math.prod(self.view) != math.prod(shape):
            raise ValueError(f"a view of {self.view} cannot hold an array of {tuple(shape)}")
        return self.view

    def to_torch(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A NumPy array of this layout as PyTorch holds the parameter: a view where possible.

        >>> Layout(axis0=(-1,), axis1=(-2,)).to_torch(np.zeros((3, 3, 32, 64))).shape
        (64, 32, 3, 3)
        """
        seen = array.reshape(self.seen(array.shape))
        order = [axis for group in self.groups(seen.ndim) for axis in group]
        logical = seen.transpose(order).reshape(self.logical_shape(seen.shape))
        return np.flip(logical, tuple(range(2, logical.ndim))) if self.flip else logical

    def from_torch(self, array: np.ndarray[Any, Any], shape: Sequence[int]) -> np.ndarray[Any, Any]:
        """PyTorch's NumPy array as an array of this layout and of ``shape``; to_torch's inverse."""
        seen = self.seen(shape)
        order = [axis for group in self.groups(len(seen)) for axis in group]
        spatial = tuple(range(2, array.ndim)) if self.flip else ()
        split = np.flip(array, spatial).reshape([seen[axis] for axis in order])
        return split.transpose(np.argsort(order)).reshape(tuple(shape))


@lru_cache(maxsize=1024)
def _groups(axis0: tuple[int, ...], axis1: tuple[int, ...], ndim: int) -> tuple[Shape, ...]:
    named = axis0 + axis1
    if ndim < 2:
        return tuple((axis,) for axis in range(ndim))
    if any(not -ndim <= axis < ndim for axis in named):
        raise ValueError(f"a layout of axes {named} cannot hold an array of {ndim} axes")
    first, second = ([axis % ndim for axis in axes] for axes in (axis0, axis1))
    if len({*first, *second}) != len(named):
        raise ValueError(f"a layout must name each axis once, got {named} for {ndim} axes")
    rest = [[axis] for axis in range(ndim) if axis not in first + second]
    return tuple(tuple(group) for group in (first, second, *rest) if group)


@lru_cache(maxsize=4096)
def _logical_shape(layout: Layout, shape: Shape) -> Shape:
    seen = layout.seen(shape)
    return tuple(math.prod(seen[axis] for axis in g) for g in layout.groups(len(seen)))


LAYOUTS = {
    "torch": Layout(),
    "rows": Layout(roles="as is"),
    "flax": Layout(axis0=(-1,), axis1=(-2,)),
    "flax_conv_transpose": Layout(axis0=(-2,), axis1=(-1,), flip=True, roles="io"),
}
"""Layouts by name: PyTorch's own; as it stands (embeddings); Flax's kernels, (..., in, out); the
kernel of Flax's ConvTranspose, (..., in, out) with space reversed."""


def as_layout(layout: Layout | str) -> Layout:
    """A layout from its name; a ValueError names those that there are."""
    if isinstance(layout, Layout):
        return layout
    if not isinstance(layout, str) or layout not in LAYOUTS:
        names = ", ".join(map(repr, LAYOUTS))
        raise ValueError(f"layout must be a portinit.Layout or one of {names}; got {layout!r}")
    return LAYOUTS[layout]


def layout_or_name(layout: Layout | str) -> Layout | str:
    """A layout's name where it has one, and else itself: how it is printed and compared."""
    wanted = as_layout(layout)
    return next((name for name, value in LAYOUTS.items() if value == wanted), wanted)


def as_shape(shape: Sequence[int] | int) -> Shape:
    """A shape as a tuple of ints.

    Raises:
        TypeError: a size that is no integer, such as a symbolic dimension of ``jax.export``.
        ValueError: a negative size.
    """
    try:
        sizes = (shape,) if isinstance(shape, int) else tuple(map(operator.index, shape))
    except TypeError:
        raise TypeError(
            "a shape must be of integers, since fans and the numbers of elements depend on it; got "
            f"{shape!r}. Export a program with symbolic dimensions for one size at a time"
        ) from None
    if sizes and min(sizes) < 0:
        raise ValueError(f"a shape must not have negative sizes, got {sizes}")
    return sizes
