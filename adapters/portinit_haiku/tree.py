"""What Haiku's dicts say of their arrays: paths, kinds, layouts, and cells that have no twin."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from portinit import Recipe
from portinit.arrays.layouts import LAYOUTS, Layout
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.matching.trees.leaf import Leaf, Path
from portinit.recipes.matching.trees.tree import Module, Tree
from portinit.recipes.packed import packed_layers
from portinit_haiku.initializers import CONV_TRANSPOSE

_WORDS = {
    **dict.fromkeys(("w", "scale", "embeddings"), "weight"),
    **dict.fromkeys(("b", "offset"), "bias"),
}
"""PyTorch's words for what Haiku's own modules call their parameters."""

_STATISTICS = {"mean_ema": "running_mean", "var_ema": "running_var"}
_CLASSES = {
    "linear": "Linear",
    "embed": "Embed",
    **{f"conv{n}_d": "Conv" for n in (1, 2, 3)},
    **{f"conv{n}_d_transpose": "ConvTranspose" for n in (1, 2, 3)},
}
"""The classes of modules that nobody has given a name."""


class HaikuTree(Tree):
    """The arrays of Haiku's dicts, whose kernels are (..., in, out)."""

    adapter: ClassVar[str] = "portinit_haiku"
    kinds: ClassVar[Mapping[str, str]] = {
        "Linear": "linear",
        "Embed": "embedding",
        "Conv": "conv",
        "ConvTranspose": "conv_transpose",
    }
    kernel: ClassVar[str] = "w"
    words: ClassVar[frozenset[str]] = frozenset(_WORDS)
    own_classes: ClassVar[frozenset[str]] = frozenset(_CLASSES.values())
    one_layout_classes: ClassVar[frozenset[str]] = own_classes

    def class_of(self, path: Path) -> str | None:
        """The class that a module's name tells, if it is the one that Haiku gives by itself."""
        return _CLASSES.get(re.sub(r"_\d+$", "", path[-2])) if len(path) > 1 else None

    def kind_of(self, module: Module) -> str | None:
        """The kind of layer that a module is, by its class or the words of its arrays."""
        held = module.leaves
        of_class = self.kinds.get(module.of_class or "")
        if of_class is not None or "embeddings" in held:
            return of_class or "embedding"
        if "w" in held:
            return "conv" if len(held["w"].shape) > 2 else "linear"
        if self.state_size(module) is not None:
            return "recurrent"
        norms = ("scale", "offset", *_STATISTICS.values())
        return "norm" if any(word in held for word in norms) else None

    def state_size(self, module: Module) -> int | None:
        """The size of a GRU's state."""
        kernel = module.leaves.get("w_h")
        return None if kernel is None else kernel.shape[0]

    def reading(self, path: Path, start: int = 0) -> Path:
        """A leaf's path in PyTorch's words; the projection behind attention is ``out_proj``."""
        *modules, word = path
        if modules and (*modules[:-1], "query", "w") in self.leaves and modules[-1] == "linear":
            modules[-1] = "out_proj"
        return (*modules, _WORDS.get(word, word))[start:]

    def layout_of(self, leaf: Leaf, module: Module, kind: str | None) -> Layout:
        """How a leaf's axes are PyTorch's, by its word and by what its module is called."""
        shape, word = leaf.shape, leaf.path[-1]
        if len(shape) < 2:
            return LAYOUTS["torch"]
        if word == "w":
            return CONV_TRANSPOSE if kind == "conv_transpose" else LAYOUTS["flax"]
        if word == "embeddings":
            return LAYOUTS["rows"]
        if sum(size != 1 for size in shape) < 2:  # a batch norm's (1, 1, 1, channels)
            return Layout(axis0=tuple(range(len(shape))), axis1=())
        return LAYOUTS["torch"]

    def usual_layout(self, leaf: Leaf, of_recipe: Layout | None) -> Layout | None:
        """The layout of a ``w`` for PyTorch's layer, whose axes have roles of their own."""
        if leaf.path[-1] != "w" or of_recipe is None:
            return of_recipe
        if of_recipe.roles == "io" and len(leaf.shape) == 2:
            return Layout(roles="io")
        if of_recipe.roles == "io":
            return CONV_TRANSPOSE
        return Layout(axis0=(-1,), axis1=(-2,), roles=of_recipe.roles)

    def names_of_cells(
        self, recipe: Recipe, known: Mapping[str, object]
    ) -> tuple[Mapping[str, str], Sequence[str]]:
        """Nothing: Haiku's GRU and LSTM are not PyTorch's, and a line says so for each."""
        return {}, [*self._strangers(known)] if packed_layers(recipe) else []

    def _strangers(self, known: Mapping[str, object]) -> Iterator[str]:
        for path, leaf in self.leaves.items():
            if leaf.label in known:
                continue
            module = re.sub(r"_\d+$", "", path[-3]) if len(path) > 2 else ""
            if path[-1] == "w_h":
                yield f"{'/'.join(path[:-1])}: {_GRU}"
            elif module == "lstm" and path[-2:] == ("linear", "w"):
                yield f"{'/'.join(path[:-2])}: {_LSTM}"


