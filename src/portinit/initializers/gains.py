"""Gains: by how much a nonlinearity asks the weights before it to be larger."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

_UNIT = (
    "linear",
    *(f"conv{n}d" for n in (1, 2, 3)),
    *(f"conv_transpose{n}d" for n in (1, 2, 3)),
    "sigmoid",
)
_GAINS = dict.fromkeys(_UNIT, 1.0) | {"tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}
NONLINEARITIES = (*_GAINS, "leaky_relu")


def calculate_gain(nonlinearity: str | Callable[[Any], Any], param: float | None = None) -> float:
    r"""The recommended gain of a nonlinearity.

    By name, PyTorch's table: 1 for linear, convolutions and sigmoid; 5/3 for tanh; sqrt(2) for
    relu; sqrt(2 / (1 + slope^2)) for leaky_relu, whose slope is ``param`` (0.01 if not given);
    3/4 for selu.

    For a callable f, the gain that keeps the second moment of a standard normal input,

    .. math:: g = 1 / \sqrt{E[f(z)^2]}, \quad z \sim N(0, 1),

    by Gauss quadrature against the normal density, on either side of 0 apart: activations have
    their kinks there, and a rule across a kink converges slowly. The gain is rounded to nine
    digits, so that another machine's math library gives the same number.

    Args:
        nonlinearity: a name of PyTorch's table, or a function of NumPy arrays, JAX arrays, torch
            tensors or plain floats, elementwise.
        param: the negative slope of leaky_relu.

    Raises:
        ValueError: an unknown name, a slope that is no number, or a function with no finite,
            positive second moment.

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


def _gain_of(function: Callable[[Any], Any]) -> float:
    nodes, weights = _half_normal_quadrature()
    moment = 0.0
    for z in (nodes, -nodes):
        moment += float(weights @ np.square(_apply(function, z))) / 2
    if not (math.isfinite(moment) and moment > 0):
        raise ValueError(f"a gain needs a finite, positive E[f(z)^2], got {moment} for {function}")
    return float(f"{1 / math.sqrt(moment):.9g}")


def _apply(function: Callable[[Any], Any], z: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    failures = []
    for call in (_of_arrays, _of_tensors, _of_numbers):
        try:
            values = np.asarray(call(function, z), dtype=np.float64)
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            failures.append(str(error))
            continue
        if values.shape != z.shape:
            raise ValueError(f"a nonlinearity must keep its input's shape, got {values.shape}")
        return values
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
    return [float(function(float(x))) for x in z]


@cache
def _half_normal_quadrature() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Gauss-Legendre nodes on (0, 12) with the half-normal density in the weights."""
    x, w = np.polynomial.legendre.leggauss(200)
    z = 6 * (x + 1)
    return z, 6 * w * np.sqrt(2 / np.pi) * np.exp(-z * z / 2)
