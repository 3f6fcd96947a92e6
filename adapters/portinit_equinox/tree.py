"""What an Equinox module says of its arrays: their paths, classes, layouts and cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from portinit import Recipe
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.matching.trees.cells import CellArray, RecurrentCell, names_of_cells
from portinit.recipes.matching.trees.class_tree import ClassTree
from portinit.recipes.matching.trees.leaf import Leaf, Path
from portinit.recipes.matching.trees.tree import Module
from portinit_jax.paths import path_of

_CONVOLUTIONS = {
    f"{name}{suffix}": kind
    for name, kind in (("Conv", "conv"), ("ConvTranspose", "conv_transpose"))
    for suffix in ("", "1d", "2d", "3d")
}
_GATES = {"GRUCell": 3, "LSTMCell": 4}
_ONE_LAYOUT = frozenset({"Linear", "Embedding", *_CONVOLUTIONS, *_GATES})


class EquinoxTree(ClassTree):
    """The arrays of a pytree of Equinox's modules, which lie as PyTorch's do."""

    adapter: ClassVar[str] = "portinit_equinox"
    kinds: ClassVar[Mapping[str, str]] = {
        "Linear": "linear",
        **_CONVOLUTIONS,
        "Embedding": "embedding",
        **dict.fromkeys(("LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm"), "norm"),
        "PReLU": "prelu",
        **dict.fromkeys(_GATES, "recurrent"),
        **dict.fromkeys(("WeightNorm", "SpectralNorm"), "parametrized"),
    }
    words: ClassVar[frozenset[str]] = frozenset({"weight", "bias", "weight_ih", "weight_hh"})
    axes: ClassVar[Mapping[str, tuple[int, int]]] = dict.fromkeys(
        ("linear", "conv", "conv_transpose"), (0, 1)
    )
    ranks: ClassVar[Mapping[str, int]] = {
        **{f"{name}{n}d": n + 2 for name in ("Conv", "ConvTranspose") for n in (1, 2, 3)},
        **dict.fromkeys(("Linear", "Embedding"), 2),
    }
    flips_transposed: ClassVar[bool] = True
    own_classes: ClassVar[frozenset[str]] = _ONE_LAYOUT
    one_layout_classes: ClassVar[frozenset[str]] = _ONE_LAYOUT
    renamed: ClassVar[Mapping[tuple[str, str], str | None]] = {
        ("MultiheadAttention", "output_proj"): "out_proj",
        ("Sequential", "layers"): None,
    }

    def state_size(self, module: Module) -> int | None:
        """The size of a cell's state."""
        kernel = module.leaves.get("weight_hh")
        return None if module.of_class not in _GATES or kernel is None else kernel.shape[-1]

    def names_of_cells(
        self, recipe: Recipe, known: Mapping[str, object]
    ) -> tuple[Mapping[str, str], Sequence[str]]:
        """The rows of PyTorch's packed parameters that arrays of GRUCell and LSTMCell hold."""
        return names_of_cells(self._cells(), recipe, known)

    def _cells(self) -> Iterator[RecurrentCell]:
        for path, leaf in self.leaves.items():
            gates = _GATES.get(self.class_of(path) or "")
            if path[-1] != "weight_ih" or gates is None:
                continue
            parts = [
                CellArray((*path[:-1], word), side, gate, word.startswith("bias"))
                for word, side, gate in _CELL
                if self.sibling(path, word)
            ]
            hidden = leaf.shape[0] // gates
            yield RecurrentCell(path[:-1], (gates, leaf.shape[1], hidden), tuple(parts))


_CELL = (
    ("weight_ih", "ih", None),
    ("weight_hh", "hh", None),
    ("bias", "ih", None),
    ("bias_n", "hh", 2),
)
"""The arrays of Equinox's cells: PyTorch's side, and the gate where it is of one."""


