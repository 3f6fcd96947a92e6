"""Tables of names out of conversions that users have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portinit.arrays.convert import to_numpy
from portinit.recipes.matching.conversions.conversion import Conversion
from portinit.recipes.matching.conversions.functions import read_function
from portinit.recipes.matching.conversions.tags import Array
from portinit_haiku.tree import HaikuArrays


def from_conversion(
    convert: Callable[[Any], Any], source: Any, *, folder: bool = False
) -> Conversion:
    """Read a table of names off a function that turns PyTorch's weights into Haiku's.

    See :func:`portinit_flax.from_conversion`, which does the same for Flax.

    Args:
        convert: takes a ``state_dict`` and returns params, or the pair of params and state.
            It must not look at the weights' values.
        source: a PyTorch module, a ``state_dict`` or arrays by name, as for Flax.
        folder: give ``convert`` the path of a folder with ``model.safetensors`` instead.

    Returns:
        A table for ``names=`` of :func:`initialize` and :func:`match`, and for ``portinit port``.

    Raises:
        portinit.RecipeError: ``convert`` returns no arrays, or others for other weights.

    >>> import numpy as np
    >>> import portinit_haiku
    >>> def convert(state):
    ...     return {"net/~/k": {"w": state["qk.weight"][4:].T}}
    >>> source = {"qk.weight": np.zeros((8, 3), np.float32)}
    >>> portinit_haiku.from_conversion(convert, source)["net/k/w"].to_data()
    ['qk.weight[4:8]', 'flax']
    """
    return read_function(convert, source, arrays_of, folder=folder)


def arrays_of(made: Any) -> dict[str, Array]:
    """The arrays of what a conversion returns, by their paths."""
    arrays = HaikuArrays.of(made)
    leaves = arrays.tree.leaves.values()
    return {leaf.label: to_numpy(arrays.values[leaf.position]) for leaf in leaves}
