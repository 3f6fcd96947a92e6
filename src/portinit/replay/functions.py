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


def _nan_to_num(a: Attributes, x: Array) -> Array:
    limits = {name: x.dtype.type(a[name]) for name in ("nan", "posinf", "neginf")}
    return np.asarray(np.nan_to_num(x, **limits))


def _leaky_relu(a: Attributes, x: Array) -> Array:
    wide = _wide(x)
    return np.asarray(np.where(wide > 0, wide, wide * wide.dtype.type(a["slope"])))


def _elu(a: Attributes, x: Array) -> Array:
    wide = _double(x)
    negative = a["alpha"] * np.expm1(np.minimum(wide, 0) * a["input_scale"])
    return np.asarray(np.where(wide > 0, wide, negative) * a["scale"])


def _gelu(a: Attributes, x: Array) -> Array:
    wide = _double(x)
    if a.get("approximate") == "tanh":
        inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
        return np.asarray(0.5 * wide * (1 + np.tanh(inner)))
    return np.asarray(0.5 * wide * (1 + _by_libm(math.erf)(a, wide / math.sqrt(2))))


def _in_double(function: Callable[[Array], Any]) -> Callable[..., Array]:
    return lambda a, x: np.asarray(function(_double(x)))


def _logistic(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _logit(a: Attributes, x: Array) -> Array:
    wide = _double(x)
    if a.get("eps") is not None:
        wide = np.clip(wide, a["eps"], 1 - a["eps"])
    return np.asarray(np.log(wide / (1 - wide)))


def _xlogy(x: Array, y: Array) -> Array:
    return np.asarray(np.where(x == 0, 0, x * np.log(y)))


def _added(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    """A tensor plus a number times a product or quotient of two others."""

    def apply(a: Attributes, x: Array, y: Array, z: Array) -> Array:
        return np.asarray(_double(x) + a["value"] * function(_double(y), _double(z)))

    return apply


def _norm_of_order(a: Attributes, x: Array) -> Array:
    """The p-th root of the sum of p-th powers."""
    wide = np.abs(x) if x.dtype.kind == "c" else np.abs(_double(x))
    axes, keep, p = _axes(a), a.get("keepdims", False), a["norm"]
    return np.asarray(np.sum(wide**p, axis=axes, keepdims=keep) ** (1 / p))


def _logsumexp(a: Attributes, x: Array) -> Array:
    wide, axes = _double(x), _axes(a)
    top = wide.max(axis=axes, keepdims=True)
    total = np.log(np.exp(wide - top).sum(axis=axes, keepdims=True)) + top
    return np.asarray(total if a.get("keepdims") else np.squeeze(total, axis=axes))


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
    "erfc": _by_libm(math.erfc),
    "asinh": _in_double(np.arcsinh),
    "acosh": _in_double(np.arccosh),
    "atanh": _in_double(np.arctanh),
    "frac": _of_elements(lambda x: x - np.trunc(x)),
    "silu": _in_double(lambda x: x * _logistic(x)),
    "mish": _in_double(lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    "hardswish": _in_double(lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "hardsigmoid": _in_double(lambda x: np.clip(x + 3, 0, 6) / 6),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "gelu": _gelu,
    "logit": _logit,
    "nan_to_num": _nan_to_num,
    "copysign": _of_pairs(np.copysign),
    "nextafter": _of_pairs(np.nextafter),
    "fmax": _of_pairs(np.fmax),
    "fmin": _of_pairs(np.fmin),
    "heaviside": _of_pairs(np.heaviside),
    "hypot": _of_pairs(np.hypot),
    "logaddexp": _of_pairs(np.logaddexp),
    "xlogy": _of_pairs(_xlogy),
    "addcmul": _added(np.multiply),
    "addcdiv": _added(np.divide),
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
    "norm_of_order": _norm_of_order,
    "logsumexp": _logsumexp,
    "logcumsumexp": _scan(np.logaddexp.accumulate),
    "mean_of_spread": lambda a, x: np.asarray(
        np.mean(_double(x), axis=_axes(a), keepdims=a.get("keepdims", False))
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
    {
        "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "asinh", "acosh", "atanh", "log2",
        "log10", "exp2", "erf", "erfc", "silu", "mish", "hardswish", "hardsigmoid", "elu", "gelu",
        "logit", "hypot", "logaddexp", "xlogy", "addcmul", "addcdiv", "prod", "absolute_sum",
        "norm_of_order", "logsumexp", "logcumsumexp", "mean_of_spread", "std", "var", "softmax",
        "log_softmax", "softplus", "polar", "angle", "lerp",
    }
)  # fmt: skip
"""Those whose last bits may not be PyTorch's; the others are bit for bit."""
