"""A machine of several JAX devices in a process of its own, and what compiled programs hold."""

import json
import math
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from portinit.sampling import quantile32

DEVICES = 8
ROOT = Path(__file__).parents[2]
_TABLE = str(quantile32.table().shape[1])
_COLLECTIVES = re.compile(
    r"\b((?:all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    r"|collective-broadcast|ragged-all-to-all)[\w-]*)\("
)


def environment(devices: int = DEVICES) -> dict[str, str]:
    """A shell's variables for as many CPU devices.

    LLVM's optimisation is off, which takes most of the time; XLA's own passes, which partition,
    fuse and assign memory, run as ever.
    """
    count = f"--xla_force_host_platform_device_count={devices}"
    flags = f"{count} --xla_backend_optimization_level=0"
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def results(module: str, timeout: float = 240) -> dict[str, str]:
    """What each case of a module says on eight devices: nothing where it holds."""
    code = f"from tests.distributed import jax_machine, {module} as m; jax_machine.report(m.CASES)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(cases: Mapping[str, Callable[[], None]]) -> None:
    """Run cases and print what they raise."""
    found = {}
    for name, case in cases.items():
        try:
            case()
            found[name] = ""
        except Exception:
            found[name] = traceback.format_exc()[-2500:]
    sys.stdout.write("\n" + json.dumps(found) + "\n")


def collectives(compiled: Any) -> list[str]:
    """The operations of a compiled program that send something between devices."""
    return sorted(set(_COLLECTIVES.findall(compiled.as_text())))


def largest(compiled: Any) -> int:
    """The elements of the largest array that a device has in a compiled program.

    Within a fusion nothing has memory: a device's numbers may be a slice of the whole array's. The
    table of quantiles, a constant that is the same for all arrays, is left out.
    """
    text = compiled.as_text()
    fused = set(re.findall(r" fusion\(.*?calls=%([\w.-]+)", text))
    computations = [part for part in text.split("\n\n") if _name(part) not in fused]
    shapes = re.findall(r"\b[a-z]+\d*\w*\[([\d,]*)\]", "\n".join(computations))
    sizes = {math.prod(map(int, shape.split(","))) for shape in shapes if shape not in ("", _TABLE)}
    return max(sizes)


def _name(computation: str) -> str:
    return computation.strip().partition(" ")[0].lstrip("%")


def assert_local(compiled: Any, shape: Sequence[int]) -> None:
    """Nothing is sent, no device has as much as the whole array, nor memory besides its part."""
    assert collectives(compiled) == []
    assert largest(compiled) < math.prod(shape)
    memory = compiled.memory_analysis()
    needed = memory.output_size_in_bytes + memory.temp_size_in_bytes
    assert needed <= 1.1 * memory.output_size_in_bytes, memory
