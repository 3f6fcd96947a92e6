"""What a Flax tree says of its parameters: names, shapes, kinds and layouts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
from flax import linen, nnx

from portinit import Layout, Parameter
from portinit.arrays.layouts import LAYOUTS, Shape
from portinit.initializers.fans import torch_fans
from portinit.recipes.names import flax_layout

Path = tuple[str, ...]

COLLECTIONS = ("params", "batch_stats")
"""The collections of linen's variables that hold what PyTorch's state_dict holds."""

_GATES = frozenset(
    {"ii", "if", "if_", "ig", "io", "hi", "hf", "hg", "ho"}  # LSTM
    | {"ir", "iz", "in", "in_", "hr", "hz", "hn"}  # GRU
)
_ATTENTION = frozenset({"query", "key", "value", "out"})


@dataclass(frozen=True)
class Leaf:
    """One array of a tree, or one layer of a stack of them.

    Attributes:
        position: the array's number in the tree.
        path: its path without collection; behind what is repeated, a layer's has its number.
        shape: the array's shape, or the layer's.
        dtype: its dtype.
        axis: which of the array's axes the layers lie along; none if it is no stack.
        layer: the layer's number.
    """

    position: int
    path: Path
    shape: Shape
    dtype: Any
    axis: int | None = None
    layer: int = 0


def tree_of(model: Any) -> Any:
    """A model's arrays: an nnx module's parameters and batch statistics, or the tree it is."""
    if isinstance(model, nnx.Module):
        return nnx.state(model, (nnx.Param, nnx.BatchStat))
    if isinstance(model, linen.Module):
        raise TypeError(
            f"model must be variables or an nnx.Module, got the linen module "
            f"{type(model).__name__}, which holds no parameters: give "
            "jax.eval_shape(model.init, jax.random.key(0), example_input)"
        )
    if hasattr(model, "named_parameters"):
        raise TypeError(
            f"model must be linen variables or an nnx.Module, got {type(model).__name__} of "
            "PyTorch: portinit_torch.initialize fills it"
        )
    return model


def leaves(tree: Any) -> tuple[list[Leaf], list[Any], Any]:
    """The parameters among a tree's leaves, all leaves, and the tree's structure.

    Boxes (partitioned parameters, nnx variables) are looked through. A tree with linen's
    ``params`` collection gives its parameters and batch statistics only.
    """
    flat, structure = jax.tree_util.tree_flatten_with_path(tree)
    paths = [path_of(keys) for keys, _ in flat]
    collected = any(path[:1] == ("params",) for path in paths)
    chosen = [
        Leaf(i, path[1:] if collected else path, tuple(leaf.shape), leaf.dtype)
        for i, (path, (_, leaf)) in enumerate(zip(paths, flat, strict=True))
        if not collected or path[0] in COLLECTIONS
    ]
    return chosen, [leaf for _, leaf in flat], structure


def path_of(keys: Any) -> Path:
    """The words of a leaf's path, as JAX gives it; boxes on the way are passed over."""
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
        if owner in _GATES or self._state(path) is not None:
            return "recurrent"
        return "linear" if len(kernel.shape) == 2 or owner in _ATTENTION else "conv"

    def _state(self, path: Path) -> int | None:
        """The size of the state of the cell that a leaf is in, where the leaf does not tell it."""
        for pair in (("dense_i", "dense_h"), ("i", "h")):
            if path[-2:-1] and path[-2] in pair:
                found = (self.leaves.get((*path[:-2], owner, "kernel")) for owner in pair)
                shapes = [leaf.shape for leaf in found if leaf and len(leaf.shape) == 2]
                return shapes[1][0] if len(shapes) == 2 else None
        return None

    def layout(self, path: Path, wanted: Shape | None) -> Layout:
        """How a leaf's axes are PyTorch's, given the recipe's shape where it has one."""
        shape = self.leaves[path].shape
        if wanted is not None and len(wanted) == 1 < len(shape):
            return Layout(axis0=tuple(range(len(shape))), axis1=())
        if path[-1] == "kernel" and wanted is not None and len(wanted) == 2 < len(shape):
            return next(_splits(shape, wanted), LAYOUTS["flax"])
        return flax_layout(path, len(shape))

    def describe(self, path: Path, name: str, layout: Layout) -> Parameter:
        """What a recipe is told of a leaf."""
        shape = layout.logical_shape(self.leaves[path].shape)
        return Parameter(name, shape, self.kind(path), self._fan_in(path))

    def _fan_in(self, path: Path) -> int | None:
        kernel = self._sibling(path, "kernel")
        if kernel is None or len(kernel.shape) < 2:
            return None
        if self.kind(path) == "recurrent":
            return self._state(path) or kernel.shape[-1]
        logical = self.layout(kernel.path, None).logical_shape(kernel.shape)
        return torch_fans(logical)[0]


def _splits(shape: Shape, wanted: Shape) -> Iterator[Layout]:
    """The ways to read (in..., out...) axes as a matrix of PyTorch's, that give its shape."""
    axes = tuple(range(len(shape)))
    for cut in range(1, len(shape)):
        layout = Layout(axis0=axes[cut:], axis1=axes[:cut])
        if layout.logical_shape(shape) == wanted:
            yield layout
