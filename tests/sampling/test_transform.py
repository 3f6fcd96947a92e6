"""Laws and their steps as data: what a word goes through, at the limits of the formats."""

import math
from collections.abc import Callable
from typing import Any

import array_api_compat.numpy as xnp
import numpy as np
import pytest

from portinit.arrays.dtypes import float_format
from portinit.sampling.distributions import Constant, Distribution, Normal, Uniform
from portinit.sampling.quantile import quantile
from portinit.sampling.transform import (
    Transform,
    affine_fields,
    at_least,
    at_most,
    flushed,
    is_normal,
    rounded,
)
from portinit.sampling.truncated_normal import TruncatedNormal

INF = math.inf
FLOAT32, FLOAT64, FLOAT16, BFLOAT16 = map(
    float_format, ("float32", "float64", "float16", "bfloat16")
)
TINY = {FLOAT32: 2.0**-126, FLOAT64: 2.0**-1022}  # the smallest normal numbers
BOTH = pytest.mark.parametrize("fmt", TINY, ids=lambda fmt: fmt.name)

# Denormals, which some machines flush to zero


@BOTH
def test_a_constant_is_kept_from_the_smallest_normal_number_on(fmt: Any) -> None:
    below = math.nextafter(TINY[fmt], 0.0)
    assert is_normal(TINY[fmt], fmt)
    assert is_normal(-TINY[fmt], fmt)
    assert not is_normal(below, fmt)
    assert flushed(-TINY[fmt], fmt) == -TINY[fmt]
    assert str(flushed(-below, fmt)) == "0.0"


@BOTH
def test_bounds_are_zero_or_normal(fmt: Any) -> None:
    tiny = TINY[fmt]
    for bound in (tiny, -tiny):
        assert at_least(bound, fmt) == at_most(bound, fmt) == bound
    assert (at_least(tiny / 2, fmt), at_most(tiny / 2, fmt)) == (tiny, 0.0)
    assert (at_least(-tiny / 2, fmt), at_most(-tiny / 2, fmt)) == (0.0, -tiny)


@pytest.mark.parametrize("bound", [0.0, -0.0, -1e-320])
def test_a_lower_bound_of_zero_has_no_sign(bound: float) -> None:
    assert str(at_least(bound, FLOAT64)) == "0.0"


@pytest.mark.parametrize("bound", [0.0, -0.0, 1e-320])
def test_an_upper_bound_of_zero_has_no_sign(bound: float) -> None:
    assert str(at_most(bound, FLOAT64)) == "0.0"


def test_bounds_are_numbers_of_the_format() -> None:
    assert (at_least(1.001, BFLOAT16), at_most(1.001, BFLOAT16)) == (1 + 2**-7, 1.0)
    assert (at_least(-INF, FLOAT16), at_most(INF, FLOAT16)) == (-65504.0, 65504.0)


# Transform


def test_steps_that_say_nothing_do_nothing() -> None:
    assert Transform(1.0) == Transform(1.0, None, False, None, 0, 0, -INF, INF)


def test_a_scale_is_a_factor_as_long_as_it_is_normal() -> None:
    smallest = 2.0 ** (28 - 126)
    assert affine_fields(0.0, smallest, FLOAT32) == {"scale": 2.0**-126}
    below = affine_fields(0.0, math.nextafter(smallest, 0.0), FLOAT32)
    assert below == {"scale": 2.0**-124, "factor": 2**30, "offset": 0}


def test_an_offset_is_added_before_the_one_multiplication() -> None:
    # 30 fraction bits and sign: |1| + 16 * 0.5 = 9 needs 4 bits before the point.
    steps = {"scale": 2.0**-26, "factor": 2 ** (26 + 32 - 28 - 1), "offset": 2**26}
    assert affine_fields(1.0, 0.5, FLOAT32) == steps


def test_a_reach_beyond_floats_has_the_point_of_the_largest() -> None:
    assert affine_fields(1.0, 1e308, FLOAT64)["scale"] == 2.0 ** (1024 - 62)


def test_a_uniform_that_starts_at_zero_or_is_symmetric_keeps_every_bit() -> None:
    law = Uniform(0.0, 3.0).transform(FLOAT32)
    assert law == Transform(3.0 * 2.0**-24, shift=8, offset=2**23, low=0.0, high=3.0 - 2**-22)
    law = Uniform(-3.0, 3.0).transform(FLOAT32)
    assert law == Transform(3.0 * 2.0**-23, shift=8, low=-3.0, high=3.0 - 2**-22)


def test_any_other_uniform_is_a_span_of_fixed_point_numbers() -> None:
    law = Uniform(1.0, 3.0).transform(FLOAT32)
    assert law == Transform(2.0**-28, span=(2**29, 2**28), low=1.0, high=3.0 - 2**-22)


