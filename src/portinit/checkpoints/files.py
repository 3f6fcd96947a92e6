"""Files that are whole or not there, whoever is killed and however many write."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: nothing keeps two runs apart there
    fcntl = None  # type: ignore[assignment]

SCRATCH = ".portinit"
"""The folder in a checkpoint's own that holds what is not whole yet."""


class CheckpointError(Exception):
    """A checkpoint cannot be written where it was asked for."""


CheckpointError.__module__ = "portinit.checkpoints"


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; what was written there is moved to ``path`` at the end."""
    with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        publish(temporary, path)


def publish(temporary: Path, path: Path) -> None:
    """Move a finished file to its place once the disk has it; its mode is an ordinary one."""
    temporary.chmod(0o666 & ~_umask())  # safetensors 0.8 leaves 0600
    _sync(temporary)
    temporary.replace(path)
    _sync(path.absolute().parent)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # pragma: no cover - Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def claimed(directory: Path, name: str, wait: bool) -> Iterator[Path | None]:
    """An empty folder to write one of a checkpoint's files in, while no other run does.

    The claim is a lock on an open file, which a killed process loses. None is given if another
    process has the claim and ``wait`` is not set.
    """
    scratch = directory / SCRATCH
    scratch.mkdir(exist_ok=True)
    with (scratch / f"{name}.lock").open("wb") as lock:
        if not locked(lock, wait):
            yield None
            return
        work = scratch / name
        shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def locked(file: IO[bytes], wait: bool = False) -> bool:
    """Lock an open file until it is closed; False if another process has the lock."""
    if fcntl is None:  # pragma: no cover - Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
    return True  # also on a file system without locks, for one run at a time


def require_space(directory: Path, needed: int, what: str) -> None:
    """Raise a CheckpointError if the disk has not enough room."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise CheckpointError(
            f"{what}: {in_units(needed)} are needed, {in_units(free)} are free in {directory}"
        )


@contextlib.contextmanager
def explained(path: Path, needed: int, also: type[Exception] = OSError) -> Iterator[None]:
    """Say in one line which file could not be written, and what it needs.

    A library says that a disk is full in its own way: ``also`` is its error.
    """
    try:
        yield
    except (OSError, also) as error:
        folder = next(parent for parent in path.parents if parent.exists())
        raise CheckpointError(
            f"{path} could not be written: {error}; it needs {in_units(needed)}, "
            f"{in_units(shutil.disk_usage(folder).free)} are free"
        ) from error


def in_units(size: int) -> str:
    """A size for people to read."""
    return f"{size / 1e6:,.1f} MB"
