"""Tables of names out of conversions that users have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mlx.nn as nn
from mlx.utils import tree_flatten

from portinit.arrays.convert import to_numpy
from portinit.recipes.matching.conversions.conversion import Conversion
from portinit.recipes.matching.conversions.functions import read_function
from portinit.recipes.matching.conversions.tags import Array
from portinit_mlx.tree import flat_arrays


def from_conversion(
    convert: Callable[[Any], Any], source: Any, *, folder: bool = False
) -> Conversion:
    """Read a table of names off a function that turns PyTorch's weights into MLX's.

    See :func:`portinit_flax.from_conversion`, which does the same for Flax.

    Args:
        convert: takes a ``state_dict`` and returns a module, or arrays by MLX's names.
            It must not look at the weights' values.
        source: a PyTorch module, a ``state_dict`` or arrays by name, as for Flax.
        folder: give ``convert`` the path of a folder with ``model.safetensors`` instead.

    Returns:
        A table for ``names=`` of :func:`initialize` and :func:`match`, and for ``portinit port``.

    Raises:
        portinit.RecipeError: ``convert`` returns no arrays, or others for other weights.

    >>> import mlx.core as mx, numpy as np
    >>> import portinit_mlx
    >>> def convert(state):
    ...     return {"layers.0.weight": mx.array(state["qk.weight"][4:])}
    >>> source = {"qk.weight": np.zeros((8, 3), np.float32)}
    >>> portinit_mlx.from_conversion(convert, source)["layers/0/weight"].to_data()
    ['qk.weight[4:8]', 'torch']
    """
    return read_function(convert, source, arrays_of, folder=folder)


def arrays_of(made: Any) -> dict[str, Array]:
    """The arrays of what a conversion returns, by their paths."""
    if isinstance(made, nn.Module):
        named = flat_arrays(made)
    else:
        named = [*tree_flatten(made)] if isinstance(made, Mapping) else []
    return {name.replace(".", "/"): to_numpy(array) for name, array in named}
