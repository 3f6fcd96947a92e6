"""Rounding, for arguments that nobody tabulated: each value is the exact one, rounded as stated.

Words are chosen, not drawn: the ends of their range, their middle, and some between. The exact
values come from golden/make.py's steps, which are integers, fractions and mpmath.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import portinit as pi
from portinit.arrays.dtypes import float_format
from portinit.backends.registry import backend_of
from portinit.sampling.distributions import Distribution, Normal, Uniform
from portinit.sampling.truncated_normal import TruncatedNormal

INF = math.inf
KEY = pi.key(0)
FLOAT8 = {"float8_e4m3fn": (4, -6), "float8_e5m2": (3, -14)}  # precision, least exponent
PRECISIONS = {
    "float64": (53, -1022),
    "float32": (24, -126),
    "bfloat16": (8, -126),
    "float16": (11, -14),
    **FLOAT8,
}
NARROW = ["bfloat16", "float16", *FLOAT8]
DTYPES = ["float32", *NARROW]

# The ends of signed and of unsigned words, the middle, and some between.
UNSIGNED = [0, 1, 2**31 - 2, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1]
UNSIGNED += [0x12345678, 0x9E3779B9, 0xDEADBEEF]
WORDS = {
    32: np.asarray(UNSIGNED, np.uint32).view(np.int32),
    64: np.asarray([w << 32 | w for w in UNSIGNED], np.uint64).view(np.int64),
}


@pytest.fixture(scope="module")
def exact(reference: ModuleType) -> Iterator[ModuleType]:
    """golden/make.py, with the eight-bit formats added to its tables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, (precision, least) in FLOAT8.items():
            patch.setitem(reference.PRECISION, name, precision)
            patch.setitem(reference.MIN_EXPONENT, name, least)
        patch.setattr(reference, "step_at", step_at)
        yield reference


def step_at(x: Fraction, dtype: str) -> Fraction:
    """As make.py's, which counts exponents one by one."""
    precision, least = PRECISIONS[dtype]
    if not x:
        return Fraction(2) ** (least - precision + 1)
    exponent = abs(x.numerator).bit_length() - x.denominator.bit_length()
    exponent -= abs(x) < Fraction(2) ** exponent
    return Fraction(2) ** (max(exponent, least) - precision + 1)


def drawn(law: Distribution, dtype: str, xp: Any = np) -> Any:
    """What the chosen words give, rounded to the dtype as an initializer rounds."""
    fmt, backend = float_format(dtype), backend_of(KEY, xp)
    words = WORDS[fmt.bits]
    given = torch.from_numpy(words) if xp is torch else xp.asarray(words)
    return backend.cast(backend.fusion_barrier(law.sample(backend.xp, given, fmt)), dtype)


def numbers(array: Any) -> list[float]:
    values = array.double().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
    return [float(x) for x in values]


def signed_numbers(array: Any) -> list[str]:
    """Text that tells -0.0 from 0.0, and a nan from a number."""
    return [str(x) for x in numbers(array)]


# Exact values


def rounded(exact: ModuleType, x: Fraction, low: Any, high: Any, dtype: str) -> float:
    """x, held within two numbers of a format, and rounded to it."""
    return float(exact.nearest(min(max(x, low), high), dtype))


def at_most(exact: ModuleType, x: float, dtype: str, *, strictly: bool = False) -> Any:
    """The largest number of a format that is at most x, or below it."""
    if math.isinf(x):
        return x
    just = Fraction(x) - (Fraction(1, 2**1100) if strictly else 0)
    step = exact.step_at(just, dtype)
    return math.floor(just / step) * step


def exact_uniform(exact: ModuleType, law: Uniform, dtype: str) -> list[float]:
    bits = float_format(dtype).bits
    work, mantissa = ("float64", 53) if bits == 64 else ("float32", 24)
    point = exact.fraction_bits_for(max(abs(law.a), abs(law.b)), bits)
    first, last = exact.fixed(law.a, point), exact.fixed(law.b, point)

    def value(word: int) -> Fraction:
        top = math.floor(Fraction(word, 2 ** (bits - mantissa)))
        if law.a == -law.b:
            return exact.product(top, Fraction(law.b) / 2 ** (mantissa - 1), work)
        if law.a == 0:
            top += 2 ** (mantissa - 1)
            return exact.product(top, Fraction(law.b) / 2**mantissa, work)
        share = (word + 2 ** (bits - 1)) * (last - first) // 2**bits
        return exact.product(first + share, Fraction(2) ** -point, work)

    low, high = -at_most(exact, -law.a, dtype), at_most(exact, law.b, dtype, strictly=True)
    return [rounded(exact, value(int(w)), low, high, dtype) for w in WORDS[bits]]


