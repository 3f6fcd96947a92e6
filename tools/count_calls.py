"""Count the Python calls that one small fill makes, and how often it moves from file to file.

Run it as ``python tools/count_calls.py``: it prints a line for each way to draw. A call counts if
its code belongs to portinit; the cipher's own are left out, as their number is the algorithm's. A
move is a call into another of portinit's files than the one that the last call was in.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
CIPHER = frozenset({"threefry.py", "words.py"})


class Count(NamedTuple):
    """How many calls there were, and how many of them moved to another file."""

    calls: int
    moves: int


def trail(action: Callable[[], Any]) -> list[tuple[str, str]]:
    """The file and the name of each function of portinit that an action calls, in order."""
    found: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (place := _place(frame.f_code.co_filename)):
            found.append((place, frame.f_code.co_name))

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return found


def count(action: Callable[[], Any]) -> Count:
    """Calls and moves of an action that has run before, so that what is kept is there."""
    action()
    files = [place for place, _ in trail(action)]
    return Count(len(files), sum(a != b for a, b in pairwise(files)))


def _place(filename: str) -> str | None:
    path = Path(filename)
    inside = any(path.is_relative_to(ROOT / folder) for folder in ("src", "adapters"))
    return str(path.relative_to(ROOT)) if inside and path.name not in CIPHER else None
