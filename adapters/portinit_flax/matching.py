"""Flax's own part in matching: what its layers are called, how their arrays lie, its cells."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Self

from portinit import Recipe
from portinit.recipes.matching import plans
from portinit.recipes.matching.plans import LeafPlan as LeafPlan
from portinit.recipes.matching.request import MatchRequest as MatchRequest
from portinit.recipes.matching.trees.cells import names_of_cells
from portinit.recipes.matching.trees.leaf import Path
from portinit.recipes.matching.trees.tree import Module, Tree
from portinit_flax.recurrent import cells_of
from portinit_flax.tree import FlatTree, classes_of, definition_order, tree_of

_GATES = frozenset(
    {"ii", "if", "if_", "ig", "io", "hi", "hf", "hg", "ho"}  # LSTM
    | {"ir", "iz", "in", "in_", "hr", "hz", "hn"}  # GRU
)

_OF_ONE_LAYOUT = frozenset({"Dense", "Linear", "Conv", "Embed"})


class FlaxTree(Tree):
    """The leaves of a Flax tree, and what Flax's classes and names say of them."""

    adapter: ClassVar[str] = "portinit_flax"
    kinds: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("Dense", "DenseGeneral", "Linear", "LinearGeneral"), "linear"),
        **dict.fromkeys(("Conv", "ConvLocal"), "conv"),
        "ConvTranspose": "conv_transpose",
        "Embed": "embedding",
    }
    words: ClassVar[frozenset[str]] = frozenset(
        {"kernel", "embedding", "bias", "scale", "mean", "var"}
    )
    one_layout_classes: ClassVar[frozenset[str]] = _OF_ONE_LAYOUT
    own_classes: ClassVar[frozenset[str]] = _OF_ONE_LAYOUT | {
        "DenseGeneral",
        "LinearGeneral",
        "ConvTranspose",
    }

    @classmethod
    def of(cls, model: Any, flat: FlatTree | None = None) -> Self:
        """The arrays of an nnx module, or of a tree; ``flat`` where they have been read."""
        flat = flat or FlatTree.of(tree_of(model))
        return cls(flat.leaves, classes_of(model), lambda: definition_order(model))

    def class_of(self, path: Path) -> str | None:
        """The class of the module that owns a leaf: known, or told by linen's name for it."""
        known = super().class_of(path)
        if known is None and len(path) > 1:
            automatic = re.fullmatch(r"([A-Z]\w*?)_\d+", path[-2])
            known = automatic[1] if automatic else None
        return known

    def likeness(self, module: Module) -> Hashable:
        """All that the forms of a module's leaves depend on, with the sizes of cells."""
        return super().likeness(module), self.state_size(module)

    def is_parametrized(self, module: Module) -> bool:
        """Whether a module is WeightNorm or SpectralNorm, whose leaves make a parameter anew.

        They are named by the path of that parameter: joined by slashes in linen, a tuple in nnx.
        """
        for name in module.leaves:
            *wrapped, word = name.split("/")
            of_linen = word in ("scale", "u", "sigma")
            if wrapped and of_linen and (*module.path[:-1], *wrapped) in self.leaves:
                return True
            if name.startswith("('"):
                return True
        return False

    def state_size(self, module: Module) -> int | None:
        """The size of a cell's state, by the names in Flax's cells."""
        *above, owner = module.path or ("",)
        for pair in (("dense_i", "dense_h"), ("i", "h")):
            if owner in pair:
                found = (self.leaves.get((*above, side, "kernel")) for side in pair)
                shapes = [leaf.shape for leaf in found if leaf and len(leaf.shape) == 2]
                return shapes[1][0] if len(shapes) == 2 else None
        kernel = module.leaves.get("kernel")
        return kernel.shape[-1] if owner in _GATES and kernel is not None else None

    def names_of_cells(
        self, recipe: Recipe, known: Mapping[str, object]
    ) -> tuple[Mapping[str, str], Sequence[str]]:
        """The rows of PyTorch's packed parameters that arrays of Flax's cells hold."""
        cells = cells_of(self)
        return names_of_cells(cells, recipe, known) if cells else ({}, ())


def leaf_plans(model: Any, recipe: Recipe, request: MatchRequest) -> list[LeafPlan]:
    """A plan for each leaf of a model, and for each layer of a leaf that is a stack.

    Raises:
        portinit.RecipeError: listing all that does not fit.

    Warns:
        UserWarning: listing what is guessed: pairs that names alone do not tell, and layouts of
            square arrays that nothing tells.
    """
    return plans.leaf_plans(FlaxTree.of(model), recipe, request)
