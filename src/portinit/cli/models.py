"""Commands on a PyTorch model and its twin in another framework: port, demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from portinit import RecipeError
from portinit.cli.app import CONSOLE, portinit, say_written
from portinit.cli.factories import example_input, load, load_names
from portinit.cli.files import told, writable, write_tensors
from portinit.cli.named_recipes import READY_RECIPES, load_recipe
from portinit.cli.tables import print_port

if TYPE_CHECKING:
    from portinit.cli.porting import Port, Task
    from portinit.recipes.matching.tables.files import Names

SEED = click.IntRange(0, 2**64 - 1)


def axes(
    context: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> dict[str, int] | None:
    """A click callback: ``layers`` or ``layers=1`` to the axis that a stack's layers lie along."""
    axes: dict[str, int] = {}
    for text in given:
        path, _, axis = text.partition("=")
        try:
            axes[path] = int(axis or 0)
        except ValueError:
            raise click.BadParameter(
                f"must be a Flax path and an axis, such as layers=0, got {text}"
            ) from None
    return axes or None


@portinit.command()
@click.argument("torch_factory")
@click.argument("twin_factory")
@click.option("--recipe", help=(
    "Draw from this recipe instead of what PyTorch's constructor draws from: a JSON file, or one "
    "of " + ", ".join(READY_RECIPES) + ", with arguments as in gpt2:layers=12."))  # fmt: skip
@click.option("--trace", is_flag=True, help="Trace PyTorch's constructor, as is the default.")
@click.option("--replay", type=int, metavar="SEED", help=(
    "Take the weights that torch.manual_seed(SEED) gives, instead of a key's draws."))  # fmt: skip
@click.option("--seed", type=SEED, default=0, show_default=True,
              help="The seed of the key that the weights are drawn with.")  # fmt: skip
@click.option("--names", metavar="FILE", help=(
    "JSON table from Flax paths to PyTorch names, or to [name, layout], for those that differ; "
    "portinit match --write makes one."))  # fmt: skip
@click.option("--stacked", multiple=True, metavar="PATH=AXIS", callback=axes, help=(
    "A Flax path whose arrays hold all layers, and the axis that they lie along."))  # fmt: skip
@click.option("--ignore", multiple=True, metavar="PATTERN", help=(
    "PyTorch names that the twin need not have, such as pooler.*"))  # fmt: skip
@click.option("--torch-input", metavar="FACTORY",
              help="Factory of PyTorch's example input.")  # fmt: skip
@click.option("--twin-input", "--flax-input", metavar="FACTORY",
              help="Factory of the twin's example input.")  # fmt: skip
@click.option("--channels-last", is_flag=True, help=(
    "Give the twin PyTorch's example input, with axis 1, the channels', moved last."))  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(0), help=(
    "Largest difference of the outputs, as a share of their largest value: 1e-5, or more for "
    "narrow dtypes, by default."))  # fmt: skip
@click.option("--out", metavar="FILE", callback=writable, help=(
    "Write the twin's weights to a safetensors file, by path."))  # fmt: skip
@click.option("--verbose", "-v", is_flag=True, help="Print a table of all parameters.")
def port(
    torch_factory: str,
    twin_factory: str,
    out: Path | None,
    tolerance: float | None,
    verbose: bool,
    recipe: str | None,
    trace: bool,
    **options: Any,
) -> None:
    """Give a PyTorch model and its twin in another framework the same weights, and prove it.

    The twin is a model of Flax, Keras, Equinox, Haiku or MLX. TORCH_FACTORY and TWIN_FACTORY are
    module:function or file.py:function. The weights are drawn as PyTorch's constructor draws them.
    Every parameter is compared bit for bit, and the outputs in inference mode on the example
    inputs, which example_input() gives beside each factory: an array, a tuple of positional
    arguments, or a mapping of keyword arguments. Any difference makes the exit status 1.
    """
    if recipe is not None and trace:
        raise click.UsageError("--trace and --recipe exclude each other: give one of them")
    _check_seeds(options["replay"])
    task = task_of(torch_factory, twin_factory, recipe, **options)
    done = _port(task, tolerance)
    print_port(CONSOLE, "", done, verbose)
    if not done.same:
        CONSOLE.print(_advice(task), style="dim", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1)
    if out is not None:
        _save(done, out, task, recipe)
        say_written("wrote", out)
    else:
        written = {name: options[name] for name in ("names", "twin_input", "channels_last")}
        _print_next(done, task, recipe, **written)


