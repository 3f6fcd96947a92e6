"""The command that writes a checkpoint of initial weights."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as Speed

from portinit import Recipe, RecipeError, checkpoints, key
from portinit.arrays.dtypes import FORMATS as DTYPES
from portinit.checkpoints.write import FORMATS, parse_size
from portinit.cli.app import CONSOLE, portinit
from portinit.cli.factories import example_input, load, load_names
from portinit.cli.models import SEED, axes
from portinit.cli.named_recipes import load_recipe
from portinit.cli.user_code import running
from portinit.recipes.matching.tables import Names


def _size(context: click.Context, option: click.Parameter, value: str) -> int:
    try:
        return parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@portinit.command()
@click.argument("recipe")
@click.option("--out", required=True, type=click.Path(file_okay=False),
              help="The checkpoint's folder.")  # fmt: skip
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="The seed of the key, or of a replay."
)
@click.option("--model", help="module:factory of a PyTorch or Flax model; run without data.")
@click.option("--dtype", type=click.Choice([*DTYPES]), metavar="DTYPE", help=(
    "Of floating tensors: the model's or the trace's own, or else float32."))  # fmt: skip
@click.option("--shard-size", default="500MB", show_default=True, callback=_size, help=(
    "Bytes of tensors in a file, and so about the memory it takes."))  # fmt: skip
@click.option("--format", "file_format", type=click.Choice(FORMATS), default=FORMATS[0],
              show_default=True)  # fmt: skip
@click.option("--replay", is_flag=True, help=(
    "The weights of torch.manual_seed(SEED) and a traced constructor, not a key's."))  # fmt: skip
@click.option(
    "--names",
    metavar="FILE",
    help="For Flax: a JSON table from paths to PyTorch names, or to [name, layout].",
)
@click.option("--stacked", multiple=True, metavar="PATH=AXIS", callback=axes, help=(
    "For Flax: a path whose arrays hold all layers, and the axis of the layers."))  # fmt: skip
@click.option("--ignore", multiple=True, metavar="PATTERN", help=(
    "For Flax: PyTorch names that the model need not have, such as pooler.*"))  # fmt: skip
@click.option("--flax-input", help="Factory of a linen module's example input.")
@click.option("--overwrite", is_flag=True, help="Remove another checkpoint from the folder.")
def init(
    recipe: str,
    out: str,
    seed: int,
    model: str | None,
    replay: bool,
    dtype: str | None,
    names: str | None,
    stacked: dict[str, int] | None,
    ignore: tuple[str, ...],
    flax_input: str | None,
    **options: Any,
) -> None:
    """Write a model's initial weights to disk, in little memory.

    RECIPE is a recipe's JSON file, or a ready one as in gpt2:layers=12. One that is traced or
    bound names each parameter; another needs --model. The same command takes up what a killed
    one has left, and several may write to one folder at once.
    """
    try:
        chosen = load_recipe(recipe)
        table = load_names(names).with_more(ignore, stacked)
        tensors, metadata = _tensors(chosen, model, dtype, table, flax_input)
        source = checkpoints.Replay(chosen, seed) if replay else key(seed)
        with _bar() as progress:
            checkpoints.write(tensors, source, out, metadata=metadata, progress=progress, **options)
    except (RecipeError, checkpoints.CheckpointError, ImportError) as error:
        raise click.ClickException(str(error)) from error
    total = sum(tensor.nbytes for tensor in tensors)
    CONSOLE.print(f"wrote {len(tensors)} tensors, {total / 1e6:,.1f} MB, to", out, markup=False)


def _tensors(
    recipe: Recipe, model: str | None, dtype: str | None, names: Names, flax_input: str | None
) -> tuple[list[checkpoints.TensorSpec], dict[str, str]]:
    """The values to write, and the text for the files' headers."""
    if model is None:
        if any(rule.name is None or rule.shape is None for rule in recipe.rules):
            raise click.ClickException(
                "a checkpoint needs a recipe that is bound to a model, got one of patterns: name "
                "the model with --model module:factory, or give a trace, which portinit trace "
                "FACTORY --out recipe.json writes"
            )
        return checkpoints.checkpoint_tensors(recipe, dtype), {"format": "pt"}
    factory, module = load(model)
    with running(model):
        built = _without_data(factory)
    if _is_torch(built):
        adapter = importlib.import_module("portinit_torch")
        return adapter.checkpoint_tensors(built, recipe, dtype), {"format": "pt"}
    if sys.modules.get("flax") is None:
        raise click.ClickException(
            f"{model} must return a torch.nn.Module or a Flax module, got {type(built).__name__}"
        )
    from portinit.cli.flax_models import flax_model  # jax: seconds to import

    tree = flax_model(factory, model, example_input(module, flax_input)).empty
    adapter = importlib.import_module("portinit_flax")
    return adapter.checkpoint_tensors(tree, recipe, dtype, names), {"format": "flax"}


def _is_torch(model: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _without_data(factory: Callable[[], Any]) -> Any:
    """The model that a factory of either framework makes, its arrays without data."""
    made: list[Any] = []
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    with torch.device("meta") if torch else contextlib.nullcontext():
        if jax is None:
            return factory()
        jax.eval_shape(lambda: made.append(factory()))
    return made[0]


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes and their rate, where somebody looks at it."""
    columns = (BarColumn(), DownloadColumn(), Speed(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("writing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
