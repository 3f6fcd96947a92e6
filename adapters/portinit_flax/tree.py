"""What a Flax tree says of its parameters: names, shapes, kinds and layouts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
from flax import linen, nnx
from flax.core.meta import AxisMetadata

from portinit import Layout, Parameter
from portinit.arrays.layouts import LAYOUTS, Shape
from portinit.initializers.fans import torch_fans
from portinit.recipes.matching.leaf import Leaf as Leaf
from portinit.recipes.matching.leaf import Path as Path
from portinit.recipes.names import flax_layout
from portinit.recipes.rule import raise_misfits

COLLECTIONS = ("params", "batch_stats")
"""The collections of linen's variables that hold what PyTorch's state_dict holds."""

_GATES = frozenset(
    {"ii", "if", "if_", "ig", "io", "hi", "hf", "hg", "ho"}  # LSTM
    | {"ir", "iz", "in", "in_", "hr", "hz", "hn"}  # GRU
)
_ATTENTION = frozenset({"query", "key", "value", "out"})
_KINDS = {
    **dict.fromkeys(("Dense", "DenseGeneral", "Linear", "LinearGeneral"), "linear"),
    **dict.fromkeys(("Conv", "ConvLocal"), "conv"),
    "ConvTranspose": "conv_transpose",
    "Embed": "embedding",
}
"""The kind of layer that Flax's own classes are."""

_VECTORS = frozenset({"bias", "b", "beta", "offset", "scale", "gamma", "mean", "var"})
"""Leaves that have one axis in a layer, so that a further one is of several layers or heads."""


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
    ``params`` collection gives its parameters and batch statistics only. Leaves without a shape,
    such as the functions in an Equinox module, are no parameters.

    Raises:
        portinit.RecipeError: two leaves have the same path.
    """
    flat, structure = jax.tree.flatten(tree)
    paths = list(paths_of(tree))
    collected = any(path[:1] == ("params",) for path in paths)
    chosen = [
        Leaf(i, path[collected:], tuple(leaf.shape), leaf.dtype, path[collected:])
        for i, (path, leaf) in enumerate(zip(paths, flat, strict=True))
        if (not collected or path[0] in COLLECTIONS) and hasattr(leaf, "dtype")
    ]
    counts = Counter(leaf.path for leaf in chosen)
    raise_misfits(
        "each array of a tree must have a path of its own",
        [f"{'/'.join(path)}: {count} arrays" for path, count in counts.items() if count > 1],
    )
    return chosen, flat, structure


def paths_of(tree: Any) -> Iterator[Path]:
    """The paths of a tree's leaves, in JAX's order; boxes on the way are passed over."""
    for keys, node in jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_box)[0]:
        path = path_of(keys)
        if not _is_box(node):
            yield path
            continue
        for inner, _ in jax.tree_util.tree_flatten_with_path(node)[0]:
            yield path + path_of(k for k in inner if not isinstance(k, _Attribute))


_Attribute = jax.tree_util.GetAttrKey


def _is_box(node: Any) -> bool:
    return isinstance(node, AxisMetadata | nnx.Variable)


def path_of(keys: Iterable[Any]) -> Path:
    """The words of a leaf's path, as JAX gives it: keys, numbers and names of attributes."""
    words = []
    for key in keys:
        kind = type(key)
        word = getattr(key, _WORDS[kind]) if kind in _WORDS else key
        words.append(str(word))
    return tuple(words)


_WORDS: dict[type, str] = {
    jax.tree_util.DictKey: "key",
    jax.tree_util.FlattenedIndexKey: "key",
    jax.tree_util.SequenceKey: "idx",
    jax.tree_util.GetAttrKey: "name",
}
"""Where each kind of JAX's keys has its word."""


def classes_of(model: Any) -> dict[Path, str]:
    """The names of the classes of an nnx module's parts, by their paths."""
    if not isinstance(model, nnx.Module):
        return {}
    return {
        tuple(map(str, path)): _class_name(type(module)) for path, module in nnx.iter_modules(model)
    }


def _class_name(cls: type) -> str:
    """The name of the class of Flax's own that a class is, or comes from; or else its name."""
    own = (c.__name__ for c in cls.__mro__ if c.__module__.startswith("flax.nnx.nn."))
    return next(own, cls.__name__)


