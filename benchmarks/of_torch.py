"""torch.nn.init's functions, and portinit_torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import portinit
import portinit_torch
from benchmarks.cases import KEYLESS
from benchmarks.measure import Clock, Side, Sides, Wall


def fill(
    name: str,
    shape: tuple[int, ...],
    arguments: tuple[Any, ...],
    device: str,
    dtype: str = "float32",
    layout: str = "contiguous",
    keyed: bool = True,
    loaded: bool = True,
) -> Sides:
    """Fills in place of one tensor, by both."""
    if loaded:  # a large fill loads numba, and small ones are compiled from then on
        portinit_torch.normal_(torch.empty(1 << 20), key=portinit.key(0))
    tensor = _tensor(tuple(shape), getattr(torch, dtype), layout, device)
    ours, theirs = getattr(portinit_torch, name), getattr(torch.nn.init, name)
    more = {"key": portinit.key(0)} if keyed and name not in KEYLESS else {}
    return (
        Side(_clock(lambda: ours(tensor, *arguments, **more), device)),
        Side(_clock(lambda: theirs(tensor, *arguments), device)),
    )


def _tensor(shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: str) -> torch.Tensor:
    if layout == "transposed":
        return torch.zeros(shape[::-1], dtype=dtype, device=device).t()
    tensor = torch.zeros(shape, dtype=dtype, device=device)
    return tensor.to(memory_format=torch.channels_last) if layout == "channels_last" else tensor


def _clock(function: Callable[[], object], device: str) -> Clock:
    return Events(function) if device == "cuda" else Wall(function)


class Events(Wall):
    """A clock of the work a function gives to the current CUDA device."""

    def _sample(self) -> float:
        begin: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        begin.record()
        for _ in range(self._loops):
            self._function()
        end.record()
        end.synchronize()
        milliseconds: float = begin.elapsed_time(end)
        return milliseconds / 1e3
