"""How a conversion of weights moves them, read off tensors that are pushed through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from portinit.arrays.layouts import Shape
from portinit.initializers.assigned import assign
from portinit.initializers.base import Initializer
from portinit.initializers.basic import constant, ones, zeros
from portinit.recipes.elements import Elements, Vector
from portinit.recipes.matching.conversions.recognition import recognise
from portinit.recipes.matching.conversions.tags import Array, TaggedArray, Tags, significant_bits
from portinit.recipes.matching.tables.compact import compact, series
from portinit.recipes.matching.tables.files import Names
from portinit.recipes.matching.tables.targets import Target, some_elements
from portinit.recipes.names import ParameterSlice
from portinit.recipes.rule import RecipeError

Push = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""From PyTorch's parameters in float64 to the converted arrays by their paths, joined by ``/``."""

_LARGEST_CONSTANT = 1 << 16
"""How many elements of a constant are written into a table."""


@dataclass(frozen=True)
class Unexplained:
    """An array with elements that are no parameter's.

    Attributes:
        path: the array's path.
        shape: its shape.
        computed: how many elements the conversion computes.
        constant: how many are constants that no parameter changes, and too many for a table.
    """

    path: str
    shape: Shape
    computed: int
    constant: int

    def __str__(self) -> str:
        size = math.prod(self.shape)
        said = [
            f"{_count(number, size)} {word}"
            for number, word in ((self.computed, "computed"), (self.constant, "constant"))
            if number
        ]
        return f"{self.path} {self.shape}: {' and '.join(said)}"


def _count(number: int, size: int) -> str:
    return f"all {size} elements" if number == size else f"{number} of {size} elements"


@dataclass(frozen=True, repr=False)
class Conversion(Names):
    """What a conversion does, as a table of names that fills a model with the same weights.

    Attributes:
        unexplained: arrays of which the table says nothing.
        constants: the paths of arrays that hold, in part or in all, what no parameter changes.
        rounded: the paths of arrays that went through a narrower dtype.
        unused: parameters that are in no array, nor in part.
    """

    unexplained: tuple[Unexplained, ...] = ()
    constants: tuple[str, ...] = ()
    rounded: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return (
            f"<Conversion of {len(self)} lines; {len(self.unexplained)} arrays unexplained, "
            f"{len(self.unused)} parameters unused>"
        )


def read_conversion(
    push: Push, shapes: Mapping[str, Shape], dtypes: Mapping[str, str]
) -> Conversion:
    """Find what a conversion does with each element.

    Args:
        push: the conversion, which is called once for each pass: four or five times for models of
            up to 2**24 elements.
        shapes: PyTorch's shapes by name.
        dtypes: the parameters' dtypes by name.

    Raises:
        RecipeError: the conversion gives other arrays in each pass.
    """
    narrowest = min(map(significant_bits, dtypes.values()), default=8)
    tags = Tags(shapes, narrowest)
    outputs = [push(tags.tensors(0))]
    narrow = min((significant_bits(one.dtype.name) for one in outputs[0].values()), default=8)
    if narrow < tags.bits:
        tags, outputs = Tags(shapes, narrow), []
    for number in range(len(outputs), tags.passes):
        outputs.append(push(tags.tensors(number)))
        _require_same(outputs[0], outputs[-1])
    arrays = {path: tags.read([one[path] for one in outputs], dtypes) for path in outputs[0]}
    return _conversion(arrays, tags)


def _require_same(first: Mapping[str, Array], other: Mapping[str, Array]) -> None:
    """Refuse a conversion that gives other arrays for other values."""
    shapes = [{path: one.shape for path, one in arrays.items()} for arrays in (first, other)]
    if shapes[0] != shapes[1]:
        odd = {p for p in {*shapes[0], *shapes[1]} if shapes[0].get(p) != shapes[1].get(p)}
        raise RecipeError(
            "the conversion must give the same arrays whatever the weights are; these differ:",
            sorted(odd),
        )


def _conversion(arrays: Mapping[str, TaggedArray], tags: Tags) -> Conversion:
    table: dict[str, Target] = {}
    unexplained, constants, rounded = [], [], []
    uses = np.zeros(tags.count, np.int32)
    for path, tagged in arrays.items():
        held = tagged.numbers[tagged.numbers >= 0]
        if held.size:
            np.add.at(uses, held, 1)
        target = None if tagged.computed else describe(tagged, tags)
        if target is None:
            constant_count = int(tagged.is_constant.sum())
            unexplained.append(
                Unexplained(path, tagged.values.shape, tagged.computed, constant_count)
            )
        else:
            table[path] = target
        if tagged.is_constant.any():
            constants.append(path)
        if tagged.rounded:
            rounded.append(path)
    unused, partial = [], []
    slices = (one for target in table.values() for one in target.parameters)
    cut = {one.name for one in slices if not one.is_whole}
    for name, shape in tags.shapes.items():
        start = tags.start(name)
        own = uses[start : start + math.prod(shape)]
        if own.size and not own.any():
            unused.append(name)
        elif not (own == 1).all() and name in cut:
            partial.append(name)
    return Conversion(
        compact(table, [one.path for one in unexplained]),
        ignore=(*unused, *partial),
        unexplained=tuple(unexplained),
        constants=tuple(constants),
        rounded=tuple(rounded),
        unused=tuple(unused),
    )


