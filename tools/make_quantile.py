"""Fit the polynomials of the 32-bit normal quantile, and compute the table of the 64-bit one.

    python tools/make_quantile.py 32
    python tools/make_quantile.py 64 src/portinit/sampling/tables

The first prints what ``portinit.sampling.quantile32`` holds, where the method is explained. The
fits are minimax by Lawson's iteration, the coefficients rounded to float32 one after the other,
the highest power's first, and the others fitted anew. The last digits depend on the linear algebra
that NumPy is built with. The pieces' values were then moved by up to 4 units, until the largest
errors of all 2**32 words were as large above as below.

The second writes ``quantile64.npy``: coefficients of quintics at Chebyshev nodes, 64 segments an
octave, 59 fraction bits; p = m * 2**-64 for m in [1, 2**63]. A test computes samples of it anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import erfcx, ndtri

mp.mp.dps = 45

Reals = NDArray[np.float64]

# 32 bits: all as functions of L = -log2(p).

CENTER = round(2**23 / np.log(2)) / 2**23
CUTS = (1.0, 32 - np.log2(15 << 24), 12.0, 32.0)
"""Where the pieces begin and end, in L; the magnitudes are 2**31, 15 * 2**24, 2**20 and 1."""
SIXTEENTHS = (5, 4, 2)
"""The pieces' slopes at a, and so a itself."""


def y(length: Any) -> Any:
    """-log2(p) - 4 p, which the pieces are polynomials in."""
    return length - 4 * np.exp2(-length)


def inverse(ys: Reals) -> Reals:
    """The L of y, by Newton's method."""
    length = np.maximum(ys, 1.0)
    for _ in range(60):
        length = length - (y(length) - ys) / (1 + 4 * np.log(2) * np.exp2(-length))
    return length


def z_of(length: Any) -> Any:
    return -ndtri(np.exp2(-length))


def slope(length: float) -> float:
    """Dz / dy."""
    mills = np.sqrt(np.pi / 2) * erfcx(z_of(length) / np.sqrt(2))
    return float(mills * np.log(2) / (1 + 4 * np.log(2) * np.exp2(-length)))


def nodes(low: float, high: float, count: int = 500) -> Reals:
    """Chebyshev nodes."""
    angles = np.pi * (np.arange(count) + 0.5) / count
    return (low + high) / 2 - (high - low) / 2 * np.cos(angles)


def minimax(basis: Reals, target: Reals, rounds: int = 200) -> Reals:
    """Coefficients whose largest error is least, by Lawson's reweighted least squares."""
    scale = np.abs(basis).max(0)
    weights = np.full(len(target), 1 / len(target))
    best, least = np.zeros(basis.shape[1]), np.inf
    for _ in range(rounds):
        root = np.sqrt(weights)
        found = np.linalg.lstsq(basis / scale * root[:, None], target * root, rcond=None)[0]
        errors = np.abs(basis / scale @ found - target)
        if errors.max() < least:
            best, least = found / scale, errors.max()
        weights = weights * (errors + 1e-30)
        weights /= weights.sum()
    return best


def fit(x: Reals, target: Reals, powers: Iterable[int], relative: bool = False) -> list[np.float32]:
    """Coefficients rounded to float32, the highest power's first."""
    weight = 1 / target if relative else np.ones_like(target)
    remaining, chosen = sorted(powers, reverse=True), []
    rest = target.copy()
    while remaining:
        basis = np.stack([x**power for power in remaining], 1) * weight[:, None]
        coefficient = np.float32(minimax(basis, rest * weight)[0])
        chosen.append(coefficient)
        rest -= float(coefficient) * x ** remaining.pop(0)
    print(f"  error {np.abs(rest * weight).max():.2g}")
    return chosen


def printed(coefficients: list[np.float32], bits: int) -> None:
    print(" ", ", ".join(str(np.float32(float(c) * 2.0**bits)) for c in coefficients))


def polynomials32() -> None:
    """Print the constants of ``quantile32``."""
    f = nodes(1.0, 2.0)
    top = np.log2(CENTER) - (CENTER - 1)
    print("CORRECTION")
    printed(fit(f - CENTER, np.log2(f) - (f - 1) - top, range(2, 10)), 26)
    for sixteenths, low, high in zip(SIXTEENTHS, CUTS, CUTS[1:], strict=False):
        least = 2.0 if sixteenths == 5 else 1.0  # the slope has a maximum near the median
        at = brentq(lambda length, s=sixteenths: slope(length) - s / 16, least, 40)
        a = round(float(y(at)) * 2**26) / 2**26
        value = float(z_of(inverse(np.array([a]))[0]))
        start = round((a - 32 - 127 + top) * 2**26)
        print(f"Piece: start {(start + 2**31) % 2**32 - 2**31}, value {round(value * 2**28)}")
        ys = nodes(y(low), y(high))
        t = a - ys
        curved = value - sixteenths / 16 * t - z_of(inverse(ys))
        printed(fit(t, curved, range(2, 11)), 28)
    z = nodes(-0.001, 6.24, 800)
    print("HAZARD")
    printed(fit(z, 1 / (np.sqrt(np.pi / 2) * erfcx(z / np.sqrt(2))), range(6), relative=True), 0)


# 64 bits


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


def quintic(low: mp.mpf, high: mp.mpf, degree: int) -> list[mp.mpf]:
    """Power-basis coefficients, on t in [0, 1], of the interpolant at Chebyshev nodes."""
    points = [(1 - mp.cos(mp.pi * (2 * i + 1) / (2 * degree + 2))) / 2 for i in range(degree + 1)]
    values = [upper_quantile(low + (high - low) * t) for t in points]
    powers = mp.matrix([[t**k for k in range(degree + 1)] for t in points])
    return list(mp.lu_solve(powers, mp.matrix(values)))


def coefficients64(segments: int = 64, octaves: int = 63, degree: int = 5) -> np.ndarray:
    rows = []
    for k in range(octaves * segments):
        low, high = (magnitude(j, segments) / mp.mpf(2) ** 64 for j in (k, k + 1))
        rows.append([int(mp.nint(c * 2**59)) for c in quintic(low, high, degree)])
    return np.array([*rows, [0] * (degree + 1)], dtype=np.int64)


def main() -> None:
    if sys.argv[1] == "32":
        polynomials32()
    else:
        np.save(Path(sys.argv[2]) / "quantile64.npy", coefficients64())


if __name__ == "__main__":
    main()
