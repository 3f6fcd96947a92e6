"""What a Keras model says of its variables: their paths, their layers' classes, their layouts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import keras

from portinit.arrays.layouts import Layout, Shape
from portinit.recipes.matching.trees.cells import names_of_cells
from portinit.recipes.matching.trees.class_tree import ClassTree
from portinit.recipes.matching.trees.leaf import Leaf, Path
from portinit.recipes.matching.trees.tree import Module
from portinit.recipes.packed import packed_layers
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import raise_misfits
from portinit_keras.cells import GATES, RESET_BEFORE, cells_of

_DENSE = ("Dense", "EinsumDense")
_CONV = tuple(f"Conv{n}D" for n in (1, 2, 3))
_UP = tuple(f"{name}Transpose" for name in _CONV)
_DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
_SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
_ONE_LAYOUT = frozenset({*_DENSE, *_CONV, *_UP, *_DEPTHWISE, *_SEPARABLE, "Embedding"})
_NORMS = (
    "BatchNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization",
)  # fmt: skip
_ATTENTION = ("MultiHeadAttention", "GroupedQueryAttention")

_STATISTICS = {"moving_mean": "running_mean", "moving_variance": "running_var"}
_SCALES = {"gamma": "weight", "beta": "bias", "scale": "weight"}


class KerasTree(ClassTree):
    """The variables of a Keras model, whose kernels are (..., in, out) as Flax's are."""

    adapter: ClassVar[str] = "portinit_keras"
    kernel: ClassVar[str] = "kernel"
    kinds: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(_DENSE, "linear"),
        **dict.fromkeys((*_CONV, *_DEPTHWISE, *_SEPARABLE), "conv"),
        **dict.fromkeys(_UP, "conv_transpose"),
        **dict.fromkeys(_NORMS, "norm"),
        **dict.fromkeys(GATES, "recurrent"),
        "Embedding": "embedding",
        "PReLU": "prelu",
        "SpectralNormalization": "parametrized",
    }
    axes: ClassVar[Mapping[str, tuple[int, int]]] = {
        "linear": (-1, -2), "conv": (-1, -2), "conv_transpose": (-2, -1), "recurrent": (-1, -2),
    }  # fmt: skip
    words: ClassVar[frozenset[str]] = frozenset(
        {*_SCALES, *_STATISTICS, "kernel", "bias", "embeddings", "alpha"}
        | {"recurrent_kernel", "depthwise_kernel", "pointwise_kernel"}
    )
    renamed: ClassVar[Mapping[tuple[str, str], str | None]] = {
        **{(name, word): said for name in _NORMS for word, said in _SCALES.items()},
        **{("BatchNormalization", word): said for word, said in _STATISTICS.items()},
        **{(name, "attention_output"): "out_proj" for name in _ATTENTION},
        **{(name, "kernel"): "weight_ih" for name in GATES},
        **{(name, "recurrent_kernel"): "weight_hh" for name in GATES},
        ("Embedding", "embeddings"): "weight",
        ("PReLU", "alpha"): "weight",
    }
    own_classes: ClassVar[frozenset[str]] = _ONE_LAYOUT
    one_layout_classes: ClassVar[frozenset[str]] = _ONE_LAYOUT

    own_layouts: Mapping[Path, Layout] = {}
    """The layouts of arrays whose layers alone tell them, by the arrays' paths."""

    def with_leaves(self, found: Sequence[Leaf]) -> Self:
        tree = super().with_leaves(found)
        tree.own_layouts = self.own_layouts
        return tree

    def likeness(self, module: Module) -> Hashable:
        own = tuple([self.own_layouts.get(leaf.array) for leaf in module.leaves.values()])
        return super().likeness(module), own

    def layout_of(self, leaf: Leaf, module: Module, kind: str | None) -> Layout:
        own = self.own_layouts.get(leaf.array)
        return super().layout_of(leaf, module, kind) if own is None else own

    def usual_layout(self, leaf: Leaf, of_recipe: Layout | None) -> Layout | None:
        is_own = leaf.array in self.own_layouts
        return None if is_own else super().usual_layout(leaf, of_recipe)

    def state_size(self, module: Module) -> int | None:
        kernel, is_cell = module.leaves.get("recurrent_kernel"), self.kind_of(module) == "recurrent"
        return kernel.shape[0] if is_cell and kernel is not None else None

    def names_of_cells(
        self, recipe: Recipe, known: Mapping[str, object]
    ) -> tuple[Mapping[str, str], Sequence[str]]:
        """The packed parameters that the variables of LSTMs and plain cells hold."""
        cells = cells_of(self, "LSTMCell", "SimpleRNNCell")
        table, misfits = names_of_cells(cells, recipe, known)
        foreign = [
            f"{leaf.label}: a GRU with reset_after=False computes another function than PyTorch's"
            for path, leaf in self.leaves.items()
            if self.class_of(path) == RESET_BEFORE and path[-1] == "kernel"
        ]
        misfits += [line for line in foreign if line.partition(":")[0] not in known]
        return table, misfits if packed_layers(recipe) else []


