"""The floating formats that can be drawn, by name, and rounding to them on the host."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Format:
    """A dtype: the width it is sampled at, and its own grid of numbers.

    A real number of the format is an integer of ``precision`` bits times a power of two that is
    at least ``2**(min_exponent - precision + 1)``.
    """

    name: str
    bits: int  # width of the sampling arithmetic: 32 or 64
    precision: int  # significant bits of the format itself
    min_exponent: int  # exponent of the smallest normal number
    largest: float  # the largest finite number
    is_complex: bool = False

    @cached_property
    def work(self) -> str:
        """Name of the real dtype that samples are computed in."""
        return f"float{self.bits}"

    def floor(self, value: float) -> float:
        """The largest number of the format that is not above ``value``."""
        if value == 0 or math.isinf(value):
            return value
        exponent = max(math.frexp(value)[1] - 1, self.min_exponent)
        step = exponent - self.precision + 1
        return math.ldexp(math.floor(math.ldexp(value, -step)), step)

    def nearest(self, value: float) -> float:
        """The number of the format nearest to ``value``, ties to even; infinite past the last."""
        if value == 0 or not math.isfinite(value):
            return value
        exponent = max(math.frexp(value)[1] - 1, self.min_exponent)
        step = exponent - self.precision + 1
        return math.ldexp(round(math.ldexp(value, -step)), step)  # exact but for the rounding

    def saturated(self, value: float) -> float:
        """The nearest number of the format; its largest for finite values beyond its range."""
        near = self.nearest(value)
        past = abs(near) > self.largest and math.isfinite(value)
        return math.copysign(self.largest, value) if past else near

    def ceil(self, value: float) -> float:
        """The smallest number of the format that is not below ``value``."""
        return -self.floor(-value)

    def below(self, value: float) -> float:
        """The largest number of the format that is strictly below ``value``."""
        floor = self.floor(value)
        return floor if floor < value else self.floor(math.nextafter(value, -math.inf))


_FLOAT32 = (2 - 2**-23) * 2.0**127
_FLOAT64 = (2 - 2**-52) * 2.0**1023
FORMATS = {
    f.name: f
    for f in (
        Format("float32", 32, 24, -126, _FLOAT32),
        Format("float64", 64, 53, -1022, _FLOAT64),
        Format("bfloat16", 32, 8, -126, (2 - 2**-7) * 2.0**127),
        Format("float16", 32, 11, -14, 65504.0),
        Format("float8_e4m3fn", 32, 4, -6, 448.0),
        Format("float8_e5m2", 32, 3, -14, 57344.0),
        Format("float8_e4m3fnuz", 32, 4, -7, 240.0),
        Format("float8_e5m2fnuz", 32, 3, -15, 57344.0),
        Format("float8_e4m3b11fnuz", 32, 4, -10, 30.0),
        Format("float8_e4m3", 32, 4, -6, 240.0),
        Format("float8_e3m4", 32, 5, -2, 15.5),
        Format("complex32", 32, 11, -14, 65504.0, is_complex=True),
        Format("complex64", 32, 24, -126, _FLOAT32, is_complex=True),
        Format("complex128", 64, 53, -1022, _FLOAT64, is_complex=True),
    )
}

_INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_NUMPYS = {"bool", "float16", "float32", "float64", "complex64", "complex128", *_INTEGERS}

_TORCHS_OWN = {"complex32"}

REAL_FORMATS = frozenset(name for name, f in FORMATS.items() if not f.is_complex)


@lru_cache(maxsize=256)
def dtype_name(dtype: Any) -> str:
    """The name of a dtype of any framework: ``"bfloat16"`` for ``torch.bfloat16``.

    Accepts names, NumPy dtypes and scalar types, and the dtypes of torch, JAX and
    array-api-strict.
    """
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", None)
    name = name or getattr(dtype, "__name__", None) or str(dtype).rpartition(".")[2]
    return {"float": "float64", "complex": "complex128", "half": "float16"}.get(name, name)


def is_dtype(name: str) -> bool:
    """Whether :func:`numpy_dtype` knows a name."""
    return name in _NUMPYS or name in FORMATS.keys() - _TORCHS_OWN


def numpy_dtype(name: str) -> np.dtype[Any]:
    """NumPy's dtype of a name; formats that NumPy lacks come from the package ml_dtypes.

    Raises:
        TypeError: no such dtype.
        ImportError: ml_dtypes is needed and not installed.
    """
    if name in _NUMPYS:
        return np.dtype(name)
    known = {*FORMATS, *_NUMPYS} - _TORCHS_OWN
    if name not in known:
        raise TypeError(f"a dtype must be one of {', '.join(sorted(known))}; got {name!r}")
    try:
        dtype: np.dtype[Any] = np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
    except (ImportError, AttributeError) as error:
        message = f"{name} in NumPy needs the package ml_dtypes: pip install ml_dtypes"
        raise ImportError(message) from error
    return dtype


def float_format(dtype: Any) -> Format:
    """The format of a dtype that can be drawn; a TypeError names those that can."""
    name = dtype_name(dtype)
    if name not in FORMATS:
        raise TypeError(f"dtype must be one of {', '.join(FORMATS)}; got {name}")
    return FORMATS[name]
