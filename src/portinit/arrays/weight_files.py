"""Weight files: safetensors, NumPy's .npz and torch.save's, by the names of their tensors.

Nothing that a file holds is executed: .npz files are read without pickles, torch.save's with
``weights_only=True``. Names, shapes and dtypes come from headers; a tensor is read when asked for.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from portinit.arrays.convert import Array, to_numpy
from portinit.arrays.layouts import Shape


@dataclass(frozen=True)
class Stored:
    """A tensor of a file, by its header: where it is and its shape there."""

    file: str
    name: str
    shape: Shape


def stored_in(file: str, section: str = "") -> dict[str, Stored]:
    """The tensors of a weight file, or of the shards that an index lists, from their headers.

    Args:
        file: safetensors, ``.npz``, ``torch.save``'s, or an index of such, ``*.index.json``.
        section: for ``torch.save``'s, the keys that lead to the tensors: ``"model.state_dict"``.

    Raises:
        ValueError: no weight file, or one that holds more than numbers.
        OSError: the file cannot be read.
    """
    shards = _shards(file)
    if shards is None:
        with _opened(file, section) as tensors:
            return {name: Stored(file, name, tensors.shape(name)) for name in tensors.names()}
    held = {shard: stored_in(shard, section) for shard in dict.fromkeys(shards.values())}
    missing = [name for name, shard in shards.items() if name not in held[shard]]
    if missing:
        raise ValueError(f"{file}: its shards must hold every tensor it lists; got no {missing}")
    return {name: held[shard][name] for name, shard in shards.items()}


def stored(file: str, name: str, section: str = "") -> Stored:
    """One tensor's header, once the tensor was found to be readable."""
    with _opened(file, section) as tensors:
        tensors.verify(_known(tensors, name))
        return Stored(file, name, tensors.shape(name))


def read(file: str, name: str, section: str = "") -> Array:
    """One tensor of a weight file, as it stands there."""
    with _opened(file, section) as tensors:
        return tensors.read(_known(tensors, name))


def _known(tensors: _Tensors, name: str) -> str:
    if name not in tensors.names():
        known = ", ".join(sorted(tensors.names()))
        raise ValueError(f"{tensors.file} holds {known}; got the name {name!r}")
    return name


def _shards(file: str) -> dict[str, str] | None:
    """The file of each tensor that an index lists; none if the file is no index."""
    if not file.endswith(".json"):
        return None
    folder = Path(file).parent
    try:
        listed = json.loads(Path(file).read_text("utf-8"))["weight_map"]
        shards = {str(name): Path(shard) for name, shard in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f'{file}: an index must have a "weight_map" of file names') from error
    outside = [str(shard) for shard in shards.values() if shard.name != str(shard)]
    if outside or any(shard.suffix == ".json" for shard in shards.values()):
        raise ValueError(f"{file}: shards must be weight files beside their index; got {outside}")
    return {name: str(folder / shard) for name, shard in shards.items()}


