"""Every random initializer has the distribution it is named for.

The table gives scipy's distribution of each, with parameters worked out by hand from the papers'
formulas, not by portinit's code. Keys are fixed, so a test that passes always passes.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import stats

import portinit as pi
from portinit.sampling.truncated_normal import TruncatedNormal

KEY = pi.key(2024)
SQRT3 = math.sqrt(3)
# std of a standard normal cut at 2 of its standard deviations; jax's own constant.
CUT = 0.87962566103423978


def uniform(a: float, b: float) -> Any:
    return stats.uniform(a, b - a)


def cut_normal(std: float) -> Any:
    """A normal cut at two of its deviations, of which a standard deviation ``std`` is left."""
    return stats.truncnorm(-2, 2, scale=std / CUT)


@dataclass(frozen=True)
class Row:
    initializer: pi.Initializer
    expected: Any  # a frozen distribution of scipy's
    shape: tuple[int, ...] = (250, 400)  # PyTorch's: 250 outputs, 400 inputs


CONV = (64, 32, 7, 7)  # 64 outputs, 32 inputs: fan_in 1568, fan_out 3136

TABLE = {
    "uniform": Row(pi.uniform(), uniform(0, 1)),
    "uniform symmetric": Row(pi.uniform(-0.3, 0.3), uniform(-0.3, 0.3)),
    "uniform asymmetric": Row(pi.uniform(-0.3, 1.7), uniform(-0.3, 1.7)),
    "normal": Row(pi.normal(), stats.norm(0, 1)),
    "normal with mean": Row(pi.normal(-2.0, 0.5), stats.norm(-2, 0.5)),
    "trunc_normal": Row(pi.trunc_normal(), stats.truncnorm(-2, 2)),
    "trunc_normal asymmetric": Row(
        # (a - mean) / std = -1 and (b - mean) / std = 3
        pi.trunc_normal(1.0, 0.5, 0.5, 2.5),
        stats.truncnorm(-1, 3, loc=1, scale=0.5),
    ),
    "trunc_normal one-sided": Row(
        pi.trunc_normal(0.0, 1.0, 1.0, math.inf), stats.truncnorm(1, math.inf)
    ),
    "trunc_normal tail": Row(pi.trunc_normal(0.0, 1.0, 3.0, 4.0), stats.truncnorm(3, 4)),
    "trunc_normal that cuts nothing": Row(pi.trunc_normal(std=0.02), stats.norm(0, 0.02)),
    "truncated_normal": Row(pi.truncated_normal(), stats.truncnorm(-2, 2, scale=0.01)),
    "truncated_normal wide": Row(
        pi.truncated_normal(0.5, -1.0, 3.0), stats.truncnorm(-1, 3, scale=0.5)
    ),
    # Glorot: Var = 2 / (400 + 250)
    "xavier_uniform": Row(pi.xavier_uniform(), uniform(-math.sqrt(6 / 650), math.sqrt(6 / 650))),
    "xavier_normal": Row(pi.xavier_normal(2.0), stats.norm(0, 2 * math.sqrt(2 / 650))),
    "glorot_uniform": Row(pi.glorot_uniform(), uniform(-math.sqrt(6 / 650), math.sqrt(6 / 650))),
    "glorot_normal": Row(pi.glorot_normal(), cut_normal(math.sqrt(2 / 650))),
    # He: Var = 2 / fan; PyTorch's default is leaky_relu of slope 0
    "kaiming_uniform": Row(pi.kaiming_uniform(), uniform(-math.sqrt(6 / 400), math.sqrt(6 / 400))),
    "kaiming_uniform of Linear": Row(pi.kaiming_uniform(a=math.sqrt(5)), uniform(-0.05, 0.05)),
    "kaiming_normal": Row(pi.kaiming_normal(), stats.norm(0, math.sqrt(2 / 400))),
    "kaiming_normal fan_out": Row(
        pi.kaiming_normal(mode="fan_out", nonlinearity="relu"), stats.norm(0, math.sqrt(2 / 250))
    ),
    "kaiming_normal leaky": Row(pi.kaiming_normal(0.5), stats.norm(0, math.sqrt(2 / 1.25 / 400))),
    "he_uniform": Row(pi.he_uniform(), uniform(-math.sqrt(6 / 400), math.sqrt(6 / 400))),
    "he_normal": Row(pi.he_normal(), cut_normal(math.sqrt(2 / 400))),
    # LeCun: Var = 1 / fan_in = 1 / 400
    "lecun_uniform": Row(pi.lecun_uniform(), uniform(-0.05 * SQRT3, 0.05 * SQRT3)),
    "lecun_normal": Row(pi.lecun_normal(), cut_normal(0.05)),
    "variance_scaling fan_out": Row(
        pi.variance_scaling(1.0, "fan_out", "normal"), stats.norm(0, math.sqrt(1 / 250))
    ),
    "variance_scaling fan_avg": Row(
        pi.variance_scaling(0.5, "fan_avg", "normal"), stats.norm(0, math.sqrt(0.5 / 325))
    ),
    "variance_scaling fan_geo_avg": Row(
        pi.variance_scaling(1.0, "fan_geo_avg", "uniform"),
        uniform(-math.sqrt(3 / math.sqrt(1e5)), math.sqrt(3 / math.sqrt(1e5))),
    ),
    "kaiming_normal of a convolution": Row(
        pi.kaiming_normal(mode="fan_out"), stats.norm(0, math.sqrt(2 / 3136)), CONV
    ),
    "xavier_uniform of a convolution": Row(
        pi.xavier_uniform(), uniform(-math.sqrt(6 / 4704), math.sqrt(6 / 4704)), CONV
    ),
    "scaled": Row(pi.scaled(pi.normal(1.0, 0.5), -2.0), stats.norm(-2, 1)),
    "linear bias": Row(pi.layers.linear_bias(400), uniform(-0.05, 0.05)),
    "orthogonal, seen by the entry": Row(
        # An entry of a uniformly distributed unit vector of n dimensions: (x + 1) / 2 is
        # Beta((n - 1) / 2, (n - 1) / 2). One row of a matrix, as rows are not independent.
        pi.orthogonal(),
        stats.beta(199.5, 199.5, loc=-1, scale=2),
        (250, 400),
    ),
}
# Layouts of Flax's kernels are for other tests: here shapes are PyTorch's.
ROWS = pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)


def draw(row: Row, dtype: str = "float32") -> Any:
    return row.initializer(KEY, row.shape, dtype, layout="torch")


@ROWS
def test_the_distribution_function_is_scipys(row: Row) -> None:
    x = draw(row).reshape(-1).astype(np.float64)
    # Kolmogorov-Smirnov; of 33 sound rows, one in 3000 runs of other keys would fall below 1e-5.
    assert stats.kstest(x, row.expected.cdf).pvalue > 1e-5


@ROWS
def test_mean_and_variance_are_scipys(row: Row) -> None:
    x = draw(row).reshape(-1).astype(np.float64)
    mean, variance, kurtosis = row.expected.stats(moments="mvk")
    # 5 standard errors of each: sigma / sqrt(n), and sigma^2 sqrt((kurtosis + 2) / n).
    assert abs(x.mean() - mean) < 5 * math.sqrt(variance / x.size)
    assert abs(x.var() - variance) < 5 * variance * math.sqrt((kurtosis + 2) / x.size)


@ROWS
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_no_value_leaves_the_support(row: Row, dtype: str) -> None:
    low, high = row.expected.support()
    x = draw(row, dtype).astype(np.float64)
    slack = 1e-6 * max(1.0, abs(high)) if row.initializer == pi.orthogonal() else 0.0
    assert x.min() >= low - slack
    assert x.max() <= high + slack


@pytest.mark.parametrize("name", [name for name in TABLE if name.startswith("uniform")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_uniform_never_draws_its_upper_bound(name: str, dtype: str) -> None:
    # Rounding to bfloat16 would give b to one value in 512.
    row = TABLE[name]
    assert (draw(row, dtype).astype(np.float64) < row.expected.support()[1]).all()


@ROWS
def test_draws_of_neighbours_are_uncorrelated(row: Row) -> None:
    x = draw(row).reshape(-1).astype(np.float64)
    x -= x.mean()
    for lag in (1, 2, row.shape[-1]):
        correlation = (x[lag:] * x[:-lag]).mean() / x.var()
        assert abs(correlation) < 5 / math.sqrt(x.size)  # sigma of a sample correlation


@ROWS
def test_another_key_gives_other_values(row: Row) -> None:
    first = draw(row).reshape(-1).astype(np.float64)
    second = row.initializer(pi.key(2025), row.shape, layout="torch").reshape(-1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(first.size)


# Resolution: how many different values there are

# Of n draws from N equally likely ones, about n^2 / 2N coincide, give or take its square root.


def coincidences(values: Any) -> int:
    return values.size - len(np.unique(values))


def test_uniform_float32_has_2_to_the_24_values() -> None:
    n = 2**18
    expected = n**2 / 2**25  # 2048
    found = coincidences(pi.uniform()(KEY, (n,)))
    assert abs(found - expected) < 6 * math.sqrt(expected)


def test_normal_float32_keeps_more_than_24_bits() -> None:
    # float32 itself merges large values; 2**24 equally likely ones would merge 2048.
    assert coincidences(pi.normal()(KEY, (2**18,))) < 2048


@pytest.mark.parametrize("initializer", [pi.uniform(), pi.normal(), pi.trunc_normal()])
def test_float64_values_do_not_coincide(initializer: pi.Initializer) -> None:
    # n^2 / 2N with N at least 2**52 is 1e-5.
    assert coincidences(initializer(KEY, (2**18,), "float64")) == 0


def test_float64_fills_the_bits_that_float32_has_not() -> None:
    x = pi.uniform()(KEY, (2**16,), "float64")
    beyond = np.modf(x * 2.0**24)[0]
    assert stats.kstest(beyond, "uniform").pvalue > 1e-4


def test_the_tails_of_the_normal_are_as_heavy_as_they_should_be() -> None:
    x = np.abs(pi.normal()(KEY, (2**22,)))
    for bound in (3, 4, 4.5):
        expected = x.size * 2 * stats.norm.sf(bound)
        assert abs((x > bound).sum() - expected) < 5 * math.sqrt(expected)


def test_uniform_low_bits_are_fair() -> None:
    codes = (pi.uniform()(KEY, (2**18,)) * 2.0**24).astype(np.int64)
    counts = np.bincount(codes & 255, minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-4


def test_rounding_to_bfloat16_moves_no_mean() -> None:
    # Truncation instead of rounding would shrink values by 2**-9 in the mean.
    x = pi.uniform()(KEY, (2**20,), "bfloat16").astype(np.float64)
    assert abs(x.mean() - 0.5) < 5 / math.sqrt(12 * x.size)


# Complex numbers: torch's and JAX's definitions


@pytest.mark.parametrize(
    ("initializer", "real", "imag"),
    [
        # torch: normal_ of std 1 has variance 1 in all, half in each part.
        (pi.normal(), stats.norm(0, math.sqrt(0.5)), stats.norm(0, math.sqrt(0.5))),
        (pi.normal(3.0, 1.0), *[stats.norm(3, math.sqrt(0.5))] * 2),
        # torch: uniform_ fills both parts from [a, b).
        (pi.uniform(-1, 2), uniform(-1, 2), uniform(-1, 2)),
        # lecun: variance 1 / 400 in all.
        (pi.lecun_uniform(), *[uniform(-math.sqrt(1.5) / 20, math.sqrt(1.5) / 20)] * 2),
    ],
)
def test_complex_parts_are_independent_draws(
    initializer: pi.Initializer, real: Any, imag: Any
) -> None:
    x = initializer(KEY, (250, 400), "complex64", layout="torch").reshape(-1)
    assert stats.kstest(x.real, real.cdf).pvalue > 1e-4
    assert stats.kstest(x.imag, imag.cdf).pvalue > 1e-4
    assert abs(np.corrcoef(x.real, x.imag)[0, 1]) < 5 / math.sqrt(x.size)


def test_the_distribution_is_the_same_in_every_framework() -> None:
    # test_exactness.py compares bits; here a last look at what comes out of torch and JAX.
    for xp in (torch, jnp):
        x = np.asarray(pi.normal()(KEY, (2**16,), xp=xp), dtype=np.float64)
        assert stats.kstest(x, "norm").pvalue > 1e-4


@pytest.mark.parametrize(("a", "b"), [(7.5, 8.0), (8.0, 9.0), (0.5, math.inf), (3.0, 3.5)])
def test_moments_far_from_the_mean_are_those_of_scipy(a: float, b: float) -> None:
    for law, mirrored in ((TruncatedNormal(0, 1, a, b), 1), (TruncatedNormal(0, 1, -b, -a), -1)):
        wanted = stats.truncnorm(law.a, law.b)
        assert law.mean == pytest.approx(mirrored * abs(wanted.mean()), rel=1e-6)
        assert law.std == pytest.approx(wanted.std(), rel=1e-3)
