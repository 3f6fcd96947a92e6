"""Files, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from portinit.checkpoints.files import atomic
from portinit.checkpoints.folder import save_file
from portinit.recipes.rule import SHOWN, RecipeError


def writable(context: click.Context, option: click.Parameter, value: str | None) -> Path | None:
    """A click callback: refuse a file that cannot be written before any work is done."""
    if value is None:
        return None
    path = Path(value)
    if not path.absolute().parent.is_dir():
        raise click.BadParameter(f"no folder {path.absolute().parent}")
    if path.is_dir():
        raise click.BadParameter(f"{path} must be a file, got a folder")
    return path


MISFITS = Path("portinit-misfits.txt")
"""Where all misfits go if they are more than a screen."""


def told(error: RecipeError) -> str:
    """The text of an error; all of its misfits are written to a file if the text has not all."""
    if len(error.misfits) <= SHOWN:
        return str(error)
    write_atomically(MISFITS, "\n".join([*error.misfits, ""]).encode())
    return f"{error}: {MISFITS} lists all {len(error.misfits)}"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name beside it, then rename it."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_tensors(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file of NumPy's or JAX's arrays."""
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata)