def _check_seeds(replay: int | None) -> None:
    """Refuse --seed beside --replay, which would not look at it."""
    context = click.get_current_context()
    given = context.get_parameter_source("seed") is not ParameterSource.DEFAULT
    if replay is not None and given:
        raise click.UsageError(
            "--seed is the seed of a key and --replay that of torch.manual_seed: give one of them"
        )


def task_of(
    torch_factory: str,
    twin_factory: str,
    recipe: str | None,
    *,
    seed: int = 0,
    replay: int | None = None,
    names: str | Names | None = None,
    stacked: dict[str, int] | None = None,
    ignore: tuple[str, ...] = (),
    torch_input: str | None = None,
    twin_input: str | None = None,
    channels_last: bool = False,
) -> Task:
    """What to port, as the options say it."""
    from portinit.cli import porting  # both frameworks: seconds to import

    chosen = None if recipe is None else load_recipe(recipe)
    table = load_names(names) if isinstance(names, str | None) else names
    (make_torch, torch_module), (make_twin, twin_module) = load(torch_factory), load(twin_factory)
    ours = example_input(torch_module, torch_input)
    theirs = None if channels_last else example_input(twin_module, twin_input)
    if channels_last and ours is None:
        raise click.UsageError(
            f"--channels-last needs PyTorch's example input: define example_input() beside "
            f"{torch_factory}, or name one with --torch-input"
        )
    return porting.Task(
        make_torch, make_twin, torch_factory, twin_factory, chosen, seed, replay, table, stacked,
        ignore, ours, porting.channels_last(ours) if channels_last else theirs,
    )  # fmt: skip


def _port(task: Task, tolerance: float | None = None) -> Port:
    from portinit.cli import porting

    with CONSOLE.status("initialising both sides"):
        try:
            return porting.port(task, tolerance)
        except RecipeError as error:
            raise click.ClickException(f"{told(error)}\n{_advice(task)}") from error


def _advice(task: Task) -> str:
    """What to type when models do not fit."""
    return (
        f"To see all pairs and to write a table of names: portinit match {task.torch_name} "
        f"{task.twin_name} --write names.json; then give port --names names.json"
    )


def _save(done: Port, path: Path, task: Task, recipe: str | None) -> None:
    metadata = {
        "seed": str(task.seed if task.replay is None else task.replay),
        "recipe": "trace" if recipe is None else recipe,
    }
    write_tensors(path, done.pair.twin.paths(done.pair.filled), metadata)


def _print_next(done: Port, task: Task, recipe: str | None, **options: Any) -> None:
    """The next steps for twins that agree."""
    from portinit.cli.python_lines import Options, python_lines

    verb = "draw" if task.replay is None else "replay"
    lines = "\n  ".join(python_lines(done, task, Options(recipe, **options)))
    CONSOLE.print(
        f"To write these weights for {done.pair.twin.framework}, add --out weights.safetensors. "
        f"To {verb} them in Python:\n  {lines}",
        style="dim", markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


_SIDES = ("torch", "flax")
_TWINS = ("convnet", "gpt", "lstm")


@portinit.command()
@click.option("--seed", type=SEED, default=0, show_default=True,
              help="The seed of the key that the weights are drawn with.")  # fmt: skip
@click.option("--verbose", "-v", is_flag=True, help="Print a table of all parameters.")
def demo(seed: int, verbose: bool) -> None:
    """Port the bundled twins: a convolutional net, a GPT and an LSTM classifier."""
    CONSOLE.print(
        "Three PyTorch models and their Flax twins are drawn from one key, compared bit for bit, "
        "and run."
    )
    failed = []
    for name in _TWINS:
        ours, theirs = (f"portinit_examples.{name}_{side}:make_model" for side in _SIDES)
        done = _port(task_of(ours, theirs, None, seed=seed))
        print_port(CONSOLE, name, done, verbose)
        if not done.same:
            failed.append(name)
    if failed:
        raise click.ClickException(f"{', '.join(failed)} did not port")
    CONSOLE.print("Port your own: portinit port net_torch.py:make_model net_flax.py:make_model")
