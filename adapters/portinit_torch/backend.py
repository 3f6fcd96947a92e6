"""What the core asks of torch."""

from __future__ import annotations

from typing import Any

import array_api_compat.torch
import torch
from torch.autograd.graph import increment_version

from portinit.backends import NUMPY, Backend, Draw, Evaluable
from portinit.dtypes import dtype_name
from portinit.fused import filling
from portinit.steps import Steps

_PLAIN = (torch.Tensor, torch.nn.Parameter)  # other kinds of tensors may have no memory


class TorchBackend(Backend):
    """Eager torch tensors on any device."""

    def default_dtype(self) -> str:
        return dtype_name(torch.get_default_dtype())

    def native_dtype(self, name: str) -> Any:
        return getattr(torch, name)

    def can_fuse(self, draw: Draw) -> bool:
        device = draw.device or torch.get_default_device()
        return (
            torch.device(device).type == "cpu"
            and not torch.compiler.is_compiling()
            and filling.is_ready(draw.grid)
        )

    def fuse(self, out: Any, draw: Draw, steps: Steps | None, stream: int = 0) -> bool:
        if type(out) not in _PLAIN:
            return False
        memory, threads = out.detach().numpy(), torch.get_num_threads()
        done = filling.fill(memory, draw.key, draw.grid, steps, stream, threads)
        if done and not out.is_inference():
            increment_version(out)  # autograd must see that the memory changed
        return done

    def fill_by_arrays(self, initializer: Evaluable, draw: Draw, out: Any) -> None:
        super().fill_by_arrays(initializer, draw, out.detach())  # outside autograd

    def threads(self, draw: Draw) -> int:
        # Array operations of torch's have threads of their own.
        return torch.get_num_threads() if self.can_fuse(draw) else 1

    def kth_smallest(self, x: Any, k: int) -> tuple[Any, Any]:
        if x.device.type != "cpu" or type(x) not in _PLAIN or torch.compiler.is_compiling():
            return super().kth_smallest(x, k)
        words, columns = NUMPY.kth_smallest(x.numpy(), k)
        return torch.from_numpy(words.copy()), torch.from_numpy(columns)

    def complex(self, real: Any, imag: Any, dtype: str) -> Any:
        return torch.complex(real, imag)


BACKEND = TorchBackend(array_api_compat.torch)
