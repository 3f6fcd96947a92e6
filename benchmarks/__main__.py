"""``python -m benchmarks``: portinit against the frameworks' own functions, in ratios."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks import machine
from benchmarks.case import SIZES, Options
from benchmarks.running import chosen, run_group
from benchmarks.tables import print_group
from portinit.cli.files import writable, write_atomically

_WIDTH = 132  # of what is no terminal


def _numbers(context: click.Context, option: click.Parameter, value: str) -> tuple[int, ...]:
    """A click callback: ``1,2`` or ``1e3,1e6``."""
    try:
        numbers = tuple(int(float(word)) for word in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"numbers parted by commas, got {value!r}") from error
    if min(numbers) < 1:
        raise click.BadParameter(f"numbers must be 1 or more, got {value!r}")
    return numbers


@click.command()
@click.option("--only", multiple=True, help="Cases whose name matches or contains this.")
@click.option("--threads", default="1,2", callback=_numbers, help="Numbers of threads.")
@click.option(
    "--sizes", default=",".join(f"{n:.0e}" for n in SIZES), callback=_numbers,
    help="Elements of the sweeps' arrays.",
)  # fmt: skip
@click.option("--rounds", default=9, type=click.IntRange(1), help="Runs of each side.")
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--quick", is_flag=True, help="A tiny case of each group: a test of the benchmarks.")
@click.option("--out", callback=writable, help="Write the results to this file, as JSON.")
def main(
    only: tuple[str, ...],
    threads: tuple[int, ...],
    sizes: tuple[int, ...],
    rounds: int,
    device: str,
    quick: bool,
    out: Path | None,
) -> None:
    """Print how many times as long as portinit's the frameworks' own functions take."""
    options = Options(sizes=sizes, rounds=rounds, device=device)
    if quick:
        options = Options(64, (1000,), 1, device, quick=True)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    report = _run(console, options, only, threads[:1] if quick else threads)
    if out is not None:
        write_atomically(out, json.dumps(report, indent=1).encode() + b"\n")


def _run(
    console: Console, options: Options, only: tuple[str, ...], threads: tuple[int, ...]
) -> dict[str, Any]:
    before, results = machine.load(), []
    for group, cases in chosen(options, only).items():
        rows = [*run_group(group, cases, threads, options)]
        print_group(console, group, rows)
        results += rows
    if not results:
        raise click.UsageError(f"no case is called like {', '.join(only)}")
    facts = machine.facts() | {"load before": before, "load after": machine.load()}
    console.print(f"{facts['processor']}, load {before} before and {facts['load after']} after")
    return {"version": 1, "machine": facts, "options": asdict(options), "results": results}


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
