"""Two arrays that may be draws of one distribution, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from portinit.testing.arrays import Array, as_double, scipy_stats, to_numpy
from portinit.testing.fits import failed


def assert_same_distribution(a: Any, b: Any, *, alpha: float = 1e-6) -> None:
    """Assert that two arrays can be independent draws from one distribution.

    The test of Kolmogorov and Smirnov, and Welch's and Levene's tests of means and of spreads.
    Ties, as of bfloat16 values, make the first fail less often, never more. The three find a
    difference of s standard deviations in the mean from about 80 / s^2 values on either side.

    Args:
        a: an array of any framework, shape and real or complex dtype; not empty.
        b: likewise; the sizes may differ.
        alpha: the chance of failing by chance, over all tests together; each of k has 1 / k of it.

    Raises:
        AssertionError: telling which test failed, its p-value, and both means and stds.
        ValueError: an array is empty.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> assert_same_distribution(rng.normal(size=(30, 40)), rng.normal(size=500))
    """
    left, right = to_numpy(a).reshape(-1), to_numpy(b).reshape(-1)
    if not (left.size and right.size):
        raise ValueError(f"both arrays must have values, got {left.size} and {right.size}")
    lines = failed(dict(_tests(left, right)), alpha)
    if lines:
        sides = [f"a: {_summary(left)}", f"b: {_summary(right)}"]
        head = "both arrays must be draws from one distribution:"
        raise AssertionError("\n  ".join([head, *sides, *lines]))


def _tests(a: Array, b: Array) -> Iterator[tuple[str, float]]:
    if "c" in (a.dtype.kind, b.dtype.kind):
        for part, x, y in (("real", a.real, b.real), ("imaginary", a.imag, b.imag)):
            for name, p in _tests(x, y):
                yield f"{name} of the {part} part", p
        return
    x, y = as_double(a), as_double(b)
    if not np.isfinite(x).all() or not np.isfinite(y).all():
        yield "all values finite", 0.0
        return
    stats = scipy_stats()
    yield "kolmogorov-smirnov", float(stats.ks_2samp(x, y).pvalue)
    if min(np.ptp(x), np.ptp(y)) > 0:  # else a spread is 0, and no scale for the other
        yield "mean", float(stats.ttest_ind(x, y, equal_var=False).pvalue)
        yield "spread", float(stats.levene(x, y, center="median").pvalue)


def _summary(values: Array) -> str:
    x = as_double(values)
    return f"{x.size} values, mean {x.mean():.4g}, std {x.std():.4g}"
