"""Which layouts make an array of one shape a parameter of another, and which of them it is."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from portinit.arrays.layouts import Layout, Shape
from portinit.recipes.matching.evidence import LayoutEvidence


@lru_cache(maxsize=4096)
def fitting_layouts(shape: Shape, wanted: Shape, roles: str = "oi") -> tuple[Layout, ...]:
    """The layouts in which an array is a parameter of PyTorch's shape, each a different order.

    Args:
        shape: of the array.
        wanted: the parameter's shape in PyTorch.
        roles: what the parameter's axes are to its layer: see :class:`portinit.Layout`.

    >>> len(fitting_layouts((64, 8, 16), (128, 64))), len(fitting_layouts((4, 4), (4, 4)))
    (1, 2)
    """
    found: dict[Hashable, Layout] = {}
    for layout in _candidates(shape, wanted):
        try:
            fits = layout.logical_shape(shape) == wanted
        except ValueError:
            continue
        if fits:
            whole = replace(layout, roles=roles, flip=roles == "io" and _is_flipped(layout, shape))
            found.setdefault(_order(whole, shape), whole)
    return tuple(found.values())


def _is_flipped(layout: Layout, shape: Shape) -> bool:
    """Whether a transposed convolution's kernel, (..., in, out), has its space reversed.

    Flax's (..., out, in), of ``transpose_kernel=True``, has not.
    """
    ndim = len(shape)
    axes = [axis % ndim for axis in (*layout.axis0, *layout.axis1)] if ndim else []
    return ndim > 2 and layout.view is None and axes == [ndim - 2, ndim - 1]


def _order(layout: Layout, shape: Shape) -> Hashable:
    """What layouts that put all elements in the same order have in common."""
    seen = layout.seen(shape)
    groups = layout.groups(len(seen))
    strides = [math.prod(seen[axis + 1 :]) for axis in range(len(seen))]
    return tuple(
        tuple((strides[axis], seen[axis]) for axis in group if seen[axis] > 1) for group in groups
    ), layout.flip


def _candidates(shape: Shape, wanted: Shape) -> Iterator[Layout]:
    if math.prod(shape) != math.prod(wanted):
        return
    ndim = len(shape)
    if shape == wanted:
        yield Layout()
    if len(wanted) == 1 and ndim > 1:
        yield Layout(axis0=tuple(range(ndim)), axis1=())
    yield from _permuted(ndim)
    if len(wanted) == 2:
        yield from _cut(ndim)
    yield from _with_ones(shape, wanted)
    yield from _patches(shape, wanted)
    yield from _depthwise(shape, wanted)


def _permuted(ndim: int) -> Iterator[Layout]:
    """Two axes are PyTorch's first two, and the rest keep their order: Flax's kernels first."""
    if ndim < 2:
        return
    yield Layout(axis0=(-1,), axis1=(-2,))
    yield Layout()
    for i in range(ndim):
        for j in range(ndim):
            if i != j:
                yield Layout(axis0=(i,), axis1=(j,))


def _cut(ndim: int) -> Iterator[Layout]:
    """The axes in two runs, inputs before outputs or outputs before inputs."""
    axes = tuple(range(ndim))
    for cut in range(1, ndim):
        yield Layout(axis0=axes[cut:], axis1=axes[:cut])
    for cut in range(1, ndim):
        yield Layout(axis0=axes[:cut], axis1=axes[cut:])


def _with_ones(shape: Shape, wanted: Shape) -> Iterator[Layout]:
    """Axes of length 1 that one side lacks."""
    bare, target = ([n for n in s if n != 1] for s in (shape, wanted))
    if bare == target and len(shape) != len(wanted):
        yield Layout(view=wanted)
    if len(shape) == 2 < len(wanted) and math.prod(wanted[2:]) == 1:
        # a convolution of width 1 and a linear layer
        yield Layout((1,), (0,), view=(*reversed(wanted[:2]), *wanted[2:]))
        yield Layout((0,), (1,), view=wanted)


def _patches(shape: Shape, wanted: Shape) -> Iterator[Layout]:
    """A convolution over patches, as a matrix from a flattened patch."""
    if len(shape) == 2 and len(wanted) > 2 and shape[1] == wanted[0]:
        out, channels, *space = wanted
        n = len(space)
        yield Layout((n + 1,), (n,), view=(*space, channels, out))
        yield Layout((n + 1,), (0,), view=(channels, *space, out))


def _depthwise(shape: Shape, wanted: Shape) -> Iterator[Layout]:
    """A depthwise kernel, (..., channels, multiplier), whose channels are PyTorch's groups."""
    if len(shape) == len(wanted) > 2 and wanted[1] == 1:
        n = len(shape) - 2
        yield Layout((n, n + 1), (n + 2,), view=(*shape, 1))


