"""Which tensor goes to which file, and what identifies the whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import portinit
from portinit.checkpoints.tensors import TensorSpec
from portinit.checkpoints.values import Values
from portinit.recipes.serialization import initializer_to_data

INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
OURS = re.compile(r"model(-\d{5,}-of-\d{5,})?\.safetensors(\.index\.json)?")
"""The names that a checkpoint's files have."""


@dataclass(frozen=True)
class Shard:
    """A file of a checkpoint, and what goes into it."""

    file: str
    specs: tuple[TensorSpec, ...]

    @property
    def nbytes(self) -> int:
        """The bytes of its tensors."""
        return sum(spec.nbytes for spec in self.specs)


def groups_of(specs: Iterable[TensorSpec], limit: int) -> list[tuple[TensorSpec, ...]]:
    """The specs in order, in groups of at most ``limit`` bytes; a larger one is alone."""
    groups: list[list[TensorSpec]] = [[]]
    filled = 0
    for spec in specs:
        if groups[-1] and filled + spec.nbytes > limit:
            groups.append([])
            filled = 0
        groups[-1].append(spec)
        filled += spec.nbytes
    return [tuple(group) for group in groups]


def shards_of(specs: Iterable[TensorSpec], limit: int) -> list[Shard]:
    """The files, named as the Hugging Face libraries name them."""
    groups = groups_of(specs, limit)
    count = len(groups)
    names = [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    return [Shard(*pair) for pair in zip(names if count > 1 else [_SINGLE], groups, strict=True)]


def index_of(shards: Sequence[Shard]) -> bytes:
    """The index file of several shards."""
    places = {spec.name: shard.file for shard in shards for spec in shard.specs}
    total = sum(shard.nbytes for shard in shards)
    data = {"metadata": {"total_size": total}, "weight_map": places}
    return (json.dumps(data, indent=2, sort_keys=True) + "\n").encode()


def fingerprint(
    groups: Iterable[Sequence[TensorSpec]], values: Values, metadata: Mapping[str, str]
) -> str:
    """A digest of everything that the files' bytes follow from."""
    digest = hashlib.sha256()
    start = {"portinit": portinit.__version__, **values.identity(), "metadata": dict(metadata)}
    digest.update(json.dumps(start, sort_keys=True).encode())
    for number, group in enumerate(groups):
        for spec in group:
            line = json.dumps([number, *_data(spec)], sort_keys=True)
            digest.update(line.encode())
    return digest.hexdigest()


def _data(spec: TensorSpec) -> list[Any]:
    parts = [
        [part.source, initializer_to_data(part.initializer), repr(part.grid), part.value]
        for part in spec.parts
    ]
    return [spec.name, spec.dtype, spec.axis, spec.path, parts]
