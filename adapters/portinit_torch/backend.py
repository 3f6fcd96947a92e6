"""What the core asks of torch."""

from __future__ import annotations

from typing import Any

import array_api_compat.torch
import torch

from portinit.backends import Backend
from portinit.dtypes import dtype_name


class TorchBackend(Backend):
    """Eager torch tensors on any device."""

    def default_dtype(self) -> str:
        return dtype_name(torch.get_default_dtype())

    def native_dtype(self, name: str) -> Any:
        return getattr(torch, name)

    def complex(self, real: Any, imag: Any, dtype: str) -> Any:
        return torch.complex(real, imag)


BACKEND = TorchBackend(array_api_compat.torch)
