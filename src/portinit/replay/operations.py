"""The operations of a program in NumPy, rounded as PyTorch rounds on a CPU.

Sums, products and quotients of float32 round the same everywhere, and expm1 and log1p are
PyTorch's own bits. The other functions, and sums along axes, are computed in float64 and rounded,
so that they are the same on every machine. Replays want PyTorch's digits instead, which depend on
the machine: see :mod:`portinit.replay.digits`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from portinit.arrays.dtypes import numpy_dtype
from portinit.replay.functions import FUNCTIONS, INEXACT_FUNCTIONS
from portinit.replay.linear_algebra import LINEAR_ALGEBRA
from portinit.replay.selection import SELECTION

Array = np.ndarray[Any, Any]
Attributes = Mapping[str, Any]
Operation = Callable[..., Array]
"""Computes an operation from its attributes and the values of its inputs."""


def _operands(arguments: tuple[Array, ...], a: Attributes, exact: bool = True) -> tuple[Any, Any]:
    """Two operands, one of which may be a number.

    PyTorch computes 16-bit floats in float32. A number takes the array's dtype, except (not
    ``exact``) that sums round it to a 16-bit dtype first, and products do not.
    """
    if len(arguments) == 2:
        return _wide(arguments[0]), _wide(arguments[1])
    (x,) = arguments
    if x.dtype.kind == "i":
        number = a["other"]
    else:
        number = (_wide(x) if exact else x).dtype.type(a["other"])
    return (number, _wide(x)) if a.get("reverse") else (_wide(x), _wide(number))


def _wide(x: Any) -> Any:
    return x.astype(np.float32) if getattr(x, "itemsize", 4) < 4 and _is_float(x) else x


def _is_float(x: Any) -> bool:
    return x.dtype.kind in "fV"  # V: the formats of ml_dtypes


def _binary(function: Callable[[Any, Any], Any]) -> Operation:
    def apply(a: Attributes, *arguments: Array) -> Array:
        return np.asarray(function(*_operands(arguments, a)))

    return apply


def _sum(sign: float) -> Operation:
    def apply(a: Attributes, *arguments: Array) -> Array:
        x, y = _operands(arguments, a, exact=False)
        alpha = sign * a.get("alpha", 1)
        if alpha in (1, -1):
            return np.asarray(x + y if alpha == 1 else x - y)
        # PyTorch fuses the product: one rounding, which float64 stands in for.
        exact = np.asarray(x, np.float64) + np.float64(np.float32(alpha)) * np.asarray(
            y, np.float64
        )
        return exact.astype(np.result_type(x, y))

    return apply


def _unary(function: Callable[[Any], Any]) -> Operation:
    def apply(a: Attributes, x: Array) -> Array:
        wide = _wide(x)
        return np.asarray(function(wide.reshape(-1))).reshape(x.shape).astype(x.dtype)

    return apply


def _rounded(name: str) -> Operation:
    """A function computed in float64 and rounded."""

    def function(x: Array) -> Array:
        from portinit.replay.torch_math.functions import rounded  # for those who evaluate a program

        return rounded(name, x)

    return _unary(function)


def _sleef(name: str, double: Callable[[Any], Any]) -> Operation:
    """A function that PyTorch computes in its own way in float32; ``double`` in other dtypes."""

    def function(x: Array) -> Any:
        from portinit.replay.torch_math import sleef

        return getattr(sleef, name)(x) if x.dtype == np.float32 else double(x)

    return _unary(function)


def _power(a: Attributes, *arguments: Array) -> Array:
    x, y = _operands(arguments, a)
    if len(arguments) == 1 and not a.get("reverse") and a["other"] in _EXACT_POWERS:
        return np.asarray(_EXACT_POWERS[a["other"]](x, arguments[0].dtype))
    return np.asarray(np.power(x, y))


# 16-bit floats are rounded after each product, as PyTorch does.
_EXACT_POWERS: dict[float, Callable[[Any, Any], Any]] = {
    2: lambda x, dtype: x * x,
    3: lambda x, dtype: (x * x).astype(dtype).astype(x.dtype) * x,
    0.5: lambda x, dtype: np.sqrt(x),
    -1: lambda x, dtype: 1 / x,
}


def _clamp(a: Attributes, x: Array) -> Array:
    low, high = a.get("min"), a.get("max")
    x = x if low is None else np.maximum(x, x.dtype.type(low))
    return x if high is None else np.minimum(x, x.dtype.type(high))


def _storage_order(x: Array, a: Attributes) -> Array:
    """The elements of a dense array in the order they lie in memory."""
    return np.ascontiguousarray(x.transpose(a["order"]) if "order" in a else x).reshape(-1)


def _window(flat: Array, a: Attributes) -> Array:
    strides = tuple(s * flat.itemsize for s in a["stride"])
    return np.lib.stride_tricks.as_strided(flat[a["offset"] :], tuple(a["size"]), strides)


def _strided(a: Attributes, x: Array) -> Array:
    _check_window(x.size, a)
    return _window(_storage_order(x, a), a).copy()


def _check_window(size: int, a: Attributes) -> None:
    """A window that reaches outside of its memory is an error, not a wild read."""
    spans = [(n - 1) * s for n, s in zip(a["size"], a["stride"], strict=True)]
    inside = a["offset"] >= 0 and all(s >= 0 for s in a["stride"]) and all(n > 0 for n in a["size"])
    if 0 not in a["size"] and not (inside and a["offset"] + sum(spans) < size):
        raise ValueError(f"a window must lie within {size} elements, got {dict(a)}")


def _scatter(a: Attributes, x: Array, value: Array) -> Array:
    return _scatter_in_place(a, x.copy(), value)


def _scatter_in_place(a: Attributes, x: Array, value: Array) -> Array:
    _check_window(x.size, a)
    flat = _storage_order(x, a)
    _window(flat, a)[...] = value
    if "order" not in a:
        return flat.reshape(x.shape)
    permuted = flat.reshape([x.shape[axis] for axis in a["order"]])
    return permuted.transpose(np.argsort(a["order"]))


def _reinterpret(a: Attributes, x: Array) -> Array:
    """A window of the memory, read as another dtype; the window counts in elements of that."""
    flat = _storage_order(x, a).view(numpy_dtype(a["to"]))
    _check_window(flat.size, a)
    return _window(flat, a).copy()


def _qr(part: int) -> Operation:
    def apply(a: Attributes, x: Array) -> Array:
        wide = x.astype(np.float64)
        parts = np.linalg.qr(wide, "complete") if a.get("complete") else np.linalg.qr(wide)
        return np.asarray(parts[part]).astype(x.dtype)

    return apply


def _reduce(function: Callable[..., Any]) -> Operation:
    def apply(a: Attributes, x: Array) -> Array:
        axes = None if a.get("axes") is None else tuple(a["axes"])
        wide = x.astype(np.float64) if _is_float(x) else x
        return np.asarray(function(wide, axis=axes, keepdims=a.get("keepdims", False)))

    return apply


def _norm(x: Array, axis: Any, keepdims: bool) -> Array:
    return np.asarray(np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)))


OPERATIONS: dict[str, Operation] = {
    "add": _sum(1),
    "sub": _sum(-1),
    "mul": _binary(np.multiply),
    "div": _binary(np.divide),
    "maximum": _binary(np.maximum),
    "minimum": _binary(np.minimum),
    "lt": _binary(np.less),
    "le": _binary(np.less_equal),
    "gt": _binary(np.greater),
    "ge": _binary(np.greater_equal),
    "eq": _binary(np.equal),
    "ne": _binary(np.not_equal),
    "bitwise_and": _binary(np.bitwise_and),
    "bitwise_or": _binary(np.bitwise_or),
    "bitwise_xor": _binary(np.bitwise_xor),
    "bitwise_not": lambda a, x: np.invert(x),
    "pow": _power,
    "clamp": _clamp,
    "neg": _unary(np.negative),
    "abs": lambda a, x: np.abs(_wide(x)),
    "sign": _unary(np.sign),
    "sqrt": _unary(np.sqrt),
    "rsqrt": _unary(lambda x: 1 / np.sqrt(x)),
    "reciprocal": _unary(lambda x: 1 / x),
    "exp": _rounded("exp"),
    "log": _rounded("log"),
    "expm1": _sleef("expm1", np.expm1),
    "log1p": _sleef("log1p", np.log1p),
    "erfinv": _rounded("erfinv"),
    "sin": _unary(np.sin),
    "cos": _unary(np.cos),
    "tanh": _unary(np.tanh),
    "sigmoid": _unary(lambda x: 1 / (1 + np.exp(-x))),
    "floor": _unary(np.floor),
    "round": _unary(np.round),
    "cast": lambda a, x: x,  # to the dtype that the node says
    "where": lambda a, c, x, y: np.asarray(np.where(c, x, y)),
    "broadcast": lambda a, x: np.broadcast_to(x, tuple(a["size"])).copy(),
    "reshape": lambda a, x: x.reshape(tuple(a["size"])),
    "permute": lambda a, x: x.transpose(a["axes"]),
    "flip": lambda a, x: np.flip(x, tuple(a["axes"])),
    "strided": _strided,
    "scatter": _scatter,
    "reinterpret": _reinterpret,
    "concat": lambda a, *xs: np.concatenate(xs, axis=a["axis"]),
    "tril": lambda a, x: np.tril(x, a.get("diagonal", 0)),
    "triu": lambda a, x: np.triu(x, a.get("diagonal", 0)),
    "diagonal": lambda a, x: np.diagonal(x, a.get("offset", 0)).copy(),
    "sum": _reduce(np.sum),
    "mean": _reduce(np.mean),
    "amax": _reduce(np.max),
    "amin": _reduce(np.min),
    "norm": _reduce(_norm),
    "qr_q": _qr(0),
    "qr_r": _qr(1),
    **SELECTION,
    **LINEAR_ALGEBRA,
    **FUNCTIONS,
}
"""Functions of an operation's attributes and inputs."""

