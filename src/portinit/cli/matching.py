"""The command that shows how two models correspond, and writes it as a table of names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from portinit import RecipeError
from portinit.cli.app import CONSOLE, portinit, say_written
from portinit.cli.factories import load, load_names
from portinit.cli.files import writable, write_atomically
from portinit.cli.models import axes, task_of
from portinit.cli.named_recipes import READY_RECIPES
from portinit.cli.tables import print_pairs
from portinit.cli.user_code import running

if TYPE_CHECKING:
    from portinit.cli.porting import Task
    from portinit.recipes.matching.conversions.conversion import Conversion
    from portinit.recipes.matching.result import Matching
    from portinit.recipes.matching.tables.files import Names


@portinit.command("match")
@click.argument("torch_factory")
@click.argument("twin_factory", required=False)
@click.option("--write", metavar="FILE", callback=writable, help=(
    "Write the table of names, for --names of port and init."))  # fmt: skip
@click.option("--from-conversion", metavar="MODULE:FUNCTION", help=(
    "Read the table off a function from a state_dict to the twin's parameters."))  # fmt: skip
@click.option("--folder", is_flag=True, help=(
    "The conversion takes the folder of a checkpoint, with model.safetensors."))  # fmt: skip
@click.option("--names", metavar="FILE", help="A table of the names that are known.")
@click.option("--stacked", multiple=True, metavar="PATH=AXIS", callback=axes, help=(
    "A path whose arrays hold all layers, and the axis that they lie along."))  # fmt: skip
@click.option("--ignore", multiple=True, metavar="PATTERN", help=(
    "PyTorch names that the twin need not have, such as pooler.*"))  # fmt: skip
@click.option("--recipe", help=(
    "Instead of a trace of PyTorch's constructor: a JSON file, or one of "
    + ", ".join(READY_RECIPES) + "."))  # fmt: skip
@click.option("--torch-input", metavar="FACTORY",
              help="Factory of PyTorch's example input.")  # fmt: skip
@click.option("--twin-input", "--flax-input", metavar="FACTORY",
              help="Factory of the twin's example input.")  # fmt: skip
@click.option("--channels-last", is_flag=True, help=(
    "Give the twin PyTorch's example input, with axis 1, the channels', moved last."))  # fmt: skip
@click.option("--verbose", "-v", is_flag=True, help="List every pair.")
def match_models(
    torch_factory: str,
    twin_factory: str | None,
    write: Path | None,
    from_conversion: str | None,
    *,
    folder: bool,
    recipe: str | None,
    verbose: bool,
    **options: Any,
) -> None:
    """Show which array of a twin is which PyTorch parameter, and write it as a table.

    Each pair comes with what it rests on; the guessed ones come first. What has no counterpart is
    listed with what is left over of its size, and makes the exit status 1. The table that --write
    writes can be edited, and goes to port and init as --names.

    With --from-conversion the table is read off a function that turns a state_dict into the twin's
    parameters, exactly: tagged tensors go through it. TWIN_FACTORY may then be left out; if it is
    given, the table is checked against that model.
    """
    if from_conversion is None and twin_factory is None:
        raise click.UsageError(
            "give TWIN_FACTORY, or a conversion to read the table off, with --from-conversion"
        )
    if folder and from_conversion is None:
        raise click.UsageError("--folder says what a conversion takes: give --from-conversion too")
    fits = True
    names: Names | None = None
    if from_conversion is not None:
        names = read = _converted(torch_factory, from_conversion, folder=folder)
        fits = _print_conversion(read, verbose=verbose)
        options["names"] = names
    else:
        options["names"] = load_names(options["names"])
    if twin_factory is not None:
        task = task_of(torch_factory, twin_factory, recipe, **options)
        matching, framework = _matching(task)
        fits &= print_pairs(CONSOLE, matching, framework=framework, verbose=verbose)
        names = names or matching.as_table()
    if names:
        _write(names, write, torch_factory, twin_factory)
    if not fits:
        raise SystemExit(1)


def _converted(torch_factory: str, conversion: str, *, folder: bool) -> Conversion:
    from portinit.cli.torch_models import torch_model
    from portinit.recipes.matching.conversions.functions import read_function
    from portinit.testing.twins import converted_arrays

    convert: Any = load(conversion)[0]
    with running(torch_factory):
        source = torch_model(load(torch_factory)[0], torch_factory, "flax_net.py:make")
    try:
        with CONSOLE.status("reading the conversion"), running(conversion):
            return read_function(convert, source, converted_arrays, folder=folder)
    except RecipeError as error:
        raise click.ClickException(str(error)) from error


def _print_conversion(names: Conversion, *, verbose: bool) -> bool:
    """What was read off a conversion; whether that is all of it."""
    mark = "[yellow]![/]" if names.unexplained else "[green]✓[/]"
    lines = "1 line" if len(names) == 1 else f"{len(names)} lines"
    CONSOLE.print(f"{mark} the conversion read as a table of {lines}", highlight=False)
    said = [
        ("computed, and so not in the table", [*map(str, names.unexplained)]),
        ("constant, whatever the parameters", names.constants),
        ("rounded to a narrower dtype on the way", names.rounded),
        ("parameters that the conversion leaves out", names.unused),
    ]
    for what, paths in said:
        if paths:
            shown = paths if verbose else paths[:_SHOWN]
            more = f" and {len(paths) - len(shown)} more" if len(paths) > len(shown) else ""
            text = f"  {what}: {', '.join(shown)}{more}"
            CONSOLE.print(text, highlight=False, markup=False, soft_wrap=True)
    return not names.unexplained


_SHOWN = 5
"""How many arrays a line of what was read off a conversion names."""


def _matching(task: Task) -> tuple[Matching, str]:
    from portinit.cli import porting

    with CONSOLE.status("matching"):
        try:
            return porting.match(task)
        except RecipeError as error:
            raise click.ClickException(str(error)) from error


def _write(names: Names, path: Path | None, torch_factory: str, twin_factory: str | None) -> None:
    twin = twin_factory or "TWIN_FACTORY"
    if path is None:
        CONSOLE.print(
            "To write this table, add --write names.json",
            style="dim", markup=False, highlight=False,
        )  # fmt: skip
        return
    write_atomically(path, names.to_json().encode())
    say_written("wrote", path)
    CONSOLE.print(
        f"Next: portinit port {torch_factory} {twin} --names {path}",
        style="dim", markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
