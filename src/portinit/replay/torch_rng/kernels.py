"""The kernels of the vectorised ``normal_``: 16 words, or 32, to 16 normals.

Of a row's uniforms the first eight give radii, the last eight angles; the cosines come first.
float32 has a kernel of its own. The other dtypes' call the C library, and what bfloat16 and
float16 do changed with torch 2.12 and again with 2.13.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from portinit.replay.torch_math.arithmetic import fma64, fma_exact
from portinit.replay.torch_rng.cephes import unit
from portinit.replay.torch_rng.engines import Engine, Values, Words
from portinit.replay.torch_rng.formats import Version, is_low, rounded, scalar, stepwise
from portinit.replay.torch_rng.generator import joined
from portinit.replay.torch_rng.libm import box_muller, each
from portinit.replay.torch_rng.uniforms import unit64, unit_narrow

_TWO_PI = 2.0 * math.pi

Transform = Callable[[Engine, Words], Values]


@dataclass(frozen=True)
class Kernel:
    """How rows of words become rows of normals.

    Attributes:
        words: words a value: 1 or 2.
        draws_rest: whether words are drawn for the values beyond the last whole row, too, though
            they are then overwritten.
        real: the dtype of the values.
        transform: the computation, before the rounding to the dtype.
    """

    words: int
    draws_rest: bool
    real: str
    transform: Transform

    def values(self, engine: Engine, words: Words) -> Values:
        """The normals of some whole rows of words."""
        return rounded(self.transform(engine, words), self.real)


def kernel_of(real: str, mean: float, std: float, version: Version) -> Kernel:
    """The kernel of a dtype in a version of torch."""
    if real == "float64":
        return Kernel(2, True, real, partial(_double, mean, std))
    if not is_low(real) or version >= (2, 13):
        return Kernel(1, not is_low(real), real, partial(_single, mean, std))
    mean, std = scalar(mean, real), scalar(std, real)
    if version >= (2, 12):
        return Kernel(1, False, real, partial(_single_of_libm, mean, std))
    return Kernel(1, True, real, partial(_narrow, real, mean, std))


def _single(mean: float, std: float, engine: Engine, words: Words) -> Values:
    return engine.normal(words, np.float32(mean), np.float32(std))


def _rows(units: Values) -> tuple[Values, Values]:
    rows = units.reshape(-1, 2, 8)
    return rows[:, 0].reshape(-1), rows[:, 1].reshape(-1)


def _joined(first: Values, second: Values) -> Values:
    halves = np.stack([first.reshape(-1, 8), second.reshape(-1, 8)], axis=1)
    return halves.reshape(-1)


def _double(mean: float, std: float, engine: Engine, words: Words) -> Values:
    first, second = _rows(unit64(joined(words)))
    radius = np.sqrt(-2.0 * each(math.log, 1.0 - first))
    angle = _TWO_PI * second
    normals = _joined(radius * each(math.cos, angle), radius * each(math.sin, angle))
    values: Values = fma64(normals, float(std), float(mean))
    return values


def _narrow(real: str, mean: float, std: float, _: Engine, words: Words) -> Values:
    """Up to torch 2.11: each operation in the dtype itself."""

    def low(x: Values) -> Values:
        return stepwise(x, real)

    first, second = _rows(unit_narrow(words, real))
    logarithm = low(np.log(low(np.float32(1) - first).astype(np.float64)))
    radius = low(np.sqrt(low(np.float32(-2) * logarithm)))
    angle = low(_TWO_PI * second.astype(np.float64)).astype(np.float64)
    normals = _joined(low(radius * low(np.cos(angle))), low(radius * low(np.sin(angle))))
    return low(normals * np.float32(std)) + np.float32(mean)


def _single_of_libm(mean: float, std: float, _: Engine, words: Words) -> Values:
    """Torch 2.12: float32 with the C library's functions."""
    first, second = _rows(unit(words))
    normals = _joined(*box_muller(np.float32(1) - first, second))
    values: Values = fma_exact(normals, np.float32(std), mean)
    return values
