"""What the commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from portinit import Recipe
from portinit.recipes.display import in_shape, rounded, table_of

if TYPE_CHECKING:
    from portinit.cli.porting import Port


def print_port(console: Console, title: str, done: Port, tolerance: float) -> None:
    """The comparison of a port, a row a parameter, and its outcome in a line."""
    table = _table(title, ["PyTorch", "Flax", "shape", "initializer", "bits"])
    for row in done.rows:
        verdict = "[green]same[/]" if row.same else f"[red]{row.differing} differ[/]"
        call = escape(rounded(row.initializer))
        table.add_row(escape(row.name), escape(row.path), in_shape(row.shape), call, verdict)
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
    print_rows(console, title, *table_of(recipe.rules))


def print_rows(console: Console, title: str, headings: list[str], rows: list[list[str]]) -> None:
    """A table of plain text."""
    table = _table(title, headings)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def _table(title: str, headings: list[str]) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
