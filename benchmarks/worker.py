"""Measures one group's cases in a process that holds a number of processors, and prints JSON.

``python -m benchmarks.worker request`` with the request as JSON: group, threads, options, pattern.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.case import Case, Options
from benchmarks.cases import all_cases
from benchmarks.limits import H200, draw_of
from benchmarks.measure import measure

_OF_PROCESSES = 3  # a third of the rounds where each is a process


def main(request: str) -> None:
    """Print a line of JSON for each case of the request."""
    asked = json.loads(request)
    hold(asked["threads"])
    os.environ["JAX_PLATFORMS"] = asked["options"]["device"]
    if asked["group"] == "numpy-plain":
        sys.modules["numba"] = None  # type: ignore[assignment]
    options = Options(**asked["options"])
    for line in results(asked["group"], asked["names"], asked["threads"], options):
        sys.stdout.write(f"{json.dumps(line)}\n")
        sys.stdout.flush()


def hold(threads: int) -> None:
    """Keep this process on some processors, before a library counts them."""
    os.environ.update(OMP_NUM_THREADS=str(threads), NUMBA_NUM_THREADS=str(threads))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def results(
    group: str, names: list[str], threads: int, options: Options
) -> Iterator[dict[str, Any]]:
    """What each case gave, or why it gave nothing."""
    for case in all_cases(options):
        if case.name not in names:
            continue
        about = {"group": group, "name": case.name, "threads": threads}
        try:
            yield about | run(case, options)
        except Exception as error:  # another version of a framework may lack what is compared
            yield about | {"skipped": f"{type(error).__name__}: {error}"}


def run(case: Case, options: Options) -> dict[str, Any]:
    """A case's sides made and measured."""
    module, _, name = case.make.partition(":")
    sides = getattr(importlib.import_module(f"benchmarks.{module}"), name)(**case.arguments)
    own = module == "of_processes"
    rounds = max(1, options.rounds // _OF_PROCESSES) if own else options.rounds
    draw = draw_of(case.name) if options.device == "cuda" else None
    limit = {"limit": H200.nanoseconds(draw)} if draw else {}
    size = {"elements": case.elements, "bytes": case.elements * case.itemsize, "rounds": rounds}
    return size | limit | measure(sides, rounds, warm_up=not own)


if __name__ == "__main__":
    main(sys.argv[1])
