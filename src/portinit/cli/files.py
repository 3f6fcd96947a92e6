"""Files, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click


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


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name beside it, then rename it."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o666 & ~_umask())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
