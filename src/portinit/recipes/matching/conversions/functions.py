"""Conversions as users write them: functions from PyTorch's weights to another model's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from portinit.arrays.convert import converted
from portinit.arrays.dtypes import FORMATS, dtype_name, numpy_dtype
from portinit.recipes.matching.conversions.conversion import Conversion, read_conversion
from portinit.recipes.matching.conversions.tags import Array
from portinit.recipes.rule import RecipeError


def read_function(
    convert: Callable[[Any], Any],
    source: Any,
    arrays_of: Callable[[Any], dict[str, Array]],
    *,
    folder: bool = False,
) -> Conversion:
    """The table of names of a function: see :func:`portinit_flax.from_conversion`.

    Args:
        convert: from a ``state_dict``, or a folder, to a model or its parameters.
        source: what it takes: a module of PyTorch, a ``state_dict`` or arrays by name.
        arrays_of: from what it returns to arrays by path.
        folder: whether it takes the folder of a checkpoint.

    Raises:
        portinit.RecipeError: ``convert`` returns no arrays, or others for other weights.
    """
    weights = Weights(source)

    def push(tensors: Mapping[str, Array]) -> dict[str, Array]:
        state = weights.with_values(tensors)
        if not folder:
            return _some(convert(state), arrays_of)
        with tempfile.TemporaryDirectory() as place:
            weights.save(state, Path(place) / "model.safetensors")
            return _some(convert(place), arrays_of)

    return read_conversion(push, weights.shapes, weights.dtypes)


def _some(made: Any, arrays_of: Callable[[Any], dict[str, Array]]) -> dict[str, Array]:
    arrays = arrays_of(made)
    if not arrays:
        raise RecipeError(
            "the conversion must return a model or its parameters, as the adapter's initialize "
            f"takes them or as a flat dict of paths; got {type(made).__name__} without arrays"
        )
    return arrays


class Weights:
    """What a conversion takes: names, shapes and dtypes, in PyTorch's tensors or NumPy's arrays.

    Args:
        source: as for :func:`read_function`.
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
