"""Record the PTX that draws are compiled to, by JAX and by Triton, which the tests execute.

    JAX_PLATFORMS=cpu python tools/record_ptx.py [jax] [triton]

JAX's needs the packages that ``benchmarks.chips`` names for GPUs, and Triton's torch and Triton.
Neither needs a GPU. They write ``tests/golden/ptx.json.xz``: for each draw and dtype the PTX, the
launches with their arguments, and the versions of the compilers. Without a name both are recorded;
with one the other's record is kept.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import chips

CHIP = "h100"
SHAPE = (256, 256)
"""Of the draws that are recorded whole, from a key."""
COUNT = 1 << 14
"""The words of the draws that are recorded from given words on."""
DTYPES = ("float32", "bfloat16")
PACKAGES = {
    "jax": ("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda12-pjrt", "nvidia-cuda-nvcc-cu12"),
    "triton": ("torch", "triton"),
}
FILE = Path(__file__).parents[1] / "tests" / "golden" / "ptx.json.xz"

_FUSION = re.compile(r"(?:ROOT )?%([\w.-]+) = (\w+)\[([\d,]*)\]\S* fusion\((.*?)\), kind")
_LAUNCH = re.compile(r" (\S+) grid: \[(\d+), 1, 1\] threads: \[(\d+), 1, 1\]")


def draws() -> dict[str, Any]:
    """The initializers whose code is recorded."""
    import portinit as pi

    return {
        "uniform": pi.uniform(-0.3, 0.7),
        "normal": pi.normal(0.5, 0.3),
        "truncated_normal": pi.truncated_normal(),
        "trunc_normal": pi.trunc_normal(0.1, 0.7, -0.3, 1.9),
    }


def from_key(initializer: Any, dtype: str) -> tuple[Callable[[Any], Any], tuple[int, ...]]:
    """A whole draw, and the shape of its argument: the key's words."""
    return lambda words: initializer(words, SHAPE, dtype), (2,)


def from_words(initializer: Any, dtype: str) -> tuple[Callable[[Any], Any], tuple[int, ...]]:
    """A draw in which the elements' random words are given."""
    import jax.numpy as jnp

    from portinit_jax.backend import BACKEND

    return lambda words: values_of(BACKEND, initializer, dtype, words.view(jnp.int32)), (COUNT,)


def values_of(backend: Any, initializer: Any, dtype: str, words: Any) -> Any:
    """The values that a backend's array operations make of words."""
    from portinit.arrays.grids import Grid
    from portinit.arrays.layouts import LAYOUTS
    from portinit.backends.base import Request

    grid = Grid.whole(words.shape, LAYOUTS["rows"])
    plan, request = initializer.plan(grid, dtype), Request(backend, (0, 0), grid, dtype)
    with mock.patch("portinit.backends.base.random_words", return_value=words):
        values = backend.draw_by_arrays(plan.transform, plan.format, request, 0)
    return values if dtype == "float32" else backend.cast(values, dtype)


def recorded(function: Callable[[Any], Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """The PTX of a function of uint32 words, and the launches, in order."""
    import jax
    from jax.sharding import SingleDeviceSharding

    where = SingleDeviceSharding(chips.devices(CHIP)[0])
    words: Any = jax.ShapeDtypeStruct(shape, "uint32", sharding=where)  # type: ignore[no-untyped-call]
    lowered = (
        jax.jit(function, out_shardings=where).trace(words).lower(lowering_platforms=("cuda",))
    )
    with tempfile.TemporaryDirectory() as folder:
        compiled = lowered.compile(compiler_options={"xla_dump_to": folder})
        ptx = [path.read_text() for path in sorted(Path(folder).glob("*.ptx"))]
        [thunks] = Path(folder).glob("*.thunk_sequence.txt")
        sizes = {name: (int(g), int(b)) for name, g, b in _LAUNCH.findall(thunks.read_text())}
    text = compiled.as_text()
    return {
        "ptx": "\n".join(filter(None, ptx)),
        "launches": [*_launches(text[text.index("ENTRY") :], sizes)],
    }


def _launches(entry: str, sizes: dict[str, tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """Each fusion's kernel, its operands' names, and its result's with the size in bytes."""
    for name, dtype, shape, operands in _FUSION.findall(entry):
        kernel = name.replace(".", "_").replace("-", "_")
        grid, block = sizes.pop(kernel)
        count = prod(map(int, shape.split(","))) if shape else 1
        yield {
            "kernel": kernel,
            "grid": grid,
            "block": block,
            "operands": [operand.strip(" %") for operand in operands.split(",") if operand],
            "result": name,
            "bytes": count * (2 if dtype == "bf16" else 4),
        }
    if sizes:
        raise RuntimeError(f"launches that are no fusion of the entry: {[*sizes]}")


def by_jax() -> dict[str, Any]:
    """All that is recorded of JAX's."""
    return {
        f"{name}, {dtype}, {way.__name__}": recorded(*way(initializer, dtype))
        for name, initializer in draws().items()
        for dtype in DTYPES
        for way in (from_key, from_words)
    }


def by_triton() -> dict[str, Any]:
    """All that is recorded of Triton's: the launches of each fill, for two generations of GPUs."""
    os.environ["TRITON_DISABLE_LINE_INFO"] = "1"  # lines of this machine's files
    from tools.triton_code import AMPERE, HOPPER, compiled_launches

    return {
        f"{name}, {dtype}, sm_{target[1]}": [
            asdict(launch)
            for launch in compiled_launches(partial(_fill, initializer, dtype), target)
        ]
        for name, initializer in draws().items()
        for dtype in DTYPES
        for target in (HOPPER, AMPERE)
    }


def _fill(initializer: Any, dtype: str, triton_fill: Any) -> None:
    import torch

    from portinit.arrays.grids import Grid
    from portinit.arrays.layouts import Layout

    out, grid = torch.empty(SHAPE, dtype=getattr(torch, dtype)), Grid.whole(SHAPE, Layout())
    transform = initializer.plan(grid, dtype).transform
    key = 0, 0  # its words are arguments of the launch
    if not triton_fill.fill(out, key, grid, transform):
        raise RuntimeError(f"Triton does not fill {initializer} in {dtype}")


def read() -> dict[str, Any]:
    """What was recorded, and the versions, by compiler."""
    found: dict[str, Any] = json.loads(lzma.decompress(FILE.read_bytes()))
    return found


def main() -> None:
    names = sys.argv[1:] or [*PACKAGES]
    found = read()
    for name in names:
        versions = {package: version(package) for package in PACKAGES[name]}
        programs = {"jax": by_jax, "triton": by_triton}[name]()
        found[name] = {"versions": versions, "programs": programs}
    FILE.write_bytes(lzma.compress(json.dumps(found).encode(), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main()
