"""Compute portinit's two tables of the normal quantile with mpmath and write them.

    python tools/make_quantile_tables.py src/portinit/sampling/tables

The quantile of the upper tail, z(p) = -Phi^{-1}(p), is tabulated over dyadic octaves of p, each
cut into equal segments:

* ``quantile32.npy``: z at the knots, 1024 segments an octave, 28 fraction bits, for linear
  interpolation; p = m * 2**-32 for m in [1, 2**31].
* ``quantile64.npy``: coefficients of quintics at Chebyshev nodes, 64 segments an octave, 59
  fraction bits; p = m * 2**-64 for m in [1, 2**63].

A test computes samples of both anew and compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mpmath as mp
import numpy as np

mp.mp.dps = 45


def upper_quantile(p: mp.mpf) -> mp.mpf:
    """Z with P(Z > z) = p, by Newton's method on log P from the asymptotic start."""
    if p == mp.mpf(1) / 2:
        return mp.mpf(0)
    z = (
        mp.sqrt(-2 * mp.log(2 * p)) * mp.mpf("0.9")
        if p < 0.4
        else (mp.mpf("0.5") - p) * mp.mpf("2.5")
    )
    for _ in range(60):
        tail = mp.erfc(z / mp.sqrt(2)) / 2
        density = mp.npdf(z)
        # Newton on the logarithm converges from either side, even deep in the tail.
        step = tail * mp.log(tail / p) / density
        z += step
        if abs(step) < mp.mpf(10) ** -40:
            break
    return z


def magnitude(index: int, segments: int) -> mp.mpf:
    octave, segment = divmod(index, segments)
    return mp.mpf(2) ** octave * (1 + mp.mpf(segment) / segments)


def knots32(segments: int = 1024, octaves: int = 31) -> np.ndarray:
    table = [
        int(mp.nint(upper_quantile(magnitude(k, segments) / 2**32) * 2**28))
        for k in range(octaves * segments + 1)
    ]
    return np.array([*table, 0], dtype=np.int32)


def quintic(low: mp.mpf, high: mp.mpf, degree: int) -> list[mp.mpf]:
    """Power-basis coefficients, on t in [0, 1], of the interpolant at Chebyshev nodes."""
    nodes = [(1 - mp.cos(mp.pi * (2 * i + 1) / (2 * degree + 2))) / 2 for i in range(degree + 1)]
    values = [upper_quantile(low + (high - low) * t) for t in nodes]
    powers = mp.matrix([[t**k for k in range(degree + 1)] for t in nodes])
    return list(mp.lu_solve(powers, mp.matrix(values)))


def coefficients64(segments: int = 64, octaves: int = 63, degree: int = 5) -> np.ndarray:
    rows = []
    for k in range(octaves * segments):
        low, high = (magnitude(j, segments) / mp.mpf(2) ** 64 for j in (k, k + 1))
        rows.append([int(mp.nint(c * 2**59)) for c in quintic(low, high, degree)])
    return np.array([*rows, [0] * (degree + 1)], dtype=np.int64)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "quantile32.npy", knots32())
    np.save(folder / "quantile64.npy", coefficients64())


if __name__ == "__main__":
    main()
