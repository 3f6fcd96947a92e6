"""Shipped digests of NumPy's cells: a NumPy that deviates is seen without another framework."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from portinit.verify.arrays import digest
from portinit.verify.cases import Cell, cells
from portinit.verify.runners import golden

FILE = "digests.json"


@cache
def shipped() -> dict[str, str]:
    """SHA-256 by cell, of the cells that promise bits; made by tools/make_digests.py."""
    path = resources.files("portinit.verify") / FILE
    found: dict[str, str] = json.loads(path.read_text("utf-8"))
    return found


def computed() -> dict[str, str]:
    """The same, of this machine's NumPy."""
    held = (cell for cell in cells() if cell.bits and cell.refusal is None)
    return {str(cell): digest(golden(cell)) for cell in held}


def deviation(cell: Cell) -> str | None:
    """What is wrong with NumPy's values of a cell, or None."""
    if not cell.bits:
        return None
    expected, found = shipped().get(str(cell)), digest(golden(cell))
    if found == expected:
        return None
    return f"SHA-256 {found[:16]}..., and {(expected or 'none')[:16]}... is shipped"
