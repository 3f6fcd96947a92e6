"""Numbers as the page shows them."""

from __future__ import annotations

import math
import re

NONE = "\N{EN DASH}"


def number(value: float | None) -> str:
    """Three digits; a power of ten beyond 10^5 and 10^-4."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞"
    return re.sub(r"e([+-])0*(\d+)", lambda e: f"e{e[1].strip('+')}{e[2]}", f"{value:.3g}")


def span(values: list[float | None]) -> str:
    """The least and the greatest of some numbers."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return NONE
    low, high = number(min(known)), number(max(known))
    return low if low == high else f"{low} to {high}"