@dataclass(frozen=True)
class Choice:
    """A pair whose layout is to be found.

    Attributes:
        layouts: those that fit, at least one.
        prior: the layout that names and the recipe speak for; None if they say nothing.
        is_convention: whether the prior is what the framework's own layers have.
        by_class: whether the prior is known from the module's class.
        group: what arrays have in common that are likely to lie alike; None to stand alone.
        contracted: the one that the forward passes tell; None if they do not.
    """

    layouts: tuple[Layout, ...]
    prior: Layout | None
    is_convention: bool
    by_class: bool
    group: Hashable
    contracted: Layout | None = None


@lru_cache(maxsize=4096)
def orientation(layout: Layout, shape: Shape) -> bool:
    """Whether the outputs, PyTorch's axis 0, lie behind the inputs in the array."""
    seen = layout.seen(shape)
    first, second = (*layout.groups(len(seen)), (), ())[:2]
    return bool(second) and max(first) > max(second)


def decide(
    choices: Sequence[tuple[Choice, Shape]],
) -> list[tuple[Layout, LayoutEvidence]]:
    """The layout of each pair: the only one, its siblings', or what its names speak for."""
    votes: dict[Hashable, set[bool]] = defaultdict(set)
    for choice, shape in choices:
        told = choice.layouts[0] if len(choice.layouts) == 1 else choice.contracted
        if choice.group is not None and told is not None and len(shape) > 1:
            votes[choice.group].add(orientation(told, shape))
    return [_decide(choice, shape, votes[choice.group]) for choice, shape in choices]


def _decide(choice: Choice, shape: Shape, votes: set[bool]) -> tuple[Layout, LayoutEvidence]:
    layouts = choice.layouts
    if choice.contracted is not None and len(layouts) > 1:
        return choice.contracted, LayoutEvidence.CONTRACTION
    prior = next((one for one in layouts if same_order(one, choice.prior, shape)), None)
    if choice.by_class and prior is not None and len(shape) > 1:
        return prior, LayoutEvidence.CLASS
    if len(layouts) == 1:
        return layouts[0], LayoutEvidence.SHAPE
    if len(votes) == 1:
        voted = [one for one in layouts if orientation(one, shape) in votes]
        if prior in voted:
            return prior or voted[0], LayoutEvidence.SIBLINGS
        if len(voted) == 1:
            return voted[0], LayoutEvidence.SIBLINGS
    if prior is None and choice.is_convention:  # inputs before outputs, as in Flax's layers
        prior = next((one for one in layouts if orientation(one, shape)), None)
    if prior is None:
        return layouts[0], LayoutEvidence.ASSUMED
    sure = choice.is_convention and not votes
    return prior, LayoutEvidence.CONVENTION if sure else LayoutEvidence.ASSUMED


@lru_cache(maxsize=4096)
def same_order(layout: Layout, other: Layout | None, shape: Shape) -> bool:
    """Whether two layouts put the elements of an array in the same order."""
    if other is None:
        return False
    try:
        return _order(layout, shape) == _order(other, shape)
    except ValueError:
        return False
