"""What a model's tree says of its arrays: siblings, kinds of layers and layouts."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, Self

from portinit.arrays.layouts import LAYOUTS, Layout, Shape
from portinit.initializers.base import Parameter
from portinit.initializers.fans import torch_fans
from portinit.recipes.matching.trees.leaf import Leaf, Path
from portinit.recipes.names import flax_layout
from portinit.recipes.recipe import Recipe, without_caches

_ATTENTION = frozenset({"query", "key", "value", "out"})

_TOLD_BY = {"embedding": "embedding", "scale": "norm", "negative_slope": "prelu"}
"""The kinds of layers that have a leaf of these names."""

_NUMBER = re.compile(r"\d+")
"""What tells the layers of a list apart, and says nothing of their kind."""

_VECTORS = frozenset({"bias", "b", "beta", "offset", "scale", "gamma", "mean", "var"})
"""Leaves that have one axis in a layer, so that a further one is of several layers or heads."""


class Module(NamedTuple):
    """A module of a tree.

    Attributes:
        path: its path.
        leaves: its own arrays by their names.
        of_class: the name of its class, where it is known.
    """

    path: Path
    leaves: Mapping[str, Leaf]
    of_class: str | None


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
        if () in self.leaves:
            raise TypeError(
                "model must be a module, or a tree whose arrays have names; got an array by "
                'itself: put it under a name, {"weight": array}'
            )
        self._classes = classes or {}
        self._order = order

    def with_leaves(self, found: Sequence[Leaf]) -> Self:
        """The tree with other leaves, those of its arrays that hold several parameters split."""
        if found == [*self.leaves.values()]:
            return self
        return type(self)(found, self._classes, self._order)

    @property
    def knowledge(self) -> tuple[object, ...]:
        """All that a tree was made of but the order of definition, which is seldom asked for."""
        own = without_caches(self)
        del own["leaves"], own["_order"]
        return type(self), [*self.leaves.values()], own

    def definition_order(self) -> Sequence[Path] | None:
        """The paths of the arrays in the order of their definition; None if it is not known."""
        return None if self._order is None else self._order()

    # What an adapter may know better

    def class_of(self, path: Path) -> str | None:
        """The class of the module that owns a leaf, where it is known."""
        return self._classes.get(path[:-1])

    def is_parametrized(self, module: Module) -> bool:
        """Whether a module is a wrapper such as weight norm, whose leaves make a weight."""
        return False

    def state_size(self, module: Module) -> int | None:
        """The size of the state of a recurrent cell; None of another module."""
        return None

    def kind_of(self, module: Module) -> str | None:
        """The kind of layer that a module is, as far as classes, names and shapes tell."""
        if self.is_parametrized(module):
            return "parametrized"
        held = module.leaves
        told = next((kind for word, kind in _TOLD_BY.items() if word in held), None)
        kernel = held.get("kernel")
        if told is not None or kernel is None:
            return told
        if self.state_size(module) is not None:
            return "recurrent"
        of_class = self.kinds.get(module.of_class or "")
        if of_class is not None:
            return of_class
        in_attention = bool(module.path) and module.path[-1] in _ATTENTION
        is_matrix = len(kernel.shape) == 2 or in_attention or _heads(kernel, held.get("bias")) > 1
        return "linear" if is_matrix else "conv"

    def layout_of(self, leaf: Leaf, module: Module, kind: str | None) -> Layout:
        """How a leaf's axes map to PyTorch's, as far as names, classes and siblings tell.

        Args:
            leaf: the leaf.
            module: the module that owns it.
            kind: the module's kind.
        """
        path, shape = leaf.path, leaf.shape
        named = flax_layout(path, len(shape))
        if len(shape) < 2 or path[-1] not in ("kernel", "bias") or named != _usual(path):
            return named
        kernel = module.leaves.get("kernel")
        if path[-1] == "bias":
            return Layout(axis0=tuple(range(len(shape))), axis1=()) if kind == "linear" else named
        if kind == "conv_transpose" and module.of_class is not None:
            return LAYOUTS["flax_conv_transpose"]
        if kind == "linear" and len(shape) > 2 and kernel is not None:
            outputs = _heads(kernel, module.leaves.get("bias")) or 1
            axes = tuple(range(len(shape)))
            return Layout(axis0=axes[-outputs:], axis1=axes[:-outputs])
        return named

    def reading(self, path: Path, start: int = 0) -> Path:
        """A leaf's path from a word on, in the words that PyTorch's layers have for the same.

        Args:
            path: the leaf's.
            start: how many words to leave out.
        """
        return path[start:]

    def usual_layout(self, leaf: Leaf, of_recipe: Layout | None) -> Layout | None:
        """The layout of a leaf by the kind of PyTorch's layer; None if it makes no difference.

        Args:
            leaf: the leaf.
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

    # Modules and forms

    @cached_property
    def modules(self) -> dict[Path, Module]:
        """The modules that own leaves, by their paths."""
        held: dict[Path, dict[str, Leaf]] = {}
        for path, leaf in self.leaves.items():
            held.setdefault(path[:-1], {})[path[-1] if path else ""] = leaf
        classes = [self.class_of(next(iter(leaves.values())).path) for leaves in held.values()]
        pairs = zip(held.items(), classes, strict=True)
        return {path: Module(path, leaves, of_class) for (path, leaves), of_class in pairs}

    def sibling(self, path: Path, name: str) -> Leaf | None:
        """Another leaf of the module that owns a leaf."""
        return self.modules[path[:-1]].leaves.get(name)

    @cached_property
    def forms(self) -> dict[Path, Form]:
        """The form of each leaf, one for all that are alike."""
        known: dict[Hashable, dict[str, Form]] = {}
        forms: dict[Path, Form] = {}
        for module in self.modules.values():
            likeness = self.likeness(module)
            if likeness not in known:
                known[likeness] = self._forms_of(module)
            alike = known[likeness]
            for word, leaf in module.leaves.items():
                forms[leaf.path] = alike[word]
        return forms

    def likeness(self, module: Module) -> Hashable:
        """All that the forms of a module's leaves depend on; the modules of a list are alike."""
        shapes = tuple([(word, leaf.shape) for word, leaf in module.leaves.items()])
        name = _NUMBER.sub("", module.path[-1]) if module.path else ""
        return name, shapes, module.of_class, self.is_parametrized(module)

    def _forms_of(self, module: Module) -> dict[str, Form]:
        kind = self.kind_of(module)
        layouts = {word: self.layout_of(leaf, module, kind) for word, leaf in module.leaves.items()}
        fan_in, kernel = None, module.leaves.get(self.kernel)
        if kind == "recurrent":
            fan_in = self.state_size(module)
        elif kernel is not None and len(kernel.shape) > 1:
            logical = layouts[self.kernel].logical_shape(kernel.shape)
            fan_in = logical[1] if kind == "bilinear" else torch_fans(logical)[0]
        return {
            word: Form(word, leaf.shape, module.of_class, kind, fan_in, layouts[word])
            for word, leaf in module.leaves.items()
        }

    # What a recipe is told

    def describe(self, path: Path, name: str, shape: Shape) -> Parameter:
        """What a recipe is told of a leaf, of its name and its shape in PyTorch."""
        form = self.forms[path]
        return Parameter(name, shape, form.kind, form.fan_in, siblings=self.siblings(path))

    def siblings(self, path: Path) -> tuple[str, ...] | None:
        """The layers in the block of a normalisation's leaf; None of another leaf."""
        return self._blocks.get(path[:-2], ()) if self.forms[path].kind == "norm" else None

    @cached_property
    def _blocks(self) -> dict[Path, tuple[str, ...]]:
        """The names of the layers in each block."""
        names: dict[Path, dict[str, None]] = {}
        for path in self.leaves:
            for depth in range(len(path) - 1):
                names.setdefault(path[:depth], {})[path[depth]] = None
        return {block: tuple(layers) for block, layers in names.items()}

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
        if _heads(leaf, bias) > 1:
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

    def likely_stack(self, path: Path) -> str | None:
        """Why a kernel of three axes may be one of several layers, where no vector tells.

        None of a kernel that is a convolution's by its class or by its name.
        """
        form, axis0 = self.forms[path], self.leaves[path].shape[:1]
        is_conv = form.kind == "conv" and form.word == self.kernel and form.of_class is None
        if not is_conv or len(form.shape) != 3 or "conv" in "/".join(path).lower():
            return None
        if self.sibling(path, "bias") is not None:
            return None
        for depth in range(1, len(path) - 1):
            if self._below[path[:depth]] == ({axis0}, set()):
                where = "/".join(path[:depth])
                return (
                    f"{'/'.join(path)} {form.shape}: every array below {where} has "
                    f"{axis0[0]} along axis 0; if these are stacked layers, say so with "
                    f'stacked={{"{where}": 0}}'
                )
        return None

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


def _heads(kernel: Leaf, bias: Leaf | None) -> int:
    """How many of a kernel's last axes are outputs, as its bias tells; 0 if it does not."""
    if bias is None or kernel.shape[-len(bias.shape) :] != bias.shape:
        return 0
    return len(bias.shape)


def _usual(path: Path) -> Layout:
    """The layout of an array of whose module nothing is known."""
    return LAYOUTS["flax"] if path[-1] == "kernel" else LAYOUTS["torch"]
