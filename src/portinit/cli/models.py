"""Commands on a PyTorch model and its Flax twin: port, demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from portinit import RecipeError
from portinit.cli.app import CONSOLE, portinit
from portinit.cli.factories import (
    READY_RECIPES,
    example_input,
    load,
    load_names,
    load_recipe,
    make_torch_model,
)
from portinit.cli.files import writable, write_tensors
from portinit.cli.tables import print_port

if TYPE_CHECKING:
    from portinit.cli.porting import Port

SEED = click.IntRange(0, 2**64 - 1)


@dataclass(frozen=True)
class Task:
    """What to port, and how."""

    torch_factory: str
    flax_factory: str
    recipe: str = "torch_defaults"
    seed: int = 0
    trace: bool = False
    replay: int | None = None
    names: str | None = None
    torch_input: str | None = None
    flax_input: str | None = None


@portinit.command()
@click.argument("torch_factory")
@click.argument("flax_factory")
@click.option("--recipe", default="torch_defaults", show_default=True, help=(
    "A recipe's JSON file, or one of " + ", ".join(READY_RECIPES)
    + ", with arguments as in gpt2:layers=12."))  # fmt: skip
@click.option("--trace", is_flag=True, help="Read the recipe off PyTorch's constructor instead.")
@click.option("--replay", type=int, metavar="SEED", help=(
    "With --trace: the weights of torch.manual_seed(SEED) instead of a key's."))  # fmt: skip
@click.option("--names", help="JSON: Flax paths to PyTorch names, or to [name, layout].")
@click.option("--seed", type=SEED, default=0, show_default=True, help="The key's.")
@click.option("--out", callback=writable, help="Write the Flax weights here, by path.")
@click.option("--torch-input", help="module:function giving PyTorch's example input.")
@click.option("--flax-input", help="module:function giving Flax's example input.")
@click.option("--tolerance", default=1e-5, show_default=True, help="On the outputs.")
def port(out: Path | None, tolerance: float, **options: Any) -> None:
    """Give a PyTorch model and its Flax twin the same weights, and prove it.

    TORCH_FACTORY and FLAX_FACTORY are module:function or file.py:function. Every parameter is
    compared bit for bit, and the outputs on the example inputs, which each factory's module gives
    as example_input(). Any difference makes the exit status 1.
    """
    task = Task(**options)
    if task.replay is not None and not task.trace:
        raise click.UsageError("--replay needs --trace: a replay follows a traced constructor")
    done = _port(task)
    print_port(CONSOLE, f"{task.torch_factory} and {task.flax_factory}", done, tolerance)
    if not done.same(tolerance):
        raise SystemExit(1)
    if out is not None:
        _save(done, out, task)
        CONSOLE.print("wrote", str(out), markup=False)


def _port(task: Task) -> Port:
    from portinit.cli import porting  # both frameworks: seconds to import

    (make_torch, torch_module), (make_flax, flax_module) = (
        load(task.torch_factory),
        load(task.flax_factory),
    )
    ours = example_input(torch_module, task.torch_input)
    theirs = example_input(flax_module, task.flax_input)
    inputs = None if ours is None or theirs is None else (ours, theirs)
    with CONSOLE.status("initialising both sides"):
        try:
            pair = porting.fill(
                lambda: make_torch_model(make_torch, task.torch_factory),
                make_flax(),
                None if task.trace else load_recipe(task.recipe),
                task.seed,
                task.replay,
                load_names(task.names),
                None if inputs is None else inputs[1],
            )
            return porting.compare(pair, inputs)
        except RecipeError as error:
            raise click.ClickException(str(error)) from error


def _save(done: Port, path: Path, task: Task) -> None:
    from portinit.cli.porting import flat_arrays

    metadata = {
        "seed": str(task.seed if task.replay is None else task.replay),
        "recipe": "trace" if task.trace else task.recipe,
    }
    write_tensors(path, flat_arrays(done.pair.values), metadata)


_SIDES = ("torch", "flax")
_TWINS = {"convnet": "torch_defaults", "gpt": "gpt2:layers=2", "lstm": "torch_defaults"}


@portinit.command()
@click.option("--seed", type=SEED, default=0, show_default=True)
def demo(seed: int) -> None:
    """Port the bundled twins: a convolutional net, a GPT and an LSTM classifier."""
    failed = []
    for name, recipe in _TWINS.items():
        ours, theirs = (f"portinit_examples.{name}_{side}:make_model" for side in _SIDES)
        done = _port(Task(ours, theirs, recipe=recipe, seed=seed))
        print_port(CONSOLE, f"{name}: {ours} and {theirs}, {recipe}", done, 1e-5)
        if not done.same(1e-5):
            failed.append(name)
    if failed:
        raise click.ClickException(f"{', '.join(failed)} did not port")
