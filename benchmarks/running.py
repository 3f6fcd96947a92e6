"""A process for each group and number of threads, and what they found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.case import Case, Options
from benchmarks.cases import all_cases

ROOT = Path(__file__).parents[1]
_QUICK = 1  # cases a group

Row = dict[str, Any]


def chosen(options: Options, patterns: tuple[str, ...]) -> dict[str, list[Case]]:
    """The cases that the patterns ask for, by group; of a quick run the first few."""
    groups: dict[str, list[Case]] = {}
    for case in all_cases(options):
        if not patterns or any(case.is_wanted(pattern) for pattern in patterns):
            groups.setdefault(case.group, []).append(case)
    most = _QUICK if options.quick else None
    return {group: cases[:most] for group, cases in groups.items()}


def run_group(
    group: str, cases: list[Case], threads: tuple[int, ...], options: Options
) -> Iterator[Row]:
    """The rows of a group: with each number of threads, or, where it hardly matters, the most."""
    whole = all(case.make.startswith("of_processes") for case in cases)
    for count in (max(threads),) if whole or options.device != "cpu" else threads:
        request = {
            "group": group,
            "threads": count,
            "names": [case.name for case in cases],
            "options": asdict(options),
        }
        yield from _worker(request)


def _worker(request: Row) -> Iterator[Row]:
    command = [sys.executable, "-m", "benchmarks.worker", json.dumps(request)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        about = {"group": request["group"], "threads": request["threads"]}
        yield about | {"name": request["group"], "skipped": f"exit status {process.returncode}"}
