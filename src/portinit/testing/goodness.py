"""Goodness of fit: p-values of drawn values against the distribution they are draws of.

A value stands for its cell of the format: the reals that round to it. The chi-squared tests count
over unions of cells, and so hold for values rounded to any format. The tests of Kolmogorov and
Smirnov and of Anderson and Darling are for continuous data, and are made only where the format is
too fine to matter. Means and variances are those of the rounded values.

The values of a 24-bit uniform are themselves steps of 2**-24, which the tests would begin to see
beyond 2**26 values.

Sources: Anderson and Darling, "A test of goodness of fit", JASA 49, 1954 (the series of the limit
distribution). Marsaglia and Marsaglia, "Evaluating the Anderson-Darling distribution", Journal of
Statistical Software 9(2), 2004.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from portinit.arrays.dtypes import Format, float_format
from portinit.sampling.distributions import Distribution, Normal, Uniform
from portinit.sampling.truncated_normal import TruncatedNormal

FEWEST = 1024
"""Fewer values have no p-values here: the tests rely on large numbers."""

_BINS = 1024
_IN_A_BIN = 16  # expected; 5 is the textbook's least
_Array = np.ndarray[Any, np.dtype[Any]]


def scipy_law(law: Distribution) -> Any:
    """The frozen distribution of ``scipy.stats`` that a distribution is.

    Raises:
        ImportError: SciPy is not installed.
        TypeError: all the mass is at one value, so there is no density.
    """
    stats = _scipy("stats")
    match law:
        case Uniform(a, b) if a < b:
            return stats.uniform(a, b - a)
        case Normal(loc, scale) if scale:
            return stats.norm(loc, scale)
        case TruncatedNormal(loc, scale, a, b) if scale and a < b:
            return stats.truncnorm((a - loc) / scale, (b - loc) / scale, loc, scale)
    raise TypeError(f"{law} has no density")


def goodness(values: np.ndarray[Any, np.dtype[Any]], law: Distribution) -> dict[str, float]:
    """P-values of values under the hypothesis that they are independent draws of a distribution.

    Args:
        values: at least 1024 real values, of any shape and of any floating dtype that can be drawn,
            rounded to that dtype to nearest.
        law: their distribution before the rounding, such as ``distribution_of`` gives.

    Returns:
        P-values by the name of the test: ``"chi-squared"`` over bins of equal probability and
        ``"tails"`` over bins that halve towards either end; ``"mean"`` and ``"variance"``,
        two-sided; ``"kolmogorov-smirnov"`` and ``"anderson-darling"``. bfloat16, float16 and
        float8 have the first four. Where neighbouring numbers of float32 or float64 lie further
        apart than a standard deviation over 32 times the square root of the number of values,
        there are the first two alone. Values that cannot be drawn make every p-value 0.

    Raises:
        ImportError: SciPy is not installed.
        TypeError: the law has no density, or the values are not real floating point numbers.
        ValueError: there are fewer than 1024 values.
    """
    fmt, shape = _checked(values, law)
    cells = _Cells(fmt, _numbers(values.dtype) if fmt.precision < 24 else None, *_reach(law, fmt))
    x = np.sort(values.astype(fmt.work), axis=None).astype(np.float64)
    tests = {
        "chi-squared": _chi_squared(x, shape, cells, _equal(len(x))),
        "tails": _chi_squared(x, shape, cells, _halved(len(x))),
    }
    if cells.grid is not None:
        tests |= _moments(x, *_rounded_moments(shape, cells))
    elif 32 * _spacing(fmt, max(-x[0], x[-1])) * math.sqrt(len(x)) <= shape.std:
        u = shape.cdf(x)
        tests |= _moments(x, shape.mean, shape.std, shape.kurtosis)
        tests["kolmogorov-smirnov"] = _kolmogorov_smirnov(u)
        tests["anderson-darling"] = anderson_darling(u)
    return tests if _possible(x, law, fmt) else dict.fromkeys(tests, 0.0)


def _checked(values: _Array, law: Distribution) -> tuple[Format, _Shape]:
    fmt = float_format(values.dtype)
    if fmt.is_complex:
        raise TypeError("real and imaginary parts are to be tested by themselves")
    if values.size < FEWEST:
        raise ValueError(f"at least {FEWEST} values are needed, got {values.size}")
    return fmt, _shape(law)


def anderson_darling(u: np.ndarray[Any, np.dtype[Any]]) -> float:
    """The p-value of sorted numbers under the hypothesis that they are uniform on (0, 1).

    From the limit distribution; the error is of the order of 0.01 over the number of values
    (Marsaglia and Marsaglia).
    """
    n = len(u)
    inside = np.clip(u, 2.0**-54, 1 - 2.0**-53)  # a float32 uniform is 0 now and then
    odd = np.arange(1, 2 * n, 2, dtype=np.float64)
    statistic = -n - _dot(odd, np.log(inside) + np.log1p(-inside[::-1])) / n
    return _anderson_darling_tail(statistic)


def _anderson_darling_tail(z: float) -> float:
    """The limit's probability of a statistic above z: one minus Anderson and Darling's series."""
    if z > 24:  # where one minus the series cancels: its leading term (Zolotarev 1961)
        return math.sqrt(3) * math.erfc(math.sqrt(z))
    nodes, weights = _gauss(200)
    total, binomial = 0.0, 1.0
    for j in range(12):
        rate = (4 * j + 1) ** 2 * math.pi**2 / (8 * z)
        top = math.sqrt(50 / rate)
        w = (nodes + 1) / 2 * top
        integral = _dot(weights, np.exp(z / (8 * (w * w + 1)) - rate * w * w)) * top / 2
        total += binomial * (4 * j + 1) * math.exp(-rate) * integral
        binomial *= -(j + 0.5) / (j + 1)
    return 1 - math.sqrt(2 * math.pi) / z * total


def _kolmogorov_smirnov(u: _Array) -> float:
    steps = np.arange(len(u) + 1, dtype=np.float64) / len(u)
    distance = max(float((steps[1:] - u).max()), float((u - steps[:-1]).max()))
    return float(_scipy("stats").kstwo.sf(distance, len(u)))


def _moments(x: _Array, mean: float, std: float, kurtosis: float) -> dict[str, float]:
    """Two-sided z-tests; the law's own mean centres both. None where there is one value."""
    if not std:
        return {}
    z, root = (x - mean) / std, math.sqrt(len(x))
    # Where two values are equally likely the squares are all one, and nothing can be tested.
    spread = math.sqrt(max(kurtosis - 1, 0.0))
    growth = (_dot(z, z) / len(x) - 1) * root
    return {
        "mean": two_sided(float(z.mean()) * root),
        "variance": two_sided(growth / spread) if spread > 1e-6 else 1.0,
    }


