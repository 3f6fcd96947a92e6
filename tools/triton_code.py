"""The code that Triton compiles a fill to, for a GPU that is not there.

Triton asks its driver only which GPU to compile for. Here the answer is given, and what a fill
launches is compiled and kept. This needs torch and Triton, without ``TRITON_INTERPRET``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

Target = tuple[str, int | str, int]
"""A backend of Triton's, its architecture, and the threads of a warp."""

HOPPER: Target = ("cuda", 90, 32)
AMPERE: Target = ("cuda", 80, 32)
CDNA3: Target = ("hip", "gfx942", 64)

_NUMBERS: dict[Target, int] = {}


@dataclass(frozen=True)
class CompiledLaunch:
    """A launch that a fill makes, compiled and not carried out.

    Attributes:
        assembly: PTX, or AMD's code.
        grid: how many blocks.
        block: how many threads each.
        arguments: the name, Triton's type and the value of each; pointers have None for a value.
    """

    assembly: str
    grid: int
    block: int
    arguments: list[tuple[str, str, Any]]


class _Driver:
    """Of a GPU that is not there: as much of it as compiling asks for."""

    def __init__(self, target: Target) -> None:
        gpu = importlib.import_module("triton.backends.compiler").GPUTarget
        number = _NUMBERS.setdefault(target, len(_NUMBERS))  # Triton keeps code by device
        self.get_current_target = lambda: gpu(*target)
        self.get_current_device = lambda: number
        self.get_current_stream = lambda _: 0


class _Recorder:
    """A kernel that is compiled for what it is launched with."""

    def __init__(self, kernel: Any, target: Target) -> None:
        self._kernel, self._target = kernel, target
        self.launches: list[CompiledLaunch] = []

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
        def launch(*args: Any, **options: Any) -> None:
            code = self._kernel.run(*args, grid=grid, warmup=True, **options)
            values = dict(zip(self._kernel.arg_names, args, strict=False)) | options
            arguments = [
                (name, kind, None if kind.startswith("*") else values[name])
                for name, kind in code.src.signature.items()
                if kind != "constexpr"
            ]
            assembly = code.asm["ptx" if self._target[0] == "cuda" else "amdgcn"]
            block = self._target[2] * options["num_warps"]
            self.launches.append(CompiledLaunch(str(assembly), grid[0], block, arguments))

        return launch


def compiled_launches(fill: Callable[[Any], None], target: Target) -> list[CompiledLaunch]:
    """What a function launches when it fills tensors by ``portinit_torch.triton_fill``.

    Args:
        fill: a function of that module.
        target: the GPU.
    """
    module = importlib.import_module("portinit_torch.triton_fill")
    recorder = _Recorder(module.triton_kernel.fill, target)
    importlib.import_module("triton").runtime.driver.set_active(_Driver(target))
    with (
        mock.patch.object(module.triton_kernel, "fill", recorder),
        mock.patch.object(module, "_lanes", return_value=target[2]),
    ):
        fill(module)
    return recorder.launches
