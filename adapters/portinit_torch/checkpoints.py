"""The tensors of a PyTorch module's checkpoint."""

from __future__ import annotations

from typing import Any

from torch import nn

from portinit import Recipe, checkpoints
from portinit.arrays.dtypes import dtype_name
from portinit.checkpoints import TensorSpec
from portinit.checkpoints.tensors import chosen_dtype
from portinit_torch.modules import bind, pairs_of


def checkpoint_tensors(module: nn.Module, recipe: Recipe, dtype: Any = None) -> list[TensorSpec]:
    """List the tensors that :func:`portinit.checkpoints.write` writes of a module.

    A shared (tied) parameter is listed once, by its first name. Buffers that are not persistent
    are left out, as in a state_dict.

    Args:
        module: a module; it may be on the meta device, and nothing of it is written.
        recipe: rules for the module's names.
        dtype: of the floating tensors, by default the module's.

    Returns:
        A spec for each tensor, in the module's order.

    Raises:
        portinit.RecipeError: listing every parameter that does not fit the recipe.

    >>> import portinit, torch
    >>> with torch.device("meta"):
    ...     module = torch.nn.Linear(3, 2, dtype=torch.bfloat16)
    >>> [spec.dtype for spec in checkpoint_tensors(module, portinit.recipes.torch_defaults())]
    ['bfloat16', 'bfloat16']
    """
    bound = bind(module, recipe)
    tensors = {described.name: tensor for described, tensor in pairs_of(module, recipe, {})}
    persistent = {id(tensor) for tensor in module.state_dict(keep_vars=True).values()}
    kept = [r for r in bound.rules if not r.buffer or id(tensors[r.name or ""]) in persistent]
    dtypes = {name: chosen_dtype(dtype_name(t.dtype), dtype) for name, t in tensors.items()}
    return checkpoints.checkpoint_tensors(Recipe(kept, bound.program), dtypes)


entries = checkpoint_tensors
"""The former name of :func:`checkpoint_tensors`."""