@dataclass(frozen=True)
class Variables:
    """The floating variables of a built model.

    Attributes:
        tree: what the model says of them.
        variables: in the order of the leaves' positions.
    """

    tree: KerasTree
    variables: tuple[Any, ...]

    @classmethod
    def of(cls, model: Any) -> Variables:
        """The variables of a layer or a model.

        Raises:
            TypeError: no layer of Keras's, or one that is not built.
            portinit.RecipeError: two variables have the same path.
        """
        _require_built(model)
        owners: dict[int, tuple[Path, Any]] = {}
        classes, layouts, leaves = dict[Path, str](), dict[Path, Layout](), list[Leaf]()
        for module, layer in layers_of(model):
            classes[module] = _keras_class(layer)
            for variable in layer.weights:
                owners[id(variable)] = module, layer  # of the innermost layer: it comes last
        every = {id(v): v for v in model.weights if keras.backend.is_float_dtype(v.dtype)}
        for position, variable in enumerate(every.values()):
            module, layer = owners[id(variable)]
            path, shape = (*module, _word(layer, variable)), tuple(variable.shape)
            if classes[module] == "GRUCell" and path[-1] == "bias":
                shape = (math.prod(shape),)  # one row for the inputs, one for the state
            leaves.append(Leaf(position, path, shape, variable.dtype, path))
            own = _own_layout(layer, classes[module], path[-1], shape)
            if own is not None:
                layouts[path] = own
        _require_distinct(leaves, [*every.values()])
        tree = KerasTree(leaves, classes, lambda: [leaf.path for leaf in leaves])
        tree.own_layouts = layouts
        return cls(tree, (*every.values(),))


def _require_built(model: Any) -> None:
    if not isinstance(model, keras.Layer):
        kind = type(model).__name__
        of_torch = callable(getattr(model, "named_parameters", None))
        hint = ": portinit_torch.initialize fills a module of PyTorch" if of_torch else ""
        raise TypeError(f"model must be a keras.Model or keras.Layer, got {kind}{hint}")
    if not model.built:
        raise TypeError(
            f"model must be built, so that it has variables, and {model.name} is not: call it on "
            "an example input first, or model.build(input_shape)"
        )


def _require_distinct(leaves: list[Leaf], variables: list[Any]) -> None:
    counts = Counter(leaf.path for leaf in leaves)
    raise_misfits(
        "each variable must have a path of its own; give its layer, or the variable, a name",
        [
            f"{leaf.label}: {variable.path}"
            for leaf, variable in zip(leaves, variables, strict=True)
            if counts[leaf.path] > 1
        ],
    )


# Paths


def layers_of(model: Any, *, every: bool = False) -> Iterator[tuple[Path, Any]]:
    """A model and all layers with variables below it, with their paths, outer ones first.

    Args:
        model: the model.
        every: list layers without variables too.
    """
    return _walk(model, (), set(), every=every)


def _walk(layer: Any, path: Path, seen: set[int], *, every: bool) -> Iterator[tuple[Path, Any]]:
    """A layer and all below it with their paths, outer ones first, each layer once."""
    seen.add(id(layer))
    yield path, layer
    for word, child in _children(layer, every=every):
        if id(child) not in seen:
            yield from _walk(child, (*path, *word), seen, every=every)


