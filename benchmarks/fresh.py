"""One run in a fresh interpreter: ``python -m benchmarks.fresh module:function arguments``.

The function makes its preparations and returns what is to be timed, which returns how many bytes
it filled. Printed are the seconds, and the growth of the process's peak memory over those bytes.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable

Task = Callable[[], int]


def main(path: str, arguments: str) -> None:
    """Time one function, and print what was found as JSON."""
    module, _, name = path.partition(":")
    task: Task = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    before = peak()
    begin = time.perf_counter()
    filled = task()
    seconds = time.perf_counter() - begin
    found = {"seconds": seconds, "peak": (peak() - before) / filled, "filled": filled}
    sys.stdout.write(f"{json.dumps(found)}\n")


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(*sys.argv[1:])
