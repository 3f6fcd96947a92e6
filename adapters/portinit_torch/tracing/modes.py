"""The modes that a traced constructor runs under, and the ways out of them.

Torch has no public name for fake tensors and dispatch modes: all that is private stands here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch._subclasses.fake_tensor import FakeTensor as FakeTensor
from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
from torch.utils._python_dispatch import _disable_current_modes

_T = TypeVar("_T")

DECIDED_BY_VALUES = (DataDependentOutputException, DynamicOutputShapeException)
"""What fake tensors raise where an operation's values decide its result."""

UNSUPPORTED = (UnsupportedFakeTensorException, UnsupportedOperatorException, NotImplementedError)
"""What fake tensors raise where they do not know an operation."""


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
