"""The draws pass tests of fit and of independence, and the tests themselves are right.

Keys and seeds are fixed: a test that passes always passes. Where m p-values are looked at, the
smallest must be above 1e-4 / m (Bonferroni), so one sound set of keys in ten thousand would fail.
``python -m pytest -m slow`` adds the tests of 10**9 draws, which take minutes.
"""

import math
import sys
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from scipy import stats
from tests.support.independence import RELATIONS, correlations, independence, relations, serial
from tools.streams import children, elements, names, positions

import portinit as pi
from portinit.arrays.dtypes import float_format
from portinit.sampling.distributions import Constant, Distribution, Normal, Uniform
from portinit.sampling.truncated_normal import TruncatedNormal
from portinit.testing import goodness as goodness_of_fit
from portinit.testing.goodness import anderson_darling, goodness, scipy_law

LAWS: dict[str, Distribution] = {
    "uniform": Uniform(0.0, 1.0),
    "symmetric uniform": Uniform(-0.05, 0.05),
    "asymmetric uniform": Uniform(-0.3, 1.7),
    "normal": Normal(0.0, 0.02),
    "normal with mean": Normal(1.0, 0.02),
    "truncated normal": TruncatedNormal(0.0, 1.0, -2.0, 2.0),
    "asymmetric truncated normal": TruncatedNormal(1.0, 0.5, 0.5, 2.5),
    "right tail": TruncatedNormal(0.0, 1.0, 3.0, 4.0),
    "left tail": TruncatedNormal(0.0, 1.0, -4.0, -3.0),
    "one-sided": TruncatedNormal(0.0, 1.0, 1.0, math.inf),
}
EACH_LAW = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
NARROW = ["bfloat16", "float16", "float8_e4m3fn"]
CONTINUOUS = {"kolmogorov-smirnov", "anderson-darling"}
ALL = {"chi-squared", "tails", "mean", "variance", *CONTINUOUS}
RANDOM = 20_100_923  # the seed of NumPy's generator

INITIALIZERS: dict[str, pi.Initializer] = {
    "uniform": pi.uniform(),
    "kaiming_uniform": pi.kaiming_uniform(a=math.sqrt(5)),
    "uniform with offset": pi.uniform(-0.3, 1.7),
    "normal": pi.normal(std=0.02),
    "normal with mean": pi.normal(1.0, 0.02),
    "trunc_normal": pi.trunc_normal(),
    "lecun_normal": pi.lecun_normal(),
    "tail": pi.trunc_normal(0.0, 1.0, 3.0, 4.0),
}


def smallest(tests: list[dict[str, float]]) -> float:
    """The smallest of m p-values, times m: below 1e-4 once in ten thousand."""
    found = [p for values in tests for p in values.values()]
    assert len(found) > 1
    return min(found) * len(found)


def rounded(x: Any, dtype: str, law: Distribution) -> Any:
    """Reals in a dtype; of a uniform no bound, as its definition says."""
    if isinstance(law, Uniform):
        x = np.minimum(x, float_format(dtype).below(law.b))
    return x.astype(jnp.dtype(dtype))


# The draws