@dataclass(frozen=True)
class EquinoxArrays:
    """The arrays of a pytree of modules, of the State beside them too.

    Attributes:
        tree: the parameters and the running statistics.
        values: all leaves of the pytree; a leaf's position is its place among them.
        structure: the pytree's.
        counts: what the counts of batch norms start with, by their positions.
    """

    tree: EquinoxTree
    values: list[Any]
    structure: Any
    counts: Mapping[int, int | bool]

    @classmethod
    def of(cls, model: Any) -> EquinoxArrays:
        """The arrays of a pytree, or of a pair of one and its State."""
        _require_pytree(model)
        is_pair = isinstance(model, tuple) and len(model) == 2
        has_state = is_pair and isinstance(model[1], eqx.nn.State)
        module = model[0] if has_state else model
        flat, structure = jax.tree_util.tree_flatten_with_path(model)
        statistics, counts = _of_norms(model, structure, module)
        leaves, classes = [], dict[Path, str]()
        for position, (keys, value) in enumerate(flat):
            keys = keys[has_state:]
            path = statistics.get(position, path_of(keys))
            if _is_parameter(value):
                leaves.append(Leaf(position, path, tuple(value.shape), value.dtype, path))
                classes |= _classes(module, keys)
        return cls(
            EquinoxTree(leaves, classes, lambda: [leaf.path for leaf in leaves]),
            [value for _, value in flat],
            structure,
            counts,
        )

    def without_values(self, plans: Iterable[LeafPlan]) -> Iterator[str]:
        """A line for each struct among the leaves that would get no values."""
        given = {plan.leaf.position for plan in plans} | self.counts.keys()
        for position, value in enumerate(self.values):
            if position not in given and isinstance(value, jax.ShapeDtypeStruct):
                yield (
                    f"leaf {position} of the pytree, {value.dtype} of shape {value.shape}: no rule "
                    "fills it; give it its values first"
                )

    def filled(self, arrays: Mapping[int, Any]) -> Any:
        """The pytree with arrays in the place of some leaves, by their positions."""
        values = list(self.values)
        for position, start in self.counts.items():
            struct = values[position]
            if isinstance(struct, jax.ShapeDtypeStruct):
                values[position] = jnp.full(struct.shape, start, struct.dtype)
        for position, array in arrays.items():
            values[position] = array
        return jax.tree.unflatten(self.structure, values)


def _require_pytree(model: Any) -> None:
    if hasattr(model, "named_parameters"):
        raise TypeError(
            f"model must be a pytree of Equinox's modules, got {type(model).__name__} of PyTorch: "
            "portinit_torch.initialize fills it"
        )


def _is_parameter(value: Any) -> bool:
    """Whether a leaf is an array, or the struct of one, of floating or complex numbers."""
    has_shape = hasattr(value, "shape") and hasattr(value, "dtype")
    return has_shape and jnp.issubdtype(value.dtype, jnp.inexact)


def _of_norms(
    model: Any, structure: Any, module: Any
) -> tuple[dict[int, Path], dict[int, int | bool]]:
    """The places of batch norms' running statistics among the leaves, and of what counts them.

    They lie in the modules' indices, or in the State that ``make_with_state`` gives, which is
    asked by these: here for numbers in the place of its arrays.

    Returns:
        Paths by the positions of statistics, and values to start with by the positions of counts.
    """
    statistics, counts = dict[int, Path](), dict[int, int | bool]()
    numbered = jax.tree.unflatten(structure, range(structure.num_leaves))
    modules, state = (numbered, None) if module is model else numbered
    for keys, norm in jax.tree_util.tree_flatten_with_path(modules, is_leaf=_is_norm)[0]:
        if not _is_norm(norm):
            continue
        is_ema = norm.mode == "ema"
        index = norm.ema_state_index if is_ema else norm.batch_state_index
        count = norm.ema_first_time_index if is_ema else norm.batch_counter
        held, counted = (one.init if state is None else state.get(one) for one in (index, count))
        if isinstance(held, tuple):  # and no mark of what lies in a State that is not given
            paths = [(*path_of(keys), word) for word in ("running_mean", "running_var")]
            statistics |= zip(held, paths, strict=True)
            counts[counted] = True if is_ema else 0
    return statistics, counts


def _is_norm(node: Any) -> bool:
    return isinstance(node, eqx.nn.BatchNorm)


def _classes(module: Any, keys: Sequence[Any]) -> Iterator[tuple[Path, str]]:
    """The classes of the modules that a leaf is in, by their paths."""
    node = module
    for depth, key in enumerate(keys):
        if isinstance(node, eqx.Module):
            yield path_of(keys[:depth]), _class_name(type(node))
        node = getattr(node, key.name) if hasattr(key, "name") else _child(node, key)


def _child(node: Any, key: Any) -> Any:
    try:
        return node[getattr(key, "idx", getattr(key, "key", None))]
    except (TypeError, LookupError):  # of another pytree class, whose parts have no classes here
        return None


def _class_name(cls: type) -> str:
    """The name of Equinox's own class that a class is or comes from, or else its name."""
    own = [c.__name__ for c in cls.__mro__ if c.__module__.startswith("equinox.nn")]
    return next((name for name in own if name in EquinoxTree.kinds), [*own, cls.__name__][0])