def _children(layer: Any, *, every: bool) -> list[tuple[Path, Any]]:
    """The layers that a layer holds, in the order of their variables, with their words.

    A class of Keras's own knows its layers by their names; of those that Keras gave them, which
    count all layers of a process, only the order is kept. Another class knows them by attributes.
    """
    is_own = _is_keras(type(layer))
    held: dict[int, tuple[Path, Any]] = {
        id(child): ((child.name,), child) for child in getattr(layer, "layers", ())
    }
    if not (is_own and held):
        held |= {id(child): (word, child) for word, child in _attributes(layer)}
    order = {id(variable): i for i, variable in enumerate(layer.weights)}
    found = [
        (word, child)
        for word, child in held.values()
        if (child.weights or every) and _is_part(child, layer, order)
    ]
    found.sort(key=lambda pair: min((order[id(v)] for v in pair[1].weights), default=len(order)))
    if not is_own:
        return found
    counts = Counter[str]()
    words: list[tuple[Path, Any]] = []
    for _, child in found:
        automatic = _snake(type(child).__name__)
        if re.fullmatch(rf"{automatic}(_\d+)?", child.name):
            number, counts[automatic] = counts[automatic], counts[automatic] + 1
            words.append(((f"{automatic}_{number}" if number else automatic,), child))
        else:
            words.append(((child.name,), child))
    return words


def _is_part(child: Any, layer: Any, order: Mapping[int, int]) -> bool:
    """Whether all of a layer's variables are another's: it is no parent, nor a stranger."""
    return child is not layer and all(id(v) in order for v in child.weights)


def _attributes(layer: Any) -> Iterator[tuple[Path, Any]]:
    """The layers in a layer's attributes, and in lists and dicts of these."""
    held = dict(vars(layer))
    if hasattr(layer, "named_children"):  # on PyTorch's backend a layer is a module of PyTorch's
        held |= dict(layer.named_children())
    for name, value in held.items():
        if name not in _OF_EVERY_MODEL:
            yield from _layers_in(value, (name,))


_OF_EVERY_MODEL = frozenset(vars(keras.Model()))


def _layers_in(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, keras.Layer):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _layers_in(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _layers_in(item, (*path, str(number)))


def _word(layer: Any, variable: Any) -> str:
    """What a variable is called: by an attribute of its own, in a class that is not Keras's."""
    if not _is_keras(type(layer)):
        for name, value in vars(layer).items():
            if value is variable and not name.startswith("_"):
                return str(name)
    return str(variable.name)


def _is_keras(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "keras"


def _keras_class(layer: Any) -> str:
    """The class of Keras's own that a layer's class is or comes from."""
    name = str(next(base.__name__ for base in type(layer).__mro__ if _is_keras(base)))
    return name if getattr(layer, "reset_after", True) else RESET_BEFORE


def _snake(name: str) -> str:
    """What Keras calls a layer of a class that got no name."""
    apart = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", apart).lower()


# Layouts that a layer alone tells


def _own_layout(layer: Any, kind: str, word: str, shape: Shape) -> Layout | None:
    ndim = len(shape)
    if ndim < 2:
        return None
    if kind == "EinsumDense":
        return _einsum_layout(layer.equation, ndim) if word == "kernel" else _flat(ndim)
    if kind in _DEPTHWISE or word == "depthwise_kernel":  # (..., channels, multiplier)
        n = ndim - 2
        return Layout(axis0=(n, n + 1), axis1=(n + 2,), view=(*shape, 1))
    if kind == "PReLU":
        own = tuple(size for size in shape if size != 1)
        return Layout(view=own or (1,)) if len(own) < 2 else _flat(ndim)
    return None


def _flat(ndim: int) -> Layout:
    return Layout(axis0=tuple(range(ndim)), axis1=())


def _einsum_layout(equation: str, ndim: int) -> Layout | None:
    """Kernel axes that are summed over are inputs, and those that are left are outputs.

    None if an axis is neither, such as that of experts, which inputs and outputs share.
    """
    given, _, result = equation.partition("->")
    inputs, _, kernel = (re.sub(r"\W", "", part) for part in given.partition(","))
    kinds = [(letter in inputs, letter in result) for letter in kernel]
    if len(kernel) != ndim or any(both == one for both, one in kinds):
        return None
    outputs = tuple(axis for axis, (_, is_output) in enumerate(kinds) if is_output)
    summed = tuple(axis for axis, (_, is_output) in enumerate(kinds) if not is_output)
    return Layout(axis0=outputs, axis1=summed) if outputs and summed else None
