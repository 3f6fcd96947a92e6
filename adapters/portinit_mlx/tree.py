"""What an MLX module says of its arrays: their paths, classes, layouts and recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from portinit import Recipe
from portinit.recipes.matching.trees.cells import CellArray, RecurrentCell, names_of_cells
from portinit.recipes.matching.trees.class_tree import ClassTree
from portinit.recipes.matching.trees.leaf import Leaf
from portinit.recipes.matching.trees.tree import Module
from portinit.recipes.rule import raise_misfits

_CONVOLUTIONS = {
    f"{name}{n}d": kind
    for name, kind in (("Conv", "conv"), ("ConvTranspose", "conv_transpose"))
    for n in (1, 2, 3)
}
_GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
_ONE_LAYOUT = frozenset({"Linear", "Embedding", "Bilinear", *_CONVOLUTIONS, *_GATES})


class MlxTree(ClassTree):
    """The arrays of an MLX module: kernels are (out, ..., in)."""

    adapter: ClassVar[str] = "portinit_mlx"
    kinds: ClassVar[Mapping[str, str]] = {
        "Linear": "linear",
        **_CONVOLUTIONS,
        "Bilinear": "bilinear",
        "Embedding": "embedding",
        **dict.fromkeys(("LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm"), "norm"),
        "BatchNorm": "norm",
        "PReLU": "prelu",
        **dict.fromkeys(_GATES, "recurrent"),
    }
    words: ClassVar[frozenset[str]] = frozenset({"weight", "bias", "Wx", "Wh", "Wxh", "Whh"})
    axes: ClassVar[Mapping[str, tuple[int, int]]] = dict.fromkeys(
        ("linear", "conv", "conv_transpose", "bilinear"), (0, -1)
    )
    ranks: ClassVar[Mapping[str, int]] = {
        **{f"{name}{n}d": n + 2 for name in ("Conv", "ConvTranspose") for n in (1, 2, 3)},
        **dict.fromkeys(("Linear", "Embedding"), 2),
    }
    own_classes: ClassVar[frozenset[str]] = _ONE_LAYOUT
    one_layout_classes: ClassVar[frozenset[str]] = _ONE_LAYOUT
    renamed: ClassVar[Mapping[tuple[str, str], str | None]] = {
        ("Sequential", "layers"): None,
        ("TransformerEncoder", "ln"): "norm",
        ("TransformerDecoder", "ln"): "norm",
        **{
            (f"Transformer{side}Layer", word): said
            for side in ("Encoder", "Decoder")
            for word, said in {
                "attention": "self_attn",
                "self_attention": "self_attn",
                "cross_attention": "multihead_attn",
                "ln1": "norm1",
                "ln2": "norm2",
                "ln3": "norm3",
            }.items()
        },
    }

    @classmethod
    def of(cls, model: Any) -> Self:
        """The parameters and running statistics of a module.

        Raises:
            TypeError: it is no module of MLX.
            portinit.RecipeError: listing arrays of quantized layers.
        """
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be an mlx.nn.Module, got {type(model).__name__}")
        leaves, quantized = [], list[str]()
        for position, (name, array) in enumerate(flat_arrays(model)):
            path = tuple(name.split("."))
            if mx.issubdtype(array.dtype, mx.inexact):
                leaves.append(Leaf(position, path, tuple(array.shape), array.dtype, path))
            elif array.dtype == mx.uint32 and path[-1] == "weight":
                quantized.append(f"{'/'.join(path)}: quantized; initialize before nn.quantize")
        raise_misfits("a weight must be of floating numbers", quantized)
        classes = {
            tuple(name.split(".")) if name else (): _class_name(type(module))
            for name, module in model.named_modules()
        }
        return cls(leaves, classes, lambda: [leaf.path for leaf in leaves])

    def state_size(self, module: Module) -> int | None:
        """The size of a recurrent layer's state."""
        kernel = module.leaves.get("Wh") or module.leaves.get("Whh")
        return None if module.of_class not in _GATES or kernel is None else kernel.shape[-1]

    def names_of_cells(
        self, recipe: Recipe, known: Mapping[str, object]
    ) -> tuple[Mapping[str, str], Sequence[str]]:
        """The rows of PyTorch's packed parameters that arrays of RNN, LSTM and GRU hold."""
        return names_of_cells(self._cells(), recipe, known)

    def _cells(self) -> Iterator[RecurrentCell]:
        for path, leaf in self.leaves.items():
            gates = _GATES.get(self.class_of(path) or "")
            if gates is None or path[-1] not in ("Wx", "Wxh"):
                continue
            parts = [
                CellArray((*path[:-1], word), side, gate, word.startswith("b"))
                for word, side, gate in _RECURRENT
                if self.sibling(path, word)
            ]
            hidden = leaf.shape[0] // gates
            yield RecurrentCell(path[:-1], (gates, leaf.shape[1], hidden), tuple(parts))


_RECURRENT = (
    *((word, "ih", None) for word in ("Wx", "Wxh", "bias", "b")),
    *((word, "hh", None) for word in ("Wh", "Whh")),
    ("bhn", "hh", 2),
)
"""The arrays of MLX's recurrent layers: PyTorch's side, and the gate where it is of one."""


def flat_arrays(model: Any) -> list[tuple[str, mx.array]]:
    """A module's arrays by their names, in the order of definition."""
    return [*tree_flatten(model.parameters())]


def _class_name(cls: type) -> str:
    """The name of MLX's own class that a class is or comes from, or else its name."""
    own = (c.__name__ for c in cls.__mro__ if c.__module__.startswith("mlx.nn.layers"))
    return next((name for name in own if name != "Module"), cls.__name__)
