"""Files of safetensors, read by its library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from portinit.arrays.convert import Array
from portinit.arrays.dtypes import numpy_dtype
from portinit.arrays.layouts import Shape
from portinit.arrays.weight_files.weight_file import WeightFile, damage_explained

_DTYPES = {
    "BOOL": "bool",
    **{f"{kind}{bits}": f"{word}{bits}"
       for kind, word in {"I": "int", "U": "uint"}.items() for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BF16": "bfloat16",
    "C64": "complex64",
}  # fmt: skip
"""The dtypes that the library reads into NumPy, by their names in the format."""


class SafetensorsFile(WeightFile):
    """A safetensors file. The library checks at opening that header and size agree."""

    def __init__(self, file: str, section: str) -> None:
        super().__init__(file, section)
        from safetensors import safe_open  # an extra: not for the core to need

        with damage_explained(file):
            self._open: Any = safe_open(file, framework="numpy")

    def __exit__(self, *_: object) -> None:
        self._open.__exit__(None, None, None)

    def names(self) -> list[str]:
        return list(self._open.keys())

    def shape(self, name: str) -> Shape:
        return tuple(self._open.get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        own: str = self._open.get_slice(name).get_dtype()
        return _DTYPES.get(own, own)

    def metadata(self) -> Mapping[str, str]:
        return self._open.metadata() or {}

    def verify(self, name: str) -> None:
        dtype = self.dtype(name)
        if dtype not in _DTYPES.values():
            raise ValueError(
                f"{self.file}: {name} must be of one of the dtypes {', '.join(_DTYPES)}, "
                f"got {dtype}"
            )

    def read(self, name: str) -> Array:
        self.verify(name)
        numpy_dtype(self.dtype(name))  # loads ml_dtypes, by which the library finds bfloat16
        with damage_explained(self.file, name):
            return np.asarray(self._open.get_tensor(name))
