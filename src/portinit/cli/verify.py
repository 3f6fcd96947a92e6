"""The command verify: the exactness matrix on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from portinit.cli.app import CONSOLE, portinit, say_written
from portinit.cli.files import writable, write_atomically
from portinit.verify.verify import Progress, Report, Row, verify

_HEADINGS = (
    *("cells drawn", "bit-identical", "not defined", "largest ulp", "largest difference"),
    *("least p-value", "wrong"),
)
_SHOWN = 5  # misses that are named; the report has all


@portinit.command("verify")
@click.option("--devices", metavar="NAMES", help=(
    "Devices or kinds of devices, such as cpu,cuda:1; all that are here by default."))  # fmt: skip
@click.option("--quick/--full", default=True, help=(
    "Some cells of each mode, in half a minute (the default), or all of them."))  # fmt: skip
@click.option("--out", callback=writable, help="Write the report here, as JSON.")
def verify_command(devices: str | None, quick: bool, out: Path | None) -> None:
    """Draw every initializer on this machine, and compare with NumPy bit for bit.

    The table has a row for each framework, mode and device that is here. NumPy itself is compared
    with digests that are shipped. Any miss makes the exit status 1.
    """
    wanted = None if devices is None else [name.strip() for name in devices.split(",")]
    with _bar() as progress:
        try:
            report = verify(wanted, full=not quick, progress=progress)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--devices") from error
    _print(report)
    if out is not None:
        text = json.dumps(report.to_data(), indent=1)
        write_atomically(out, f"{text}\n".encode())
        say_written("wrote", out)
    if report.misses:
        raise SystemExit(1)


@contextmanager
def _bar() -> Iterator[Progress]:
    """A bar of the modes and devices that are done, where somebody looks at it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Bar(
        *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("looking for devices", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total
        )


def _print(report: Report) -> None:
    table = Table(
        title="Each cell is an initializer in a dtype and a layout, compared with NumPy's values",
        title_justify="left",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    table.add_column("framework, device, mode", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for row in report.rows:
        table.add_row(*_fields(row))
    CONSOLE.print(table)
    for line in report.absent:
        CONSOLE.print(f"not tested: {escape(line)}")
    _print_outcome(report)


def _fields(row: Row) -> list[str]:
    p = "" if row.p is None else f"{row.p:.2g}"
    counts = (row.tried, row.identical, row.undefined, row.ulp)
    missed = f"[red]{len(row.misses)}[/]" if row.misses else "0"
    worst = f"{row.absolute:.1e}" if row.absolute else "0"
    return [f"{row.backend} {row.device} {row.mode}", *map(str, counts), worst, p, missed]


def _print_outcome(report: Report) -> None:
    misses = report.misses
    for row, miss in misses[:_SHOWN]:
        where = f"{row.backend} {row.mode} on {row.device}"
        CONSOLE.print(f"[red]miss[/]  {escape(where)}: {escape(str(miss))}", highlight=False)
    if len(misses) > _SHOWN:
        CONSOLE.print(f"and {len(misses) - _SHOWN} more")
    tried, same = sum(row.tried for row in report.rows), sum(row.identical for row in report.rows)
    devices = ", ".join(sorted({row.device for row in report.rows}))
    mark = "[red]FAILED[/]" if misses else "[green]ok[/]"
    CONSOLE.print(
        f"{mark}  {same} of {tried} cells bit-identical, {tried - same - _missed(report)} within "
        f"their tolerance, on {devices}"
    )


def _missed(report: Report) -> int:
    return sum(len({miss.cell for miss in row.misses}) for row in report.rows)
