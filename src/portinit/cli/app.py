"""The command group; its commands are in models.py and traces.py."""

from __future__ import annotations

import click
from rich.console import Console

import portinit as core

CONSOLE = Console()


def say_written(what: str, path: object) -> None:
    """Say where something was written; the path stays whole, however long it is."""
    CONSOLE.print(what, str(path), markup=False, soft_wrap=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(core.__version__, prog_name="portinit")
def portinit() -> None:
    """One key, the same initial weights in NumPy, PyTorch and JAX."""
