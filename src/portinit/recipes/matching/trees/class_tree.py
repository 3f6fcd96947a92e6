"""Trees of modules whose classes are known and whose words are PyTorch's: Equinox's, MLX's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from portinit.arrays.layouts import LAYOUTS, Layout
from portinit.recipes.matching.trees.leaf import Leaf, Path
from portinit.recipes.matching.trees.tree import Module, Tree


class ClassTree(Tree):
    """The leaves of a tree of modules of known classes.

    A framework's adapter says which of a kernel's axes are outputs and inputs. The layout follows
    from these and from the axes that PyTorch's layer has: outputs first, or inputs first in
    transposed convolutions.
    """

    kernel: ClassVar[str] = "weight"

    axes: ClassVar[Mapping[str, tuple[int, int]]] = {}
    """The output and the input axis of a ``weight``, by its kind of layer."""

    ranks: ClassVar[Mapping[str, int]] = {}
    """The number of axes of a ``weight`` of one layer, by its class."""

    flips_transposed: ClassVar[bool] = False
    """Whether a transposed convolution's kernel has PyTorch's with space reversed."""

    renamed: ClassVar[Mapping[tuple[str, str], str | None]] = {}
    """PyTorch's word for an attribute of a class; None for a level that PyTorch has not."""

    def class_of(self, path: Path) -> str | None:
        """The class of the module that owns a leaf, whole or a part of an array."""
        leaf = self.leaves.get(path)
        return self._classes.get((path if leaf is None else leaf.array)[:-1])

    def kind_of(self, module: Module) -> str | None:
        """The kind of layer that a module is, by its class."""
        if self.is_parametrized(module):
            return "parametrized"
        return self.kinds.get(module.of_class or "")

    def reading(self, path: Path, start: int = 0) -> Path:
        """A leaf's path in the words that PyTorch's classes have for the same attributes."""
        array = self.leaves[path].array
        inserted = next((i for i, word in enumerate(path) if array[i : i + 1] != (word,)), -1)
        if len(path) == len(array):
            inserted = -1
        words: list[str] = []
        for i, word in enumerate(path):
            if i == inserted:
                words += [word] * (i >= start)
                continue
            owner = self._classes.get(array[: i - (0 <= inserted < i)], "")
            said = self.renamed.get((owner, word), word)
            if said is not None and i >= start:
                words.append(said)
        return tuple(words)

    def unstated_stack(self, path: Path) -> str | None:
        """Why a kernel is one of several layers: it has an axis more than its class gives it."""
        leaf, rank = self.leaves[path], self.ranks.get(self.class_of(path) or "")
        is_stack = path[-1] == self.kernel and rank is not None and len(leaf.shape) > rank
        return self._stack_above(leaf) if is_stack else None

    def layout_of(self, leaf: Leaf, module: Module, kind: str | None) -> Layout:
        """How a leaf's axes are PyTorch's, by the class of its module."""
        ndim = len(leaf.shape)
        if ndim < 2:
            return LAYOUTS["torch"]
        if leaf.path[-1] == "bias" or kind == "norm":
            return Layout(axis0=tuple(range(ndim)), axis1=())
        if kind == "embedding":
            return LAYOUTS["rows"]
        return self._oriented(ndim, kind, "io" if kind == "conv_transpose" else "oi")

    def usual_layout(self, leaf: Leaf, of_recipe: Layout | None) -> Layout | None:
        """The layout of a kernel for PyTorch's layer, whose axes have roles of their own."""
        kind = self.forms[leaf.path].kind
        if leaf.path[-1] != self.kernel or kind not in self.axes or of_recipe is None:
            return None
        if of_recipe.roles == "as is":
            return LAYOUTS["rows"]
        return self._oriented(len(leaf.shape), kind, of_recipe.roles)

    def _oriented(self, ndim: int, kind: str | None, roles: str) -> Layout:
        """The layout of a kernel whose axes 0 and 1 have roles in PyTorch."""
        out, into = (axis % ndim for axis in self.axes.get(kind or "", (0, 1)))
        first, second = (into, out) if roles == "io" else (out, into)
        flip = roles == "io" and self.flips_transposed and ndim > 2
        return Layout((first,), (second,), flip, roles)