_CURE = "give its arrays initializers in names= and leave PyTorch's out with ignore="
_GRU = (
    "hk.GRU multiplies its state by the reset gate before the matrix and PyTorch's GRU behind it, "
    f"so that no weights make them equal; {_CURE}"
)
_LSTM = (
    "hk.LSTM has PyTorch's weight_ih and weight_hh in one array, with the gates in another order, "
    f"and adds 1 to its forget gate; {_CURE}"
)


@dataclass(frozen=True)
class HaikuArrays:
    """The arrays of Haiku's parameters, and of the state beside them.

    Attributes:
        tree: the parameters and the running statistics.
        values: all leaves of the dicts; a leaf's position is its place among them.
        structure: the dicts'.
        paths: Haiku's own paths of the leaves.
    """

    tree: HaikuTree
    values: list[Any]
    structure: Any
    paths: list[str]

    @classmethod
    def of(cls, params: Any) -> HaikuArrays:
        """The arrays of a dict of parameters, or of a pair of one and a dict of state."""
        has_state = isinstance(params, tuple) and len(params) == 2
        for part in params if has_state else (params,):
            _require_dicts(part)
        flat, structure = jax.tree_util.tree_flatten_with_path(params)
        leaves, paths = [], []
        for position, (keys, value) in enumerate(flat):
            module, word = (key.key for key in keys[has_state:])
            of_state = has_state and keys[0].idx == 1
            path = _state_path(module, word) if of_state else _path(module, word)
            paths.append(f"{module}/{word}")
            if path is not None and jnp.issubdtype(value.dtype, jnp.inexact):
                leaves.append(Leaf(position, path, tuple(value.shape), value.dtype, path))
        own = params[0] if has_state else params
        tree = HaikuTree(leaves, order=lambda: _order_of(own))
        return cls(tree, [value for _, value in flat], structure, paths)

    def without_values(self, plans: Iterable[LeafPlan]) -> Iterator[str]:
        """A line for each struct among the leaves that would get no values."""
        filled = {plan.leaf.position for plan in plans}
        for position, (path, value) in enumerate(zip(self.paths, self.values, strict=True)):
            is_struct = isinstance(value, jax.ShapeDtypeStruct)
            if is_struct and position not in filled and not _starts_at_zero(path):
                yield f"{path} {value.shape}: no rule fills it; give it values first"

    def filled(self, arrays: Mapping[int, Any]) -> Any:
        """The dicts with arrays in the place of some leaves, by their positions."""
        values = [
            jnp.zeros(value.shape, value.dtype)
            if isinstance(value, jax.ShapeDtypeStruct) and position not in arrays
            else arrays.get(position, value)
            for position, value in enumerate(self.values)
        ]
        return jax.tree.unflatten(self.structure, values)


def _require_dicts(params: Any) -> None:
    is_dict = isinstance(params, Mapping)
    if not is_dict or not all(isinstance(own, Mapping) for own in params.values()):
        raise TypeError(
            "params must be what Haiku's init gives, a dict from modules to dicts of arrays, or a "
            f"pair of params and state; got {type(params).__name__}. Of a transformed function "
            "take jax.eval_shape(net.init, jax.random.key(0), example_input)"
        )


def module_path(name: str) -> Path:
    """A module's path, without Haiku's mark of constructors."""
    return tuple(part for part in name.split("/") if part != "~")


def _path(module: str, word: str) -> Path:
    return (*module_path(module), word)


def _state_path(module: str, word: str) -> Path | None:
    """The path of a batch norm's running statistic; None for other state."""
    *parts, owner = _path(module, word)[:-1] or ("",)
    return (*parts, _STATISTICS[owner]) if owner in _STATISTICS and word == "average" else None


def _starts_at_zero(path: str) -> bool:
    """Whether an array of state is a moving average's own, which Haiku starts at 0."""
    return path.rpartition("/")[2] in ("hidden", "counter")


def _order_of(params: Mapping[str, Mapping[str, Any]]) -> list[Path] | None:
    """The paths in the order of creation; None of dicts that JAX has sorted."""
    names = [[*params], *([*own] for own in params.values())]
    if all(own == sorted(own) for own in names):
        return None
    return [_path(module, word) for module, own in params.items() for word in own]
