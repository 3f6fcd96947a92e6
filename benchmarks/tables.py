"""What a run prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def print_group(console: Console, group: str, rows: list[dict[str, Any]]) -> None:
    """A group's table; columns that no row has anything in are left out."""
    found = [cells(row) for row in rows if "skipped" not in row]
    if found:
        table = Table(title=escape(group), title_justify="left")
        for heading in [name for name in found[0] if any(row[name] for row in found)]:
            right = heading != "case"
            table.add_column(heading, justify="right" if right else "left", no_wrap=True)
        for row in found:
            table.add_row(*(escape(row[str(column.header)]) for column in table.columns))
        console.print(table)
    for row in rows:
        if "skipped" in row:
            console.print(f"[yellow]skipped[/] {escape(row['name'])}: {escape(row['skipped'])}")


def cells(row: dict[str, Any]) -> dict[str, str]:
    """What a row's columns say; nothing where it has nothing to say."""
    ours, theirs, ratio = row["ours"], row["theirs"], row["ratio"]
    each = 1e9 * ours["seconds"]["median"] / row["elements"] if row["elements"] else 0.0
    return {
        "case": row["name"].partition("/")[2],
        "threads": str(row["threads"]),
        "ours": duration(ours["seconds"]["median"]),
        "theirs": duration(theirs["seconds"]["median"]),
        "ratio": f"{ratio['median']:.2f}",
        "quartiles": f"{ratio['lower']:.2f}-{ratio['upper']:.2f}",
        "ns/value": f"{each:.2f}" if each and row["elements"] > 1 << 16 else "",
        "of the limit": f"{row['limit'] / each:.0%}" if "limit" in row and each else "",
        "compiling": _both(ours, theirs, "compile", duration),
        "temporaries": _both(ours, theirs, "temporary", lambda x: f"{x / 2**20:.0f} MiB"),
        "peak/weights": _both(ours, theirs, "peak", lambda x: f"{x:.2f}"),
    }


def _both(ours: dict[str, Any], theirs: dict[str, Any], fact: str, text: Any) -> str:
    return f"{text(ours[fact])} | {text(theirs[fact])}" if fact in ours and fact in theirs else ""


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    size, unit = next((u for u in _UNITS if seconds >= u[0]), _UNITS[-1])
    return f"{seconds / size:.3g} {unit}"
