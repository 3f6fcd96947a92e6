"""P-values of any number of values against a distribution."""

from __future__ import annotations

import math

import numpy as np

from portinit.arrays.dtypes import float_format
from portinit.sampling.distributions import Distribution, Normal, Uniform
from portinit.sampling.truncated_normal import TruncatedNormal
from portinit.testing.arrays import Array, scipy_stats
from portinit.testing.goodness import FEWEST, goodness, scipy_law


def p_values(values: Array, law: Distribution) -> dict[str, float]:
    """P-values by the name of the test, of values that shall be draws of a distribution.

    1024 values and more have :func:`portinit.testing.goodness.goodness`; fewer have the exact test
    of Kolmogorov and Smirnov, and mean and variance of their normal scores. The parts of complex
    values are tested each for itself.
    """
    if values.dtype.kind == "c":
        real, imag = law.complex_parts()
        parts = ("real part", values.real, real), ("imaginary part", values.imag, imag)
        return {
            f"{test} of the {name}": p
            for name, part, of in parts
            for test, p in p_values(part, of).items()
        }
    if not np.isfinite(values.astype(np.float64)).all():
        return {"all values finite": 0.0}
    return goodness(values, law) if values.size >= FEWEST else _few(values, law)


def failed(tests: dict[str, float], alpha: float) -> list[str]:
    """A line for each test whose p-value is below its share of alpha."""
    level = alpha / max(1, len(tests))
    return [
        f"{name}: p = {p:.2g}, must be at least {level:.2g}"
        for name, p in tests.items()
        if p < level
    ]


def _few(values: Array, law: Distribution) -> dict[str, float]:
    if not values.size:
        return {}
    stats, fmt = scipy_stats(), float_format(values.dtype)
    x = values.astype(np.float64)
    low, high = _bounds(law)
    if x.min() < fmt.nearest(low) or x.max() > fmt.nearest(high):
        return {"bounds": 0.0}
    u = scipy_law(law).cdf(x)
    rounding = 2.0 ** -(fmt.precision + 1)  # a value on the bound stands for those near it
    scores = stats.norm.ppf(np.clip(u, rounding, 1 - rounding))
    spread = stats.chi2(x.size)
    squares = float(scores @ scores)
    return {
        "kolmogorov-smirnov": float(stats.kstest(u, "uniform").pvalue),
        "mean": math.erfc(abs(float(scores.sum())) / math.sqrt(2 * x.size)),
        "variance": min(1.0, 2 * float(min(spread.cdf(squares), spread.sf(squares)))),
    }


def _bounds(law: Distribution) -> tuple[float, float]:
    match law:
        case Uniform(a, b) | TruncatedNormal(a=a, b=b):
            return a, b
    return -math.inf, math.inf


def in_words(law: Distribution) -> str:
    """A distribution as a person would write it: ``N(0, 0.02^2)``."""
    match law:
        case Uniform(a, b):
            return f"U[{a:.4g}, {b:.4g})"
        case Normal(loc, scale):
            return f"N({loc:.4g}, {scale:.4g}^2)"
        case TruncatedNormal(loc, scale, a, b):
            return f"N({loc:.4g}, {scale:.4g}^2) in [{a:.4g}, {b:.4g}]"
    return repr(law)
