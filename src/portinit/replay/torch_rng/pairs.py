"""Normals one pair after the other, in double precision, as torch draws the small and the strided.

The second of a pair is cached in the generator, and is what the next such draw begins with. The
logarithm, sine and cosine are the C library's, as in torch.
"""

from __future__ import annotations

import math

import numpy as np

from portinit.replay.torch_math.arithmetic import fma64
from portinit.replay.torch_rng.engines import Values
from portinit.replay.torch_rng.formats import rounded
from portinit.replay.torch_rng.generator import Generator
from portinit.replay.torch_rng.libm import each
from portinit.replay.torch_rng.uniforms import unit64

_TWO_PI = 2.0 * math.pi


def scalar_normals(gen: Generator, n: int, mean: float, std: float, real: str) -> Values:
    """A few normals of a real dtype."""
    values: Values = fma64(standard_normals(gen, n), float(std), float(mean))
    return rounded(values, real)


def standard_normals(gen: Generator, n: int) -> Values:
    """A few standard normals in double precision, the cached one first."""
    cached = [] if gen.cached_normal is None or n == 0 else [gen.cached_normal]
    fresh = n - len(cached)
    if cached:
        gen.cached_normal = None
    pairs = _pairs(gen, (fresh + 1) // 2)
    if fresh % 2:
        gen.cached_normal = float(pairs[-1, 1])
    return np.concatenate([cached, pairs.reshape(-1)[:fresh]])


def skip_scalar_normals(gen: Generator, n: int) -> None:
    """Move on by n normals; only the pair whose second half is cached is computed."""
    if n and gen.cached_normal is not None:
        gen.cached_normal = None
        n -= 1
    gen.skip(4 * (n // 2))
    standard_normals(gen, n % 2)


def _pairs(gen: Generator, count: int) -> Values:
    units = unit64(gen.random64(2 * count)).reshape(count, 2)
    radius = np.sqrt(-2.0 * each(math.log1p, -units[:, 1]))
    angle = _TWO_PI * units[:, 0]
    return np.stack([radius * each(math.cos, angle), radius * each(math.sin, angle)], axis=-1)
