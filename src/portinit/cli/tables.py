"""What the commands print."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from portinit import Initializer, Recipe, Rule
from portinit.base import Random
from portinit.fans import torch_fans
from portinit.grids import Grid
from portinit.layouts import Layout
from portinit.serial import layout_to_data

if TYPE_CHECKING:
    from portinit.cli.porting import Port


def print_port(console: Console, title: str, done: Port, tolerance: float) -> None:
    """The comparison of a port, a row a parameter, and its outcome in a line."""
    table = Table(title=escape(title), title_justify="left")
    for heading in ("PyTorch", "Flax", "shape", "initializer", "bits"):
        table.add_column(heading, overflow="fold")
    for row in done.rows:
        verdict = "[green]same[/]" if row.same else f"[red]{row.differing} differ[/]"
        call = escape(_short(row.initializer))
        table.add_row(escape(row.name), escape(row.path), _shape(row.shape), call, verdict)
    console.print(table)
    same = sum(row.same for row in done.rows)
    outputs = "outputs not compared (no example input)"
    if done.forward is not None:
        outputs = f"outputs differ by at most {done.forward:.1e} (allowed: {tolerance:.0e})"
    mark = "[green]ok[/]" if done.same(tolerance) else "[red]FAILED[/]"
    console.print(f"{mark}  {same} of {len(done.rows)} parameters bit-identical; {outputs}")
    for problem in done.problems:
        console.print(f"[red]{escape(problem)}[/]")


def print_recipe(console: Console, title: str, recipe: Recipe) -> None:
    """The rules of a recipe; of one model's, with the standard deviations they promise."""
    table = Table(title=escape(title), title_justify="left")
    rows = [
        {
            "name": rule.name or rule.pattern,
            "of": rule.kind or "",
            "shape": _shape(rule.shape) if rule.shape is not None else "",
            "initializer": in_words(rule.initializer),
            "layout in Flax": "" if rule.layout is None else str(layout_to_data(rule.layout)),
            "std": _expected_std(rule),
            "fans": _fans(rule),
            "written at": rule.source or "",
        }
        for rule in recipe.rules
    ]
    headings = [name for name in rows[0] if any(row[name] for row in rows)] if rows else []
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(escape(row[heading]) for heading in headings))
    console.print(table)


def _fans(rule: Rule) -> str:
    if rule.shape is None or len(rule.shape) < 2:
        return ""
    return "{} in, {} out".format(*torch_fans(rule.shape))


def in_words(initializer: Initializer) -> str:
    """An initializer as its call, with numbers of four digits."""
    return _short(str(initializer))


def _short(call: str) -> str:
    return re.sub(r"\d+\.\d{4,}(e-?\d+)?", lambda number: f"{float(number[0]):.4g}", call)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def _expected_std(rule: Rule) -> str:
    if rule.shape is None or not isinstance(rule.initializer, Random):
        return ""
    roles = rule.layout.roles if rule.layout else "oi"
    try:
        law = rule.initializer.law(Grid.whole(rule.shape, Layout(roles=roles)))
    except ValueError:  # not defined for the shape: applying the recipe says so
        return ""
    return f"{law.std:.4g}"
