"""The modes that a traced constructor runs under, and the ways out of them.

Torch has no public name for fake tensors and dispatch modes: all that is private stands here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
)
from torch._subclasses.fake_tensor import FakeTensor as FakeTensor
from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

_T = TypeVar("_T")

DECIDED_BY_VALUES = (DataDependentOutputException, DynamicOutputShapeException)
"""What fake tensors raise where an operation's values decide its result."""


class TraceError(RuntimeError):
    """A constructor that cannot be traced; the message names the operation and the line."""


TraceError.__module__ = "portinit_torch"  # where users find it, and what a traceback should say


def on_real_tensors(compute: Callable[[], _T]) -> _T:
    """Compute outside of the recording, on real tensors."""
    with _disable_current_modes():
        return compute()


def source_line() -> str:
    """The innermost line of code outside of torch and portinit: ``file.py:12``."""
    frame = sys._getframe(1)
    skipped = ("torch", "portinit", "portinit_torch", "contextlib")
    while frame is not None:
        root = frame.f_globals.get("__name__", "").partition(".")[0]
        if root not in skipped:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


class OnCPU(TorchFunctionMode):
    """Constructors that ask for another device get fake tensors of the CPU: nothing is lost."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("device") is not None and func is not Tensor.to:
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


_ESCAPES = (Tensor.tolist, Tensor.numpy, Tensor.__array__)


class RecordReads(TorchFunctionMode):
    """The methods that leave tensors for Python or NumPy behind the dispatcher's back."""

    def __init__(self, recorder: Any) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__deepcopy__ and isinstance(args[0], FakeTensor):
            return _copied(*args)
        if func in (Tensor.tolist, Tensor.numpy, Tensor.__array__) and isinstance(
            args[0], FakeTensor
        ):
            node = self.recorder.read(args[0])
            if node.concrete is None:
                raise TraceError(f"{func.__name__}() of random values at {source_line()}")
            with _disable_current_modes():
                return func(node.concrete.clone(), *args[1:], **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _copied(tensor: Tensor, memo: dict[int, Any]) -> Any:
    """A deep copy of a fake tensor; torch's own asks for its memory's address."""
    if id(tensor) not in memo:
        copy = tensor.detach().clone()
        kind = nn.Parameter if isinstance(tensor, nn.Parameter) else _same
        memo[id(tensor)] = kind(copy, requires_grad=tensor.requires_grad)
    return memo[id(tensor)]


def _same(tensor: Tensor, requires_grad: bool) -> Tensor:
    return tensor.requires_grad_(requires_grad)


def take_over(parameter: Tensor, converted: Tensor) -> None:
    """In the place of torch.utils.swap_tensors, which refuses fake tensors: one way is enough."""
    parameter.data = converted.data


class RecordOps(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every ATen operation, on its way to the fake tensors."""

    def __init__(self, recorder: Any, lower: Callable[[Any, Any, Any, Any], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorder = recorder
        self.lower = lower

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.lower(self.recorder, func, args, kwargs or {})
