"""The arrays of a Flax model: their paths, their modules' classes, the order of definition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import jax
import numpy as np
from flax import linen, nnx
from flax.core.meta import AxisMetadata

from portinit.recipes.matching.trees.leaf import Leaf as Leaf
from portinit.recipes.matching.trees.leaf import Path as Path
from portinit.recipes.rule import raise_misfits
from portinit_jax.paths import path_of as path_of

COLLECTIONS = ("params", "batch_stats")
"""The collections of linen's variables that hold what PyTorch's state_dict holds."""


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


@dataclass(frozen=True)
class FlatTree:
    """A tree, read once: its leaves in JAX's order.

    Attributes:
        paths: the leaves' paths; boxes (partitioned parameters, nnx variables) on the way are
            passed over.
        values: the leaves.
        boxes: the box that holds a leaf and no other; None where there is none.
        structure: the tree's structure.
    """

    paths: list[Path]
    values: list[Any]
    boxes: list[Any]
    structure: Any

    @classmethod
    def of(cls, tree: Any) -> FlatTree:
        """Read a tree."""
        values, structure = jax.tree.flatten(tree)
        paths: list[Path] = []
        boxes: list[Any] = []
        nodes = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_box)[0]
        ends = [path_of(keys) for keys, _ in nodes]
        boxed = [is_box(node) for _, node in nodes]
        for path, (_, node), box in zip(ends, nodes, boxed, strict=True):
            if not box:
                paths.append(path)
                boxes.append(None)
                continue
            held = jax.tree_util.tree_flatten_with_path(node)[0]
            for inner, _ in held:
                paths.append(path + path_of(k for k in inner if not isinstance(k, _Attribute)))
                boxes.append(node if len(held) == 1 else None)
        return cls(paths, values, boxes, structure)

    @cached_property
    def leaves(self) -> list[Leaf]:
        """The parameters among the leaves.

        A tree with linen's ``params`` collection gives its parameters and batch statistics only.
        Leaves without a shape, such as the functions in an Equinox module, are no parameters.

        Raises:
            portinit.RecipeError: two leaves have the same path.
        """
        paths: Sequence[Path] = self.paths
        collected = any(path[:1] == ("params",) for path in paths)
        if collected:
            known = [path[:1] in _COLLECTED for path in paths]
            paths = [path[1:] for path in paths]
        chosen = [
            Leaf(i, path, tuple(value.shape), value.dtype, path)
            for i, (path, value) in enumerate(zip(paths, self.values, strict=True))
            if (not collected or known[i]) and hasattr(value, "dtype")
        ]
        counts = Counter([leaf.path for leaf in chosen])
        raise_misfits(
            "each array of a tree must have a path of its own",
            [f"{'/'.join(path)}: {count} arrays" for path, count in counts.items() if count > 1],
        )
        return chosen


_Attribute = jax.tree_util.GetAttrKey
_COLLECTED = {(name,) for name in COLLECTIONS}


def is_box(node: Any) -> bool:
    """Whether Flax keeps an array, and what it notes of it, in a node of a tree."""
    cls: Any = type(node)
    return not _is_plain(cls) and isinstance(node, AxisMetadata | nnx.Variable)


@lru_cache(maxsize=1024)
def _is_plain(cls: Any) -> bool:
    """Whether a class is one of Python's containers or of arrays that have their values or none."""
    plain = dict, list, tuple, type(None), np.ndarray, jax.ShapeDtypeStruct, jax.Array
    return issubclass(cls, plain) and not issubclass(cls, jax.core.Tracer)


def leaves(tree: Any) -> tuple[list[Leaf], list[Any], Any]:
    """The parameters among a tree's leaves, all leaves, and the tree's structure.

    Raises:
        portinit.RecipeError: two leaves have the same path.
    """
    flat = FlatTree.of(tree)
    return flat.leaves, flat.values, flat.structure


def paths_of(tree: Any) -> list[Path]:
    """The paths of a tree's leaves, in JAX's order; boxes on the way are passed over."""
    return FlatTree.of(tree).paths


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
        if is_box(node) or (hasattr(node, "dtype") and hasattr(node, "shape")):
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
