"""Example inputs as the arguments of a PyTorch module."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from portinit.arrays.convert import to_numpy
from portinit.probes.inputs import Arguments, arguments_of


def torch_arguments(inputs: Any, device: torch.device | None = None) -> tuple[Arguments, str]:
    """The arguments that an example input is for PyTorch, and a note on what was done to them.

    Arrays of other frameworks become tensors. Their float64, which JAX makes float32, becomes
    PyTorch's default dtype.

    Args:
        inputs: as for :func:`portinit.probe`.
        device: where the tensors made of arrays lie; tensors stay where they are.
    """
    notes: list[str] = []

    def convert(array: Any) -> Tensor:
        if isinstance(array, Tensor):
            return array
        tensor = as_tensor(to_numpy(array)).to(device)
        dtype = torch.get_default_dtype()
        if tensor.dtype != torch.float64 or dtype == torch.float64:
            return tensor
        notes.append(f"float64 inputs were given to PyTorch as {str(dtype).removeprefix('torch.')}")
        return tensor.to(dtype)

    return arguments_of(inputs, convert), "".join(notes[:1])


def as_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor with an array's values and dtype, ml_dtypes' bfloat16 included."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.copy().view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array.copy())
