"""Names across frameworks: ``layers_0/linear1/kernel`` is ``layers.0.linear1.weight``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from portinit.arrays.layouts import LAYOUTS, Layout, Shape


@dataclass(frozen=True)
class ParameterSlice:
    """A parameter of a recipe, or some rows of PyTorch's axis 0 of it.

    Attributes:
        name: the parameter's name in the recipe.
        rows: the rows; None for all of it.

    >>> ParameterSlice.parse("attn.in_proj_weight[64:128]")
    ParameterSlice(name='attn.in_proj_weight', rows=range(64, 128))
    >>> str(ParameterSlice("attn.in_proj_weight", range(64, 128)))
    'attn.in_proj_weight[64:128]'
    """

    name: str
    rows: range | None = None

    @classmethod
    def parse(cls, text: str) -> ParameterSlice:
        """A name as tables write it: ``attn.in_proj_weight[0:64]`` is limited to rows."""
        limited = _ROWS.fullmatch(text) if text.endswith("]") else None
        if limited is None:
            return cls(text)
        return cls(limited[1], range(int(limited[2]), int(limited[3])))

    def __str__(self) -> str:
        if self.rows is None:
            return self.name
        return f"{self.name}[{self.rows.start}:{self.rows.stop}]"

    def shape_in(self, whole: Shape) -> Shape:
        """The shape of the slice of a parameter of shape ``whole``."""
        return whole if self.rows is None else (len(self.rows), *whole[1:])


_ROWS = re.compile(r"(.*)\[(\d+):(\d+)\]")

_LEAVES = {
    "kernel": "weight",
    "embedding": "weight",
    "scale": "weight",
    "negative_slope": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
"""What Flax calls a parameter, and what PyTorch does."""


def torch_name(path: Sequence[str]) -> str:
    """The name PyTorch would write for a Flax path, by rule.

    The last part is translated (kernel, scale and embedding are ``weight``; mean and var are
    running statistics), and a number behind an underscore is a list's index.

    >>> torch_name(("layers_0", "linear1", "kernel"))
    'layers.0.linear1.weight'
    """
    *modules, leaf = path
    parts = [re.sub(r"_(\d+)$", r".\1", module) for module in modules]
    return ".".join([*parts, _LEAVES.get(leaf, leaf)])


_ATTENTION = {"query": "in", "key": "in", "value": "in", "out": "out"}
_HEADS = {
    "in": Layout(axis0=(1, 2), axis1=(0,)),  # (embed, heads, size)
    "out": Layout(axis0=(2,), axis1=(0, 1)),  # (heads, size, embed)
}


def flax_layout(path: Sequence[str], ndim: int) -> Layout:
    """How a Flax array's axes are PyTorch's, as far as its path tells.

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


def signature(name: str) -> tuple[str, ...]:
    """What two spellings of a name have in common: the words between dots and underscores.

    >>> signature("layers.0.linear1") == signature("layers_0/linear1")
    True
    """
    first, *others = name.replace("/", ".").replace("_", ".").split(".")
    # An underscore at the end belongs to the word: ``mean_`` is another name than ``mean``.
    return (first, *filter(None, others[:-1]), *others[-1:])


def signatures_of(path: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The names that a Flax path may be, as signatures: as it is written, and translated."""
    yield signature(".".join(path))
    *modules, leaf = path
    if leaf in _LEAVES:
        yield signature(".".join([*modules, _LEAVES[leaf]]))