@pytest.mark.parametrize("initializer", INITIALIZERS.values(), ids=INITIALIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_draws_have_their_distribution(initializer: pi.Initializer, dtype: str) -> None:
    shape = (1024, 256)
    law = initializer.distribution_of(shape, dtype)
    assert law is not None
    tests = [goodness(initializer(pi.key(seed), shape, dtype), law) for seed in range(3)]
    assert smallest(tests) > 1e-4


def test_values_across_parameters_have_their_distribution() -> None:
    # One long draw is one key's; a model has many parameters of a few values each.
    init, key = pi.normal(), pi.key(11)
    values = [init(key.fold_in(f"layers.{i}.weight"), (16,)) for i in range(2048)]
    assert smallest([goodness(np.stack(values), Normal(0.0, 1.0))]) > 1e-4


def test_rows_columns_and_lags_are_uncorrelated() -> None:
    init, tests = pi.normal(), []
    for shape in ((512, 1024), (1024, 256)):
        law = init.distribution_of(shape)
        assert law is not None
        lags = (1, 2, 3, 4, 7, 8, shape[1] - 1, shape[1], shape[1] + 1)
        tests += [correlations(init(pi.key(s), shape), law, lags) for s in range(4)]
    assert smallest(tests) > 1e-4


def test_real_and_imaginary_parts_are_independent() -> None:
    x = pi.normal()(pi.key(5), (2**20,), "complex64") * math.sqrt(2)
    z = [float((x.real * x.imag).sum()), float((x.real**2 - 1) @ (x.imag**2 - 1)) / 2]
    assert max(map(abs, z)) < 4.5 * 2**10  # standard deviations of 2**10; 4.5: p = 7e-6


@pytest.mark.parametrize("name", RELATIONS)
def test_related_words_are_independent(name: str) -> None:
    roots = [pi.key(0), pi.key(2024), pi.key(1).fold_in("layers.0.weight")]
    assert smallest([independence(*RELATIONS[name](key, 2**18)) for key in roots]) > 1e-4


def test_words_at_a_distance_are_independent() -> None:
    words = elements(pi.key(3), positions(0, 2**20))
    assert smallest([serial(words, 2**i) for i in range(0, 18, 2)]) > 1e-4


def test_p_values_of_many_keys_are_uniform() -> None:
    # Not one of them small is not all: too good a fit would be a fault too.
    found = [
        list(goodness(pi.normal()(pi.key(seed), (4096,)), Normal(0.0, 1.0)).values())
        for seed in range(400)
    ]
    assert min(stats.kstest(column, "uniform").pvalue for column in np.transpose(found)) > 1e-4


def test_the_relation_that_is_known_is_seen() -> None:
    # docs/exactness.md: the words of fold_in(i), exclusive-ored, are the parent's word i.
    key, n = pi.key(0), 2**16
    folded = [key.fold_in(i) for i in range(n)]
    words = np.asarray([child.high ^ child.low for child in folded], dtype=np.uint32)
    assert independence(elements(key, positions(0, n)), words)["top bits"] < 1e-300
    # What the child draws shows nothing of it.
    assert smallest([independence(words, children(key, positions(0, n)))]) > 1e-4


# The tests are right: p-values of sound data are uniform


@EACH_LAW
@pytest.mark.parametrize("dtype", ["float64", "float32", *NARROW])
def test_p_values_of_sound_data_are_uniform(law: Distribution, dtype: str) -> None:
    rng, reference = np.random.default_rng(RANDOM), scipy_law(law)
    draws = [
        rounded(reference.ppf(rng.random(2048)).astype(np.float64), dtype, law) for _ in range(100)
    ]
    found = [goodness(x, law) for x in draws]
    for name in found[0]:
        column = [tests[name] for tests in found]
        if len(set(column)) > 90:  # with few numbers of the format, p-values are discrete
            assert stats.kstest(column, "uniform").pvalue > 1e-5, name
        assert min(column) > 1e-6, name


def test_p_values_of_sound_words_are_uniform() -> None:
    rng = np.random.default_rng(RANDOM)
    found = [
        list(independence(*rng.integers(0, 2**32, (2, 2**16), dtype=np.uint32)).values())
        for _ in range(200)
    ]
    assert min(stats.kstest(column, "uniform").pvalue for column in np.transpose(found)) > 1e-4


@pytest.mark.parametrize("shape", [(64, 256), (256, 64), (128, 128)])
@pytest.mark.parametrize("law", [Normal(0.0, 1.0), Uniform(-1.0, 1.0)])
def test_p_values_of_sound_matrices_are_uniform(shape: Any, law: Distribution) -> None:
    rng, reference = np.random.default_rng(RANDOM), scipy_law(law)
    found = [list(correlations(reference.ppf(rng.random(shape)), law).values()) for _ in range(200)]
    assert min(stats.kstest(column, "uniform").pvalue for column in np.transpose(found)) > 1e-5


@EACH_LAW
def test_distribution_functions_are_scipys(law: Distribution) -> None:
    shape, reference = goodness_of_fit._shape(law), scipy_law(law)
    p = np.concatenate([2.0 ** -np.arange(30, 0, -1), 1 - 2.0 ** -np.arange(2, 30)])
    x = reference.ppf(p)
    np.testing.assert_allclose(shape.cdf(x), reference.cdf(x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(shape.quantiles(p), x, rtol=1e-7, atol=1e-12)
    mean, variance, excess = (float(x) for x in reference.stats(moments="mvk"))
    assert shape.mean == pytest.approx(mean, rel=1e-9, abs=1e-12)
    assert shape.std == pytest.approx(math.sqrt(variance), rel=1e-7)
    assert shape.kurtosis == pytest.approx(excess + 3, rel=1e-5)


def marsaglia(z: float) -> float:
    """Marsaglia and Marsaglia's adinf, good to 2e-6: another way to the same limit."""
    a = (2.00012, 0.247105, -0.0649821, 0.0347962, -0.0116720, 0.00168691)
    if z < 2:
        return math.exp(-1.2337141 / z) / math.sqrt(z) * sum(c * z**i for i, c in enumerate(a))
    b = (1.0776, -2.30695, 0.43424, -0.082433, 0.008056, -0.0003146)
    return math.exp(-math.exp(sum(c * z**i for i, c in enumerate(b))))


@pytest.mark.parametrize("z", [0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0])
def test_anderson_darlings_limit_is_marsaglias(z: float) -> None:
    # Their errors as observed: 2e-5 at z = 1, below that elsewhere.
    assert goodness_of_fit._anderson_darling_tail(z) == pytest.approx(1 - marsaglia(z), abs=3e-5)


def test_anderson_darlings_tail_has_no_seam() -> None:
    # The tail falls as exp(-z) / sqrt(z); the leading term is 4 % below it.
    tail = goodness_of_fit._anderson_darling_tail
    assert tail(24.001) == pytest.approx(tail(23.999), rel=0.05)
    assert 0 < tail(600.0) < tail(60.0) < 1e-20


def test_anderson_darlings_statistic_is_scipys() -> None:
    x = np.sort(np.random.default_rng(RANDOM).random(5000))
    i = np.arange(1, 5001)
    statistic = -5000 - np.mean((2 * i - 1) * (np.log(x) + np.log(1 - x[::-1])))
    assert anderson_darling(x) == pytest.approx(goodness_of_fit._anderson_darling_tail(statistic))


# The tests see faults


@dataclass(frozen=True)
class Fault:
    law: Distribution
    change: Any
    sees: set[str]
    dtype: str = "float32"
    n: int = 2**18


NORMAL, UNIFORM = Normal(0.0, 1.0), Uniform(0.0, 1.0)
FAULTS = {
    # 2**18 values: a standard error is 2**-9
    "shifted": Fault(NORMAL, lambda x: x + 0.02, {"mean", *CONTINUOUS}),
    "scaled": Fault(NORMAL, lambda x: x * 1.02, {"variance", "anderson-darling"}),
    "tails cut at 3.5": Fault(NORMAL, lambda x: x.clip(-3.5, 3.5), {"tails"}),
    "heavy tails": Fault(NORMAL, lambda x: np.where(np.abs(x) > 3, x * 1.1, x), {"tails"}),
    "a hole": Fault(NORMAL, lambda x: np.where((x > 0.5) & (x < 0.51), 0.52, x), {"chi-squared"}),
    "skewed": Fault(UNIFORM, lambda x: x**1.02, {"mean", *CONTINUOUS}),
    "ten bits": Fault(UNIFORM, lambda x: np.floor(x * 1000) / 1000, {"chi-squared"}),
    "one value outside": Fault(UNIFORM, lambda x: np.append(x, 1.001), ALL),
    "a NaN": Fault(NORMAL, lambda x: np.append(x, np.nan), ALL),
    "an infinity": Fault(NORMAL, lambda x: np.append(x, -np.inf), ALL),
    "shifted in bfloat16": Fault(NORMAL, lambda x: x + 0.02, {"mean"}, "bfloat16"),
    "scaled in float16": Fault(NORMAL, lambda x: x * 1.02, {"variance"}, "float16"),
    "truncated, not rounded": Fault(
        UNIFORM,
        lambda x: (x.astype("f4").view("u4") & 0xFFFF0000).view("f4"),
        {"chi-squared", "mean"},
        "bfloat16",
        2**22,
    ),
}


@pytest.mark.filterwarnings("ignore:invalid value")  # of a NaN's own tests
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_faults_of_the_distribution_are_seen(fault: Fault) -> None:
    uniform = np.random.default_rng(RANDOM).random(fault.n)
    x = scipy_law(fault.law).ppf(uniform)
    sound = goodness(rounded(x, fault.dtype, fault.law), fault.law)
    assert min(sound.values()) > 1e-4
    tests = goodness(fault.change(x).astype(jnp.dtype(fault.dtype)), fault.law)
    assert {name for name, p in tests.items() if p < 1e-9} >= fault.sees


def mixed(x: Any, y: Any, mask: int) -> Any:
    """Y with the bits of a mask taken from x for one pair in sixteen."""
    copied = np.arange(len(x)) % 16 == 0
    return np.where(copied, (x & np.uint32(mask)) | (y & np.uint32(~mask & 0xFFFFFFFF)), y)


@pytest.mark.parametrize(
    ("mask", "seen_by"),
    [
        (0xF0000000, {"correlation", "top bits", "equal bits"}),
        (0x0000001F, {"low bits", "equal bits"}),
        (0x00010000, {"equal bits"}),
        (0xFFFFFFFF, {"distance", "equal bits", "top bits", "low bits", "correlation"}),
    ],
)
def test_dependent_words_are_seen(mask: int, seen_by: set[str]) -> None:
    x, y = np.random.default_rng(RANDOM).integers(0, 2**32, (2, 2**18), dtype=np.uint32)
    assert min(independence(x, y).values()) > 1e-4
    tests = independence(x, mixed(x, y, mask))
    assert {name for name, p in tests.items() if p < 1e-9} >= seen_by


def test_dependent_rows_columns_and_neighbours_are_seen() -> None:
    z = np.random.default_rng(RANDOM).standard_normal((256, 512))
    factor = 0.1 * z[:1]
    assert correlations(z + factor, NORMAL)["rows"] < 1e-9
    assert correlations((z + factor).T, NORMAL)["columns"] < 1e-9
    assert correlations(z + 0.1 * np.roll(z, 3, axis=1), NORMAL)["lag 3"] < 1e-9


# What has no p-values


@pytest.mark.parametrize("law", [Constant(1.0), Normal(1.0, 0.0), Uniform(2.0, 2.0)])
def test_a_constant_has_no_distribution_function(law: Distribution) -> None:
    with pytest.raises(TypeError, match="no density"):
        scipy_law(law)
    with pytest.raises(TypeError, match="no density"):
        goodness(np.ones(2048, dtype=np.float32), law)


def test_few_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1024 values are needed, got 1023"):
        goodness(np.zeros(1023, dtype=np.float32), NORMAL)


@pytest.mark.parametrize("dtype", ["complex64", "int32"])
def test_what_is_not_a_real_number_is_refused(dtype: str) -> None:
    with pytest.raises(TypeError, match=r"real and imaginary|dtype must be one of"):
        goodness(np.zeros(2048, dtype=dtype), NORMAL)


@pytest.mark.parametrize("dtype", NARROW)
def test_rounded_values_have_the_tests_that_hold_for_them(dtype: str) -> None:
    x = pi.normal()(pi.key(0), (2048,), dtype)
    assert {*goodness(x, NORMAL)} == ALL - CONTINUOUS


def test_a_format_too_coarse_for_the_law_leaves_chi_squared() -> None:
    # float32's numbers near 1000 are 6e-5 apart: 16 to a standard deviation.
    law, rng = Normal(1000.0, 1e-3), np.random.default_rng(RANDOM)
    x = rng.normal(1000.0, 1e-3, 2**16).astype(np.float32)
    tests = goodness(x, law)
    assert {*tests} == {"chi-squared", "tails"}
    assert min(tests.values()) > 1e-4


def test_a_law_within_one_cell_has_nothing_to_test() -> None:
    x = np.full(2048, 1.0).astype(ml_dtypes.bfloat16)
    assert goodness(x, Uniform(1.0, 1.001)) == {"chi-squared": 1.0, "tails": 1.0}


def test_two_equally_likely_values_have_a_mean_to_test() -> None:
    law = Uniform(-0.001, 0.001 + 2.0**-7)  # 0 and 2**-7 above 1, as likely
    x = (1 + scipy_law(law).rvs(2048, random_state=RANDOM)).astype(ml_dtypes.bfloat16)
    tests = goodness(x, Uniform(1 + law.a, 1 + law.b))
    assert len(np.unique(x)) == 2
    assert tests["variance"] == 1.0
    assert min(tests.values()) > 1e-3


@pytest.mark.parametrize("scale", [1e-120, 1e120])
def test_p_values_do_not_depend_on_the_unit(scale: float) -> None:
    x = pi.normal()(pi.key(0), (2048,), "float64")
    scaled = goodness(x * scale, Normal(0.0, scale))
    assert scaled == pytest.approx(goodness(x, NORMAL), rel=1e-6)


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(ImportError, match=r"pip install 'portinit\[proof\]'"):
        scipy_law(NORMAL)


# The long run: 10**9 draws of 2**22 a parameter

CHUNK, CHUNKS = 2**22, 239
DRAWS = CHUNK * CHUNKS


@dataclass
class Counts:
    """How many of many values are below each edge, and their sums."""

    edges: Any  # float32
    below: Any
    sum: float = 0.0
    squares: float = 0.0

    def add(self, x: Any) -> None:
        wide = x.astype(np.float64)
        self.sum += float(wide.sum())
        self.squares += float((wide * wide).sum())
        self.below += np.searchsorted(np.sort(x), self.edges)

    def expected(self, law: Any) -> Any:
        """How many of 10**9 fall between the edges."""
        # A value below an edge was a real below the middle of the edge and the number before it.
        before = np.nextafter(self.edges, np.float32(-np.inf)).astype(np.float64)
        middles = (self.edges.astype(np.float64) + before) / 2
        # The right half from the right: differences of numbers near 1 have fewer digits.
        half = len(middles) // 2
        left, right = law.cdf(middles[: half + 1]), law.sf(middles[half:])
        return DRAWS * np.concatenate([np.diff(left, prepend=0), -np.diff(right, append=0)])


def draw_counts(initializer: pi.Initializer, edges: Any) -> Counts:
    assert DRAWS >= 10**9
    counts = Counts(edges, np.zeros(len(edges), dtype=np.int64))
    for i in range(CHUNKS):
        counts.add(initializer(pi.key(2024).fold_in(f"layers.{i}.weight"), (CHUNK,)))
    return counts


def edges_of(law: Any, halvings: int) -> Any:
    """1024 bins of equal probability, the outer ones halved several times."""
    tail = 2.0 ** -np.arange(10 + halvings, 10, -1)
    p = np.concatenate([tail, np.arange(1, 1024) / 1024])
    return np.concatenate([law.ppf(p), law.isf(tail[::-1])]).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("initializer", "halvings"),
    [
        # 60 draws are expected beyond 2**-24. A uniform has 24 bits: 2**-18 is 64 of its steps.
        (pi.normal(), 14),
        (pi.trunc_normal(), 14),
        (pi.uniform(-1.0, 1.0), 8),
        (pi.uniform(), 8),
    ],
    ids=["normal", "truncated normal", "symmetric uniform", "uniform"],
)
def test_a_thousand_million_draws(
    initializer: pi.Initializer, halvings: int, record_property: Any
) -> None:
    law = scipy_law(initializer.distribution_of((CHUNK,)))
    counts = draw_counts(initializer, edges_of(law, halvings))
    expected = counts.expected(law)
    excess = (np.diff(counts.below, prepend=0, append=DRAWS) - expected) / np.sqrt(expected)
    mean, square, fourth = (float(law.moment(k)) for k in (1, 2, 4))
    tests = {
        "chi-squared": float(stats.chi2.sf((excess**2).sum(), len(excess) - 1)),
        "mean": goodness_of_fit.two_sided(
            (counts.sum / DRAWS - mean) / math.sqrt((square - mean**2) / DRAWS)
        ),
        "mean square": goodness_of_fit.two_sided(
            (counts.squares / DRAWS - square) / math.sqrt((fourth - square**2) / DRAWS)
        ),
    }
    record_property("p-values", tests)
    record_property("largest of a bin", float(np.abs(excess).max()))
    assert smallest([tests]) > 1e-4
    assert np.abs(excess).max() < 5  # standard deviations, in each of 1040 bins and more


@pytest.mark.slow
def test_the_tails_of_a_thousand_million_normals(record_property: Any) -> None:
    bounds = np.asarray([2.0, 3.0, 4.0, 4.5, 5.0, 5.5], dtype=np.float32)
    found = np.zeros((2, len(bounds)), dtype=np.int64)
    for i in range(CHUNKS):
        x = pi.normal()(pi.key(0).fold_in(f"layers.{i}.bias"), (CHUNK,))
        far = x[np.abs(x) > 2]
        found += [[(far > b).sum() for b in bounds], [(far < -b).sum() for b in bounds]]
    expected = DRAWS * stats.norm.sf(bounds.astype(np.float64))
    record_property("above, below", found.tolist())
    record_property("expected", expected.tolist())
    assert (np.abs(found - expected) < 5 * np.sqrt(expected)).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_4_million_related_pairs_are_independent(seed: int, record_property: Any) -> None:
    tests = relations(pi.key(seed), 2**22)
    record_property("p-values", tests)
    assert smallest([*tests.values()]) > 1e-4


@pytest.mark.slow
def test_first_words_of_many_names_are_independent(record_property: Any) -> None:
    words = names(pi.key(0), positions(0, 2**20))
    tests = [serial(words, lag) for lag in (1, 2, 1024)]
    record_property("p-values", tests)
    assert smallest(tests) > 1e-4
