"""Tables of names out of conversions that users have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portinit.arrays.convert import to_numpy
from portinit.recipes.matching.conversions.conversion import Conversion
from portinit.recipes.matching.conversions.functions import read_function
from portinit.recipes.matching.conversions.tags import Array
from portinit_equinox.tree import EquinoxArrays


def from_conversion(
    convert: Callable[[Any], Any], source: Any, *, folder: bool = False
) -> Conversion:
    """Read a table of names off a function that turns PyTorch's weights into Equinox's.

    See :func:`portinit_flax.from_conversion`, which does the same for Flax.

    Args:
        convert: takes a ``state_dict`` and returns a module, or a pair of one and its State.
            It must not look at the weights' values.
        source: a PyTorch module, a ``state_dict`` or arrays by name, as for Flax.
        folder: give ``convert`` the path of a folder with ``model.safetensors`` instead.

    Returns:
        A table for ``names=`` of :func:`initialize` and :func:`match`, and for ``portinit port``.

    Raises:
        portinit.RecipeError: ``convert`` returns no arrays, or others for other weights.

    >>> import equinox as eqx, jax, numpy as np
    >>> import portinit_equinox
    >>> layer = eqx.nn.Linear(3, 4, use_bias=False, key=jax.random.key(0))
    >>> def convert(state):
    ...     weight = jax.numpy.asarray(state["qk.weight"][4:])
    ...     return eqx.tree_at(lambda layer: layer.weight, layer, weight)
    >>> source = {"qk.weight": np.zeros((8, 3), np.float32)}
    >>> portinit_equinox.from_conversion(convert, source)["weight"].to_data()
    ['qk.weight[4:8]', 'torch']
    """
    return read_function(convert, source, arrays_of, folder=folder)


def arrays_of(made: Any) -> dict[str, Array]:
    """The arrays of what a conversion returns, by their paths."""
    arrays = EquinoxArrays.of(made)
    leaves = arrays.tree.leaves.values()
    return {leaf.label: to_numpy(arrays.values[leaf.position]) for leaf in leaves}
