"""The modes that a traced constructor runs under, and the ways out of them.

Torch has no public name for fake tensors and dispatch modes: all that is private stands here.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch._subclasses.fake_tensor import FakeTensor as FakeTensor
from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
from torch.utils._python_dispatch import _disable_current_modes

_T = TypeVar("_T")

DECIDED_BY_VALUES = (DataDependentOutputException, DynamicOutputShapeException)
"""What fake tensors raise where an operation's values decide its result."""

UNSUPPORTED = (UnsupportedFakeTensorException, UnsupportedOperatorException, NotImplementedError)
"""What fake tensors raise where they do not know an operation."""

_NO_DATA = ("FakeTensor", "is not allocated yet", "_share_fd_", "data pointer", "fake tensor")
"""Parts of the messages of torch's errors that come of tensors without data."""


class TraceError(RuntimeError):
    """A constructor that cannot be traced; the message names the operation and the line."""


TraceError.__module__ = "portinit_torch"  # where users find it, and what a traceback should say


def fake_tensor(mode: FakeTensorMode, shape: Any, dtype: torch.dtype) -> Tensor:
    """A new fake tensor, made outside of the recording."""
    with _disable_current_modes(), mode:
        return torch.empty(shape, dtype=dtype)


def on_real_tensors(compute: Callable[[], _T]) -> _T:
    """Compute outside of the recording, on real tensors."""
    # As _disable_current_modes, in a thirtieth of its time.
    with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
        return compute()


_OURS = ("torch", "portinit", "portinit_torch", "contextlib", "threading", "concurrent")


def source_line() -> str:
    """The innermost line of code outside of torch and portinit: ``file.py:12``."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _OURS:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


_MACHINERY = (
    "portinit_torch.tracing",
    "torch.utils._python_dispatch",
    "torch._dynamo",
    "torch._compile",
    "torch.overrides",
)


def torch_line() -> str:
    """The innermost line of code outside of portinit, in torch or not."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(_MACHINERY):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def in_torchs_init() -> bool:
    """Whether torch.nn.init asks, and not a constructor: both may ask the same."""
    return os.path.join("torch", "nn", "init.py") in torch_line()


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
    """tolist, numpy and __array__: on the values, where these are known or can be stood in for."""
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


_as_subclass = Tensor.as_subclass


def _subclassed(tensor: Tensor, kind: Any) -> Any:
    """A tensor of a class of the user's stays a fake one: the class changes no value."""
    if not isinstance(tensor, FakeTensor) or issubclass(FakeTensor, kind):
        return _as_subclass(tensor, kind)
    _require_plain(kind)
    return tensor


def _require_plain(kind: Any) -> None:
    changed = [name for name in ("__torch_function__", "__torch_dispatch__") if _is_own(kind, name)]
    if changed:
        raise TypeError(
            f"{kind.__name__} has a {changed[0]} of its own, which a trace does not follow: "
            f"{source_line()}"
        )


def _is_own(kind: Any, name: str) -> bool:
    own = next(base for base in kind.__mro__ if name in vars(base))
    return not own.__module__.startswith("torch")


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
    Tensor.data_ptr: _address_of,
    Tensor.__reduce_ex__: _pickled,
    Tensor.share_memory_: _unchanged,
    Tensor.pin_memory: _unchanged,
    torch.tensor: _made_of_tensors,
    torch.as_tensor: _made_of_tensors,
}


def take_over(parameter: Tensor, converted: Tensor) -> None:
    """In the place of torch.utils.swap_tensors, which refuses tensors that are referred to."""
    if type(parameter) is not type(converted):
        parameter.__class__, converted.__class__ = type(converted), type(parameter)
    parameter.__dict__, converted.__dict__ = vars(converted), vars(parameter)
    torch._C._swap_tensor_impl(parameter, converted)


def _uninitialized(kind: Any) -> Callable[..., Any]:
    """The constructor of a lazy layer's tensor: a real one, which holds nothing."""

    def new(cls: Any, *args: Any, **kwargs: Any) -> Any:
        return on_real_tensors(lambda: kind(cls, *args, **kwargs))

    return new


def _materialize(self: Any, shape: Any, device: Any = None, dtype: Any = None) -> None:
    """A lazy tensor becomes a fake one in its place."""
    device, dtype = on_real_tensors(lambda: (device or self.data.device, dtype or self.data.dtype))
    made: Any = torch.empty(shape, device=device, dtype=dtype)
    if isinstance(self, nn.Parameter):
        made = nn.Parameter(made, requires_grad=self.requires_grad)
    take_over(self, made)


_LAZY = UninitializedParameter, UninitializedBuffer

_make_subclass = Tensor._make_subclass


def _subclass(cls: Any, data: Any, requires_grad: bool = False, **kwargs: Any) -> Any:
    """Classes of the user's own around fake tensors: see _as_subclass."""
    if not isinstance(data, FakeTensor) or issubclass(cls, FakeTensor):
        return _make_subclass(cls, data, requires_grad, **kwargs)
    _require_plain(cls)
    made = data.detach().requires_grad_(requires_grad)
    if issubclass(cls, nn.Parameter):
        made._is_param = True
    return made


class RecordOps(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every ATen operation, on its way to the fake tensors."""

    def __init__(self, recorder: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and isinstance(args[0], _LAZY):  # it holds nothing to record
            return on_real_tensors(lambda: func(*args, **(kwargs or {})))
        with self.recorder.lock:
            return self.recorder.lower(func, args, kwargs or {})


@contextlib.contextmanager
def recording(recorder: Any) -> Iterator[None]:
    """The modes of a trace, for this thread and those that it starts."""
    start = threading.Thread.start

    def start_recording(thread: threading.Thread) -> None:
        run = thread.run

        def run_recording() -> None:
            with _modes(recorder):
                run()

        thread.run = run_recording  # type: ignore[method-assign]
        start(thread)

    patches: list[Any] = [
        mock.patch.object(torch.utils, "swap_tensors", take_over),
        mock.patch.object(threading.Thread, "start", start_recording),
        mock.patch.object(UninitializedParameter.__mro__[1], "materialize", _materialize),
        mock.patch.object(Tensor, "_make_subclass", staticmethod(_subclass)),
        mock.patch.object(Tensor, "as_subclass", _subclassed),
        *(mock.patch.object(kind, "__new__", _uninitialized(kind.__new__)) for kind in _LAZY),
    ]
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        stack.enter_context(_modes(recorder))
        yield


@contextlib.contextmanager
def _modes(recorder: Any) -> Iterator[None]:
    with recorder.mode, RecordOps(recorder), RecordReads(recorder):
        yield
