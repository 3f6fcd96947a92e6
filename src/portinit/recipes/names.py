"""Names across frameworks: ``layers_0/linear1/kernel`` is ``layers.0.linear1.weight``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from portinit.arrays.layouts import LAYOUTS, Layout, Shape
from portinit.recipes.elements import Elements


@dataclass(frozen=True)
class ParameterSlice:
    """A parameter of a recipe, or a part of it: some rows, a box, or any of its elements.

    Attributes:
        name: the parameter's name in the recipe.
        rows: coordinates along PyTorch's axis 0; None for all of them.
        others: likewise along axes 1, 2, ..., as far as they are limited.
        elements: instead of these, elements by their numbers, as one vector.

    >>> ParameterSlice.parse("attn.in_proj_weight[64:128]")
    ParameterSlice(name='attn.in_proj_weight', rows=range(64, 128), others=(), elements=None)
    >>> str(ParameterSlice("c_attn.weight", others=(range(0, 64),)))
    'c_attn.weight[:, 0:64]'
    """

    name: str
    rows: range | None = None
    others: tuple[range | None, ...] = ()
    elements: Elements | None = None

    @classmethod
    def parse(cls, text: str) -> ParameterSlice:
        """A name as tables write it, limited as NumPy writes it.

        ``attn.in_proj_weight[0:64]`` is rows, ``c_attn.weight[:, 0:64]`` columns, and
        ``gate_up.weight[0:64:2]`` every other row.
        """
        limited = _LIMITED.fullmatch(text) if text.endswith("]") else None
        if limited is None:
            return cls(text)
        rows, *others = map(_range, limited[2].split(","))
        return cls(limited[1], rows, tuple(others))

    @classmethod
    def box(cls, name: str, box: Sequence[range], whole: Shape) -> ParameterSlice:
        """A box of a parameter of shape ``whole``; the parameter itself where it is all of it."""
        limits = [None if r == range(n) else r for r, n in zip(box, whole, strict=True)]
        while limits and limits[-1] is None:
            limits.pop()
        return cls(name, limits[0] if limits else None, tuple(limits[1:]))

    def __str__(self) -> str:
        if self.is_whole:
            return self.name
        if self.elements is not None:
            return f"{self.name}[{len(self.elements)} elements]"
        return f"{self.name}[{', '.join(map(_text, (self.rows, *self.others)))}]"

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the parameter, in PyTorch's order."""
        if self.rows is not None or self.elements is not None:
            return False
        return not self.others or self.others.count(None) == len(self.others)

    def limits(self, whole: Shape) -> tuple[range, ...]:
        """The box's coordinates along each axis of a parameter of shape ``whole``.

        Raises:
            ValueError: the parameter has no such box.
        """
        limits = (self.rows, *self.others)
        lacking = [r for r in limits[len(whole) :] if r is not None]
        box = [range(n) if r is None else r for n, r in zip_longest(whole, limits[: len(whole)])]
        if lacking or any(r and r[-1] >= size for size, r in zip(whole, box, strict=True)):
            raise ValueError(f"{self} needs a parameter that has it, got one of {whole}")
        return tuple(box)

    def shape_in(self, whole: Shape) -> Shape:
        """The shape of the slice of a parameter of shape ``whole``."""
        if self.elements is not None:
            return (len(self.elements),)
        return whole if self.is_whole else tuple(map(len, self.limits(whole)))

    def of(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The slice of a NumPy array of the parameter's values, in PyTorch's order."""
        if self.elements is not None:
            self.elements.require_within(values.size)
            return np.asarray(values.reshape(-1)[self.elements.numbers])
        limits = self.limits(values.shape)
        return values[tuple(slice(r.start, r.stop, r.step) for r in limits)]


def times_held(parts: Sequence[ParameterSlice], whole: Shape) -> np.ndarray[Any, Any]:
    """How many of some parts of one parameter have each of its elements."""
    uses = np.zeros(whole, np.int32)
    for part in parts:
        if part.elements is not None:
            np.add.at(uses.reshape(-1), part.elements.numbers, 1)
        else:
            part.of(uses)[...] += 1
    return uses


_LIMITED = re.compile(r"(.*)\[((?::|\d+:\d+(?::\d+)?)(?:, ?(?::|\d+:\d+(?::\d+)?))*)\]")


def _range(text: str) -> range | None:
    return None if text.strip() == ":" else range(*map(int, text.split(":")))


def _text(limits: range | None) -> str:
    if limits is None:
        return ":"
    step = "" if limits.step == 1 else f":{limits.step}"
    return f"{limits.start}:{limits.stop}{step}"


_LEAVES = {
    "kernel": "weight",
    "embedding": "weight",
    "scale": "weight",
    "negative_slope": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
"""Flax's names for a module's own parameters, and PyTorch's."""


def torch_name(path: Sequence[str]) -> str:
    """The name PyTorch would write for a Flax path, by rule.

    The last part is translated (kernel, scale and embedding are ``weight``; mean and var are
    running statistics), and a number behind an underscore is a list's index.

    >>> torch_name(("layers_0", "linear1", "kernel"))
    'layers.0.linear1.weight'
    """
    *modules, leaf = path
    return ".".join([*map(_numbered, modules), _LEAVES.get(leaf, leaf)])


def _numbered(module: str) -> str:
    """A module's name with a number behind an underscore as a list's index."""
    name, underscore, number = module.rpartition("_")
    return f"{name}.{number}" if underscore and number.isdecimal() else module


_ATTENTION = {"query": "in", "key": "in", "value": "in", "out": "out"}
_HEADS = {
    "in": Layout(axis0=(1, 2), axis1=(0,)),  # (embed, heads, size)
    "out": Layout(axis0=(2,), axis1=(0, 1)),  # (heads, size, embed)
}


def flax_layout(path: Sequence[str], ndim: int) -> Layout:
    """The layout that a Flax array's path implies, if any.

    >>> flax_layout(("attn", "query", "kernel"), 3).logical_shape((64, 8, 16))
    (128, 64)
    """
    if path[-1] == "embedding":
        return LAYOUTS["rows"]
    heads = _ATTENTION.get(path[-2]) if len(path) > 1 else None
    if path[-1] == "kernel":
        return _HEADS[heads] if heads and ndim == 3 else LAYOUTS["flax"]
    if path[-1] == "bias" and heads == "in" and ndim == 2:
        return Layout(axis0=(0, 1), axis1=())
    return LAYOUTS["torch"]


def signature(name: str) -> str:
    """A name with all its words between dots, to compare spellings.

    >>> signature("layers.0.linear1") == signature("layers_0/linear1")
    True
    """
    dotted = name.replace("/", ".").replace("_", ".")
    if ".." not in dotted:
        return dotted
    first, *others = dotted.split(".")
    # An underscore at the end belongs to the word: ``mean_`` is another name than ``mean``.
    return ".".join([first, *filter(None, others[:-1]), *others[-1:]])


def signatures_of(path: Sequence[str]) -> Iterator[str]:
    """The names that a Flax path may be, as signatures: as it is written, and translated."""
    yield signature(".".join(path))
    *modules, leaf = path
    if leaf in _LEAVES:
        yield signature(".".join([*modules, _LEAVES[leaf]]))