@pytest.mark.parametrize(("a", "digits"), [(0.0, 24), (-1.0, 23)])
def test_a_uniform_of_denormal_steps_is_a_span(a: float, digits: int) -> None:
    for b, spans in ((2.0 ** (digits - 126), False), (2.0 ** (digits - 127), True)):
        steps = Uniform(a * b, b).transform(FLOAT32)
        assert isinstance(steps, Transform)
        assert (steps.span is not None) == spans


def test_only_what_may_overflow_is_bounded() -> None:
    least = FLOAT16.largest / 10
    assert Normal(0.0, least).transform(FLOAT16) == Transform(least / 2**28, quantile=True)
    for law in (Normal(1.0, least), Normal(-1.0, least)):
        steps = law.transform(FLOAT16)
        assert isinstance(steps, Transform)
        assert (steps.low, steps.high) == (-65504.0, 65504.0)


def test_bounds_that_cut_nothing_leave_every_word() -> None:
    law = TruncatedNormal(0.0, 1.0, -INF, INF).transform(FLOAT32)
    assert law == Transform(2.0**-28, quantile=True, low=-FLOAT32.largest, high=FLOAT32.largest)
    law = TruncatedNormal(0.0, 1.0, 0.0, INF).transform(FLOAT32)
    assert law == Transform(
        2.0**-28,
        span=(2**31, 0),  # half of the words
        quantile=True,
        low=0.0,
        high=FLOAT32.largest,
    )


def test_a_truncated_normal_draws_the_ranks_within_its_bounds() -> None:
    words = np.arange(3000, dtype=np.int32) - 10**9
    z = quantile(xnp, words, 32)
    a, b = z[500], z[2500]
    within = words[(z >= a) & (z <= b)]
    law = TruncatedNormal(0.0, 1.0, float(a) / 2**28, float(b) / 2**28).transform(FLOAT32)
    assert isinstance(law, Transform)
    assert law.span == (len(within), within[0])


@pytest.mark.parametrize(("a", "rank"), [(20.0, 2**31 - 1), (-21.0, -(2**31))])
def test_beyond_the_outermost_quantile_there_is_one_rank(a: float, rank: int) -> None:
    law = TruncatedNormal(0.0, 1.0, a, a + 1).transform(FLOAT32)
    assert isinstance(law, Transform)
    assert law.span == (1, rank)


@pytest.mark.parametrize(
    ("law", "value"),
    [
        (Constant(0.3), 0.3),
        (Uniform(0.3, 0.3), 0.3),
        (Uniform(1.01, 1.011), 1.0078125),  # the lower of bfloat16's neighbours
        (Uniform(1e-40, 2e-40), 0.0),
        (Normal(0.3, 0.0), 0.3),
        (TruncatedNormal(0.3, 0.0, 0.0, 1.0), 0.3),
        (TruncatedNormal(0.3, 0.0, 1.0, 2.0), 1.0),
        (TruncatedNormal(0.3, 0.0, -2.0, -1.0), -1.0),
        (TruncatedNormal(1.0, 0.1, 1.01, 1.011), 1.01),
        (TruncatedNormal(1.0, 0.1, 1.009, 1.01), 1.009),
        (TruncatedNormal(2.0, 0.1, 1.009, 1.01), 1.01),
        (TruncatedNormal(0.0, 1.0, 1e-40, 2e-40), 0.0),
    ],
    ids=str,
)
def test_a_law_of_one_value_has_no_steps(law: Distribution, value: float) -> None:
    assert law.transform(BFLOAT16) == value


def test_a_constant_is_rounded_once_to_the_arithmetics_format() -> None:
    assert rounded(0.1, FLOAT32) == float(np.float32(0.1)) != 0.1
    assert rounded(0.1, FLOAT64) == 0.1


def test_a_bound_on_one_side_is_a_bound() -> None:
    words = np.asarray([-9, 0, 9], np.int32)
    assert Transform(1.0, low=-2.0).apply(xnp, words, FLOAT32).tolist() == [-2, 0, 9]
    assert Transform(1.0, high=2.0).apply(xnp, words, FLOAT32).tolist() == [-9, 0, 2]


def test_what_overflows_is_bounded_without_a_warning() -> None:
    words = np.asarray([-(2**31), 2**31 - 1], np.int32)
    values = Normal(0.0, 1e38).sample(xnp, words, FLOAT32)
    assert values.tolist() == [-FLOAT32.largest, FLOAT32.largest]


# Laws made of laws


