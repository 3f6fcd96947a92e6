"""What a model's tree says of its arrays: siblings, kinds of layers and layouts."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

from portinit.arrays.layouts import LAYOUTS, Layout, Shape
from portinit.initializers.base import Parameter
from portinit.initializers.fans import torch_fans
from portinit.recipes.matching.leaf import Leaf, Path
from portinit.recipes.names import flax_layout
from portinit.recipes.recipe import Recipe

_ATTENTION = frozenset({"query", "key", "value", "out"})

_TOLD_BY = {"embedding": "embedding", "scale": "norm", "negative_slope": "prelu"}
"""The kinds of layers that have a leaf of these names."""

_NUMBER = re.compile(r"\d+")
"""What tells the layers of a list apart, and says nothing of their kind."""

_VECTORS = frozenset({"bias", "b", "beta", "offset", "scale", "gamma", "mean", "var"})
"""Leaves that have one axis in a layer, so that a further one is of several layers or heads."""


@dataclass(frozen=True, eq=False)
class Form:
    """What a tree says of a leaf, and of each like it in modules that are alike.

    A model of thousands of arrays has some tens of forms.

    Attributes:
        word: the leaf's own name.
        shape: its shape.
        of_class: the class of its module, where it is known.
        kind: the kind of layer that its module is; see :class:`Parameter`.
        fan_in: the fan_in of the kernel beside it, or a recurrent cell's size.
        layout: how its axes are PyTorch's, as far as names, classes and siblings tell.
    """

    word: str
    shape: Shape
    of_class: str | None
    kind: str | None
    fan_in: int | None
    layout: Layout


class Tree:
    """The leaves of a tree by path, and what siblings and classes say of them.

    A framework's adapter derives a class of its own, which says what its layers are called and
    how their arrays lie. All that this class says holds for any framework.

    Args:
        found: the leaves.
        classes: the classes of modules by their paths, where they are known.
        order: returns the paths of the arrays in the order of their definition, or None if that
            is not known; asked only where nothing else tells arrays apart.
    """

    adapter: ClassVar[str] = "portinit"
    """The package whose ``match`` gives a table of names, for messages."""

    kinds: ClassVar[Mapping[str, str]] = {}
    """The kind of layer that each of the framework's own classes is: see :class:`Parameter`."""

    kernel: ClassVar[str] = "kernel"
    """The framework's word for the array that a bias stands beside."""

    words: ClassVar[frozenset[str]] = frozenset()
    """Words for arrays that the framework's own layers use, always for the same layout."""

    own_classes: ClassVar[frozenset[str]] = frozenset()
    """The classes whose arrays, if called by these words, lie as :meth:`layout` says."""

    one_layout_classes: ClassVar[frozenset[str]] = frozenset()
    """Those of them whose arrays lie in one way, whatever PyTorch's shape."""

    def __init__(
        self,
        found: Iterable[Leaf],
        classes: Mapping[Path, str] | None = None,
        order: Callable[[], Sequence[Path] | None] | None = None,
    ) -> None:
        self.leaves = {leaf.path: leaf for leaf in found}
        self._classes = classes or {}
        self._order = order
        self._kinds: dict[Path, str | None] = {}

    def with_leaves(self, found: Sequence[Leaf]) -> Self:
        """The tree with other leaves, those of its arrays that hold several parameters split."""
        if found == [*self.leaves.values()]:
            return self
        return type(self)(found, self._classes, self._order)

    def definition_order(self) -> Sequence[Path] | None:
        """The paths of the arrays in the order of their definition; None if it is not known."""
        return None if self._order is None else self._order()

    # What an adapter may know better

    def class_of(self, path: Path) -> str | None:
        """The class of the module that owns a leaf, where it is known."""
        return self._classes.get(path[:-1])

    def is_parametrized(self, path: Path) -> bool:
        """Whether a wrapper such as weight norm keeps a leaf for a weight that it computes."""
        return False

    def state_size(self, path: Path) -> int | None:
        """The size of the state of the recurrent cell that owns a leaf; None if none does."""
        return None

    def reading(self, path: Path, start: int = 0) -> Path:
        """A leaf's path from a word on, in the words that PyTorch's layers have for the same.

        Args:
            path: the leaf's.
            start: how many words to leave out.
        """
        return path[start:]

    def usual_layout(self, path: Path, of_recipe: Layout | None) -> Layout | None:
        """The layout of a leaf by the kind of PyTorch's layer; None if it makes no difference.

        Args:
            path: the leaf's.
            of_recipe: the layout that a rule's kind of layer tells; it is Flax's.
        """
        return of_recipe

    def names_of_cells(
        self, recipe: Recipe, known: Mapping[str, object]
    ) -> tuple[Mapping[str, str], Sequence[str]]:
        """The rows of PyTorch's packed parameters that arrays of recurrent cells hold.

        Args:
            recipe: the recipe.
            known: labels of leaves whose parameters are known.

        Returns:
            From the leaves' labels to names that may be limited to rows, for the cells of which
            nothing is known; and a line for each misfit.
        """
        return {}, ()

    # Kinds and layouts

    @cached_property
    def forms(self) -> dict[Path, Form]:
        """The form of each leaf, one for all that are alike."""
        known: dict[Hashable, dict[str, Form]] = {}
        forms: dict[Path, Form] = {}
        for held in self._modules.values():
            likeness = self._likeness(held)
            alike = known.get(likeness)
            if alike is None:
                alike = {word: self._form(leaf.path) for word, leaf in held.items()}
                known[likeness] = alike
            for word, leaf in held.items():
                forms[leaf.path] = alike[word]
        return forms

    def _likeness(self, held: Mapping[str, Leaf]) -> Hashable:
        """All that the forms of a module's leaves depend on."""
        path = next(iter(held.values())).path
        shapes = tuple([(word, leaf.shape) for word, leaf in held.items()])
        told = self.class_of(path), self.is_parametrized(path), self.state_size(path)
        return _NUMBER.sub("", path[-2]) if len(path) > 1 else "", shapes, told

    def _form(self, path: Path) -> Form:
        word, shape = path[-1] if path else "", self.leaves[path].shape
        of_class, kind = self.class_of(path), self.kind(path)
        return Form(word, shape, of_class, kind, self._fan_in(path), self.layout(path))

    def sibling(self, path: Path, name: str) -> Leaf | None:
        """Another leaf of the module that owns a leaf."""
        return self._modules[path[:-1]].get(name)

    @cached_property
    def _modules(self) -> dict[Path, dict[str, Leaf]]:
        """The leaves by their modules and names."""
        modules: dict[Path, dict[str, Leaf]] = {}
        for path, leaf in self.leaves.items():
            modules.setdefault(path[:-1], {})[path[-1] if path else ""] = leaf
        return modules

    def kind(self, path: Path) -> str | None:
        """The kind of layer that owns a leaf, as far as classes, names and shapes tell."""
        module = path[:-1]
        if module not in self._kinds:
            self._kinds[module] = self._kind(path)
        return self._kinds[module]

    def _kind(self, path: Path) -> str | None:
        if self.is_parametrized(path):
            return "parametrized"
        held = self._modules[path[:-1]]
        told = next((kind for word, kind in _TOLD_BY.items() if word in held), None)
        if told is not None:
            return told
        kernel, owner = held.get("kernel"), path[-2] if len(path) > 1 else ""
        if kernel is None:
            return None
        if self.state_size(path) is not None:
            return "recurrent"
        of_class = self.kinds.get(self.class_of(path) or "")
        if of_class is not None:
            return of_class
        is_matrix = len(kernel.shape) == 2 or owner in _ATTENTION or self._heads(kernel) > 1
        return "linear" if is_matrix else "conv"

    def _heads(self, kernel: Leaf) -> int:
        """How many of a kernel's last axes are outputs, as its bias tells; 0 if it does not."""
        bias = self.sibling(kernel.path, "bias")
        ndim = len(bias.shape) if bias is not None else 0
        return ndim if bias is not None and kernel.shape[-ndim:] == bias.shape else 0

    def layout(self, path: Path) -> Layout:
        """How a leaf's axes map to PyTorch's, as far as names, classes and siblings tell."""
        shape = self.leaves[path].shape
        named = flax_layout(path, len(shape))
        if len(shape) < 2 or path[-1] not in ("kernel", "bias") or named != _usual(path):
            return named
        kernel = self.sibling(path, "kernel")
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

    # What a recipe is told

    def describe(self, path: Path, name: str, shape: Shape) -> Parameter:
        """What a recipe is told of a leaf, of its name and its shape in PyTorch."""
        form = self.forms[path]
        siblings = self._blocks.get(path[:-2], ()) if form.kind == "norm" else None
        return Parameter(name, shape, form.kind, form.fan_in, siblings=siblings)

    @cached_property
    def _blocks(self) -> dict[Path, tuple[str, ...]]:
        """The names of the layers in each block."""
        names: dict[Path, dict[str, None]] = {}
        for path in self.leaves:
            for depth in range(len(path) - 1):
                names.setdefault(path[:depth], {})[path[depth]] = None
        return {block: tuple(layers) for block, layers in names.items()}

    def _fan_in(self, path: Path) -> int | None:
        if self.kind(path) == "recurrent":
            return self.state_size(path)
        kernel = self.sibling(path, self.kernel)
        if kernel is None or len(kernel.shape) < 2:
            return None
        logical = self.layout(kernel.path).logical_shape(kernel.shape)
        return logical[1] if self.kind(path) == "bilinear" else torch_fans(logical)[0]

    # Stacks that nobody stated

    def unstated_stack(self, path: Path) -> str | None:
        """Why a kernel of three or more axes is one of several layers, if its relatives say so."""
        leaf = self.leaves[path]
        if path[-1] != self.kernel or len(leaf.shape) < 3:
            return None
        if len(path) > 1 and path[-2] in _ATTENTION:
            return None
        bias = self.sibling(path, "bias")
        if bias is not None and len(bias.shape) == 1:
            return None
        if bias is not None and self._heads(leaf) > 1:
            return None
        return self._stack_above(leaf)

    def _stack_above(self, leaf: Leaf) -> str | None:
        """Why a leaf is in a stack of layers: all arrays of a module above it have its axis 0."""
        where = None
        for depth in range(len(leaf.path) - 1, -1, -1):
            first_axes, ranks = self._below[leaf.path[:depth]]
            if first_axes != {leaf.shape[:1]} or any(rank < 2 for rank in ranks):
                break
            if ranks and (depth or where is None):
                where = "/".join(leaf.path[:depth])
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


def _usual(path: Path) -> Layout:
    """The layout of an array of whose module nothing is known."""
    return LAYOUTS["flax"] if path[-1] == "kernel" else LAYOUTS["torch"]