def exact_affine(exact: ModuleType, z: int, mean: float, std: float, bits: int) -> Fraction:
    work, fraction = ("float64", 59) if bits == 64 else ("float32", 28)
    if mean == 0:
        return exact.product(z, Fraction(std) / 2**fraction, work)
    point = exact.fraction_bits_for(abs(mean) + 16 * std, bits)
    scaled = z * exact.fixed(std, point + bits - fraction) // 2**bits
    return exact.product(exact.fixed(mean, point) + scaled, Fraction(2) ** -point, work)


def exact_quantile(exact: ModuleType, c: int, bits: int) -> int:
    if bits == 32:
        return int(exact.quantile32(c))
    # At p = 1/2 the table ends, with the quantile itself instead of a polynomial near it.
    ends = exact.nearest(exact.tail(c, 64)[1], "float64") == 2**63
    return 0 if ends else int(exact.quantile64(c))


def exact_normal(exact: ModuleType, law: Normal, dtype: str) -> list[float]:
    bits = float_format(dtype).bits
    zs = [exact_quantile(exact, int(c), bits) for c in WORDS[bits]]
    values = [exact_affine(exact, z, law.loc, law.scale, bits) for z in zs]
    return [float(exact.nearest(x, dtype)) for x in values]


def exact_truncated(exact: ModuleType, law: TruncatedNormal, dtype: str) -> list[float]:
    cuts = [max(-16.0, min((x - law.loc) / law.scale, 16.0)) for x in (law.a, law.b)]
    first = exact.first_rank(exact.fixed(cuts[0], 28))
    last = exact.first_rank(exact.fixed(cuts[1], 28) + 1)
    low, high = -at_most(exact, -law.a, dtype), at_most(exact, law.b, dtype)

    def value(word: int) -> Fraction:
        c = first + (word + 2**31) * (last - first) // 2**32
        return exact_affine(exact, exact.quantile32(c), law.loc, law.scale, 32)

    return [rounded(exact, value(int(w)), low, high, dtype) for w in WORDS[32]]


# Arguments: any significand, any exponent between those that make a result denormal or infinite


def magnitudes(least: int, most: int) -> st.SearchStrategy[float]:
    return st.builds(
        math.ldexp,
        st.floats(1, 2, exclude_max=True) | st.sampled_from([1.0, 1.25, 2 - 2**-52, 1 + 2**-23]),
        st.integers(least, most - 1),
    )


def reals(least: int, most: int) -> st.SearchStrategy[float]:
    sized = magnitudes(least, most)
    return sized | sized.map(lambda x: -x) | st.just(0.0)


# A result of these stays within what the format can hold, far from float32's denormals.
RANGE = {
    "float64": (-900, 900),
    "float32": (-90, 120),
    "bfloat16": (-90, 120),
    "float16": (-30, 12),
    "float8_e4m3fn": (-16, 5),
    "float8_e5m2": (-24, 12),
}
searched = settings(derandomize=True, database=None, deadline=None, max_examples=20)


def next_to(x: float, ulps: int, dtype: str) -> float:
    """A number a few units of a format's last place above x."""
    return x + ulps * math.ldexp(1.0, math.frexp(x)[1] - float_format(dtype).precision)


def both(law: Distribution, dtype: str) -> list[float]:
    """What the words give in NumPy, once torch has given the same."""
    values = numbers(drawn(law, dtype))
    assert numbers(drawn(law, dtype, torch)) == values
    return values


