"""NumPy's archives of arrays, read without pickles and without trusting their sizes."""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from portinit.arrays.convert import Array
from portinit.arrays.dtypes import is_dtype
from portinit.arrays.layouts import Shape
from portinit.arrays.weight_files.weight_file import WeightFile, damage_explained

_ALWAYS_INFLATED = 1 << 26  # bytes
_INFLATED_AT_MOST = 100  # times the bytes of the file

_HEADERS: Mapping[tuple[int, int], Callable[..., Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def is_npz(file: str) -> bool:
    """Whether every member of a zip archive is an array of NumPy's."""
    with opened_zip(file) as members:
        return all(name.endswith(".npy") for name in members.namelist())


def opened_zip(file: str) -> zipfile.ZipFile:
    """Open a zip archive of trustworthy size.

    An archive of zeros can be inflated to a thousand times its size, and one whose members overlap
    to any size. Weights hardly compress.

    Raises:
        ValueError: no zip archive, a name that occurs twice, an encrypted member, or one that
            would be inflated to more than 64 MiB and a hundred times the size of the file.
    """
    with damage_explained(file):
        archive = zipfile.ZipFile(file)
    members = archive.infolist()
    size = sum(member.file_size for member in members)
    limit = _ALWAYS_INFLATED + _INFLATED_AT_MOST * Path(file).stat().st_size
    twice = [n for n, times in Counter(archive.namelist()).items() if times > 1]
    problem = ""
    if size > limit:
        problem = (
            f"would be inflated to {size:,} bytes, and {limit:,} are the limit for a file of its "
            "size; save it without compression"
        )
    elif twice:
        problem = f"must hold each name once, got {', '.join(twice)} twice"
    elif any(member.flag_bits & 1 for member in members):
        problem = "must not be encrypted"
    if problem:
        archive.close()
        raise ValueError(f"{file} {problem}")
    return archive


class NpzFile(WeightFile):
    """An ``.npz`` file."""

    def __init__(self, file: str, section: str) -> None:
        super().__init__(file, section)
        self._zip = opened_zip(file)

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def names(self) -> list[str]:
        return [name.removesuffix(".npy") for name in self._zip.namelist()]

    def shape(self, name: str) -> Shape:
        return self._header(name)[0]

    def dtype(self, name: str) -> str:
        return self._header(name)[1].name

    def _header(self, name: str) -> tuple[Shape, np.dtype[Any]]:
        with damage_explained(self.file, name), self._member(name) as member:
            version = np.lib.format.read_magic(member)
            if version not in _HEADERS:
                raise ValueError(f"must be an array of numbers, got version {version}")
            shape, _, dtype = _HEADERS[version](member)
            start = member.tell()
        if not is_dtype(dtype.name):
            what = "Python objects, a pickle" if dtype.hasobject else f"dtype {dtype}"
            raise ValueError(f"{self.file}: {name} must be an array of numbers, got {what}")
        size, held = math.prod(shape) * dtype.itemsize, self._zip.getinfo(f"{name}.npy").file_size
        if held != start + size or any(length < 0 for length in shape):
            raise ValueError(
                f"{self.file}: {name} is damaged: {shape} of {dtype} are {size:,} bytes, "
                f"got {held - start:,}"
            )
        return tuple(shape), dtype

    def _member(self, name: str) -> IO[bytes]:
        return self._zip.open(f"{name}.npy")

    def verify(self, name: str) -> None:
        self._header(name)
        with damage_explained(self.file, name), self._member(name) as member:
            while member.read(1 << 20):  # which checks the sum over its bytes
                pass

    def read(self, name: str) -> Array:
        self._header(name)
        with damage_explained(self.file, name), self._member(name) as member:
            return np.asarray(np.lib.format.read_array(member, allow_pickle=False))
