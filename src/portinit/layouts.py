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
        kernel: whether fans on named axes (``in_axis=-2``) see the array as a Flax kernel,
            (..., in, out); otherwise they see PyTorch's shape as it stands.

    Arrays with fewer axes than are named here (biases, scalars) are taken as they stand.

    >>> Layout(axis0=(1, 2), axis1=(0,)).logical_shape((64, 8, 16))  # an attention query kernel
    (128, 64)
    """

    axis0: tuple[int, ...] = (0,)
    axis1: tuple[int, ...] = (1,)
    flip: bool = False
    kernel: bool = True

    def __post_init__(self) -> None:
        for name in ("axis0", "axis1"):
            axes = tuple(operator.index(axis) for axis in getattr(self, name))
            if not axes:
                raise ValueError(f"{name} must name at least one axis, got ()")
            object.__setattr__(self, name, axes)

    def groups(self, ndim: int) -> tuple[tuple[int, ...], ...]:
        """For each of PyTorch's axes, the array's axes that form it, slowest first."""
        named = self.axis0 + self.axis1
        if ndim < 2:
            return tuple((axis,) for axis in range(ndim))
        if any(not -ndim <= axis < ndim for axis in named):
            raise ValueError(f"a layout of axes {named} cannot hold an array of {ndim} axes")
        axis0 = tuple(axis % ndim for axis in self.axis0)
        axis1 = tuple(axis % ndim for axis in self.axis1)
        if len({*axis0, *axis1}) != len(named):
            raise ValueError(f"a layout must name each axis once, got {named} for {ndim} axes")
        rest = [axis for axis in range(ndim) if axis not in axis0 + axis1]
        return (axis0, axis1, *((axis,) for axis in rest))

    def logical_shape(self, shape: Sequence[int]) -> Shape:
        """PyTorch's shape of the parameter that an array of ``shape`` holds."""
        return tuple(math.prod(shape[axis] for axis in g) for g in self.groups(len(shape)))


LAYOUTS = {
    "torch": Layout(),
    "rows": Layout(kernel=False),
    "flax": Layout(axis0=(-1,), axis1=(-2,)),
    "flax_conv_transpose": Layout(axis0=(-2,), axis1=(-1,), flip=True),
}
"""Layouts by name: PyTorch's own; as it stands (embeddings); Flax's kernels, (..., in, out); the
kernel of Flax's ConvTranspose, (..., in, out) with space reversed."""


def as_layout(layout: Layout | str | None) -> Layout:
    """A layout from its name; none means Flax's kernels, as JAX calls initializers."""
    if isinstance(layout, Layout):
        return layout
    if layout is None:
        return LAYOUTS["flax"]
    if not isinstance(layout, str) or layout not in LAYOUTS:
        names = ", ".join(map(repr, LAYOUTS))
        raise ValueError(f"layout must be a portinit.Layout or one of {names}; got {layout!r}")
    return LAYOUTS[layout]


def as_shape(shape: Sequence[int] | int) -> Shape:
    """A shape as a tuple of ints; negative sizes are a ValueError."""
    sizes = (shape,) if isinstance(shape, int) else tuple(map(operator.index, shape))
    if any(size < 0 for size in sizes):
        raise ValueError(f"a shape must not have negative sizes, got {sizes}")
    return sizes
