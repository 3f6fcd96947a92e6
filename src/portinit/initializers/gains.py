"""Gains: by how much a nonlinearity asks the weights before it to be larger."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from portinit.initializers.signatures import NonlinearityName

_UNIT = (
    "linear",
    *(f"conv{n}d" for n in (1, 2, 3)),
    *(f"conv_transpose{n}d" for n in (1, 2, 3)),
    "sigmoid",
)
_GAINS = dict.fromkeys(_UNIT, 1.0) | {"tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}
NONLINEARITIES = (*_GAINS, "leaky_relu")


def calculate_gain(
    nonlinearity: NonlinearityName | Callable[[Any], Any], param: float | None = None
) -> float:
    r"""The recommended gain of a nonlinearity.

    By name, PyTorch's table: 1 for linear, convolutions and sigmoid; 5/3 for tanh; sqrt(2) for
    relu; sqrt(2 / (1 + slope^2)) for leaky_relu, whose slope is ``param`` (0.01 if not given);
    3/4 for selu.

    For a callable f, the gain that keeps the second moment of a standard normal input,

    .. math:: g = 1 / \sqrt{E[f(z)^2]}, \quad z \sim N(0, 1),

    by Gauss quadrature on intervals that are halved until whole and halves agree to 1e-11 (to the
    function's own precision, if that is lower). So kinks, steps and oscillations are resolved,
    but for spikes narrower than a thousandth, which may fall between the first points. The gain
    is rounded to nine digits, so that another machine's math library gives the same number.

    Args:
        nonlinearity: a name of PyTorch's table, or a function of NumPy arrays, JAX arrays, torch
            tensors or plain floats, elementwise.
        param: the negative slope of leaky_relu.

    Returns:
        The gain.

    Raises:
        ValueError: an unknown name, a slope that is no number, or a function with no finite,
            positive second moment, or one whose integral does not converge.

    >>> calculate_gain("leaky_relu", 0.2)
    1.3867504905630728
    >>> calculate_gain(np.tanh)
    1.59253742

    Source: He et al., "Delving deep into rectifiers", 2015, eq. 10; torch.nn.init's table.
    """
    if callable(nonlinearity):
        return _gain_of(nonlinearity)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, int | float) or math.isnan(slope):
            raise ValueError(f"negative_slope must be a number, got {slope!r}")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        names = ", ".join(NONLINEARITIES)
        raise ValueError(f"nonlinearity must be a callable or one of {names}; got {nonlinearity!r}")
    return _GAINS[nonlinearity]


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(15)
_FAR = np.asarray([9.0, 11.0, 14.0, 18.0, 24.0, 30.0, 37.0])  # where density is left, but little
_EDGES = np.concatenate([-_FAR[::-1], np.linspace(-8.0, 8.0, 257), _FAR])
_TOLERANCE = 1e-11
_ENOUGH = 1e-7  # where float32 lies behind values in float64, no halving brings more
_MOST_INTERVALS = 1 << 14
_NARROWEST = 1e-14


def _gain_of(function: Callable[[Any], Any]) -> float:
    moment = _second_moment(function)
    if not (math.isfinite(moment) and moment > 0):
        raise ValueError(f"a gain needs a finite, positive E[f(z)^2], got {moment} for {function}")
    return float(f"{1 / math.sqrt(moment):.9g}")


def _second_moment(function: Callable[[Any], Any]) -> float:
    """E[f(z)^2] for a standard normal z; not finite where the integral has no end.

    Each interval is integrated whole and in halves. Where the two differ, the halves are intervals
    in their turn, until all differences together are within the tolerance.
    """
    left, right = _EDGES[:-1], _EDGES[1:]
    whole, resolution = _integrals(function, left, right)
    settled = doubt = 0.0
    while 0 < left.size <= _MOST_INTERVALS:
        middle = (left + right) / 2
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
        parts, _ = _integrals(function, left, right)
        halves = parts.reshape(2, -1).sum(axis=0)
        total = settled + float(halves.sum())
        if not math.isfinite(total):
            return total
        error, tolerance = np.abs(halves - whole), max(_TOLERANCE, 4 * resolution) * total
        if doubt + float(error.sum()) <= tolerance:
            return total if _ends(function, tolerance) else math.inf
        small = error <= np.maximum(tolerance / _MOST_INTERVALS, resolution * halves)
        done = small | (middle - left[: middle.size] <= _NARROWEST * (1 + np.abs(middle)))
        settled, doubt = settled + float(halves[done].sum()), doubt + float(error[done].sum())
        kept = np.tile(~done, 2)
        left, right, whole = left[kept], right[kept], parts[kept]
    if doubt + float(error.sum()) <= _ENOUGH * total and _ends(function, _ENOUGH * total):
        return total
    raise ValueError(
        f"E[f(z)^2] of {function} does not converge: it oscillates too fast, has too many steps or "
        "too strong a singularity; pass a gain that you know instead"
    )


def _integrals(
    function: Callable[[Any], Any], left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], float]:
    """The integral of f^2 times the normal density over each interval, and f's resolution."""
    half = (right - left)[:, None] / 2
    z = left[:, None] + half * (_NODES + 1)
    values, resolution = _apply_padded(function, z.ravel())
    heights = _weighted(values, z.ravel()).reshape(z.shape)
    integrals: np.ndarray[Any, Any] = heights @ _WEIGHTS * half[:, 0]
    return integrals, resolution


def _weighted(values: np.ndarray[Any, Any], z: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with np.errstate(all="ignore"):  # what overflows is seen in the sum
        halves: np.ndarray[Any, Any] = values * np.exp(-z * z / 4)
        return halves**2 / math.sqrt(2 * math.pi)


def _ends(function: Callable[[Any], Any], tolerance: float) -> bool:
    """Whether nothing that counts is left beyond the outermost edges."""
    edges = _EDGES[[0, -1]]
    values, _ = _apply_padded(function, edges)
    return bool((_weighted(values, edges) * _EDGES[-1] <= tolerance).all())


def _apply_padded(
    function: Callable[[Any], Any], z: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], float]:
    """Like :func:`_apply`, in few different sizes: JAX compiles a function for each."""
    size = 1 << max(12, (z.size - 1).bit_length())
    values, resolution = _apply(function, np.pad(z, (0, size - z.size), mode="edge"))
    return values[: z.size], resolution


_RESOLUTIONS = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def _apply(
    function: Callable[[Any], Any], z: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], float]:
    """The function's values, and how finely its dtype tells them apart."""
    failures = []
    for call in (_of_arrays, _of_tensors, _of_numbers):
        try:
            with np.errstate(all="ignore"):
                raw = np.asarray(call(function, z))
            values = raw.astype(np.float64)
        except OverflowError:  # of Python's floats
            return np.full_like(z, np.inf), 0.0
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            failures.append(str(error))
            continue
        if values.shape != z.shape:
            raise ValueError(f"a nonlinearity must keep its input's shape, got {values.shape}")
        return values, _RESOLUTIONS.get(raw.dtype.name, 2.0**-52)
    raise ValueError(f"a nonlinearity must take arrays, tensors or numbers: {'; '.join(failures)}")


def _of_arrays(function: Callable[[Any], Any], z: np.ndarray[Any, Any]) -> Any:
    return function(z)


def _of_tensors(function: Callable[[Any], Any], z: np.ndarray[Any, Any]) -> Any:
    torch = sys.modules.get("torch")
    if torch is None:
        raise TypeError("torch is not loaded")
    with torch.no_grad():
        try:
            return function(torch.from_numpy(z)).numpy()
        except RuntimeError:  # a module with float32 parameters
            return function(torch.from_numpy(z.astype(np.float32))).numpy()


def _of_numbers(function: Callable[[Any], Any], z: np.ndarray[Any, Any]) -> Any:
    return [float(function(float(x))) for x in z.tolist()]
