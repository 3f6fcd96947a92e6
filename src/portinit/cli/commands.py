"""The commands: port, show, demo."""

from __future__ import annotations

import importlib
import os
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console

import portinit as core
from portinit.cli.factories import READY_RECIPES, example_input, load, load_names, load_recipe

_CONSOLE = Console()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(core.__version__, prog_name="portinit")
def portinit() -> None:
    """One key, the same initial weights in NumPy, PyTorch and JAX."""


@portinit.command()
@click.argument("torch_factory")
@click.argument("flax_factory")
@click.option("--recipe", default="torch_defaults", show_default=True, help=(
    "A recipe's JSON file, or one of " + ", ".join(READY_RECIPES)
    + ", with arguments as in gpt2:layers=12."))  # fmt: skip
@click.option("--names", help="JSON: Flax paths to PyTorch names, or to [name, layout].")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False), help="Write the Flax weights here.")
@click.option("--torch-input", help="module:function giving PyTorch's example input.")
@click.option("--flax-input", help="module:function giving Flax's example input.")
@click.option("--tolerance", default=1e-5, show_default=True, help="On the outputs.")
def port(
    torch_factory: str,
    flax_factory: str,
    recipe: str,
    names: str | None,
    seed: int,
    out: str | None,
    torch_input: str | None,
    flax_input: str | None,
    tolerance: float,
) -> None:
    """Give a PyTorch model and its Flax twin the same weights, and prove it.

    TORCH_FACTORY and FLAX_FACTORY are module:function or file.py:function. Every parameter is
    compared bit for bit, and the outputs on the example inputs, which each factory's module gives
    as example_input(). Any difference makes the exit status 1.
    """
    done = _port(
        torch_factory, flax_factory, recipe, seed, load_names(names), (torch_input, flax_input)
    )
    _print_port(f"{torch_factory} and {flax_factory}", done, tolerance)
    if not done.same(tolerance):
        raise SystemExit(1)
    if out is not None:
        _save(done, Path(out), {"seed": str(seed), "recipe": recipe})
        _CONSOLE.print(f"wrote {out}")


def _port(
    torch_factory: str,
    flax_factory: str,
    recipe: str,
    seed: int,
    names: dict[str, Any],
    input_factories: tuple[str | None, str | None],
) -> Any:
    from portinit.cli import porting  # imports both frameworks

    chosen = load_recipe(recipe)
    (make_torch, torch_module), (make_flax, flax_module) = load(torch_factory), load(flax_factory)
    inputs = (
        example_input(torch_module, input_factories[0]),
        example_input(flax_module, input_factories[1]),
    )
    both = None if any(x is None for x in inputs) else inputs
    with _CONSOLE.status("initialising both sides"):
        try:
            return porting.port(make_torch(), make_flax(), chosen, seed, names, both)
        except core.RecipeError as error:
            raise click.ClickException(str(error)) from error


def _print_port(title: str, done: Any, tolerance: float) -> None:
    from portinit.cli.tables import print_port

    print_port(_CONSOLE, title, done, tolerance)


def _save(done: Any, path: Path, metadata: dict[str, str]) -> None:
    """Write the Flax arrays by path, whole or not at all."""
    from safetensors.flax import save

    from portinit.cli.porting import flat_arrays

    data = save(flat_arrays(done.flax_values), metadata)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


@portinit.command()
@click.argument("recipe_or_factory")
@click.option("--recipe", default="torch_defaults", show_default=True, help=(
    "For a factory: the recipe to bind to its model."))  # fmt: skip
def show(recipe_or_factory: str, recipe: str) -> None:
    """Show a recipe's rules, or what a recipe gives each parameter of a PyTorch model."""
    from portinit.cli.tables import print_recipe

    name = recipe_or_factory
    if name.endswith(".json") or name.partition(":")[0] in READY_RECIPES:
        print_recipe(_CONSOLE, name, load_recipe(name))
        return
    torch_adapter = importlib.import_module("portinit_torch")
    factory, _ = load(name)
    try:
        bound = torch_adapter.bind(factory(), load_recipe(recipe))
    except core.RecipeError as error:
        raise click.ClickException(str(error)) from error
    print_recipe(_CONSOLE, f"{name} with {recipe}", bound)


_TWINS = {"convnet": "torch_defaults", "gpt": "gpt2:layers=2", "lstm": "torch_defaults"}


@portinit.command()
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True)
def demo(seed: int) -> None:
    """Port the bundled twins: a convolutional net, a GPT and an LSTM classifier."""
    failed = []
    for name, recipe in _TWINS.items():
        target = "portinit_examples.{}_{}:make_model".format
        torch_factory, flax_factory = target(name, "torch"), target(name, "flax")
        done = _port(torch_factory, flax_factory, recipe, seed, {}, (None, None))
        _print_port(f"{name}: {torch_factory} and {flax_factory}, {recipe}", done, 1e-5)
        if not done.same(1e-5):
            failed.append(name)
    if failed:
        raise click.ClickException(f"{', '.join(failed)} did not port")