def _dot(x: _Array, y: _Array) -> float:
    """A sum by halves: nearer than BLAS's, and it wakes no threads."""
    return float((x * y).sum())


def two_sided(z: float) -> float:
    """The probability that a standard normal is further from 0 than ``z``."""
    return math.erfc(abs(z) / math.sqrt(2))


def chi_squared_tail(statistic: float, degrees: int) -> float:
    """The probability that a chi-squared variable is larger."""
    return float(_scipy("special").chdtrc(degrees, statistic))


def _rounded_moments(shape: _Shape, cells: _Cells) -> tuple[float, float, float]:
    """Mean, standard deviation and kurtosis of the law, rounded to the format."""
    numbers = cells.drawable()
    return _weighted(numbers, shape.chances((numbers[1:] + numbers[:-1]) / 2))


def _weighted(x: _Array, chances: _Array) -> tuple[float, float, float]:
    """Mean, standard deviation and kurtosis of finitely many values."""
    mean = _dot(chances, x)
    std = math.sqrt(_dot(chances, (x - mean) ** 2))
    return mean, std, _dot(chances, ((x - mean) / std) ** 4) if std else 0.0


# The bins of the chi-squared test


@dataclass(frozen=True)
class _Cells:
    """A format's cells: ``grid`` is all its numbers, where they are few."""

    fmt: Format
    grid: _Array | None
    low: float
    high: float

    def drawable(self) -> _Array:
        """All numbers that can be drawn."""
        assert self.grid is not None
        return self.grid[(self.grid >= self.low) & (self.grid <= self.high)]

    def edges(self, wanted: _Array) -> _Array:
        """Boundaries of cells near those wanted, each once, with a drawable number beside each."""
        edges = np.unique(self._boundaries(wanted))
        return edges[(edges > self.low) & (edges < self.high)]

    def _boundaries(self, wanted: _Array) -> _Array:
        if self.grid is not None:
            middles = (self.grid[1:] + self.grid[:-1]) / 2
            nearby = np.searchsorted(middles, wanted).clip(0, len(middles) - 1)
            return np.asarray(middles[nearby])
        if self.fmt.bits == 64:
            return wanted
        x = wanted.astype(np.float32)
        return (x.astype(np.float64) + np.nextafter(x, np.float32(np.inf))) / 2


def _chi_squared(x: _Array, shape: _Shape, cells: _Cells, probabilities: _Array) -> float:
    """Over the bins that begin and end near quantiles."""
    edges = cells.edges(shape.quantiles(probabilities))
    expected = shape.chances(edges) * len(x)
    counts = np.diff(np.searchsorted(x, edges), prepend=0, append=len(x))
    counts, expected = _merged(counts, expected)
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return chi_squared_tail(statistic, len(counts) - 1) if len(counts) > 1 else 1.0