IN_PLACE: dict[str, Operation] = {"scatter": _scatter_in_place}
"""Operations that write into the memory of their first input, for those that need it no more."""

INEXACT = frozenset(
    {"exp", "log", "erfinv", "sin", "cos", "tanh", "sqrt", "sigmoid", "pow"}
    | {"sum", "mean", "norm", "qr_q", "qr_r"}
    | LINEAR_ALGEBRA.keys()
    | INEXACT_FUNCTIONS
)
"""Those whose last bits may not be PyTorch's; the others are bit for bit."""

_SIZED = ("broadcast", "reshape", "strided", "reinterpret")

CONSTANTS: dict[str, Callable[[Attributes, tuple[int, ...], Any], Array]] = {
    "full": lambda a, shape, dtype: np.full(shape, a["value"], dtype=dtype),
    # Bytes in row-major order, little-endian.
    "data": lambda a, shape, dtype: np.frombuffer(a["bytes"], dtype=dtype).reshape(shape).copy(),
}
"""Functions of a constant's attributes, shape and dtype."""


def apply(
    op: str,
    attributes: Attributes,
    arguments: list[Array],
    shape: tuple[int, ...],
    dtype: str,
    operations: Mapping[str, Operation] = OPERATIONS,
) -> Array:
    """The value of one operation, checked against the shape it was recorded with."""
    if op in CONSTANTS:
        return CONSTANTS[op](attributes, shape, numpy_dtype(dtype))
    if op in _SIZED and tuple(attributes["size"]) != shape:
        raise ValueError(f"{op} must give shape {shape}, got {attributes['size']}")
    if op not in operations:
        raise ValueError(f"an operation must be one of {', '.join(operations)}; got {op!r}")
    with np.errstate(all="ignore"):  # as PyTorch: an infinity is a value
        value = operations[op](attributes, *arguments)
        wanted = numpy_dtype(dtype)
        value = value if value.dtype == wanted else value.astype(wanted)
    if value.shape != shape:
        raise ValueError(f"{op} must give shape {shape}, got {value.shape}")
    return value
