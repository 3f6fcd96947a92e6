"""Tables of names out of conversions that users have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from portinit.arrays.convert import to_numpy
from portinit.recipes.matching.conversions.conversion import Conversion
from portinit.recipes.matching.conversions.functions import read_function
from portinit.recipes.matching.conversions.tags import Array
from portinit_flax.tree import leaves, tree_of


def from_conversion(
    convert: Callable[[Any], Any], source: Any, *, folder: bool = False
) -> Conversion:
    """Read a table of names off a function that turns PyTorch's weights into Flax's.

    Tensors whose elements are tagged go through the function, several times over, and what comes
    out says where each element went: names, transposes, splits and stacks, permuted rows and
    copies are found exactly, without looking at the function or at any name. What it computes
    (sums, scales) is no copy of a parameter, and is reported and left out of the table.

    Args:
        convert: takes a ``state_dict`` and returns Flax's parameters: a tree, linen variables, a
            flat dict of paths, an ``nnx.State`` or an ``nnx.Module``. It must not look at the
            weights' values.
        source: what ``convert`` takes, for its names, shapes and dtypes: a PyTorch module, also on
            the meta device; a ``state_dict``; or a mapping from names to NumPy arrays or
            ``jax.ShapeDtypeStruct``. ``convert`` is given tensors of PyTorch for PyTorch's, and
            NumPy's arrays otherwise.
        folder: give ``convert`` the path of a folder with the weights in ``model.safetensors``
            instead, as loaders of checkpoints take it.

    Returns:
        A table for ``names=`` of :func:`initialize`, :func:`match` and ``portinit port``. A model
        filled with it has, bit for bit, what ``convert`` makes of the PyTorch model filled from
        the same recipe and key. Parameters that ``convert`` leaves out, or of which it uses a part,
        are among its ``ignore``; ``unexplained`` lists arrays that it computes, ``constants`` those
        that no parameter changes, and ``rounded`` those that went through a narrower dtype.
        ``to_json()`` writes the file that ``--names`` takes.

    Raises:
        portinit.RecipeError: ``convert`` returns no arrays, or others for other weights.

    >>> import numpy as np
    >>> def convert(state):
    ...     query, key = state["qk.weight"].reshape(2, 4, 3)
    ...     return {"k": {"kernel": key.T}, "q": {"kernel": query.T}}
    >>> names = from_conversion(convert, {"qk.weight": np.zeros((8, 3), np.float32)})
    >>> print(names.to_json(), end="")
    {
      "k/kernel": ["qk.weight[4:8]", "flax"],
      "q/kernel": ["qk.weight[0:4]", "flax"]
    }
    """
    return read_function(convert, source, arrays_of, folder=folder)


def arrays_of(made: Any) -> dict[str, Array]:
    """The arrays of what a conversion returns, by their paths."""
    tree = tree_of(made)
    if isinstance(tree, Mapping) and any(isinstance(key, tuple) for key in tree):
        tree = {"/".join(map(str, key)): value for key, value in tree.items()}
    found, flat, _ = leaves(tree)
    return {leaf.label: to_numpy(flat[leaf.position]) for leaf in found}