def _equal(n: int) -> _Array:
    bins = min(_BINS, n // _IN_A_BIN)
    return np.arange(1, bins) / bins


def _halved(n: int) -> _Array:
    """1/2, 1/4, 1/8 and so on from either end, as far as 16 values are expected beyond."""
    tail = 2.0 ** -np.arange(int(math.log2(n / _IN_A_BIN)), 0, -1)
    return np.concatenate([tail, 1 - tail[-2::-1]])


def _merged(counts: _Array, expected: _Array) -> tuple[_Array, _Array]:
    """Neighbouring bins joined until 16 values are expected in each."""
    enough = _IN_A_BIN * (1 - 1e-9)  # equal bins of 16 stay apart, however they are rounded
    left = np.cumsum(expected[::-1])[::-1]
    starts, held = [0], 0.0
    for i, share in enumerate(expected.tolist()):
        if held >= enough and left[i] >= enough:
            starts.append(i)
            held = 0.0
        held += share
    return np.add.reduceat(counts, starts), np.add.reduceat(expected, starts)


# Distribution functions, vectorised; scipy.stats takes 20 times as long for a truncated normal


@dataclass(frozen=True)
class _Shape:
    """A law's distribution function, its inverse and its moments."""

    cdf: Callable[[_Array], _Array]
    quantiles: Callable[[_Array], _Array]
    mean: float
    std: float
    kurtosis: float

    def chances(self, edges: _Array) -> _Array:
        """The probabilities of the bins that edges cut the line into."""
        return np.diff(self.cdf(edges), prepend=0.0, append=1.0)


def _shape(law: Distribution) -> _Shape:
    match law:
        case Uniform(a, b) if a < b:
            return _uniform_shape(a, b)
        case Normal(loc, scale) if scale:
            return _normal_shape(loc, scale, -math.inf, math.inf)
        case TruncatedNormal(loc, scale, a, b) if scale and a < b:
            return _normal_shape(loc, scale, (a - loc) / scale, (b - loc) / scale)
    raise TypeError(f"{law} has no density")


def _uniform_shape(a: float, b: float) -> _Shape:
    def cdf(x: _Array) -> _Array:
        return ((x - a) / (b - a)).clip(0, 1)

    def quantiles(p: _Array) -> _Array:
        return a + (b - a) * p

    return _Shape(cdf, quantiles, (a + b) / 2, (b - a) / math.sqrt(12), 9 / 5)


def _normal_shape(loc: float, scale: float, low: float, high: float) -> _Shape:
    """A normal between bounds in standard units; the right tail mirrored, to keep its digits."""
    special = _scipy("special")
    sign = -1.0 if low > 0 else 1.0
    start, stop = (float(special.ndtr(sign * bound)) for bound in (low, high))

    def cdf(x: _Array) -> _Array:
        below = special.ndtr(sign * ((x - loc) / scale).clip(low, high))
        return np.asarray((below - start) / (stop - start))

    def quantiles(p: _Array) -> _Array:
        return np.asarray(loc + scale * sign * special.ndtri(start + p * (stop - start)))

    mean, std, kurtosis = _normal_moments(low, high)
    return _Shape(cdf, quantiles, loc + scale * mean, scale * std, kurtosis)


def _normal_moments(low: float, high: float) -> tuple[float, float, float]:
    """Mean, standard deviation and kurtosis of a standard normal between bounds."""
    nodes, weights = _gauss(400)
    a, b = max(low, min(high, 0.0) - 12), min(high, max(low, 0.0) + 12)
    z = (a + b) / 2 + (b - a) / 2 * nodes
    nearest = min(abs(a), abs(b)) if a * b > 0 else 0.0
    masses = weights * np.exp((nearest**2 - z * z) / 2)
    return _weighted(z, masses / masses.sum())


# Formats


def _reach(law: Distribution, fmt: Format) -> tuple[float, float]:
    """The least and the greatest number that portinit draws."""
    match law:
        case Uniform(a, b):
            return fmt.ceil(a), fmt.below(b)
        case TruncatedNormal(_, _, a, b):
            return fmt.ceil(a), fmt.floor(b)
    return -math.inf, math.inf


def _possible(x: _Array, law: Distribution, fmt: Format) -> bool:
    """Whether sorted values are finite and no further out than the bounds, rounded."""
    a, b = (law.a, law.b) if isinstance(law, Uniform | TruncatedNormal) else (-math.inf, math.inf)
    finite = np.isfinite(x[[0, -1]]).all()  # a NaN is sorted last
    return bool(finite and fmt.nearest(a) <= x[0] and x[-1] <= fmt.nearest(b))


def _spacing(fmt: Format, value: float) -> float:
    """The distance between the format's numbers at a value."""
    return math.ldexp(1.0, max(math.frexp(value)[1] - 1, fmt.min_exponent) - fmt.precision + 1)


@cache
def _numbers(dtype: np.dtype[Any]) -> _Array:
    """All finite numbers of a format of at most 16 bits, in order."""
    codes = np.arange(1 << (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    with np.errstate(invalid="ignore"):  # from what is not a number
        numbers = codes.view(dtype).astype(np.float64)
    return np.unique(numbers[np.isfinite(numbers)])


@cache
def _gauss(nodes: int) -> tuple[_Array, _Array]:
    return np.polynomial.legendre.leggauss(nodes)


def _scipy(module: str) -> Any:
    try:
        return importlib.import_module(f"scipy.{module}")
    except ImportError as error:
        message = "statistical tests need SciPy: pip install 'portinit[proof]'"
        raise ImportError(message) from error
