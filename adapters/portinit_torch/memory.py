"""Which tensors are plain memory, so that values can be written past torch's dispatcher.

A tensor is more than its memory under torch.func's transforms, under tracers and dispatch modes,
as a conjugate or negative view, and as most subclasses: a write to its memory is then lost, or not
seen. Such tensors take torch's own operations.

Torch has no public name for what its dispatcher would do: all that is private stands here.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.autograd import forward_ad

_PLAIN_TYPES = (Tensor, torch.nn.Parameter)
_keys_of = torch._C._dispatch_keys
_keys_of_thread = torch._C._dispatch_tls_local_include_set
_LOUD = ~(
    torch._C.DispatchKeySet(torch._C.DispatchKey.BackendSelect)
    | torch._C.DispatchKeySet(torch._C.DispatchKey.ADInplaceOrView)
).raw_repr()
"""The bits of the dispatch keys that a thread has only where something watches it."""


def is_watched() -> bool:
    """Whether a dispatch mode, a transform, a tracer or a compiler sees what is computed here."""
    if torch.compiler.is_compiling():
        return True
    return _keys_of_thread().raw_repr() & _LOUD != 0 or forward_ad._current_level >= 0


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor's values are what lies in its memory, and nothing watches it."""
    if type(tensor) not in _PLAIN_TYPES or is_watched():
        return False
    return _keys_of(tensor).raw_repr() in _plain_keys(tensor.device.type)


def is_plain_on_cpu(tensor: Tensor) -> bool:
    """Whether :func:`is_plain` holds for a tensor, and it lies on the CPU."""
    if type(tensor) not in _PLAIN_TYPES or is_watched():
        return False
    return _keys_of(tensor).raw_repr() in _PLAIN_ON_CPU


@cache
def _plain_keys(device: str) -> frozenset[int]:
    """The dispatch keys of new tensors on a device, within inference mode and outside."""
    found = set()
    for inference in (False, True):
        with torch.inference_mode(inference):
            found.add(_keys_of(torch.empty(0, device=device)).raw_repr())
    return frozenset(found)


_PLAIN_ON_CPU = _plain_keys("cpu")


def has_no_values(tensor: Tensor) -> bool:
    """Whether a tensor has no values, only a shape: on the meta device, or fake outside its mode.

    Within a mode even fake tensors take operations, for a tracer may record them.
    """
    if type(tensor) in _PLAIN_TYPES:
        return tensor.is_meta
    return tensor.is_meta or (hasattr(tensor, "fake_mode") and not is_watched())


def lacks_elements(tensor: Tensor) -> bool:
    """Whether a tensor does not hold an element for each index: sparse, nested or quantised."""
    return tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized


def why_unfillable(tensor: Tensor) -> str | None:
    """Why values cannot be written to a tensor; none if they can."""
    if lacks_elements(tensor):
        kind = "nested" if tensor.is_nested else "quantized" if tensor.is_quantized else None
        return (
            "values are drawn for strided tensors, which hold an element for each index; got a "
            f"{kind or tensor.layout} one: fill a dense tensor and convert it"
        )
    if torch.compiler.is_compiling():  # no more can be asked there, and torch's operations ask it
        return None
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        return "an inference tensor cannot be filled outside of inference mode; clone it first"
    if not tensor.is_contiguous() and any(
        stride == 0 and length > 1
        for length, stride in zip(tensor.shape, tensor.stride(), strict=True)
    ):
        return "an expanded tensor has more than one element at a place in memory; clone it first"
    return None
