"""An Orbax checkpoint, saved in groups of tensors: Orbax's sessions of partial saves."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portinit.checkpoints.files import (
    SCRATCH,
    CheckpointError,
    atomic,
    exclusive,
    explained,
    require_space,
    require_unicode,
)
from portinit.checkpoints.tensors import Array, TensorSpec
from portinit.checkpoints.values import Progress, Values

_CHECKPOINT = "_CHECKPOINT_METADATA"  # what every Orbax checkpoint has
_JOB = "portinit_job"

Group = Sequence[TensorSpec]


def write_session(
    directory: Path,
    groups: Sequence[Group],
    values: Values,
    job: str,
    *,
    overwrite: bool,
    progress: Progress,
) -> None:
    """Save the groups that are not there yet into a session beside ``directory``; then move it."""
    orbax = _orbax()
    _require_tree(spec.path for group in groups for spec in group)
    work = directory.parent / f".{directory.name}{SCRATCH}"
    with _alone(work), _lean(orbax):
        if _job_of(orbax, directory) == job:  # an earlier run's
            progress(sum(map(_size, groups)))
            return
        _require_free(directory, overwrite)
        session = Session(orbax, work, job)
        done = session.resume(overwrite)
        progress(sum(map(_size, groups[:done])))
        left = groups[done:]
        require_space(directory.parent, sum(map(_size, left)), str(directory))
        values.begin(spec for group in left for spec in group)
        for number, group in enumerate(left, done + 1):
            tree: dict[str, Any] = {}
            for spec in group:
                _put(tree, spec.path, values.take(spec))
                progress(spec.nbytes)
            with explained(directory, _size(group), ValueError):  # TensorStore's
                session.save(tree, number)
        with explained(directory, 0, ValueError):
            session.finish(directory)
            session.clear()


@dataclass(frozen=True)
class Session:
    """Orbax's session in a folder of ours, and a journal of what it has."""

    orbax: Any
    work: Path
    job: str

    @property
    def _path(self) -> Path:
        return self.work / "checkpoint"

    @property
    def _journal(self) -> Path:
        return self.work / "journal.json"

    def resume(self, overwrite: bool) -> int:
        """How many groups are saved. A session that was killed at its end begins anew."""
        try:
            journal = json.loads(self._journal.read_text())
        except (FileNotFoundError, ValueError):
            journal = {"job": self.job, "done": None}
        if journal["job"] != self.job and not overwrite:
            raise CheckpointError(
                f"{self.work} must hold a part of this checkpoint, got another's. "
                "overwrite (--overwrite) replaces it"
            )
        if journal["job"] == self.job and journal["done"] is not None:
            return int(journal["done"])
        for path in self.work.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        self._note(0)
        return 0

    def _note(self, done: int | None) -> None:
        with atomic(self._journal) as temporary:
            temporary.write_text(json.dumps({"job": self.job, "done": done}))

    def save(self, tree: dict[str, Any], number: int) -> None:
        """Save a group, the ``number``-th."""
        try:
            self.orbax.partial.save(self._path, tree, custom_metadata={_JOB: self.job})
        except Exception as error:
            # Killed between a save and its note, a session has the group already. Orbax saves a
            # group whole or not at all, and has no public name for this error.
            if type(error).__name__ != "PartialSaveReplacementError":
                raise
        self._note(number)

    def finish(self, directory: Path) -> None:
        """Make a checkpoint of the session, and move it to its place."""
        self._note(None)  # what Orbax merges now, it cannot merge again
        self.orbax.partial.finalize(self._path)
        if directory.exists():
            shutil.rmtree(directory)
        self._path.rename(directory)

    def clear(self) -> None:
        """Remove all that the session has beside its checkpoint, but for the lock."""
        for path in self.work.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()


def _orbax() -> Any:
    name = "orbax.checkpoint.experimental.v1"
    try:
        orbax = importlib.import_module(name)
        importlib.import_module(f"{name}.partial")
    except ImportError as error:
        raise CheckpointError(
            f"an Orbax checkpoint needs orbax-checkpoint with {name}.partial (0.12 has it): "
            f"pip install 'portinit[orbax]'; {error}"
        ) from error
    return orbax


def _lean(orbax: Any) -> Any:
    """Orbax's options for no second copy of a group: its own, and one for compressing.

    Random numbers hardly compress.
    """
    context = orbax.Context()
    context.memory.deepcopy_host_arrays = False
    context.array.saving.use_compression = False
    return context


def _job_of(orbax: Any, directory: Path) -> str | None:
    if not (directory / _CHECKPOINT).is_file():
        return None
    metadata = orbax.metadata(directory).custom_metadata or {}
    job: str | None = metadata.get(_JOB)
    return job


def _require_free(directory: Path, overwrite: bool) -> None:
    """An Orbax checkpoint is a folder of its own."""
    if not directory.exists() or not any(directory.iterdir()):
        return
    if not overwrite or not (directory / _CHECKPOINT).is_file():
        raise CheckpointError(
            f"{directory} must be new or empty, got a folder with files; "
            "overwrite (--overwrite) replaces an Orbax checkpoint, and nothing else"
        )


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Hold a folder that no other run holds; it stays where something is left in it."""
    work.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(work / "lock", wait=False) as held:
        if not held:
            raise CheckpointError(f"{work} must be this run's alone, got another run in it")
        yield


def _size(group: Group) -> int:
    return sum(spec.nbytes for spec in group)


def _require_tree(paths: Iterable[Sequence[str]]) -> None:
    """Raise a CheckpointError for tensors that cannot be the leaves of one tree."""
    leaves: dict[str, Sequence[str]] = {}
    inner: dict[Sequence[str], Sequence[str]] = {}
    for path in paths:
        require_unicode("".join(path))
        other = leaves.setdefault(".".join(path), path)  # Orbax joins the names like this
        if other is not path:
            raise CheckpointError(f"Orbax has one place for the tensors {other} and {path}")
        inner |= {tuple(path[:end]): path for end in range(1, len(path))}
    for path in leaves.values():
        if tuple(path) in inner:
            raise CheckpointError(
                f"a tree of nested dicts cannot hold a tensor at {'.'.join(path)} and another "
                f"within it, {'.'.join(inner[tuple(path)])}; safetensors files can"
            )


def _put(tree: dict[str, Any], path: Sequence[str], value: Array) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value
