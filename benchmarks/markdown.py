"""The tables of docs/benchmarks.md: ``python -m benchmarks.markdown results.json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.tables import cells

_NUMBERS = ("ours", "theirs", "ratio", "quartiles")
_FACTS = ("compiling", "temporaries", "peak/weights")


def main(path: str) -> None:
    """Print a report's tables, one for each group."""
    report = json.loads(Path(path).read_text("utf-8"))
    rows = [row for row in report["results"] if "skipped" not in row]
    for group, members in groupby(rows, key=lambda row: row["group"]):
        sys.stdout.write(f"### {group}\n\n" + "\n".join(table([*members])) + "\n\n")


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A line a case; the figures of one number of threads beside those of the next."""
    threads = sorted({row["threads"] for row in rows})
    facts = [name for name in _FACTS if any(cells(row)[name] for row in rows)]
    headings = ["case", *(_heading(x, n, threads) for n in threads for x in _NUMBERS), *facts]
    yield _line(headings)
    yield _line(["---"] + ["--:"] * (len(headings) - 1))
    for name in dict.fromkeys(row["name"] for row in rows):
        found = {row["threads"]: cells(row) for row in rows if row["name"] == name}
        last = found[max(found)]
        numbers = [found[n][x] if n in found else "" for n in threads for x in _NUMBERS]
        yield _line([last["case"], *numbers, *(last[fact] for fact in facts)])


def _heading(name: str, count: int, threads: list[int]) -> str:
    if name != "ours" or len(threads) == 1:
        return name
    return f"ours, {count} thread{'s' * (count > 1)}"


def _line(words: list[str]) -> str:
    return f"| {' | '.join(word.replace(' | ', ' / ') for word in words)} |"


if __name__ == "__main__":
    main(sys.argv[1])
