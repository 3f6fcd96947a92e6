"""Tables of names out of conversions that users have."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from portinit.arrays.convert import converted, to_numpy
from portinit.arrays.dtypes import FORMATS, dtype_name, numpy_dtype
from portinit.recipes.matching.conversions.conversion import Conversion, read_conversion
from portinit.recipes.matching.conversions.tags import Array
from portinit.recipes.rule import RecipeError
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
    weights = _Weights(source)

    def push(tensors: Mapping[str, Array]) -> dict[str, Array]:
        state = weights.with_values(tensors)
        if not folder:
            return arrays_of(convert(state))
        with tempfile.TemporaryDirectory() as place:
            weights.save(state, Path(place) / "model.safetensors")
            return arrays_of(convert(place))

    return read_conversion(push, weights.shapes, weights.dtypes)


class _Weights:
    """What a conversion takes: names, shapes and dtypes, in PyTorch's tensors or NumPy's arrays.

    Args:
        source: as for :func:`from_conversion`.
    """

    def __init__(self, source: Any) -> None:
        is_module = hasattr(source, "named_parameters") and hasattr(source, "state_dict")
        state = source.state_dict(keep_vars=True) if is_module else source
        if not isinstance(state, Mapping) or not state:
            raise TypeError(
                "the weights must be those of a PyTorch module, a state_dict or a mapping from "
                f"names to arrays, got {type(source).__name__}"
            )
        self._state = dict(state)
        self._is_torch = any(hasattr(one, "detach") for one in state.values())
        first_names: dict[int, str] = {}
        self._first = {name: first_names.setdefault(id(one), name) for name, one in state.items()}
        self.dtypes = {
            name: dtype_name(one.dtype)
            for name, one in state.items()
            if self._first[name] == name and dtype_name(one.dtype) in FORMATS
        }
        """The dtypes of floating parameters, a tied one's under its first name."""
        self.shapes = {name: tuple(map(int, state[name].shape)) for name in self.dtypes}
        """Their shapes."""

    def with_values(self, values: Mapping[str, Array]) -> dict[str, Any]:
        """New tensors or arrays of these values; integers and booleans as they are."""
        made = {name: self._made(values[name], dtype) for name, dtype in self.dtypes.items()}
        for name, one in self._state.items():
            if name not in made:
                first = self._first[name]
                made[name] = made[first] if first in made else self._unchanged(one)
        return {name: made[name] for name in self._state}

    def _made(self, values: Array, dtype: str) -> Any:
        exact = converted(values, dtype)
        if not self._is_torch:
            return exact
        import torch

        wide = torch.from_numpy(
            np.ascontiguousarray(exact.astype(np.result_type(exact, np.float32)))
        )
        return wide.to(getattr(torch, dtype))

    def _unchanged(self, one: Any) -> Any:
        if self._is_torch:
            import torch

            return torch.zeros(one.shape, dtype=one.dtype) if one.is_meta else one.detach().clone()
        has_values = hasattr(one, "__array__")
        return (
            np.array(one) if has_values else np.zeros(one.shape, numpy_dtype(dtype_name(one.dtype)))
        )

    def save(self, state: Mapping[str, Any], path: Path) -> None:
        """Write the weights to a safetensors file."""
        if self._is_torch:
            from safetensors.torch import save_file

            save_file({name: one.clone().contiguous() for name, one in state.items()}, path)
        else:
            from safetensors.numpy import save_file as save_arrays

            save_arrays({name: np.ascontiguousarray(one) for name, one in state.items()}, path)


def arrays_of(made: Any) -> dict[str, Array]:
    """The arrays of what a conversion returns, by their paths.

    Raises:
        portinit.RecipeError: it has none.
    """
    tree = tree_of(made)
    if isinstance(tree, Mapping) and any(isinstance(key, tuple) for key in tree):
        tree = {"/".join(map(str, key)): value for key, value in tree.items()}
    found, flat, _ = leaves(tree)
    arrays = {leaf.label: to_numpy(flat[leaf.position]) for leaf in found}
    if not arrays:
        raise RecipeError(
            "the conversion must return Flax's parameters: a tree, a flat dict of paths, an "
            f"nnx.State or an nnx.Module; got {type(made).__name__}"
        )
    return arrays