class _Tensors:
    """An open weight file."""

    def __init__(self, file: str, section: str) -> None:
        self.file = file
        if section and not isinstance(self, _Torch):
            raise ValueError(f"{file} has no sections, got section={section!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""

    def names(self) -> list[str]:
        """What it holds."""
        raise NotImplementedError

    def shape(self, name: str) -> Shape:
        """The shape of a tensor, from its header."""
        raise NotImplementedError

    def verify(self, name: str) -> None:
        """A ValueError if the tensor cannot be read."""

    def read(self, name: str) -> Array:
        """A tensor's values."""
        raise NotImplementedError


class _Safetensors(_Tensors):
    def __init__(self, file: str, section: str) -> None:
        super().__init__(file, section)
        from safetensors import SafetensorError, safe_open  # an extra: not for the core to need

        try:
            self._open: Any = safe_open(file, framework="numpy")
        except SafetensorError as error:
            raise ValueError(f"{file}: {error}") from error

    def __exit__(self, *_: object) -> None:
        self._open.__exit__(None, None, None)

    def names(self) -> list[str]:
        return list(self._open.keys())

    def shape(self, name: str) -> Shape:
        return tuple(self._open.get_slice(name).get_shape())

    def verify(self, name: str) -> None:
        dtype = self._open.get_slice(name).get_dtype()
        if dtype.startswith("F") and not dtype.startswith(("F16", "F32", "F64")):
            raise ValueError(f"{self.file}: {name} must be of 16 bits or more, got {dtype}")

    def read(self, name: str) -> Array:
        self.verify(name)
        return np.asarray(self._open.get_tensor(name))


class _Npz(_Tensors):
    def __init__(self, file: str, section: str) -> None:
        super().__init__(file, section)
        self._zip = zipfile.ZipFile(file)

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def names(self) -> list[str]:
        return [name.removesuffix(".npy") for name in self._zip.namelist()]

    def shape(self, name: str) -> Shape:
        readers: Mapping[tuple[int, int], Callable[..., Any]] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        with self._zip.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(member)
            if version not in readers:
                raise ValueError(f"{self.file}: {name} must be an array of numbers")
            shape, _, dtype = readers[version](member)
        if dtype.kind not in "biufc":
            what = "Python objects, a pickle" if dtype.hasobject else f"dtype {dtype}"
            raise ValueError(f"{self.file}: {name} must be an array of numbers, got {what}")
        return tuple(shape)

    def verify(self, name: str) -> None:
        try:
            with self._zip.open(f"{name}.npy") as member:
                while member.read(1 << 20):  # which checks the sum over its bytes
                    pass
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise ValueError(f"{self.file}: {name} is damaged: {error}") from error

    def read(self, name: str) -> Array:
        with np.load(self.file, allow_pickle=False) as arrays:
            return np.asarray(arrays[name])


class _Torch(_Tensors):
    def __init__(self, file: str, section: str) -> None:
        super().__init__(file, section)
        state = os.stat(file)
        held = _torch_file(file, state.st_mtime_ns, state.st_size)
        self._tensors = _section(file, held, section)

    def names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, name: str) -> Shape:
        return tuple(self._tensors[name].shape)

    def read(self, name: str) -> Array:
        return to_numpy(self._tensors[name])


@lru_cache(maxsize=1)
def _torch_file(file: str, *_: int) -> Any:
    """What torch.save put into a file; its tensors' memory is the file's, and not yet read."""
    try:
        import torch
    except ImportError as error:
        message = f"{file} was made by torch.save, which needs torch: pip install 'portinit[torch]'"
        raise ImportError(message) from error
    mapped = zipfile.is_zipfile(file)  # the older format cannot be mapped
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # of any type: what a damaged or hostile file makes torch raise
        raise ValueError(
            f"{file} must hold tensors in plain containers and nothing to execute: "
            "torch.load(weights_only=True) refuses it"
        ) from error


def _section(file: str, held: Any, section: str) -> dict[str, Any]:
    """The tensors of a state_dict, or of one that lies under some keys."""
    tensors = _tensors(_under(held, section))
    if not tensors:
        place = f"under {section!r}" if section else "at its top"
        known = ", ".join(_sections(held)) or "none"
        raise ValueError(f"{file} must hold tensors {place}; sections that hold some: {known}")
    return tensors


def _under(held: Any, keys: str) -> Any:
    if not keys:
        return held
    if not isinstance(held, Mapping):
        return None
    first, _, rest = keys.partition(".")
    return held[keys] if keys in held else _under(held.get(first), rest)


def _tensors(held: Any) -> dict[str, Any]:
    items = held.items() if isinstance(held, Mapping) else ()
    return {k: v for k, v in items if isinstance(k, str) and hasattr(v, "detach")}


def _sections(held: Any, inside: str = "") -> Iterator[str]:
    for key, value in held.items() if isinstance(held, Mapping) else ():
        if isinstance(key, str) and isinstance(value, Mapping):
            if _tensors(value):
                yield f"{inside}{key}"
            yield from _sections(value, f"{inside}{key}.")


def _opened(file: str, section: str) -> _Tensors:
    """A weight file, its format told by its first bytes."""
    with Path(file).open("rb") as stream:
        start = stream.read(9)
    if start.startswith(b"PK"):
        return (_Npz if _is_npz(file) else _Torch)(file, section)
    if start.startswith(b"\x80"):  # a pickle: torch.save's older format
        return _Torch(file, section)
    if start[8:] == b"{":
        return _Safetensors(file, section)
    raise ValueError(f"{file} must be safetensors, an .npz or torch.save's; it is none of these")


def _is_npz(file: str) -> bool:
    try:
        with zipfile.ZipFile(file) as members:
            return all(name.endswith(".npy") for name in members.namelist())
    except zipfile.BadZipFile as error:
        raise ValueError(f"{file} is damaged: {error}") from error