@pytest.mark.parametrize(
    ("law", "factor", "scaled"),
    [
        (Constant(3.0), -2.0, Constant(-6.0)),
        (Uniform(-1.0, 3.0), 2.0, Uniform(-2.0, 6.0)),
        (Uniform(-1.0, 3.0), -2.0, Uniform(-6.0, 2.0)),
        (Normal(1.0, 3.0), -2.0, Normal(-2.0, 6.0)),
        (TruncatedNormal(1.0, 3.0, -4.0, 5.0), 2.0, TruncatedNormal(2.0, 6.0, -8.0, 10.0)),
        (TruncatedNormal(1.0, 3.0, -4.0, INF), -2.0, TruncatedNormal(-2.0, 6.0, -INF, 8.0)),
        (TruncatedNormal(1.0, 3.0, -4.0, INF), 1.0, TruncatedNormal(1.0, 3.0, -4.0, INF)),
        (TruncatedNormal(1.0, 3.0, -4.0, INF), 0.0, TruncatedNormal(0.0, 0.0, 0.0, 0.0)),
    ],
    ids=str,
)
def test_a_factor_scales_a_law(law: Distribution, factor: float, scaled: Distribution) -> None:
    assert law.scaled(factor) == scaled


@pytest.mark.parametrize(
    ("law", "part"),
    [
        (Uniform(-1.0, 3.0), Uniform(-1.0, 3.0)),
        (Normal(1.0, 3.0), Normal(1.0, 3.0 * math.sqrt(0.5))),
        (
            TruncatedNormal(0.0, 1.0, -2.0, INF),
            TruncatedNormal(0.0, 1.0, -2.0, INF).scaled(0.5**0.5),
        ),
    ],
    ids=str,
)
def test_both_parts_of_a_complex_law_are_alike(law: Distribution, part: Distribution) -> None:
    assert law.complex_parts() == (part, part)


@pytest.mark.parametrize(
    ("law", "mean", "std"),
    [
        (Constant(-0.3), -0.3, 0.0),
        (TruncatedNormal(0.3, 0.0, 0.0, 1.0), 0.3, 0.0),
        # Beyond what doubles can tell apart, all lies at the bound nearer to the mean.
        (TruncatedNormal(1.0, 1.0, 51.0, 61.0), 51.0, 0.0),
        (TruncatedNormal(1.0, 1.0, -INF, -49.0), -49.0, 0.0),
        (TruncatedNormal(0.0, 1.0, -1e-300, 1e-300), 0.0, 0.0),
    ],
    ids=str,
)
def test_moments_without_a_spread(law: Distribution, mean: float, std: float) -> None:
    assert (law.mean, law.std) == (mean, std)


def test_moments_above_the_mean_follow_mean_and_std() -> None:
    law, unit = TruncatedNormal(1.0, 2.0, 4.0, 9.0), TruncatedNormal(0.0, 1.0, 1.5, 4.0)
    assert law.mean == pytest.approx(1 + 2 * unit.mean, rel=1e-12)
    assert law.std == pytest.approx(2 * unit.std, rel=1e-12)


# What a format has room for


@pytest.mark.parametrize(
    "law",
    [
        Constant(1.0),
        Uniform(-65504.0, 0.0),
        Uniform(0.0, 65504.0),
        Normal(65504.0, 0.0),
        Normal(0.0, 65504.0),
        TruncatedNormal(65504.0, 1.0, 65504.0, INF),
        TruncatedNormal(-65504.0, 1.0, -INF, -65504.0),
        TruncatedNormal(0.0, 1.0, 5.0, 5.0),
        TruncatedNormal(0.0, 0.0, 1.0, 2.0),
    ],
    ids=str,
)
def test_a_law_may_reach_the_last_number_of_a_format(law: Distribution) -> None:
    law.check(FLOAT16)


def test_256_ranks_are_enough_for_a_truncated_normal() -> None:
    first = 10**6 - 2**31  # where two ranks share a quantile, and no more
    words = np.asarray([first, first + 253, first + 255], np.int32)
    a, less, b = (float(z) / 2.0**28 for z in quantile(xnp, words, 32))
    TruncatedNormal(0.0, 1.0, a, b).check(FLOAT32)
    with pytest.raises(ValueError, match="must hold at least"):
        TruncatedNormal(0.0, 1.0, a, less).check(FLOAT32)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Uniform(0.0, 70000.0),
        lambda: Uniform(-70000.0, 0.0),
        lambda: Normal(0.0, 70000.0),
        lambda: Normal(-70000.0, 0.0),
        lambda: TruncatedNormal(0.0, 1.0, 70000.0, INF),
        lambda: TruncatedNormal(0.0, 1.0, -INF, -70000.0),
    ],
)
def test_a_law_beyond_the_last_number_is_refused(build: Callable[[], Distribution]) -> None:
    with pytest.raises(ValueError, match=r"within 65504 .*for float16, got .*70000"):
        build().check(FLOAT16)
