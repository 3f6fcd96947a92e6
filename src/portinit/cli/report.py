"""The command report: a model's initialisation on one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from portinit import Recipe
from portinit.cli.app import CONSOLE, portinit, say_written
from portinit.cli.factories import example_input, load, load_names
from portinit.cli.files import writable, write_atomically
from portinit.cli.models import SEED
from portinit.cli.named_recipes import READY_RECIPES, load_recipe
from portinit.cli.user_code import running, shielded
from portinit.report import page, study
from portinit.report.schemes import SCHEMES

_AGAINST = ("kaiming", "xavier")


@portinit.command()
@click.argument("factory")
@click.option("--out", default="report.html", show_default=True, callback=writable,
              help="Write the page here.")  # fmt: skip
@click.option("--recipe", help=(
    "Fill the model with a recipe in the place of its own initialisation: a JSON file, or one of "
    + ", ".join(READY_RECIPES) + ", with arguments as in gpt2:layers=12."))  # fmt: skip
@click.option("--against", multiple=True, default=_AGAINST, show_default=True, help=(
    "Compare with this; may be given several times. A recipe, or one of " + ", ".join(SCHEMES)
    + " for all kernels."))  # fmt: skip
@click.option("--input", "inputs", help="Factory of the example input.")
@click.option(
    "--names",
    metavar="FILE",
    help="Not for PyTorch: a JSON table from paths to PyTorch names, or to [name, layout].",
)
@click.option("--seed", type=SEED, default=0, show_default=True,
              help="The seed of keys and of the frameworks' generators.")  # fmt: skip
def report(
    factory: str,
    out: Path,
    recipe: str | None,
    against: tuple[str, ...],
    inputs: str | None,
    names: str | None,
    seed: int,
) -> None:
    """Show how a model starts, as one HTML page.

    FACTORY is module:function or file.py:function, and makes a model of PyTorch, Flax, Keras,
    Equinox, Haiku or MLX. The page has a histogram of every parameter
    against the density that its initializer gives, and the std of activations and gradients
    layer by layer, under the model's own initialisation and under others. Layers where a signal
    explodes, vanishes or turns NaN are named. The example input is what the factory's module gives
    as example_input(); a tuple is positional arguments, a mapping keyword arguments.
    """
    build, module = load(factory)
    given = example_input(module, inputs)
    if given is None:
        raise click.ClickException(
            "a report needs an example input: define example_input() beside the factory, "
            "or name one with --input"
        )
    chosen = None if recipe is None else (recipe, load_recipe(recipe))
    others = {name: _alternative(name) for name in against}
    table = None if names is None else load_names(names)
    with CONSOLE.status("probing"):
        text, problems = _made(
            shielded(build, factory), given, factory, chosen, others, seed, table
        )
    write_atomically(out, text.encode())
    for line in problems:
        CONSOLE.print(line, markup=False, highlight=False, soft_wrap=True)
    say_written("wrote", out)


def _alternative(name: str) -> Recipe | None:
    return None if name in SCHEMES else load_recipe(name)


def _made(
    build: Any,
    given: Any,
    title: str,
    chosen: tuple[str, Recipe] | None,
    others: dict[str, Recipe | None],
    seed: int,
    names: Any,
) -> tuple[str, list[str]]:
    """The page, and a line for each problem of each initialisation."""
    try:
        with running(f"{title} on its example input"):
            found = study(
                build, given, title=title, recipe=chosen, against=others, seed=seed, names=names
            )
        text = page(found)
    except (ValueError, ImportError) as error:
        raise click.ClickException(str(error)) from error
    probes = [(column.name, column.found) for column in found.columns if column.found]
    return text, [f"{name}: {problem}" for name, one in probes for problem in one.problems]
