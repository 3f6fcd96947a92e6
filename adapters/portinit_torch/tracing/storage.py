"""The bytes of real tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def raw_bytes(tensor: Tensor) -> bytes:
    """A tensor's elements, row by row."""
    plain = tensor.detach().resolve_conj().resolve_neg().reshape(-1)
    if plain.stride() != (1,):  # a single element may have any stride
        plain = plain.clone(memory_format=torch.contiguous_format)
    raw: bytes = plain.view(torch.uint8).numpy().tobytes()
    return raw
