"""Truncated normals by redrawing, as torch does since 2.12: all again, until none is bad.

Each round draws a full tensor's worth of words, and only the bad positions take values from it.
So only those are computed here, a block at a time: a round costs little more than its words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portinit.replay.torch_math.functions import function
from portinit.replay.torch_math.functions import rounded as rounded_function
from portinit.replay.torch_rng.engines import Values, block_sizes
from portinit.replay.torch_rng.formats import Version, is_low, rounded, scalar
from portinit.replay.torch_rng.generator import Generator
from portinit.replay.torch_rng.normals import ROW, NormalDraw
from portinit.replay.torch_rng.uniforms import uniform_words, uniforms_of


@dataclass(frozen=True)
class Truncated:
    """The arguments of a call of ``trunc_normal_``."""

    mean: float
    std: float
    a: float
    b: float
    real: str
    version: Version

    @property
    def tails(self) -> tuple[float, float]:
        """The probabilities below the two bounds, without truncation."""
        return _cdf((self.a - self.mean) / self.std), _cdf((self.b - self.mean) / self.std)

    @property
    def mass(self) -> float:
        """The probability between the bounds, without truncation."""
        low, high = self.tails
        return high - low

    @property
    def work(self) -> Any:
        """The dtype in which operations on this dtype compute."""
        return np.float64 if self.real == "float64" else np.float32

    def term(self, number: float) -> Any:
        """A number to add or subtract; to the dtype it is rounded first, factors are not."""
        return self.work(scalar(number, self.real))

    def step(self, x: Values) -> Values:
        """The result of one operation, rounded to the dtype, ready for the next."""
        return rounded(x, self.real).astype(self.work, copy=False)

    def function(self, name: str, x: Values) -> Values:
        """A function of numbers of the dtype, before it is rounded to it."""
        return rounded_function(name, x) if is_low(self.real) else function(name, x, self.version)

    def outside(self, x: Values) -> NDArray[np.bool_]:
        """Where numbers of the dtype are beyond the bounds, these rounded to it."""
        bad: NDArray[np.bool_] = (x < rounded(self.a, self.real)) | (x > rounded(self.b, self.real))
        return bad


def _cdf(x: float) -> float:
    return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0


def fill_by_normals(
    gen: Generator, out: Values, law: Truncated, contiguous: bool, again: bool
) -> None:
    """Draw normals until all are within the bounds: where these hold more than 0.3 of them."""
    first, later = (
        NormalDraw.of(out.size, law.mean, law.std, law.real, layout, law.version)
        for layout in (contiguous, again)
    )
    first.fill(gen, out)
    while any(law.outside(out[start:stop]).any() for start, stop in block_sizes(out.size)):
        redraw = _redraw_scalars if later.kernel is None else _redraw_rows
        redraw(gen, out, law, later)


def _redraw_scalars(gen: Generator, out: Values, law: Truncated, draw: NormalDraw) -> None:
    for start, values in draw.scalars(gen):
        block = out[start : start + values.size]
        np.copyto(block, values, where=law.outside(block))


def _redraw_rows(gen: Generator, out: Values, law: Truncated, draw: NormalDraw) -> None:
    kernel = draw.kernel
    assert kernel is not None
    for start, kept, words in draw.rows(gen, kernel):
        bad = np.zeros(words.size // kernel.words, bool)
        bad[:kept] = law.outside(out[start : start + kept])
        rows = np.flatnonzero(bad.reshape(-1, ROW).any(axis=1))
        fresh = kernel.values(gen.engine, words.reshape(-1, ROW * kernel.words)[rows].reshape(-1))
        picked = bad.reshape(-1, ROW)[rows].reshape(-1)
        out[start + np.flatnonzero(bad)] = fresh[picked]


def fill_by_uniforms(gen: Generator, out: Values, law: Truncated) -> None:
    """Draw uniforms between the bounds, each kept with its density relative to the peak."""
    # A bit an element: the candidates of a round are all drawn before what judges them.
    pending = np.packbits(np.ones(out.size, bool))
    while pending.any():
        for start, bad in _pending_blocks(pending, out.size):
            candidates = _uniforms(gen, bad, law.a, law.b, law)
            out[start + np.flatnonzero(bad)] = candidates
        for start, bad in _pending_blocks(pending, out.size):
            places = np.flatnonzero(bad)
            bad[places] = _rejected(_uniforms(gen, bad, 0.0, 1.0, law), out[start + places], law)
            pending[start // 8 : (start + bad.size + 7) // 8] = np.packbits(bad)


def _pending_blocks(pending: Values, n: int) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    for start, stop in block_sizes(n):
        bits = np.unpackbits(pending[start // 8 : (stop + 7) // 8], count=stop - start)
        yield start, bits.astype(bool)


def _uniforms(
    gen: Generator, wanted: NDArray[np.bool_], a: float, b: float, law: Truncated
) -> Values:
    """The wanted ones of a block of uniforms."""
    size = uniform_words(law.real)
    words = gen.random32(wanted.size * size).reshape(-1, size)[wanted].reshape(-1)
    return uniforms_of(gen.engine, words, a, b, law.real, law.version)


def _rejected(u: Values, x: Values, law: Truncated) -> NDArray[np.bool_]:
    """log(u) > log of the density at x, relative to the peak; step by step in the dtype."""
    peak = -0.5 * ((max(law.a, min(law.mean, law.b)) - law.mean) / law.std) ** 2
    density = law.step(x.astype(law.work) - law.term(law.mean))
    density = law.step(density / law.work(law.std))
    density = law.step(law.step(density * density) * law.work(-0.5))
    density = law.step(density - law.term(peak))
    with np.errstate(divide="ignore"):
        logarithm = law.step(law.function("log", u))
    rejected: NDArray[np.bool_] = logarithm > density
    return rejected