def definition_order(model: Any) -> list[Path] | None:
    """The paths of a model's arrays in the order of their definition; None if it is not known.

    The order is that of attributes in nnx modules, of fields, and of dicts that have not been
    sorted, as everything has that JAX's transformations return.
    """
    found: list[Path] = []
    walk = _Walk()
    walk.visit(model, (), found)
    if not walk.is_unsorted:
        return None
    collected = any(path[:1] == ("params",) for path in found)
    return [path[1:] if collected else path for path in found]


@dataclass
class _Walk:
    """A walk through containers and modules; whether any has its parts in an order of its own."""

    is_unsorted: bool = False
    _seen: set[int] = field(default_factory=set)

    def visit(self, node: Any, path: Path, found: list[Path]) -> None:
        if _is_box(node) or (hasattr(node, "dtype") and hasattr(node, "shape")):
            found.append(path)
            return
        if id(node) in self._seen:
            return
        self._seen.add(id(node))
        for name, child in self._children(node):
            self.visit(child, (*path, str(name)), found)

    def _children(self, node: Any) -> Iterable[tuple[Any, Any]]:
        if isinstance(node, nnx.List):
            return enumerate(node)
        if isinstance(node, nnx.Module):
            own = {k: child for k, child in vars(node).items() if not k.startswith("_pytree__")}
            return self._children(own)
        if isinstance(node, Mapping):
            keys = [str(key) for key in node]
            self.is_unsorted |= keys != sorted(keys)
            return node.items()
        if hasattr(node, "_fields"):
            return zip(node._fields, node, strict=True)
        if isinstance(node, list | tuple):
            return enumerate(node)
        if hasattr(node, "__dataclass_fields__"):
            return [(name, getattr(node, name, None)) for name in node.__dataclass_fields__]
        return ()


