"""Files of torch.save, read with ``weights_only=True``: nothing that they hold is executed."""

from __future__ import annotations

import os
import re
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any, Self

from portinit.arrays.convert import Array, require_values, to_numpy
from portinit.arrays.dtypes import dtype_name
from portinit.arrays.layouts import Shape
from portinit.arrays.weight_files.npz import opened_zip
from portinit.arrays.weight_files.weight_file import WeightFile, damage_explained


class TorchFile(WeightFile):
    """A file of torch.save's, old format or new: the tensors of one of its dicts."""

    sections = True

    def __init__(self, file: str, section: str) -> None:
        super().__init__(file, section)
        state = os.stat(file)
        held = _load(file, state.st_mtime_ns, state.st_size)
        self._tensors = _section(file, held, section)

    def names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, name: str) -> Shape:
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> str:
        return dtype_name(self._tensors[name].dtype)

    def verify(self, name: str) -> None:
        try:
            require_values(self._tensors[name])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.file}: {name}: {error}") from error

    def read(self, name: str) -> Array:
        self.verify(name)
        with damage_explained(self.file, name):
            return to_numpy(self._tensors[name])


class _Inert:
    """A stand-in for an object that lies beside the weights: it takes all and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take what the object would be made of."""

    def __setstate__(self, _: Any) -> None:
        """Take the object's state."""


class NumpyArray(_Inert):
    """A stand-in for a NumPy array, which may be a weight that is not to be passed over."""


_INERT: Mapping[str, str] = {
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "uuid": "UUID",
    "builtins": "bool dict float frozenset int list range slice str tuple",
    "numpy": "dtype",
    **dict.fromkeys(("numpy.core.multiarray", "numpy._core.multiarray"), "scalar"),
    **dict.fromkeys(
        ("pathlib", "pathlib._local"),
        "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    ),
    "torch.torch_version": "TorchVersion",
}
"""Objects that a file may hold besides: modules, and names in them, neither imported nor called."""

_ARRAYS = (
    "numpy.ndarray",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
)

_DICTS = (
    "collections.defaultdict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
"""Dicts by other names; in their place are plain ones."""


@cache
def _stand_ins() -> list[Any]:
    """Classes under the names of harmless ones, as ``torch.serialization.safe_globals`` takes."""
    inert = [f"{module}.{name}" for module, names in _INERT.items() for name in names.split()]
    return [
        *(_stand_in(path, _Inert) for path in inert),
        *(_stand_in(path, NumpyArray) for path in _ARRAYS),
        *(_stand_in(path, object, __new__=lambda *_, **__: {}) for path in _DICTS),
    ]


def _stand_in(path: str, base: type, **members: Callable[..., Any]) -> type:
    module, _, name = path.rpartition(".")
    return type(name, (base,), {"__module__": module, **members})


_LOADING = threading.Lock()  # torch's list of names is one for all threads


@lru_cache(maxsize=1)
def _load(file: str, *_: int) -> Any:
    """Read the objects of a file; the memory of its tensors is the file's, and not yet read.

    Further arguments tell one state of the file from another.
    """
    try:
        import torch
    except ImportError as error:
        message = f"{file} was made by torch.save, which needs torch: pip install 'portinit[torch]'"
        raise ImportError(message) from error
    mapped = zipfile.is_zipfile(file) and _may_be_mapped(file)  # the older format cannot be
    try:
        with _LOADING, torch.serialization.safe_globals(_stand_ins()):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # of any type: what a damaged or hostile file makes torch raise
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"refuses {refused[1]}" if refused else "refuses it"
        raise ValueError(
            f"{file} must hold tensors in plain containers and nothing to execute: "
            f"torch.load(weights_only=True) {what}. If you trust the file, load it with torch and "
            "save its state_dict alone"
        ) from error


def _may_be_mapped(file: str) -> bool:
    """Whether a zip archive of torch.save's holds its tensors as they are, uncompressed."""
    with opened_zip(file) as archive:
        members = archive.infolist()
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise ValueError(
            f"{file} is of torch.jit.save, which is code, nothing to execute here. Save its "
            "weights alone: torch.save(torch.jit.load(...).state_dict(), ...)"
        )
    return all(member.compress_type == zipfile.ZIP_STORED for member in members)


def _section(file: str, held: Any, section: str) -> dict[str, Any]:
    """The tensors of a state_dict, or of one that lies under some keys."""
    found = _under(held, section)
    tensors = _tensors(found)
    if not tensors:
        place = f"under {section!r}" if section else "at its top"
        known = ", ".join(_sections(held)) or "none"
        raise ValueError(f"{file} must hold tensors {place}; sections that hold some: {known}")
    arrays = [name for name, value in found.items() if isinstance(value, NumpyArray)]
    if arrays:
        raise ValueError(
            f"{file} must hold tensors, got NumPy arrays: {', '.join(map(str, arrays))}; save "
            "them as tensors, or in an .npz file"
        )
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
