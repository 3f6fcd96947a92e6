"""Writing a checkpoint of initial weights, tensor by tensor."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from portinit.backends.base import key_words
from portinit.checkpoints.files import CheckpointError, explained, require_unicode
from portinit.checkpoints.folder import job_metadata, require_storable, write_folder
from portinit.checkpoints.session import write_session
from portinit.checkpoints.shards import fingerprint, groups_of, shards_of
from portinit.checkpoints.tensors import TensorSpec, checkpoint_tensors, require_suited
from portinit.checkpoints.values import KeyValues, Replay, Values
from portinit.random.keys import Key
from portinit.recipes.recipe import Recipe

SHARD_SIZE = 500_000_000
"""Bytes of tensors in a file, if not told."""

FORMATS = ("safetensors", "orbax")


def write(
    what: Recipe | Iterable[TensorSpec],
    key: Key | Replay,
    directory: str | Path,
    *,
    dtype: Any = None,
    shard_size: int | str = SHARD_SIZE,
    file_format: str = "safetensors",
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a model's initial weights to disk, with about one file's tensors in memory.

    The tensors are what ``portinit_torch.initialize(module, recipe, key)`` gives, byte for byte,
    computed by NumPy. A call that was killed is taken up by the same call: files that are whole
    are left as they are. Several processes may make the same call, on one folder: each writes
    what no other is writing.

    Args:
        what: a recipe with a rule and a shape for each parameter, traced or bound to a model, or
            the tensors of a model (``portinit_torch.checkpoint_tensors``,
            ``portinit_flax.checkpoint_tensors``).
        key: a key, or a :class:`Replay`.
        directory: the folder; made if need be. Other files in it (``config.json``) are left.
        dtype: of a recipe's floating tensors; see :func:`checkpoint_tensors`.
        shard_size: bytes of tensors in a file, such as ``5_000_000_000`` or ``"5GB"``. A larger
            tensor is alone in its file.
        file_format: ``"safetensors"``, with Hugging Face's index where there are several files;
            or ``"orbax"``, one Orbax checkpoint, saved in groups of this many bytes.
        metadata: texts by texts for the headers of safetensors files; Orbax has none of them.
        overwrite: whether to remove another checkpoint from the folder.
        progress: called with the bytes done and the bytes of all.

    Raises:
        portinit.RecipeError: the recipe is not of one model, or does not suit the dtypes.
        CheckpointError: the folder holds another checkpoint, the disk is full, or a name or dtype
            is none that the format holds.
        ValueError: ``shard_size`` is no size, or ``file_format`` none of the formats.
        TypeError: ``metadata`` that is not text.

    >>> import portinit, tempfile
    >>> recipe = portinit.Recipe([portinit.Rule("bias", portinit.zeros, shape=(3,))])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(recipe, portinit.key(0), folder)
    ...     [path.name for path in Path(folder).iterdir()]
    ['model.safetensors']
    """
    found = checkpoint_tensors(what, dtype) if isinstance(what, Recipe) else list(what)
    require_suited(found)
    values: Values = key if isinstance(key, Replay) else KeyValues(Key(*key_words(key)))
    found, limit, folder = values.in_order(found), parse_size(shard_size), _path(directory)
    report = _counted(progress, sum(spec.nbytes for spec in found))
    texts = {"format": "pt"} if metadata is None else _texts(metadata)
    if file_format == "safetensors":
        shards = shards_of(found, limit)
        require_storable(shards)
        job = fingerprint([shard.specs for shard in shards], values, texts)
        _make_folder(folder)
        headers = job_metadata(texts, job)
        with explained(folder, 0):
            write_folder(folder, shards, values, headers, overwrite=overwrite, progress=report)
    elif file_format == "orbax":
        groups = groups_of(found, limit)
        job = fingerprint(groups, values, {})
        with explained(folder.absolute(), 0):
            write_session(
                folder.absolute(), groups, values, job, overwrite=overwrite, progress=report
            )
    else:
        raise ValueError(f"file_format must be one of {', '.join(FORMATS)}; got {file_format!r}")


def _path(directory: str | Path) -> Path:
    text = str(directory)
    if not text.strip():  # which Path takes for the current folder
        raise CheckpointError("directory must be a folder's path, such as '.', got an empty one")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise CheckpointError(f"directory must be a folder's path, got {text!r}") from error
    if "\0" in text:
        raise CheckpointError(f"directory must be a folder's path, got {text!r}")
    return Path(directory)


def _texts(metadata: Mapping[str, str]) -> dict[str, str]:
    """The texts for headers; JSON has no others than Unicode."""
    for text in (text for pair in metadata.items() for text in pair):
        if not isinstance(text, str):
            raise TypeError(f"metadata must be of texts by texts, got {text!r}")
        require_unicode(text)
    return dict(metadata)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{folder} must be a folder, or free to become one: {error}"
        ) from error


def _counted(progress: Callable[[int, int], None] | None, total: int) -> Callable[[int], None]:
    """A function that adds bytes up and reports them."""
    done = 0

    def add(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    return add


_UNITS = {"": 1, **{f"{p}B": 1000**i for i, p in enumerate(("", "K", "M", "G", "T"))}}
_UNITS |= {f"{p}IB": 1024**i for i, p in enumerate("KMGT", 1)}


def parse_size(size: int | str) -> int:
    """Bytes: ``500_000_000``, ``"500MB"`` or ``"2GiB"``.

    >>> parse_size("1.5GB")
    1500000000
    """
    parts = re.fullmatch(r"\s*(\d[\d_]{0,30}(?:\.\d{1,30})?)\s*([a-zA-Z]*)\s*", str(size), re.ASCII)
    if parts is None or parts[2].upper() not in _UNITS:
        raise ValueError(f"a size must be such as 500MB or 2GiB, got {str(size)[:40]!r}")
    count = int(Fraction(parts[1].replace("_", "")) * _UNITS[parts[2].upper()])
    if not 1 <= count < 1 << 63:
        raise ValueError(f"a size must be 1 byte or more, and less than 2**63, got {size!r}")
    return count
