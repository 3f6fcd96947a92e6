"""The modes of a trace at work, and what is replaced in torch while it runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
import torch.utils.dlpack
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils._python_dispatch import TorchDispatchMode

from portinit_torch.tracing.modes import FakeTensor, on_real_tensors, source_line
from portinit_torch.tracing.reads import RecordReads


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


# Storages, which no mode sees


def _place_of(recorder: Any, original: Any) -> Callable[..., int]:
    """A number that is as telling as an address, for the storage of a fake tensor."""

    def data_ptr(storage: Any) -> int:
        place: int = storage._cdata if _is_fake(storage) else original(storage)
        return place

    return data_ptr


def _refusal_of(recorder: Any, original: Any) -> Callable[..., Any]:
    """A method that reads or writes a storage's memory: fake tensors have none."""

    def refuse(storage: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_fake(storage):
            return original(storage, *args, **kwargs)
        raise recorder.refuse(
            f"a storage is read or written at {source_line()}, and a trace has no values: use the "
            "tensor's own methods"
        )

    return refuse


def _is_fake(storage: Any) -> bool:
    return bool(storage.device.type == "meta")


_OF_STORAGES = "__getitem__", "__setitem__", "fill_", "copy_", "tolist", "cpu", "byteswap"


def _storage_patches(recorder: Any) -> Iterator[Any]:
    for kind in (torch.UntypedStorage, torch.TypedStorage):
        yield mock.patch.object(kind, "data_ptr", _place_of(recorder, kind.data_ptr))
        for name in _OF_STORAGES:
            if hasattr(kind, name):
                refusal = _refusal_of(recorder, getattr(kind, name))
                yield mock.patch.object(kind, name, refusal)


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


def _exported() -> Iterator[Any]:
    """torch.utils.dlpack.to_dlpack, which hands out memory that fake tensors do not have."""
    export = torch._C._to_dlpack

    def to_dlpack(tensor: Tensor) -> Any:
        return tensor.__dlpack__() if isinstance(tensor, FakeTensor) else export(tensor)

    for holder in (torch, torch.utils.dlpack):
        yield mock.patch.object(holder, "to_dlpack", to_dlpack)


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
        *_storage_patches(recorder),
        *_exported(),
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
