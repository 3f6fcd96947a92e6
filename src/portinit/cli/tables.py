"""Tables and lines that the commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table

from portinit import Recipe
from portinit.probes.probing import law_of
from portinit.recipes.display import in_shape, rounded, table_of
from portinit.recipes.matching.evidence import LayoutEvidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portinit.cli.porting import ParameterRow, Port
    from portinit.recipes.matching.plans import LeafPlan
    from portinit.recipes.matching.result import Matching, Pair


def print_port(console: Console, title: str, done: Port, verbose: bool) -> None:
    """The outcome of a port in a line, what was decided, and what differs."""
    mark = "[green]✓[/]" if done.same and done.proved else "[yellow]![/]"
    mark = mark if done.same else "[red]✗[/]"
    line = f"{_parameters(done)}; {_outputs(done)}"
    head = f"{title}: " if title else ""
    console.print(f"{mark} {escape(head + line)}", highlight=False, soft_wrap=True)
    for note in done.notes:
        _print_below(console, note, "dim")
    for problem in done.problems:
        _print_below(console, problem, "red")
    odd = done.rows if verbose else [row for row in done.rows if not row.same]
    if odd:
        _print_table(console, _rows(odd, done.pair.twin.framework))


def _parameters(done: Port) -> str:
    """How many parameters are identical; if their names may be wrong, how many are filled alike."""
    total, doubtful = len(done.rows), done.doubtful
    proved = [row for row in done.rows if row.name not in doubtful]
    rows = proved or done.rows
    near = sum(row.near is not None for row in rows)
    more = f", {near} nearly" if near else ""
    more += f", {total - len(rows)} not proved" if len(rows) < total else ""
    same = f"identical in PyTorch and {done.pair.twin.framework}"
    what = same if proved else "filled alike under the names found"
    return f"{sum(row.same for row in rows)} of {total} parameters {what}{more}"


def _outputs(done: Port) -> str:
    if done.missing_input:
        return f"outputs not compared, since {done.missing_input}"
    if done.forward is None or (done.problems and done.excess <= 1):
        return "outputs cannot be compared"
    if done.excess <= 1 and done.proof is not None and not done.proof.agrees:
        return "with other weights outputs differ"
    if done.excess <= 1:
        return f"outputs within {done.forward:.1e}"
    return f"outputs differ by {done.forward:.1e}, {done.excess:.2g} times what is allowed"


def _print_below(console: Console, text: str, style: str) -> None:
    """Text of several lines under the line that it belongs to."""
    console.print(Padding(escape(text), (0, 0, 0, 2), expand=False), style=style, highlight=False)


def _rows(rows: Sequence[ParameterRow], twin: str) -> Table:
    """A table of parameters, a row each."""
    table = _table("", ["PyTorch", twin, "shape", "initializer", "bits"])
    for row in rows:
        verdict = f"[yellow]{row.near}[/]" if row.near else f"[red]{row.differing} differ[/]"
        verdict = "[green]same[/]" if row.same else verdict
        call = escape(rounded(row.initializer))
        table.add_row(escape(row.name), escape(row.path), in_shape(row.shape), call, verdict)
    return table


SCREEN = 20
"""How many lines of a matching are printed unless all are asked for."""


def print_pairs(console: Console, matching: Matching, *, framework: str, verbose: bool) -> bool:
    """How two models correspond: misfits, guesses, and what is certain; whether all fits."""
    misfits, suspects = matching.misfits, matching.suspects
    mark = "[yellow]![/]" if suspects else "[green]✓[/]"
    mark = "[red]✗[/]" if misfits else mark
    counts = f"{len(matching)} pairs, {len(suspects)} of them guessed"
    misfit = f"; {len(misfits)} do not fit" if misfits else ""
    console.print(f"{mark} {counts}{misfit}", highlight=False)
    limit = len(misfits) if verbose else SCREEN // 2
    for line in misfits[:limit]:
        console.print(f"  {line}", style="red", highlight=False, markup=False, soft_wrap=True)
    if len(misfits) > limit:
        console.print(f"  and {len(misfits) - limit} more that do not fit", style="red")
    guessed = {pair.path for pair in suspects}
    pairs = [*suspects, *(pair for pair in matching.pairs if pair.path not in guessed)]
    room = len(pairs) if verbose else SCREEN - min(limit, len(misfits))
    if pairs:
        table = _table("", [framework, "PyTorch", "shape", "because"])
        for pair in pairs[:room]:
            texts = (pair.path, str(pair.parameter), in_shape(pair.shape), why(pair))
            table.add_row(*map(escape, texts), style="yellow" if pair.path in guessed else None)
        _print_table(console, table)
    if len(pairs) > room:
        console.print(f"and {len(pairs) - room} more pairs: --verbose lists them", style="dim")
    return not misfits


def why(pair: Pair) -> str:
    """What a pair rests on, with its certainty where that is not certain."""
    evidence, layout = pair.evidence, pair.layout_evidence
    words = evidence.name.lower()
    if evidence.certainty not in ("stated", "certain"):
        words += f" ({evidence.certainty}?)"
    if len(pair.shape) > 1:
        words += f"; layout by {layout.name.lower()}"
        words += "?" if layout is LayoutEvidence.ASSUMED else ""
    return words


def print_recipe(console: Console, title: str, recipe: Recipe) -> None:
    """The rules of a recipe; of one model's, with the standard deviations they promise."""
    print_rows(console, title, *table_of(recipe.rules))


def print_plans(console: Console, title: str, plans: Sequence[LeafPlan]) -> None:
    """What a recipe gives each array of a model, or each layer of a stack."""
    rows = []
    for plan in plans:
        initializer, leaf = plan.initializer, plan.leaf
        law = law_of(initializer, plan.grid, leaf.dtype)
        name = "" if plan.is_extra else str(plan.parameter)
        std = f"{law.std:.4g}" if law is not None and law.std else ""
        rows.append([leaf.label, name, in_shape(leaf.shape), rounded(str(initializer)), std])
    print_rows(console, title, ["array", "PyTorch", "shape", "initializer", "std"], rows)


def print_rows(console: Console, title: str, headings: list[str], rows: list[list[str]]) -> None:
    """A table of plain text."""
    table = _table(title, headings)
    for row in rows:
        table.add_row(*map(escape, row))
    _print_table(console, table)


def _table(title: str, headings: list[str]) -> Table:
    table = Table(title=escape(title) or None, title_justify="left")
    for heading in headings:
        table.add_column(heading, no_wrap=True, overflow="ignore")
    return table


def _print_table(console: Console, table: Table) -> None:
    """Print a table as wide as it is: names stay whole, to be searched for and copied.

    A terminal that is too narrow breaks its lines, and so is spared the lines between columns.
    """
    unlimited = console.options.update(width=10_000)
    width = Measurement.get(console, unlimited, table).maximum
    if console.is_terminal and width > console.width:
        table.box, table.pad_edge = None, False
        width = Measurement.get(console, unlimited, table).maximum
    wide = console if width <= console.width else Console(width=width)
    wide.print(table)
