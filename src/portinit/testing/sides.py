"""The two sides of a comparison: what a PyTorch module holds, and what a Flax model holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portinit.arrays.layouts import Layout, as_layout
from portinit.recipes.rule import usual_layout

if TYPE_CHECKING:
    from portinit_flax.tree import Tree

Names = Mapping[str, str | tuple[str, Layout | str]]
Path = tuple[str, ...]


@dataclass(frozen=True)
class Held:
    """One tensor on PyTorch's side: its layout in Flax, where its layer tells."""

    values: Any
    layout: Layout | None = None
    buffer: bool = False

    @property
    def memory(self) -> Any:
        """What tied tensors have in common."""
        x = self.values
        return (x.data_ptr(), tuple(x.shape), x.stride()) if hasattr(x, "data_ptr") else id(x)


def torch_side(module: Any) -> dict[str, Held]:
    """The tensors of a module, or of a mapping from its names, in its order."""
    if isinstance(module, Mapping):
        return {name: Held(x, None, _is_statistic(name)) for name, x in module.items()}
    if not hasattr(module, "named_parameters"):
        kind = type(module).__name__
        raise TypeError(f"torch_module must be an nn.Module or a mapping of names, got {kind}")
    from portinit_torch.modules import describe

    pairs = [(pair, False) for pair in module.named_parameters()]
    pairs += [(pair, True) for pair in module.named_buffers()]
    return {
        name: Held(tensor, usual_layout(describe(module, name, tensor)), buffer)
        for (name, tensor), buffer in pairs
    }


def _is_statistic(name: str) -> bool:
    leaf = name.rpartition(".")[2]
    return leaf in ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class FlaxSide:
    """A Flax model's arrays by path, its collections left out.

    Attributes:
        tree: what paths and shapes tell of layouts.
        arrays: the parameters and the batch statistics.
        statistics: the paths of the batch statistics, which PyTorch's side may lack.
    """

    tree: Tree
    arrays: dict[Path, Any]
    statistics: set[Path]


def flax_side(model: Any) -> FlaxSide:
    """The arrays of linen variables, of a tree of parameters, or of an nnx module."""
    from flax import nnx

    from portinit_flax.tree import Tree, leaves, tree_of

    tree = tree_of(model)
    statistics: Any = {}
    if isinstance(model, nnx.Module):
        statistics = nnx.state(model, nnx.BatchStat)
    elif isinstance(model, Mapping) and "params" in model:
        statistics = model.get("batch_stats", {})
    found, arrays, _ = leaves(tree)
    return FlaxSide(
        Tree(found),
        {leaf.path: arrays[leaf.position] for leaf in found},
        {leaf.path for leaf in leaves(statistics)[0]},
    )


def split_table(names: Names | None) -> tuple[dict[str, str], dict[str, Layout]]:
    """A table's names, and the layouts that it states, by path."""
    table, layouts = {}, {}
    for path, target in (names or {}).items():
        if isinstance(target, str):
            table[path] = target
        else:
            table[path], layouts[path] = target[0], as_layout(target[1])
    return table, layouts
