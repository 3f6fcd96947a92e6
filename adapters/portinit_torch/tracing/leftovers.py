"""What a constructor leaves behind in the process: caches that hold tensors without data.

A table that a constructor computes once and keeps at module level would be a fake tensor after a
trace, and break every model that is built later. Each becomes a real tensor, in its place, with the
value that it stands for. A draw that is kept is taken out of its cache, so that it is drawn again.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from portinit_torch.tracing.modes import FakeTensor, TraceError
from portinit_torch.tracing.recorder import Recorder

_LARGEST = 1 << 24
_DEEPEST = 4
"""How many containers around a tensor are looked through for the cache that holds it."""


def clear_away(recorder: Recorder) -> None:
    """Leave no fake tensor of a run behind; the model that it built must have been let go."""
    if not _left(recorder):
        return
    gc.collect()  # modules that refer to themselves
    for tensor in _left(recorder):
        with recorder.mode:
            node = recorder.read(tensor)
        if not recorder.is_settled(node):
            _forget(tensor)
    for tensor in _left(recorder):
        with recorder.mode:
            node = recorder.read(tensor)
        try:
            value = recorder.peek(node) if tensor.numel() <= _LARGEST else None
        except (TraceError, ValueError):
            value = None
        if value is not None:
            _become(tensor, value.clone())


def _left(recorder: Recorder) -> list[Tensor]:
    alive = [tensor for made in recorder.made if (tensor := made()) is not None]
    return [tensor for tensor in alive if type(tensor) is FakeTensor]


def _become(fake: Tensor, real: Tensor) -> None:
    """Make a fake tensor the real one, for all who refer to it."""
    if isinstance(fake, nn.Parameter):
        real = nn.Parameter(real, requires_grad=fake.requires_grad)
    else:
        real.requires_grad_(fake.requires_grad)
    fake.__class__ = type(real)
    vars(fake).clear()
    torch._C._swap_tensor_impl(fake, real)


def _forget(tensor: Tensor) -> None:
    """Take a tensor out of the dictionaries and function caches that hold it."""
    for depth, holder in _holders(tensor):
        if isinstance(holder, functools._lru_cache_wrapper):
            holder.cache_clear()
        elif isinstance(holder, dict) and depth < _DEEPEST and not _is_namespace(holder):
            held = [key for key, value in holder.items() if _holds(value, tensor)]
            for key in held:
                del holder[key]


def _holders(tensor: Tensor) -> Iterable[tuple[int, Any]]:
    """The containers around a tensor, and the function caches behind them."""
    found: list[tuple[int, Any]] = []
    level, seen = [tensor], {id(tensor)}
    for depth in range(_DEEPEST):
        around = [x for x in gc.get_referrers(*level) if type(x).__name__ in _CONTAINERS]
        level = [x for x in around if id(x) not in seen]
        seen.update(map(id, level))
        found += [(depth, x) for x in level]
        if not level:
            break
    return found


_CONTAINERS = {"dict", "list", "tuple", "_lru_list_elem", "_lru_cache_wrapper", "OrderedDict"}


def _is_namespace(container: dict[Any, Any]) -> bool:
    """Whether a dictionary is the attributes of something, or a module's tensors."""
    owners = gc.get_referrers(container)
    if any(getattr(owner, "__dict__", None) is container for owner in owners):
        return True
    return any(isinstance(owner, dict) and "_parameters" in owner for owner in owners)


def _holds(value: Any, tensor: Tensor) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds(item, tensor) for item in value)
    return value is tensor
