"""Orthonormal matrices by QR, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def orthonormal(xp: Any, matrix: Any, gain: float, native_dtype: Callable[[str], Any]) -> Any:
    """``gain`` times Q of a tall matrix, R's diagonal positive; factored in double precision."""
    is_complex = xp.isdtype(matrix.dtype, "complex floating")
    double = native_dtype("complex128" if is_complex else "float64")
    q, r = xp.linalg.qr(xp.astype(matrix, double), mode="reduced")
    factors = (_phases if is_complex else _signs)(xp, xp.linalg.diagonal(r), gain)
    return xp.astype(q * factors, matrix.dtype)


def _signs(xp: Any, x: Any, gain: float) -> Any:
    """``gain``, negative where x is."""
    gains = xp.full_like(x, gain)
    return xp.where(x < 0, -gains, gains)


def _phases(xp: Any, x: Any, gain: float) -> Any:
    """``gain`` times complex numbers over their absolute value; of zero ``gain``."""
    size = xp.abs(x)
    ones = xp.ones_like(size)
    return xp.where(size > 0, x, xp.ones_like(x)) / xp.where(size > 0, size, ones) * gain