class Tree:
    """The leaves of a tree by path, and what siblings and classes say of them.

    Args:
        found: the leaves.
        classes: the classes of modules by their paths, where they are known.
    """

    def __init__(self, found: list[Leaf], classes: Mapping[Path, str] | None = None) -> None:
        self.leaves = {leaf.path: leaf for leaf in found}
        self._classes = classes or {}
        self._kinds: dict[Path, str | None] = {}

    def _sibling(self, path: Path, name: str) -> Leaf | None:
        return self.leaves.get((*path[:-1], name))

    def class_of(self, path: Path) -> str | None:
        """The class of the module that owns a leaf: known, or told by linen's name for it."""
        known = self._classes.get(path[:-1])
        if known is None and len(path) > 1:
            automatic = re.fullmatch(r"([A-Z]\w*?)_\d+", path[-2])
            known = automatic[1] if automatic else None
        return known

    def kind(self, path: Path) -> str | None:
        """The kind of layer that owns a leaf, as far as classes, names and shapes tell."""
        module = path[:-1]
        if module not in self._kinds:
            self._kinds[module] = self._kind(path)
        return self._kinds[module]

    def _kind(self, path: Path) -> str | None:
        owner = path[-2] if len(path) > 1 else ""
        kernel = self._sibling(path, "kernel")
        if self._is_of_a_wrapper(path):
            return "parametrized"
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
        of_class = _KINDS.get(self.class_of(path) or "")
        if of_class is not None:
            return of_class
        is_matrix = len(kernel.shape) == 2 or owner in _ATTENTION or self._heads(kernel) > 1
        return "linear" if is_matrix else "conv"

    def _is_of_a_wrapper(self, path: Path) -> bool:
        """Whether WeightNorm or SpectralNorm keeps a leaf of a parameter that it computes anew.

        They name it by the path of that parameter: joined by slashes in linen, a tuple in nnx.
        """
        *wrapped, word = path[-1].split("/")
        of_linen = word in ("scale", "u", "sigma") and (*path[:-2], *wrapped) in self.leaves
        return (bool(wrapped) and of_linen) or path[-1].startswith("('")

    def _heads(self, kernel: Leaf) -> int:
        """How many of a kernel's last axes are outputs, as its bias tells; 0 if it does not."""
        bias = self._sibling(kernel.path, "bias")
        ndim = len(bias.shape) if bias is not None else 0
        return ndim if bias is not None and kernel.shape[-ndim:] == bias.shape else 0

    def stacked_kernel(self, path: Path) -> str | None:
        """Why a kernel of three or more axes is one of several layers, if its relatives say so."""
        leaf = self.leaves[path]
        if path[-1] != "kernel" or len(leaf.shape) < 3:
            return None
        if len(path) > 1 and path[-2] in _ATTENTION:
            return None
        bias = self._sibling(path, "bias")
        if bias is not None and len(bias.shape) == 1:
            return None
        if bias is not None and self._heads(leaf) > 1:
            return None
        where = None
        for depth in range(len(path) - 1, -1, -1):
            first_axes, ranks = self._below[path[:depth]]
            if first_axes != {leaf.shape[:1]} or any(rank < 2 for rank in ranks):
                break
            if ranks and (depth or where is None):
                where = "/".join(path[:depth])
        if where is None:
            return None
        return (
            f"every array below {where or 'the root'} has {leaf.shape[0]} along axis 0, vectors "
            f'too; if they are stacked layers, say so with stacked={{"{where}": 0}}'
        )

    @cached_property
    def _below(self) -> dict[Path, tuple[set[Shape], set[int]]]:
        """For each module, the first axes of all arrays below it, and the ranks of its vectors."""
        below: dict[Path, tuple[set[Shape], set[int]]] = {}
        for leaf in self.leaves.values():
            for depth in range(len(leaf.path)):
                first_axes, ranks = below.setdefault(leaf.path[:depth], (set(), set()))
                first_axes.add(leaf.shape[:1])
                if leaf.path[-1] in _VECTORS:
                    ranks.add(len(leaf.shape))
        return below

    def _state(self, path: Path) -> int | None:
        """The size of the state of the cell that a leaf is in, where the leaf does not tell it."""
        for pair in (("dense_i", "dense_h"), ("i", "h")):
            if path[-2:-1] and path[-2] in pair:
                found = (self.leaves.get((*path[:-2], owner, "kernel")) for owner in pair)
                shapes = [leaf.shape for leaf in found if leaf and len(leaf.shape) == 2]
                return shapes[1][0] if len(shapes) == 2 else None
        return None

    def layout(self, path: Path) -> Layout:
        """How a leaf's axes map to PyTorch's, as far as names, classes and siblings tell."""
        shape = self.leaves[path].shape
        named = flax_layout(path, len(shape))
        if path[-1] not in ("kernel", "bias") or len(shape) < 2 or named != _usual(path, shape):
            return named
        kernel = self._sibling(path, "kernel")
        kind = self.kind(path)
        if path[-1] == "bias":
            return Layout(axis0=tuple(range(len(shape))), axis1=()) if kind == "linear" else named
        if kind == "conv_transpose" and self.class_of(path) is not None:
            return LAYOUTS["flax_conv_transpose"]
        if kind == "linear" and len(shape) > 2 and kernel is not None:
            outputs = self._heads(kernel) or 1
            axes = tuple(range(len(shape)))
            return Layout(axis0=axes[-outputs:], axis1=axes[:-outputs])
        return named

    def describe(self, path: Path, name: str, layout: Layout) -> Parameter:
        """What a recipe is told of a leaf."""
        shape = layout.logical_shape(self.leaves[path].shape)
        kind = self.kind(path)
        siblings = self._blocks.get(path[:-2], ()) if kind == "norm" else None
        return Parameter(name, shape, kind, self._fan_in(path), siblings=siblings)

    @cached_property
    def _blocks(self) -> dict[Path, tuple[str, ...]]:
        """The names of the layers in each block."""
        names: dict[Path, dict[str, None]] = {}
        for path in self.leaves:
            for depth in range(len(path) - 1):
                names.setdefault(path[:depth], {})[path[depth]] = None
        return {block: tuple(layers) for block, layers in names.items()}

    def _fan_in(self, path: Path) -> int | None:
        kernel = self._sibling(path, "kernel")
        if kernel is None or len(kernel.shape) < 2:
            return None
        if self.kind(path) == "recurrent":
            return self._state(path) or kernel.shape[-1]
        logical = self.layout(kernel.path).logical_shape(kernel.shape)
        return torch_fans(logical)[0]


def _usual(path: Path, shape: Shape) -> Layout:
    """The layout of an array of whose module nothing is known."""
    return LAYOUTS["flax"] if path[-1] == "kernel" else LAYOUTS["torch"]
