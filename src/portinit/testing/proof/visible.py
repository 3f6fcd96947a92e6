"""Weights that make every error visible: random and distinct, of a size that signals survive."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from portinit.initializers.basic import normal, uniform
from portinit.random.keys import Key

Array = np.ndarray[Any, Any]

_SPREAD = 0.5
"""How far a vector's values lie around what it starts from, as a share of it or of 1."""

_FAINT = 0.05
"""Constants below this, such as a LayerScale's 1e-6, would hide what they scale."""


def visible(initial: Array, key: Key, gain: float = 1.0) -> Array:
    r"""Random values for a parameter, each its own, for what it starts from.

    Initial weights hide errors: zeros, ones and equal layers can be exchanged without effect.

    ============================ =============================================================
    it starts from               it gets, with u from U(-1, 1) and z from N(0, 1)
    ============================ =============================================================
    a constant c, and c = 0      :math:`c (1 + u / 2)`, so a variance stays positive; u / 2.
                                 A c below 0.05 counts as 0.5.
    numbers of one sign          each times :math:`1 + u / 2`
    a vector, or numbers that    :math:`x + s u` around each, s their standard deviation, and
    are not centred              at least 0.1
    zeros or centred numbers,    :math:`g z \max(s, 1 / \sqrt{n})` for n inputs, the size of all
    in a matrix or a kernel      axes but the first
    ============================ =============================================================

    Args:
        initial: what the parameter starts from, in PyTorch's shape.
        key: what to draw from.
        gain: g, a factor of matrices.

    Returns:
        float32 or float64 values of the same shape, or complex ones.

    >>> import numpy as np, portinit
    >>> scale = visible(np.ones(4, np.float32), portinit.key(0))
    >>> bool((np.abs(scale - 1) <= 0.5).all()), len(set(scale.tolist()))
    (True, 4)
    """
    if initial.dtype.kind == "c":
        whole = np.empty(initial.shape, initial.dtype)
        whole.real = visible(initial.real, key.fold_in(0), gain)
        whole.imag = visible(initial.imag, key.fold_in(1), gain)
        return whole
    x = initial.astype(np.float64)
    u: Array = uniform(-1.0, 1.0)(key, x.shape, "float32", layout="torch").astype(np.float64)
    if not x.size:
        return _as(initial, x)
    least, most = float(x.min()), float(x.max())
    if not math.isfinite(least) or not math.isfinite(most):  # a mask of infinities
        return _as(initial, x)
    if least > 0 or most < 0:
        near = np.where(np.abs(x) < _FAINT, np.sign(x) * _SPREAD, x) if least == most else x
        return _as(initial, near * (1 + _SPREAD * u))
    deviation, is_vector = float(x.std()), _is_vector(x.shape)
    if least == most == 0 and is_vector:
        return _as(initial, _SPREAD * u)
    if is_vector or abs(float(x.mean())) > deviation:
        return _as(initial, x + max(deviation, 0.1) * u)
    z = normal()(key, x.shape, "float32", layout="torch").astype(np.float64)
    inputs = x.size // x.shape[0]
    return _as(initial, gain * max(deviation, inputs**-0.5) * z)


def _is_vector(shape: tuple[int, ...]) -> bool:
    """Whether a parameter has no inputs: a bias, a scale, a row of positions."""
    return sum(n > 1 for n in shape) < 2 or shape[0] == 1


def _as(initial: Array, values: Array) -> Array:
    wide = np.float64 if initial.dtype == np.float64 else np.float32
    return np.asarray(values, wide)
