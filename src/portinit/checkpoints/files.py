"""Files that are whole or not there, whoever is killed and however many write."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
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
    """A temporary path beside ``path``; what was written there is moved to ``path`` at the end.

    Another run that writes the same file is waited for. What a killed run left is removed.
    """
    directory = path.absolute().parent
    with claimed(directory, path.name, wait=True) as work:
        assert work is not None  # it was waited for
        yield work / path.name
        publish(work / path.name, path)
    sweep(directory)


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
    """An empty folder to write one of a directory's files in, while no other run does.

    None is given if another process has the claim and ``wait`` is not set.
    """
    scratch = directory / SCRATCH
    with exclusive(scratch / f"{name}.lock", wait) as held:
        if not held:
            yield None
            return
        work = scratch / name
        shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
        work.mkdir(parents=True)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def sweep(directory: Path) -> None:
    """Remove what killed runs left of the files that they were writing in a directory."""
    scratch = directory / SCRATCH
    try:
        left = {path.name.removesuffix(".lock") for path in scratch.iterdir()}
    except FileNotFoundError:
        return
    for name in left:
        with exclusive(scratch / f"{name}.lock", wait=False) as held:
            if held:
                shutil.rmtree(scratch / name, ignore_errors=True)


_ATTEMPTS = 100


@contextlib.contextmanager
def exclusive(path: Path, wait: bool) -> Iterator[bool]:
    """Hold a lock file, which is made if need be, with its folder; False if another process does.

    The lock is on an open file, so that a killed process loses it. In the end the file is removed,
    and its folder where nothing else is in it. A process that waited for a file that is gone by
    then makes a new one: whoever holds the lock holds the file at this path.
    """
    for attempt in range(_ATTEMPTS):
        with contextlib.suppress(FileExistsError):  # mkdir's own check of that is not atomic
            path.parent.mkdir()
        try:
            file = path.open("ab")
        except FileNotFoundError:  # another process has removed the folder meanwhile
            continue
        with file:
            if not locked(file, wait):
                yield False
                return
            # Somebody who removes every file at once is no process of ours: that is not awaited.
            if _is_at(path, file) or attempt == _ATTEMPTS - 1:
                try:
                    yield True
                finally:
                    _remove(path, file)
                return
    raise CheckpointError(f"{path} could not be made: its folder is removed again and again")


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """Whether an open file is the one at a path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _remove(path: Path, file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # Windows removes no open file, and nobody an open folder
        if _is_at(path, file):
            path.unlink()
        path.parent.rmdir()


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


def require_unicode(name: str) -> None:
    """Raise a CheckpointError for a name or text that cannot be written as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise CheckpointError(f"a name must be Unicode text, got {name!r}") from error


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
