"""Functions of elements and of axes that no other module has: scans, spreads, complex numbers.

Those of float32 that PyTorch takes from a vector library (tan, softplus, softmax) may differ from
it in the last digit; sums along an axis are made in float64, as PyTorch makes those of ``cumsum``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Attributes = Mapping[str, Any]


def _wide(x: Any) -> Any:
    """PyTorch computes 16-bit floats in float32."""
    return x.astype(np.float32) if x.dtype.kind in "fV" and x.itemsize < 4 else x


def _double(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype.kind in "fV" else x


def _of_elements(function: Callable[[Any], Any]) -> Callable[..., Array]:
    return lambda a, x: np.asarray(function(_wide(x)))


def _of_pairs(function: Callable[[Any, Any], Any]) -> Callable[..., Array]:
    def apply(a: Attributes, *arguments: Array) -> Array:
        if len(arguments) == 2:
            return np.asarray(function(_wide(arguments[0]), _wide(arguments[1])))
        x = _wide(arguments[0])
        other = x.dtype.type(a["other"])
        return np.asarray(function(other, x) if a.get("reverse") else function(x, other))

    return apply


def _by_libm(function: Callable[..., float], *names: str) -> Callable[..., Array]:
    """A function of Python's, which is the C library's in float64, of each element."""

    def apply(a: Attributes, x: Array) -> Array:
        numbers = [a[name] for name in names]
        values = [function(value, *numbers) for value in x.astype(np.float64).reshape(-1).tolist()]
        return np.array(values, np.float64).reshape(x.shape)

    return apply


def _waiting_time(u: float, rate: float) -> float:
    return -1.0 / rate * math.log1p(-u)


def _first_success(u: float, p: float) -> float:
    return float(math.ceil(math.log(u) / math.log1p(-p))) if u > 0 else math.inf


def _cauchy(u: float, median: float, sigma: float) -> float:
    return median + sigma * math.tan(math.pi * (u - 0.5))


def _scan(function: Any) -> Callable[..., Array]:
    def apply(a: Attributes, x: Array) -> Array:
        return np.asarray(function(_double(x), axis=a["axis"]) if x.ndim else x)

    return apply


def _axes(a: Attributes) -> Any:
    return None if a.get("axes") is None else tuple(a["axes"])


def _spread(function: Any) -> Callable[..., Array]:
    """A variance or standard deviation; ``correction`` is taken from the count."""

    def apply(a: Attributes, x: Array) -> Array:
        options = {"axis": _axes(a), "keepdims": a.get("keepdims", False)}
        return np.asarray(function(_double(x), ddof=a.get("correction", 1), **options))

    return apply


def _softmax(a: Attributes, x: Array) -> Array:
    x = _double(x)
    raised = np.exp(x - x.max(axis=a["axis"], keepdims=True))
    return np.asarray(raised / raised.sum(axis=a["axis"], keepdims=True))


def _softplus(a: Attributes, x: Array) -> Array:
    wide, beta = _double(x), a.get("beta", 1.0)
    scaled = wide * beta
    return np.where(scaled > a.get("threshold", 20.0), wide, np.log1p(np.exp(scaled)) / beta)


def _complex(a: Attributes, real: Array, imag: Array) -> Array:
    made = np.empty(np.broadcast_shapes(real.shape, imag.shape), np.result_type(real, 1j))
    made.real, made.imag = real, imag
    return made


def _polar(a: Attributes, size: Array, angle: Array) -> Array:
    return _complex(a, size * np.cos(angle), size * np.sin(angle))


def _lerp(a: Attributes, start: Array, end: Array, *weight: Array) -> Array:
    first, last = _double(start), _double(end)
    w = _double(weight[0]) if weight else a["weight"]
    lerped: Array = np.where(
        np.abs(w) < 0.5, first + w * (last - first), last - (last - first) * (1 - w)
    )
    return lerped


FUNCTIONS: dict[str, Callable[..., Array]] = {
    "ceil": _of_elements(np.ceil),
    "trunc": _of_elements(np.trunc),
    "tan": _of_elements(np.tan),
    "asin": _of_elements(np.arcsin),
    "acos": _of_elements(np.arccos),
    "atan": _of_elements(np.arctan),
    "sinh": _of_elements(np.sinh),
    "cosh": _of_elements(np.cosh),
    "log2": _of_elements(np.log2),
    "log10": _of_elements(np.log10),
    "exp2": _of_elements(np.exp2),
    "relu": _of_elements(lambda x: np.maximum(x, x.dtype.type(0))),
    "erf": _by_libm(math.erf),
    "isnan": _of_elements(np.isnan),
    "isinf": _of_elements(np.isinf),
    "isfinite": _of_elements(np.isfinite),
    "floor_divide": _of_pairs(np.floor_divide),
    "trunc_divide": _of_pairs(lambda x, y: np.trunc(x / y)),
    "remainder": _of_pairs(np.remainder),
    "fmod": _of_pairs(np.fmod),
    "atan2": _of_pairs(np.arctan2),
    "exponential": _by_libm(_waiting_time, "lambd"),
    "geometric": _by_libm(_first_success, "p"),
    "cauchy": _by_libm(_cauchy, "median", "sigma"),
    "libm_exp": _by_libm(math.exp),
    "cumsum": _scan(np.cumsum),
    "cumprod": _scan(np.cumprod),
    "prod": lambda a, x: np.asarray(
        np.prod(_double(x), axis=_axes(a), keepdims=a.get("keepdims", False))
    ),
    "absolute_sum": lambda a, x: np.asarray(
        np.sum(np.abs(_double(x)), axis=_axes(a), keepdims=a.get("keepdims", False))
    ),
    "std": _spread(np.std),
    "var": _spread(np.var),
    "softmax": _softmax,
    "log_softmax": lambda a, x: np.log(_softmax(a, x)),
    "softplus": _softplus,
    "complex": _complex,
    "polar": _polar,
    "conj": lambda a, x: np.conj(x),
    "real": lambda a, x: np.real(x).copy(),
    "imag": lambda a, x: np.imag(x).copy(),
    "angle": lambda a, x: np.asarray(np.angle(x)),
    "lerp": _lerp,
}
"""Functions of an operation's attributes and inputs."""

INEXACT_FUNCTIONS = frozenset(
    {"tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "log2", "log10", "exp2", "erf"}
    | {
        "prod",
        "absolute_sum",
        "std",
        "var",
        "softmax",
        "log_softmax",
        "softplus",
        "polar",
        "angle",
        "lerp",
    }
)
"""Those whose last bits may not be PyTorch's; the others are bit for bit."""
