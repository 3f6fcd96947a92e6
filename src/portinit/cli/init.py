"""The command that writes a checkpoint of initial weights."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as Speed

from portinit import Recipe, RecipeError, checkpoints, key
from portinit.arrays.dtypes import FORMATS as DTYPES
from portinit.checkpoints.write import FORMATS, parse_size
from portinit.cli.app import portinit, say_written
from portinit.cli.factories import INPUT, example_input, load, load_names
from portinit.cli.models import SEED, axes
from portinit.cli.named_recipes import load_recipe
from portinit.cli.twins import torch_or_twin
from portinit.probes.frameworks import framework_of
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.tables.files import Names
from portinit.testing.twins import TwinModel


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
@click.option("--model", help=(
    "module:factory of a model of PyTorch, Flax, Keras, Equinox, Haiku or MLX; one of PyTorch or "
    "Flax is made without data."))  # fmt: skip
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
    help="Not for PyTorch: a JSON table from paths to PyTorch names, or to [name, layout].",
)
@click.option("--stacked", multiple=True, metavar="PATH=AXIS", callback=axes, help=(
    "Not for PyTorch: a path whose arrays hold all layers, and the layers' axis."))  # fmt: skip
@click.option("--ignore", multiple=True, metavar="PATTERN", help=(
    "Not for PyTorch: its names that the model need not have, such as pooler.*"))  # fmt: skip
@INPUT
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
    inputs: str | None,
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
        tensors, metadata = _tensors(chosen, model, dtype, table, inputs)
        source = checkpoints.Replay(chosen, seed) if replay else key(seed)
        with _bar() as progress:
            checkpoints.write(tensors, source, out, metadata=metadata, progress=progress, **options)
    except (RecipeError, checkpoints.CheckpointError, ImportError) as error:
        raise click.ClickException(str(error)) from error
    total = sum(tensor.nbytes for tensor in tensors)
    say_written(f"wrote {len(tensors)} tensors, {total / 1e6:,.1f} MB, to", out)


def _tensors(
    recipe: Recipe, model: str | None, dtype: str | None, names: Names, inputs: str | None
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
    made = torch_or_twin(factory, model, lambda: example_input(module, inputs), empty=True)
    if framework_of(made) == "torch":
        adapter = importlib.import_module("portinit_torch")
        return adapter.checkpoint_tensors(made, recipe, dtype), {"format": "pt"}
    twin: TwinModel = made
    specs = twin.tensors(recipe, dtype, MatchRequest.of(names))
    return specs, {"format": twin.framework.lower()}


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes and their rate, where somebody looks at it."""
    columns = (BarColumn(), DownloadColumn(), Speed(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("writing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