def describe(tagged: TaggedArray, tags: Tags) -> Target | None:
    """What a table says of an array whose elements are known; None if it cannot.

    In the order in which they are tried: a box of one parameter in a layout; parameters stacked, or
    set side by side, along an axis, and these nested; any elements, by their numbers.
    """
    describer = _Describer(tags, tagged.values)
    if not tagged.numbers.size:
        return None
    codes = np.where(tagged.is_constant, -1, tags.owners(tagged.numbers))
    places = np.arange(tagged.numbers.size).reshape(tagged.numbers.shape)
    return describer.whole(tagged.numbers, codes, places) or describer.pieces(
        tagged.numbers, codes, places
    )


@dataclass(frozen=True)
class _Describer:
    """Finds what an array, or a part of one, holds."""

    tags: Tags
    values: Array

    def whole(self, numbers: Vector, owners: Vector, places: Vector) -> Target | None:
        """A target without scattered pieces."""
        first = int(owners.flat[0])
        if (owners == first).all():
            return self._single(numbers, first, places)
        return self._joined(numbers, owners, places)

    def _single(self, numbers: Vector, owner: int, places: Vector) -> Target | None:
        if owner < 0:
            initializer = _constant(self.values.reshape(-1)[places])
            return None if initializer is None else Target(initializer=initializer)
        name, own = self._own(numbers, owner)
        shape = self.tags.shapes[name]
        found = recognise(own, shape)
        if found is None:
            return Target(*some_elements(name, Elements.of(own)))
        box, layout = found
        return Target(ParameterSlice.box(name, box, shape), layout)

    def _own(self, numbers: Vector, owner: int) -> tuple[str, Vector]:
        name = self.tags.names[owner]
        return name, numbers - self.tags.start(name)

    def _joined(self, numbers: Vector, owners: Vector, places: Vector) -> Target | None:
        cuts = [(axis, _runs(owners, axis)) for axis in range(owners.ndim)]
        cuts = [(axis, runs) for axis, runs in cuts if len(runs) > 1]
        cuts.sort(key=lambda cut: max(len(run) for run in cut[1]) > 1)  # stacks first
        for axis, runs in cuts:
            is_stack = all(len(run) == 1 for run in runs)
            parts = []
            for run in runs:
                at: Any = run.start if is_stack else slice(run.start, run.stop)
                index = (*[slice(None)] * axis, at)
                part = self.whole(numbers[index], owners[index], places[index])
                if part is None:
                    break
                parts.append(part)
            else:
                if is_stack or sum(part.initializer is not None for part in parts) < 2:
                    return series(Target(parts=tuple(parts), axis=axis, is_stack=is_stack))
        return None

    def pieces(self, numbers: Vector, owners: Vector, places: Vector) -> Target | None:
        """A target of pieces that lie anywhere in the array."""
        parts, wheres = [], []
        for owner in np.unique(owners).tolist():
            mine = np.flatnonzero(owners == owner)
            part: Target | None
            if owner < 0:
                part = self._single(numbers, owner, mine)
            else:
                name, own = self._own(numbers.reshape(-1)[mine], owner)
                part = Target(*some_elements(name, Elements.of(own)))
            if part is None:
                return None
            parts.append(part)
            wheres.append(Elements.of(mine))
        return Target(parts=tuple(parts), places=tuple(wheres))


def _runs(owners: Vector, axis: int) -> list[range]:
    """Where an array is cut along an axis so that no parameter is in two parts; one if nowhere."""
    others = tuple(i for i in range(owners.ndim) if i != axis)
    low, high = owners.min(axis=others), owners.max(axis=others)
    ends = np.flatnonzero((low[1:] != low[:-1]) | (high[1:] != high[:-1])) + 1
    bounds = [0, *ends.tolist(), len(low)]
    runs = [range(start, stop) for start, stop in pairwise(bounds)]
    spans = sorted((int(low[run.start]), int(high[run.start])) for run in runs)
    apart = all(one[1] < other[0] for one, other in pairwise(spans))
    return runs if apart else [range(len(low))]


def _constant(values: Array) -> Initializer | None:
    """The initializer of what no parameter changes; None of what is too large for a table."""
    first = values.flat[0]
    if (values == first).all():
        return {0.0: zeros, 1.0: ones}.get(float(first)) or constant(float(first))
    return assign(values) if values.size <= _LARGEST_CONSTANT else None
