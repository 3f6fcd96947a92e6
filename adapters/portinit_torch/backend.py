"""The backend of PyTorch's tensors."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import array_api_compat.torch
import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from portinit.arrays.dtypes import dtype_name
from portinit.arrays.grids import Grid
from portinit.backends.base import Backend, Request, UnknownWordsError, Words
from portinit.backends.kernels import filling
from portinit.backends.kernels.rows import rows_of
from portinit.backends.numpy import NUMPY
from portinit.backends.plan import Mask, Plan, TileMask, is_zero
from portinit.sampling.transform import Transform
from portinit_torch.memory import is_plain, is_plain_on_cpu, is_watched

_NUMPYS = (torch.float32, torch.float64, torch.float16, torch.complex64, torch.complex128)
_ON_GPU = frozenset({"float32", "bfloat16", "float16"})
_NONE: frozenset[str] = frozenset()
_CPU = torch.device("cpu")


class TorchBackend(Backend):
    """Eager torch tensors on any device."""

    def default_dtype(self) -> str:
        return dtype_name(torch.get_default_dtype())

    def native_dtype(self, name: str) -> Any:
        return getattr(torch, name)

    def known_words(self, words: Words) -> tuple[int, int]:
        high, low = words
        if not isinstance(high, int):
            raise UnknownWordsError(
                "values that are computed in NumPy need a key whose words are known; within a "
                "transform or a tracer pass key=..., not a generator"
            )
        return high, int(low)

    def complex(self, real: Any, imag: Any, dtype: str) -> Any:
        made = torch.complex(real, imag)
        return made.to(torch.complex32) if dtype == "complex32" else made

    def fill(self, out: Tensor, plan: Plan, words: Words, grid: Grid, dtype: str) -> None:
        """Fill a tensor in place with a plan's values at a grid's elements; in NumPy if it can."""
        if isinstance(words[0], int) and plan.divisible and _is_numpys(out, grid):
            memory = (out.detach() if out.requires_grad else out).numpy()
            NUMPY.execute(
                plan, Request(NUMPY, words, grid, dtype, None, torch.get_num_threads()), memory
            )
            _mark_changed(out)
            return
        request = Request(self, words, grid, dtype, out.device)
        with torch.no_grad():
            if is_watched():  # one piece makes a smaller graph than many
                out.copy_(self.values(plan, request))
            else:
                self.execute(plan, request, out)

    def tile_mask(self, mask: Mask, request: Request) -> TileMask:
        if not (isinstance(request.words[0], int) and _is_cpu(_device(request.device))):
            return super().tile_mask(mask, request)
        host = request._replace(backend=NUMPY, device=None)
        of_tile = mask.of_tiles(host)
        return lambda tile, positions: torch.from_numpy(of_tile(host.on(tile.grid), positions))

    def overwrite(self, out: Any, mask: Any, plan: Plan, request: Request) -> None:
        grid = request.grid
        if is_zero(plan) and out.dtype == torch.bfloat16 and _is_plain_memory(out, grid):
            # torch.where takes as long as all else together.
            NUMPY.overwrite(_memory(out.detach()), mask.numpy(), plan, request)
            _mark_changed(out)
        else:
            super().overwrite(out, mask, plan, request)

    def kernel_dtypes(self, request: Request, *, draws: bool = False) -> frozenset[str]:
        if is_watched() or not isinstance(request.words[0], int):
            return _NONE  # words that are tensors are a graph's, not yet numbers
        device = _device(request.device)
        if _is_cpu(device):
            return filling.DTYPES if filling.is_ready(request.grid, draws=draws) else _NONE
        on_gpu = device.type == "cuda" and _triton_fill() is not None
        return _ON_GPU if on_gpu and _triton_fill().works(device) else _NONE

    def run_kernel(
        self, out: Any, request: Request, transform: Transform | None, stream: int = 0
    ) -> bool:
        if not is_plain(out):
            return False
        memory, form = out.detach(), (request.words, request.grid, transform, stream)
        if _is_cpu(out.device):
            done = filling.fill(_memory(memory), *form, torch.get_num_threads())
        else:
            done = bool(_triton_fill().fill(memory, *form))
        if done:
            _mark_changed(out)
        return done


def _is_numpys(tensor: Any, grid: Grid) -> bool:
    """Whether NumPy sees the tensor's memory, with a place for each element, and its dtype."""
    return tensor.dtype in _NUMPYS and _is_plain_memory(tensor, grid)


def _is_plain_memory(tensor: Any, grid: Grid) -> bool:
    """Whether a tensor is plain memory on the CPU, with a place for each of a grid's elements."""
    if not is_plain_on_cpu(tensor):
        return False
    return tensor.is_contiguous() or rows_of(grid, tensor.stride()) is not None


def _memory(tensor: Any) -> np.ndarray[Any, Any]:
    """The tensor's memory as NumPy's; the bits of bfloat16, which NumPy lacks."""
    memory = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    array: np.ndarray[Any, Any] = memory.numpy()
    return array


def _mark_changed(tensor: Any) -> None:
    """Tell autograd that the tensor's memory was written to."""
    if not tensor.is_inference():
        increment_version(tensor)


def _device(device: Any) -> torch.device:
    if isinstance(device, torch.device):
        return device
    return torch.device(device or torch.get_default_device())


def _is_cpu(device: torch.device) -> bool:
    return device == _CPU or device.type == "cpu"  # "cpu:0" differs; a type takes thrice as long


@cache
def _triton_fill() -> Any:
    """The module that fills tensors on a GPU; none where Triton is not installed."""
    try:
        return importlib.import_module("portinit_torch.triton_fill")
    except ImportError:
        return None


BACKEND = TorchBackend(array_api_compat.torch)