@pytest.mark.parametrize("dtype", ["float64", *DTYPES])
def test_a_uniform_value_is_the_exact_one_rounded(exact: ModuleType, dtype: str) -> None:
    @searched
    @given(reals(*RANGE[dtype]), reals(*RANGE[dtype]), st.integers(0, 40))
    def holds(a: float, b: float, ulps: int) -> None:
        low, high = sorted((a, next_to(a, ulps, dtype) if 0 < ulps < 20 else b))
        if ulps == 40:
            low, high = -abs(a), abs(a)
        assume(low < high and -at_most(exact, -low, dtype) < high)
        law = Uniform(low, high)
        values = both(law, dtype)
        assert values == exact_uniform(exact, law, dtype)
        assert all(low <= x < high for x in values)

    holds()


@pytest.mark.parametrize("dtype", ["float64", *DTYPES])
def test_a_normal_value_is_the_exact_one_rounded(exact: ModuleType, dtype: str) -> None:
    @searched
    @given(reals(*RANGE[dtype]), magnitudes(*RANGE[dtype]))
    @example(0.0, 1.0)
    @example(1.0, math.ldexp(1.0, -20))
    def holds(mean: float, std: float) -> None:
        law = Normal(mean, std)
        assert both(law, dtype) == exact_normal(exact, law, dtype)

    holds()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_truncated_value_is_the_exact_one_rounded(exact: ModuleType, dtype: str) -> None:
    least, most = RANGE[dtype]

    @settings(searched, max_examples=12)
    @given(
        reals(least, most - 3),
        magnitudes(least, most - 3),
        st.floats(-4, 3.5) | st.just(-INF),
        st.floats(0.05, 6) | st.just(INF),
    )
    def holds(mean: float, std: float, low: float, width: float) -> None:
        a = mean + std * low if low > -INF else mean - 5 * std
        law = TruncatedNormal(mean, std, -INF if low == -INF else a, a + std * width)
        assume(law.a < law.b and -at_most(exact, -law.a, dtype) <= at_most(exact, law.b, dtype))
        try:
            law.check(float_format(dtype))
        except ValueError:  # too little mass
            assume(False)
        values = both(law, dtype)
        assert values == exact_truncated(exact, law, dtype)
        assert all(law.a <= x <= law.b for x in values)

    holds()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_result_is_0_or_no_denormal(dtype: str) -> None:
    smallest = float(np.finfo(dtype).tiny)
    tiny = math.frexp(smallest)[1]

    @settings(searched, max_examples=100)
    @given(reals(tiny - 20, tiny + 40), reals(tiny - 20, tiny + 40), magnitudes(tiny - 20, tiny))
    def holds(a: float, b: float, std: float) -> None:
        assume(a != b)
        laws = [Uniform(*sorted((a, b))), Normal(a, std), TruncatedNormal(a, std, -INF, a + std)]
        for law in laws:
            assert all(x == 0 or abs(x) >= smallest for x in both(law, dtype))

    holds()


# Arguments at the edges, in the three frameworks, compiled

ONE_UP = math.nextafter(1.0, 2.0)
EDGES: dict[str, Distribution] = {
    "uniform a float32 step wide": Uniform(1.0, 1.0 + 2**-23),
    "uniform a double's step wide": Uniform(1.0, ONE_UP),
    "uniform a bfloat16 step wide": Uniform(1.0, 1.0 + 2**-7),
    "uniform below a power of 2": Uniform(0.0, 1.0),
    "uniform below a number of every format": Uniform(-1.0, 0.5),
    "uniform below 0": Uniform(-1.0, 0.0),
    "uniform below -0.0": Uniform(-1.0, -0.0),
    "uniform from -0.0": Uniform(-0.0, 1.0),
    "uniform that no format holds": Uniform(1.01, 1.02),
    "uniform of one number": Uniform(0.3, 0.3),
    "uniform of float16's denormals": Uniform(-6e-8, 2e-7),
    "uniform below float16's denormals": Uniform(1e-9, 2e-9),
    "uniform to the last of e4m3fn": Uniform(-448.0, 448.0),
    "uniform far from 0": Uniform(300.0, 300.0 + 2**-10),
    "normal with a mean beyond its std": Normal(300.0, 1e-12),
    "normal with a std beyond its mean": Normal(1e-12, 10.0),
    "normal of float16's denormals": Normal(0.0, 1e-7),
    "normal that rounds to 0": Normal(0.0, 1e-30),
    "normal without spread": Normal(-0.0, 0.0),
    "truncated at representable bounds": TruncatedNormal(0.0, 1.0, -2.0, 2.0),
    "truncated between numbers": TruncatedNormal(0.0, 1.0, -1.0001, 0.9999),
    "truncated where no format has a number": TruncatedNormal(1.0, 0.1, 1.01, 1.02),
    "truncated from -0.0": TruncatedNormal(0.0, 1.0, -0.0, 1.0),
    "truncated far above": TruncatedNormal(0.0, 1.0, 4.0, INF),
    "truncated around a mean beyond its std": TruncatedNormal(300.0, 1e-3, 299.9995, 300.001),
    "truncated to one side": TruncatedNormal(0.0, 70.0, -INF, 1e-3),
    "truncated nowhere": TruncatedNormal(0.5, 0.3, -INF, INF),
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_edges_are_the_same_in_every_framework(dtype: str) -> None:
    compiled = jax.jit(lambda: [drawn(law, dtype, jnp) for law in EDGES.values()])()
    for (name, law), found in zip(EDGES.items(), compiled, strict=True):
        expected = signed_numbers(drawn(law, dtype))
        assert signed_numbers(drawn(law, dtype, torch)) == expected, name
        assert signed_numbers(found) == expected, name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EDGES)
