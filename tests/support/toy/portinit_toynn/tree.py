"""What a model of the toy library says of its arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import toynn

from portinit.recipes.matching.trees.class_tree import ClassTree
from portinit.recipes.matching.trees.leaf import Leaf, Path


class ToyTree(ClassTree):
    """The arrays of a module; kernels are (..., in, out)."""

    adapter: ClassVar[str] = "portinit_toynn"
    kernel: ClassVar[str] = "w"
    kinds: ClassVar[Mapping[str, str]] = {
        "Dense": "linear", "Conv": "conv", "Table": "embedding", "Norm": "norm",
    }  # fmt: skip
    axes: ClassVar[Mapping[str, tuple[int, int]]] = {"linear": (-1, -2), "conv": (-1, -2)}
    ranks: ClassVar[Mapping[str, int]] = {"Dense": 2, "Conv": 4, "Table": 2}
    words: ClassVar[frozenset[str]] = frozenset({"w", "b", "rows", "gain", "shift"})
    own_classes: ClassVar[frozenset[str]] = frozenset(kinds)
    one_layout_classes: ClassVar[frozenset[str]] = frozenset(kinds)
    renamed: ClassVar[Mapping[tuple[str, str], str | None]] = {
        **{(name, "w"): "weight" for name in ("Dense", "Conv")},
        **{(name, "b"): "bias" for name in ("Dense", "Conv")},
        ("Table", "rows"): "weight",
        ("Norm", "gain"): "weight",
        ("Norm", "shift"): "bias",
    }

    @classmethod
    def of(cls, model: Any) -> Self:
        """The arrays of a module, which it must be."""
        if not isinstance(model, toynn.Module):
            raise TypeError(f"model must be a toynn.Module, got {type(model).__name__}")
        leaves = [
            Leaf(position, path, array.shape, array.dtype, path)
            for position, (path, array) in enumerate(arrays_of(model).items())
        ]
        classes = {path: type(module).__name__ for path, module in modules_of(model)}
        return cls(leaves, classes, lambda: [leaf.path for leaf in leaves])


def modules_of(model: toynn.Module, path: Path = ()) -> Iterator[tuple[Path, toynn.Module]]:
    """A module and those in its attributes and lists, with their paths."""
    yield path, model
    for name, value in vars(model).items():
        parts = enumerate(value) if isinstance(value, list) else [("", value)]
        for number, part in parts:
            if isinstance(part, toynn.Module):
                yield from modules_of(part, (*path, name, *([str(number)] * (number != ""))))


def arrays_of(model: toynn.Module) -> dict[Path, Any]:
    """The arrays by their paths, in the order of definition."""
    return {
        (*path, name): value
        for path, module in modules_of(model)
        for name, value in vars(module).items()
        if isinstance(value, np.ndarray)
    }


def put(model: toynn.Module, path: Path, values: Any) -> None:
    """Put an array in the place of one of a model's."""
    modules = dict(modules_of(model))
    setattr(modules[path[:-1]], path[-1], values)
