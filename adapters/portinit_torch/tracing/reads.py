"""The functions that take values out of tensors behind the dispatcher's back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from portinit_torch.tracing.modes import FakeTensor, TraceError, on_real_tensors, source_line

_NO_DATA = ("FakeTensor", "is not allocated yet", "_share_fd_", "data pointer", "fake tensor")
"""Parts of the messages of torch's errors that come of tensors without data."""


class RecordReads(TorchFunctionMode):
    """The functions that take tensors to Python or NumPy behind the dispatcher's back."""

    def __init__(self, recorder: Any) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        substitute = _SUBSTITUTES.get(func)
        if substitute is not None:
            result = substitute(self.recorder, func, args, kwargs)
            if result is not NotImplemented:
                return result
        try:
            return func(*args, **kwargs)
        except (RuntimeError, AttributeError) as error:
            if isinstance(error, TraceError) or not any(part in str(error) for part in _NO_DATA):
                raise
            name = getattr(func, "__name__", str(func))
            raise self.recorder.refuse(
                f"{name} at {source_line()} needs values, and a trace has none: {error}"
            ) from error


def _copied(recorder: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """A deep copy of a fake tensor; torch's own asks for its memory's address."""
    tensor, memo = args
    if not isinstance(tensor, FakeTensor):
        return NotImplemented
    if id(tensor) not in memo:
        copy = tensor.detach().clone()
        kind = nn.Parameter if isinstance(tensor, nn.Parameter) else _same
        memo[id(tensor)] = kind(copy, requires_grad=tensor.requires_grad)
        vars(memo[id(tensor)]).update(_own_attributes(tensor))
    return memo[id(tensor)]


def _own_attributes(tensor: Tensor) -> dict[str, Any]:
    """What a constructor hung on a tensor: marks such as ``p._no_weight_decay = True``."""
    return {k: v for k, v in vars(tensor).items() if k not in _FAKES_OWN}


_FAKES_OWN = {
    "fake_device", "fake_mode", "constant", "pytype", "dispatch_keys", "real_tensor",
    "nonzero_memo", "item_memo", "unique_memo", "unique_consecutive_memo", "nested_int_memo",
    "_is_param", "_is_buffer", "_debug_trace",
}  # fmt: skip


def _same(tensor: Tensor, requires_grad: bool) -> Tensor:
    return tensor.requires_grad_(requires_grad)


def _escaped(recorder: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """tolist, numpy and their like: on the values, if these are known or can be stood in for."""
    if not isinstance(args[0], FakeTensor):
        return NotImplemented
    value = recorder.value_of(recorder.read(args[0]), f"{func.__name__}() of random values")
    with _disable_current_modes():
        return func(value.clone(), *args[1:], **kwargs)


def _address_of(recorder: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """A number that is as telling as an address: one for each place in a storage."""
    if not isinstance(args[0], FakeTensor):
        return NotImplemented
    place: int = args[0].untyped_storage()._cdata
    return place + args[0].storage_offset() * args[0].element_size()


def _unchanged(recorder: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """share_memory_ and pin_memory change where a tensor lies, and no value."""
    return args[0] if isinstance(args[0], FakeTensor) else NotImplemented


def _made_of_tensors(recorder: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """torch.tensor of a list that holds tensors reads each of them as a number."""
    data = args[0] if args else kwargs.get("data")
    if isinstance(data, Tensor) or not _holds_fakes(data):
        return NotImplemented
    named = {k: v for k, v in kwargs.items() if k != "data"}
    if not _holds_random(recorder, data):
        return func(_as_numbers(recorder, data), *args[1:], **named)
    dtype = named.get("dtype") or _common(data)
    requires_grad = named.pop("requires_grad", False)
    made = _stacked(data, dtype, named.get("device"))
    return made.requires_grad_() if requires_grad else made


def _holds_fakes(data: Any) -> bool:
    if isinstance(data, list | tuple):
        return any(_holds_fakes(item) for item in data)
    return isinstance(data, FakeTensor)


def _holds_random(recorder: Any, data: Any) -> bool:
    if isinstance(data, list | tuple):
        return any(_holds_random(recorder, item) for item in data)
    return isinstance(data, FakeTensor) and not recorder.is_settled(recorder.read(data))


def _pickled(recorder: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """torch.save and pickle write values, which a trace does not have."""
    if not isinstance(args[0], FakeTensor):
        return NotImplemented
    raise recorder.refuse(
        f"a tensor is pickled at {source_line()}; a trace has no values to write. Copy it with "
        "copy.deepcopy or load_state_dict, which a trace follows"
    )


def _as_numbers(recorder: Any, data: Any) -> Any:
    if isinstance(data, list | tuple):
        return [_as_numbers(recorder, item) for item in data]
    return data.tolist() if isinstance(data, FakeTensor) else data


def _common(data: Any) -> torch.dtype:
    if isinstance(data, list | tuple):
        dtypes = [_common(item) for item in data]
        common = dtypes[0]
        for dtype in dtypes[1:]:
            common = torch.promote_types(common, dtype)
        return common
    return (
        data.dtype
        if isinstance(data, Tensor)
        else on_real_tensors(lambda: torch.tensor(data)).dtype
    )


def _stacked(data: Any, dtype: torch.dtype, device: Any) -> Tensor:
    if isinstance(data, list | tuple):
        return torch.stack([_stacked(item, dtype, device) for item in data])
    if isinstance(data, Tensor):
        return data.detach().to(dtype=dtype, device=device)
    return torch.tensor(data, dtype=dtype, device=device)


_SUBSTITUTES: dict[Any, Callable[..., Any]] = {
    Tensor.__deepcopy__: _copied,
    Tensor.tolist: _escaped,
    Tensor.numpy: _escaped,
    Tensor.__array__: _escaped,
    Tensor.__dlpack__: _escaped,
    Tensor.data_ptr: _address_of,
    Tensor.__reduce_ex__: _pickled,
    Tensor.share_memory_: _unchanged,
    Tensor.pin_memory: _unchanged,
    torch.tensor: _made_of_tensors,
    torch.as_tensor: _made_of_tensors,
}
