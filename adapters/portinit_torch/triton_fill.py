"""Fills of GPU tensors in one kernel: the same bytes as array operations, from Triton's code.

Triton comes with torch's builds for CUDA and ROCm. Where it is missing, importing this module is
an ImportError, and array operations fill the tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout
from portinit.backends.kernels.rows import Run, rows_of
from portinit.random.words import signed
from portinit.sampling.quantile32 import pairs
from portinit.sampling.transform import Transform
from portinit_torch import triton_kernel

_THREADS = 128  # a program
# Elements a program. Those of a thread share what the key alone makes: compiled for Hopper, a value
# takes 86 instructions if it is uniform and 96 if it is normal, with 20 and 22 of them multiplying.
_BLOCK = 8 * _THREADS
_MOST = 1 << 30  # elements a launch: their numbers are divided as words of 31 bits

Piece = tuple[int, int, tuple[Run, ...]]
"""The place and the counter of the first element, and the runs, slowest first."""


def fill(
    out: Tensor, key: tuple[int, int], grid: Grid, transform: Transform | None, stream: int = 0
) -> bool:
    """Fill a tensor of float32, float16 or bfloat16, or of int32 with raw words.

    Args:
        out: a tensor of the grid's shape, of any strides, detached.
        key: two words.
        grid: which elements.
        transform: from a word to a value of the tensor's dtype; None for the words themselves.
        stream: as for :func:`portinit.random.words.random_words`.

    Returns:
        Whether it was done: False where the tensor's elements share memory, or for a logarithm.
    """
    if transform is not None and transform.log2:
        return False
    if not out.numel():
        return True
    rows = rows_of(grid, out.stride())
    if rows is None:
        return False
    words = ("k0", key[0]), ("k1", key[1]), ("stream_bits", stream)
    memory = out.view(torch.int16) if out.dtype == torch.bfloat16 else out
    with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]
        arguments = {name: signed(word, 32) for name, word in words} | _arguments(out, transform)
        for place, counter, runs in _pieces(*rows.first, (*rows.outer, rows.inner)):
            start = memory.as_strided((1,), (1,), memory.storage_offset() + place)
            _launch(start, counter, runs, arguments)
    return True


@cache
def works(device: torch.device) -> bool:
    """Whether Triton compiles for a device; some are too old, and launching needs a C compiler."""
    out = torch.empty(1, dtype=torch.int32, device=device)
    try:
        fill(out, (0, 0), Grid.whole((1,), Layout()), None)
    except Exception:  # of whatever stage of the compiler
        return False
    return True


def _pieces(place: int, counter: int, runs: tuple[Run, ...]) -> Iterator[Piece]:
    """The elements in pieces that one launch can number."""
    size = math.prod(run.length for run in runs)
    if size <= _MOST:
        yield place, counter, runs
        return
    slowest, *others = runs
    height = max(1, _MOST * slowest.length // size)
    for begin in range(0, slowest.length, height):
        length = min(height, slowest.length - begin)
        outer = (replace(slowest, length=length),) if length > 1 else ()
        start = place + begin * slowest.spacing, counter + begin * slowest.step
        yield from _pieces(*start, (*outer, *others))


def _launch(start: Tensor, counter: int, runs: tuple[Run, ...], arguments: dict[str, Any]) -> None:
    slowest, *others = runs or (Run(1, 1, 0),)
    size = math.prod(run.length for run in runs)
    triton_kernel.fill[(-(-size // _BLOCK),)](
        start,
        _numbers(tuple(others), start.device) if others else None,
        first=counter,
        size=size,
        spacing=slowest.spacing,
        step=slowest.step,
        **arguments,
        inner=len(others),
        block=_BLOCK,
        num_warps=_THREADS // _lanes(start.device),
        enable_fp_fusion=False,
    )


def _arguments(out: Tensor, transform: Transform | None) -> dict[str, Any]:
    """The arguments that the kernel takes of a transform; None for absent steps."""
    s = transform or Transform(scale=1.0)
    count, lowest = s.span or (None, None)
    # A product and its rounding to float16 are one instruction of AMD's. Bounds, even infinite
    # ones, keep them two.
    unbounded = math.isinf(s.low) and math.isinf(s.high) and out.dtype != torch.float16
    return {
        "count": None if count is None else signed(count, 32),
        "lowest": lowest,
        "factor": s.factor,
        "offset": s.offset or None,
        "scale": s.scale if transform else None,
        "low": None if unbounded else s.low,
        "high": None if unbounded else s.high,
        "shift": s.shift,
        "table": _table(out.device) if s.quantile else None,
    }


@cache
def _lanes(device: torch.device) -> int:
    """The threads of a warp."""
    on_gpu = device.type == "cuda"
    return torch.cuda.get_device_properties(device).warp_size if on_gpu else 32


@cache
def _table(device: torch.device) -> Tensor:
    """The quantile's lines, a word for each segment."""
    return torch.from_numpy(pairs().copy()).to(device)


@lru_cache(maxsize=4096)
def _numbers(runs: tuple[Run, ...], device: torch.device) -> Tensor:
    """Runs as the kernel reads them, fastest first."""
    rows = [(r.length, *_reciprocal(r.length), r.spacing, r.step) for r in reversed(runs)]
    return torch.tensor(rows, dtype=torch.int64, device=device)


def _reciprocal(length: int) -> tuple[int, int]:
    """(f, s) such that n // length is (n * f // 2**32 + n) >> s for every n below 2**31.

    See Granlund and Montgomery, "Division by invariant integers using multiplication", 1994.
    """
    shift = (length - 1).bit_length()
    return ((((1 << shift) - length) << 32) // length) + 1, shift
