"""Orthonormal matrices by QR, in double precision."""

from __future__ import annotations

from typing import Any

from portinit.arrays.dtypes import Format
from portinit.backends.base import Backend


def orthonormal(backend: Backend, matrix: Any, gain: float, fmt: Format) -> Any:
    """``gain`` times Q of a tall matrix, R's diagonal positive.

    Single precision is not enough to factor it: a square Gaussian matrix is ill-conditioned.

    Args:
        backend: the matrix's.
        matrix: at least as many rows as columns, real or complex.
        gain: multiplies Q.
        fmt: the format that the values are for: none is larger than its largest number.

    Returns:
        A matrix of the given one's shape and dtype.
    """
    xp = backend.xp
    with backend.double_precision():
        double = backend.native_dtype("complex128" if fmt.is_complex else "float64")
        q, r = xp.linalg.qr(xp.astype(matrix, double), mode="reduced")
        diagonal = xp.expand_dims(xp.linalg.diagonal(r), axis=0)
        factors = (_phases if fmt.is_complex else _signs)(xp, diagonal, gain)
        scaled = q * factors
        if abs(gain) > fmt.largest / 2:
            scaled = _saturated(backend, scaled, fmt)
        return xp.astype(scaled, matrix.dtype)


def _signs(xp: Any, x: Any, gain: float) -> Any:
    """``gain``, negative where x is."""
    gains = xp.full_like(x, gain)
    return xp.where(x < 0, -gains, gains)


def _phases(xp: Any, x: Any, gain: float) -> Any:
    """``gain`` times complex numbers over their absolute value; ``gain`` for zero."""
    size = xp.abs(x)
    ones = xp.ones_like(size)
    return xp.where(size > 0, x, xp.ones_like(x)) / xp.where(size > 0, size, ones) * gain


def _saturated(backend: Backend, x: Any, fmt: Format) -> Any:
    """Numbers of double precision, those past a format's largest replaced by it."""
    xp, largest = backend.xp, fmt.largest
    if not fmt.is_complex:
        return xp.clip(x, -largest, largest)
    real, imag = (xp.clip(part(x), -largest, largest) for part in (xp.real, xp.imag))
    return backend.complex(real, imag, "complex128")
