"""What a Flax tree says of its parameters: names, shapes, kinds and layouts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax

from portinit import Layout, Parameter
from portinit.fans import torch_fans
from portinit.layouts import LAYOUTS, Shape

Path = tuple[str, ...]

COLLECTIONS = ("params", "batch_stats")
"""The collections of linen's variables that hold what PyTorch's state_dict holds."""

_GATES = frozenset(
    {"ii", "if", "if_", "ig", "io", "hi", "hf", "hg", "ho"}  # LSTM
    | {"ir", "iz", "in", "in_", "hr", "hz", "hn"}  # GRU
)
_ATTENTION = {"query": "in", "key": "in", "value": "in", "out": "out"}
_HEADS = {
    "in": Layout(axis0=(1, 2), axis1=(0,)),  # (embed, heads, size)
    "out": Layout(axis0=(2,), axis1=(0, 1)),  # (heads, size, embed)
}


@dataclass(frozen=True)
class Leaf:
    """One array of a tree: its place, its path without collection, its shape and dtype."""

    position: int
    path: Path
    shape: Shape
    dtype: Any


def leaves(tree: Any) -> tuple[list[Leaf], list[Any], Any]:
    """The parameters among a tree's leaves, all leaves, and the tree's structure.

    Boxes (partitioned parameters, nnx variables) are looked through. A tree with linen's
    ``params`` collection gives its parameters and batch statistics only.
    """
    flat, structure = jax.tree_util.tree_flatten_with_path(tree)
    paths = [_path(keys) for keys, _ in flat]
    collected = any(path[:1] == ("params",) for path in paths)
    chosen = [
        Leaf(i, path[1:] if collected else path, tuple(leaf.shape), leaf.dtype)
        for i, (path, (_, leaf)) in enumerate(zip(paths, flat, strict=True))
        if not collected or path[0] in COLLECTIONS
    ]
    return chosen, [leaf for _, leaf in flat], structure


def _path(keys: Any) -> Path:
    return tuple(
        str(key.idx if hasattr(key, "idx") else key.key)
        for key in keys
        if not isinstance(key, jax.tree_util.GetAttrKey)
    )


class Tree:
    """The leaves of a tree by path, and what siblings say of each other."""

    def __init__(self, found: list[Leaf]) -> None:
        self.leaves = {leaf.path: leaf for leaf in found}

    def _sibling(self, path: Path, name: str) -> Leaf | None:
        return self.leaves.get((*path[:-1], name))

    def kind(self, path: Path) -> str | None:
        """The kind of layer that owns a leaf, as far as names and shapes tell."""
        owner = path[-2] if len(path) > 1 else ""
        kernel = self._sibling(path, "kernel")
        if self._sibling(path, "embedding"):
            return "embedding"
        if self._sibling(path, "scale"):
            return "norm"
        if self._sibling(path, "negative_slope"):
            return "prelu"
        if kernel is None:
            return None
        if owner in _GATES:
            return "recurrent"
        return "linear" if len(kernel.shape) == 2 or owner in _ATTENTION else "conv"

    def layout(self, path: Path, wanted: Shape | None) -> Layout:
        """How a leaf's axes are PyTorch's, given the recipe's shape where it has one."""
        shape = self.leaves[path].shape
        if wanted is not None and len(wanted) == 1 < len(shape):
            return Layout(axis0=tuple(range(len(shape))), axis1=())
        if path[-1] == "embedding":
            return LAYOUTS["rows"]
        if path[-1] != "kernel":
            return LAYOUTS["torch"]
        if wanted is not None and len(wanted) == 2 < len(shape):
            return next(_splits(shape, wanted), LAYOUTS["flax"])
        if len(shape) == 3 and path[-2:-1] and path[-2] in _ATTENTION:
            return _HEADS[_ATTENTION[path[-2]]]
        return LAYOUTS["flax"]

    def describe(self, path: Path, name: str, layout: Layout) -> Parameter:
        """What a recipe is told of a leaf."""
        shape = layout.logical_shape(self.leaves[path].shape)
        return Parameter(name, shape, self.kind(path), self._fan_in(path))

    def _fan_in(self, path: Path) -> int | None:
        kernel = self._sibling(path, "kernel")
        if kernel is None or len(kernel.shape) < 2:
            return None
        if self.kind(path) == "recurrent":
            return kernel.shape[-1]
        logical = self.layout(kernel.path, None).logical_shape(kernel.shape)
        return torch_fans(logical)[0]


def _splits(shape: Shape, wanted: Shape) -> Iterator[Layout]:
    """The ways to read (in..., out...) axes as a matrix of PyTorch's, that give its shape."""
    axes = tuple(range(len(shape)))
    for cut in range(1, len(shape)):
        layout = Layout(axis0=axes[cut:], axis1=axes[:cut])
        if layout.logical_shape(shape) == wanted:
            yield layout
