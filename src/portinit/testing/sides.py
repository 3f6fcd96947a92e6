"""The two sides of a comparison: what a PyTorch module holds, and what a Flax model holds."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portinit.arrays.layouts import Layout
from portinit.initializers.assigned import assign
from portinit.initializers.basic import zeros
from portinit.recipes.packed import is_packed
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule, usual_layout
from portinit.testing.arrays import has_values, to_numpy


@dataclass(frozen=True)
class Held:
    """One tensor on PyTorch's side: its layout in Flax, where its layer tells."""

    values: Any
    layout: Layout | None = None
    buffer: bool = False

    @property
    def memory(self) -> Any:
        """The identity that tied tensors share."""
        x = self.values
        if not hasattr(x, "data_ptr") or not x.numel() or x.is_meta:
            return id(x)
        return (x.data_ptr(), tuple(x.shape), x.stride())


def torch_side(module: Any) -> dict[str, Held]:
    """The tensors of a module, or of a mapping from its names, in its order."""
    if isinstance(module, Mapping):
        return {name: Held(x, None, _is_statistic(name)) for name, x in module.items()}
    if not hasattr(module, "named_parameters"):
        kind = type(module).__name__
        raise TypeError(f"torch_module must be an nn.Module or a mapping of names, got {kind}")
    from portinit_torch.modules import describe

    pairs = [(pair, False) for pair in module.named_parameters(remove_duplicate=False)]
    pairs += [(pair, True) for pair in module.named_buffers()]
    return {
        name: Held(tensor, usual_layout(describe(module, name, tensor)), buffer)
        for (name, tensor), buffer in pairs
    }


def _is_statistic(name: str) -> bool:
    leaf = name.rpartition(".")[2]
    return leaf in ("running_mean", "running_var", "num_batches_tracked")


def recipe_of(held: Mapping[str, Held]) -> Recipe:
    """PyTorch's tensors as the rules that a matching needs.

    A tensor with several names is one parameter; recurrent layers have their values, as a zero
    bias may be missing in Flax.
    """
    names: dict[Any, list[str]] = {}
    for name, one in held.items():
        names.setdefault(one.memory, []).append(name)
    rules = []
    for first, *others in names.values():
        one = held[first]
        values = is_packed(first) and has_values(one.values)
        rules.append(
            Rule(
                glob.escape(first),
                assign(to_numpy(one.values)) if values else zeros,
                one.layout,
                shape=tuple(one.values.shape),
                buffer=one.buffer,
                other_names=tuple(others),
            )
        )
    return Recipe(rules)
