"""A folder of safetensors files, as the Hugging Face libraries read it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from portinit.arrays.dtypes import numpy_dtype
from portinit.checkpoints.files import (
    CheckpointError,
    atomic,
    claimed,
    explained,
    publish,
    require_space,
    require_unicode,
    sweep,
)
from portinit.checkpoints.shards import INDEX, OURS, Shard, index_of
from portinit.checkpoints.tensors import Array
from portinit.checkpoints.values import Progress, Values

_JOB = "portinit.job"
_ROOM_FOR_A_NAME = 256  # bytes of a header that a tensor takes


def write_folder(
    directory: Path,
    shards: Sequence[Shard],
    values: Values,
    metadata: Mapping[str, str],
    *,
    overwrite: bool,
    progress: Progress,
) -> None:
    """Write the files that are not there yet, and the index when all are."""
    folder = Folder(directory, shards, metadata)
    missing = folder.prepare(overwrite)
    progress(sum(shard.nbytes for shard in shards if shard not in missing))
    for wait in (False, True):  # first what no other run is at, then what another has left
        missing = folder.missing()
        values.begin(spec for shard in missing for spec in shard.specs)
        for shard in missing:
            with claimed(directory, shard.file, wait) as work:
                if work is not None:
                    folder.write(shard, values, work, progress)
    folder.finish()


@dataclass(frozen=True)
class Folder:
    """A checkpoint's folder: what is there, and what is to be."""

    directory: Path
    shards: Sequence[Shard]
    metadata: Mapping[str, str]  # of each file, with the job's fingerprint

    def prepare(self, overwrite: bool) -> list[Shard]:
        """See that the folder takes this checkpoint; give the shards that it has not."""
        others = [*self._others()]
        if others and not overwrite:
            names = ", ".join(path.name for path in others[:3])
            raise CheckpointError(
                f"{self.directory} must hold no other checkpoint, or a part of this one; got "
                f"{len(others)} other files: {names}. overwrite (--overwrite) replaces them"
            )
        missing = self.missing()
        if missing or others:
            (self.directory / INDEX).unlink(missing_ok=True)  # first: nothing may look whole
        for path in others:
            path.unlink(missing_ok=True)
        sweep(self.directory)
        require_space(self.directory, sum(map(_size, missing)), f"{len(missing)} files")
        return missing

    def _others(self) -> Iterator[Path]:
        """Files of the names that we write, which this checkpoint has not."""
        known = {shard.file for shard in self.shards}
        for path in sorted(self.directory.iterdir()):
            if not OURS.fullmatch(path.name):
                continue
            if path.name == INDEX:
                if len(known) == 1 or _bytes_of(path) not in (None, index_of(self.shards)):
                    yield path
            elif path.name not in known or not self._holds(path):
                yield path

    def missing(self) -> list[Shard]:
        """The shards whose files are not there."""
        return [s for s in self.shards if not self._holds(self.directory / s.file)]

    def _holds(self, path: Path) -> bool:
        """Whether a file is whole, and of this job: its header says both."""
        safe_open = importlib.import_module("safetensors").safe_open
        try:
            with safe_open(path, "numpy") as file:
                return (file.metadata() or {}).get(_JOB) == self.metadata[_JOB]
        except (OSError, _safetensors_error()):
            return False

    def write(self, shard: Shard, values: Values, work: Path, progress: Progress) -> None:
        """Compute a shard's tensors and write its file, if no other run has meanwhile."""
        path, temporary = self.directory / shard.file, work / shard.file
        if self._holds(path):
            progress(shard.nbytes)
            return
        with explained(path, _size(shard), _safetensors_error()):
            require_space(self.directory, _size(shard), str(path))
            tensors = {}
            for spec in shard.specs:
                tensors[spec.name] = values.take(spec)
                progress(spec.nbytes)
            save_file(tensors, temporary, self.metadata)
            publish(temporary, path)

    def finish(self) -> None:
        """Write the index, which says that all is there, and drop the scratch folder."""
        if len(self.shards) > 1 and not (self.directory / INDEX).exists():
            with explained(self.directory / INDEX, 0), atomic(self.directory / INDEX) as temporary:
                temporary.write_bytes(index_of(self.shards))
        sweep(self.directory)


def _bytes_of(path: Path) -> bytes | None:
    """The bytes of a file; None if another run has removed it meanwhile."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def job_metadata(metadata: Mapping[str, str], job: str) -> dict[str, str]:
    """The text of a file's header."""
    return {**metadata, _JOB: job}


def save_file(tensors: Mapping[str, Array], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file of NumPy arrays, without a copy of those that are contiguous.

    Raises:
        CheckpointError: a name that the format keeps for itself.
    """
    require_names(tensors)
    numpy = importlib.import_module("safetensors.numpy")
    contiguous = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    numpy.save_file(contiguous, path, dict(metadata))
    _order_metadata(path)


def _order_metadata(path: Path) -> None:
    """Sort the texts in a file's header: the library's order of them differs between runs."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        texts = sorted(header["__metadata__"].items())
        header["__metadata__"] = dict(texts)
        data = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(data) <= length:  # it is equal: the library writes as compactly
            file.seek(8)
            file.write(data.ljust(length))


def _safetensors_error() -> type[Exception]:
    error: type[Exception] = importlib.import_module("safetensors").SafetensorError
    return error


def _size(shard: Shard) -> int:
    return shard.nbytes + _ROOM_FOR_A_NAME * len(shard.specs)


def require_storable(shards: Sequence[Shard]) -> None:
    """Raise a CheckpointError for a name or a dtype that a safetensors file cannot hold."""
    require_names(spec.name for shard in shards for spec in shard.specs)
    probe: Any = importlib.import_module("safetensors.numpy").save
    for name in {spec.dtype for shard in shards for spec in shard.specs}:
        try:
            probe({"probe": np.zeros(0, numpy_dtype(name))})
        except Exception as error:
            raise CheckpointError(f"safetensors takes no {name}: {error}") from error


def require_names(names: Iterable[str]) -> None:
    """Raise a CheckpointError for a name that a safetensors file cannot hold."""
    for name in names:
        if name == "__metadata__":
            raise CheckpointError("safetensors keeps the name __metadata__ for its texts")
        require_unicode(name)
