"""Files of any of the formats, and indexes of shards, asked for their tensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from portinit.arrays.convert import Array
from portinit.arrays.layouts import Shape
from portinit.arrays.weight_files.npz import NpzFile, is_npz
from portinit.arrays.weight_files.safetensors import SafetensorsFile
from portinit.arrays.weight_files.torch_save import TorchFile
from portinit.arrays.weight_files.weight_file import WeightFile


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a weight file, as the file's header describes it.

    Attributes:
        file: the path of the file that holds it; of a shard, where an index lists several.
        name: its name in the file.
        shape: its shape in the file.
        dtype: the name of its dtype; one of the file format's own where NumPy has none.
    """

    file: str
    name: str
    shape: Shape
    dtype: str


def stored_tensors(file: str, section: str = "") -> dict[str, StoredTensor]:
    """List the tensors of a weight file, or of the shards that an index names, from headers.

    Args:
        file: safetensors, ``.npz``, ``torch.save``'s, or an index of such, ``*.index.json``.
        section: for ``torch.save``'s, the keys that lead to the tensors: ``"model.state_dict"``.

    Raises:
        ValueError: the file is no weight file, is damaged, or holds more than numbers.
        OSError: the file cannot be read.
    """
    shards = _shards(file)
    if shards is None:
        with _opened(file, section) as tensors:
            return {
                name: StoredTensor(file, name, tensors.shape(name), tensors.dtype(name))
                for name in tensors.names()
            }
    held = {shard: stored_tensors(shard, section) for shard in dict.fromkeys(shards.values())}
    missing = [name for name, shard in shards.items() if name not in held[shard]]
    if missing:
        raise ValueError(f"{file}: its shards must hold every tensor it lists; got no {missing}")
    return {name: held[shard][name] for name, shard in shards.items()}


def shared_names(file: str, section: str = "") -> dict[str, str]:
    """The other names of a file's tensors: for each, the name that its tensor is stored under.

    ``safetensors.torch.save_model`` stores a shared (tied) tensor once and notes its other names
    in the file's metadata.
    """
    shards = _shards(file)
    if shards is None:
        with _opened(file, section) as tensors:
            held = set(tensors.names())
            noted = tensors.metadata().items()
        return {name: kept for name, kept in noted if kept in held and name not in held}
    found: dict[str, str] = {}
    for shard in dict.fromkeys(shards.values()):
        found |= shared_names(shard, section)
    return {name: kept for name, kept in found.items() if kept in shards and name not in shards}


def stored_tensor(file: str, name: str, section: str = "") -> StoredTensor:
    """Describe one tensor of a weight file, from its header.

    Raises:
        ValueError: the file holds no such tensor, or is no weight file.
        OSError: the file cannot be read.
    """
    with _opened(file, section) as tensors:
        tensors.require(name)
        return StoredTensor(file, name, tensors.shape(name), tensors.dtype(name))


def verify_tensor(file: str, name: str, section: str = "") -> None:
    """Raise a ValueError if :func:`read_tensor` would; checksums, where there are, are checked."""
    with _opened(file, section) as tensors:
        tensors.require(name)
        tensors.verify(name)


def read_tensor(file: str, name: str, section: str = "") -> Array:
    """Read one tensor of a weight file, in its shape there and in this machine's byte order."""
    with _opened(file, section) as tensors:
        tensors.require(name)
        values = tensors.read(name)
        return values.astype(values.dtype.newbyteorder("="), copy=False)


def _shards(file: str) -> dict[str, str] | None:
    """The file of each tensor that an index lists; None if the file is no index."""
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


def _opened(file: str, section: str) -> WeightFile:
    """Open a weight file; its first bytes tell the format."""
    with Path(file).open("rb") as stream:
        start = stream.read(9)
    if start.startswith(b"PK"):
        return (NpzFile if is_npz(file) else TorchFile)(file, section)
    if start.startswith(b"\x80"):  # a pickle: torch.save's older format
        return TorchFile(file, section)
    if start[8:] == b"{":
        return SafetensorsFile(file, section)
    raise ValueError(f"{file} must be safetensors, an .npz or torch.save's; it is none of these")