def test_the_edges_stay_within_bounds(exact: ModuleType, name: str, dtype: str) -> None:
    law = EDGES[name]
    values = numbers(drawn(law, dtype))
    assert all(map(math.isfinite, values))
    if isinstance(law, Uniform) and -at_most(exact, -law.a, dtype) < law.b:
        assert all(law.a <= x < law.b for x in values)
    if isinstance(law, TruncatedNormal):
        least, most = -at_most(exact, -law.a, dtype), at_most(exact, law.b, dtype)
        assert least > most or all(law.a <= x <= law.b for x in values)


def test_a_uniform_of_every_double_between_two_floats_is_the_lower_one() -> None:
    for b in (ONE_UP, 1 + 2**-24, 1 + 2**-23):
        assert numbers(drawn(Uniform(1.0, b), "float32")) == [1.0] * len(UNSIGNED)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_step_is_the_references(reference: ModuleType, dtype: str) -> None:
    for x in (0, 1, -1, 3, Fraction(1, 3), Fraction(2**30 - 1), Fraction(-1, 2**14), 1e-44, -0.1):
        assert step_at(Fraction(x), dtype) == reference.step_at(Fraction(x), dtype)


def test_the_comparison_sees_a_last_bit(exact: ModuleType) -> None:
    law = Normal(0.5, 0.3)
    expected = exact_normal(exact, law, "float32")
    z = np.asarray([exact.quantile32(int(w)) for w in WORDS[32]]) * 2.0**-28
    naive = np.float32(0.5) + np.float32(0.3) * z.astype(np.float32)
    assert numbers(naive) != expected
    assert np.allclose(naive, expected, rtol=1e-6)


# At the ends of a format


def test_a_normal_beyond_e4m3fn_is_the_same_everywhere() -> None:
    law = Normal(0.0, 200.0)
    values = signed_numbers(drawn(law, "float8_e4m3fn"))
    assert signed_numbers(drawn(law, "float8_e4m3fn", torch)) == values


def test_a_truncated_value_stays_within_bounds_beyond_the_dtype() -> None:
    law = TruncatedNormal(0.0, 1e5, -1e5, 1e5)
    assert all(-1e5 <= x <= 1e5 for x in numbers(drawn(law, "float16")))


def test_a_truncated_value_has_one_sign_of_zero() -> None:
    law = TruncatedNormal(0.0, 1e-320, -1e-320, 1e-320)
    compiled = jax.jit(lambda: drawn(law, "float32", jnp))()
    assert signed_numbers(compiled) == signed_numbers(drawn(law, "float32"))


def test_a_huge_float64_normal_has_a_spread() -> None:
    assert len(set(numbers(drawn(Normal(1.0, 1e308), "float64")))) > 1


def test_a_denormal_bound_is_not_crossed() -> None:
    assert all(x >= 1e-39 for x in numbers(drawn(Uniform(1e-39, 1.0), "float32")))
