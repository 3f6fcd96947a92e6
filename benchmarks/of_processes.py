"""What happens once in a process: imports, first fills, whole models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import Side, Sides

ROOT = Path(__file__).parents[1]
Arguments = dict[str, Any]
_IMPORTS = """
import time
begin = time.perf_counter()
import numpy
middle = time.perf_counter()
import portinit
print([time.perf_counter() - middle, middle - begin][{side}])
"""


def imports() -> Sides:
    """``import portinit`` once NumPy is there, and ``import numpy``."""

    def clock(side: int) -> float:
        return float(_output("-c", _IMPORTS.format(side=side)))

    return Side(lambda: clock(0)), Side(lambda: clock(1))


def first_fill(size: int, compiled: bool) -> Sides:
    """A process's first normals: with numba loaded for them, or its code compiled too."""
    ours = fresh("benchmarks.fills:ours", {"size": size}, not compiled)
    return ours, fresh("benchmarks.fills:theirs", {"size": size})


def flax_model(way: str, width: int, layers: int) -> Sides:
    """A GPT in Flax, compilation included."""
    function, mode = way.split(", ")
    sizes = {"width": width, "layers": layers, "jitted": mode == "jitted"}
    ours = fresh(f"benchmarks.flax_gpt:{function}", sizes)
    return ours, fresh("benchmarks.flax_gpt:theirs", sizes)


def torch_model(way: str, memory: str, dtype: str, width: int, layers: int) -> Sides:
    """A GPT in PyTorch, its memory written to before or not."""
    asked = {"way": way, "memory": memory, "dtype": dtype, "width": width, "layers": layers}
    ours = fresh("benchmarks.torch_gpt:ours", asked)
    return ours, fresh("benchmarks.torch_gpt:theirs", asked)


def fresh(function: str, arguments: Arguments, uncached: bool = False) -> Side:
    """A side whose every run is a process of its own; the facts are those of its last run."""
    facts: dict[str, float] = {}

    def clock() -> float:
        with tempfile.TemporaryDirectory() as empty:
            cache = {"NUMBA_CACHE_DIR": empty} if uncached else {}
            words = "-m", "benchmarks.fresh", function, json.dumps(arguments)
            facts.update(json.loads(_output(*words, **cache)))
        return facts.pop("seconds")

    return Side(clock, facts)


def _output(*words: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=os.environ | variables, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout.splitlines()[-1]
