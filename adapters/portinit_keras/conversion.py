"""Tables of names out of conversions that users have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portinit.recipes.matching.conversions.conversion import Conversion
from portinit.recipes.matching.conversions.functions import read_function
from portinit.recipes.matching.conversions.tags import Array
from portinit_keras.drawing import to_array
from portinit_keras.tree import Variables


def from_conversion(
    convert: Callable[[Any], Any], source: Any, *, folder: bool = False
) -> Conversion:
    """Read a table of names off a function that turns PyTorch's weights into Keras's.

    See :func:`portinit_flax.from_conversion`, which does the same for Flax.

    Args:
        convert: takes a ``state_dict`` and returns a built model.
            It must not look at the weights' values.
        source: a PyTorch module, a ``state_dict`` or arrays by name, as for Flax.
        folder: give ``convert`` the path of a folder with ``model.safetensors`` instead.

    Returns:
        A table for ``names=`` of :func:`initialize` and :func:`match`, and for ``portinit port``.

    Raises:
        portinit.RecipeError: ``convert`` returns no arrays, or others for other weights.

    >>> import keras, numpy as np
    >>> import portinit_keras
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, use_bias=False)])
    >>> def convert(state):
    ...     model.set_weights([state["qk.weight"][4:].T])
    ...     return model
    >>> source = {"qk.weight": np.zeros((8, 3), np.float32)}
    >>> portinit_keras.from_conversion(convert, source)["dense/kernel"].to_data()
    ['qk.weight[4:8]', 'flax']
    """
    return read_function(convert, source, arrays_of, folder=folder)


def arrays_of(made: Any) -> dict[str, Array]:
    """The arrays of what a conversion returns, by their paths."""
    held = Variables.of(made)
    leaves = held.tree.leaves.values()
    return {leaf.label: to_array(held.variables[leaf.position]).copy() for leaf in leaves}
