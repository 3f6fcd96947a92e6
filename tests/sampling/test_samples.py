"""Samples: from words to values, held to golden vectors and to the exact definition."""

import json
import math
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import array_api_strict
import jax
import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import norm

import portinit as pi
from portinit.arrays.dtypes import float_format
from portinit.random.words import SECOND_STREAM, random_words
from portinit.sampling.distributions import Distribution, Normal, Uniform
from portinit.sampling.truncated_normal import TruncatedNormal

# Golden vectors, made by golden/make.py without portinit

GOLDEN = Path(__file__).parents[1] / "golden"


def golden(*names: str) -> list[Any]:
    rows = [row for n in names for row in json.loads((GOLDEN / f"{n}.json").read_text("utf-8"))]
    assert rows
    return rows


def row_id(row: dict[str, Any]) -> str:
    arguments = ",".join(f"{k}={v}" for k, v in row["arguments"].items())
    return f"{row['initializer']}({arguments})-{row['dtype']}-{row['seed']:#x}"


@pytest.mark.parametrize("row", golden("words"), ids=lambda r: f"{r['seed']:#x}-{r['bits']}")
def test_words_are_the_golden_words(row: dict[str, Any]) -> None:
    high, low = (
        np.asarray([(c >> shift) & 0xFFFFFFFF for c in row["counters"]], np.uint32).view(np.int32)
        for shift in (32, 0)
    )
    stream = SECOND_STREAM if row["second_stream"] else 0
    found = random_words(np, pi.key(row["seed"]).words, (high, low), row["bits"], stream)
    assert [hex(w) for w in found.view(f"u{row['bits'] // 8}").tolist()] == row["words"]


@pytest.mark.parametrize("row", golden("uniform", "normal", "trunc_normal"), ids=row_id)
def test_distributions_give_the_golden_values(row: dict[str, Any], xp: Any, to_numpy: Any) -> None:
    if xp is array_api_strict and row["dtype"] in ("bfloat16", "float16"):
        pytest.skip("array-api-strict has no such dtype")
    initializer = getattr(pi, row["initializer"])(**row["arguments"])
    with jax.enable_x64(row["dtype"] == "float64"):
        found = to_numpy(initializer(pi.key(row["seed"]), (8,), row["dtype"], xp=xp))
    assert [float(x).hex() for x in found] == row["values"]


@pytest.mark.parametrize("row", golden("schemes"), ids=row_id)
def test_schemes_give_the_golden_values(row: dict[str, Any], xp: Any, to_numpy: Any) -> None:
    initializer = getattr(pi, row["initializer"])(**row["arguments"])
    weight = to_numpy(initializer(pi.key(row["seed"]), (4, 2), xp=xp, layout="torch"))
    kernel = to_numpy(initializer(pi.key(row["seed"]), (2, 4), xp=xp, layout="flax"))
    assert [float(x).hex() for x in weight.reshape(-1)] == row["values"]
    assert [float(x).hex() for x in kernel.T.reshape(-1)] == row["values"]


def test_the_golden_files_are_what_their_script_makes(
    tmp_path: Path, reference: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "__file__", str(tmp_path / "make.py"))
    reference.main()
    for file in GOLDEN.glob("*.json"):
        assert (tmp_path / file.name).read_text("utf-8") == file.read_text("utf-8"), file.name


# Words at the ends of their range, where bounds are decided

LOWEST, HIGHEST = -(2**31), 2**31 - 1
EXTREMES = np.asarray([LOWEST, LOWEST + 1, -1, 0, 1, HIGHEST - 1, HIGHEST], np.int32)
UNIFORMS = [
    (0.0, 1.0),
    (-1.0, 1.0),
    (-0.3, 0.3),
    (0.0, 0.1),
    (-0.3, 1.7),
    (-5.0, -3.0),
    (1.0, 1.0 + 2**-20),
    (1e6, 1e6 + 1),
    (-1e-30, 1e-30),
]
NARROW = ["float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"]


def drawn(law: Distribution, words: Any, dtype: str) -> Any:
    """Values at given words, rounded to the dtype as the initializers round."""
    values = law.sample(np, words, float_format(dtype))
    return values.astype(dtype_of(dtype))


def dtype_of(name: str) -> Any:
    return jax.numpy.dtype(name)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(("a", "b"), UNIFORMS)
def test_no_word_gives_a_uniform_value_outside_its_bounds(a: float, b: float, dtype: str) -> None:
    if max(abs(a), abs(b)) > float(jax.numpy.finfo(dtype_of(dtype)).max):
        pytest.skip("beyond the dtype")
    held = np.unique(np.arange(-(2**11), 2**11) * 2.0 ** math.floor(math.log2(max(-a, b)) - 10))
    held = held[(held >= a) & (held < b)].astype(dtype_of(dtype)).astype(float)
    if not ((held >= a) & (held < b)).any():
        pytest.skip("the dtype has no number in [a, b)")
    values = drawn(Uniform(a, b), EXTREMES, dtype).astype(float)
    assert (values >= a).all()
    assert (values < b).all()


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [(0, 1, -2, 2), (0, 1, -1.9, 1.9), (0, 0.02, -0.04, 0.04), (1, 0.5, 0.7, 1.3), (0, 1, 3, 3.3)],
)
def test_no_word_gives_a_truncated_value_outside_its_bounds(
    mean: float, std: float, a: float, b: float, dtype: str
) -> None:
    values = drawn(TruncatedNormal(mean, std, a, b), EXTREMES, dtype).astype(float)
    assert (values >= a).all()
    assert (values <= b).all()


LAWS = {
    "uniform": Uniform(0.0, 0.1),
    "uniform symmetric": Uniform(-0.3, 0.3),
    "uniform asymmetric": Uniform(-0.3, 1.7),
    "normal": Normal(0.0, 0.02),
    "normal with mean": Normal(3.0, 0.1),
    "truncated": TruncatedNormal(0.0, 1.0, -2.0, 2.0),
    "truncated tail": TruncatedNormal(0.0, 1.0, 3.0, 3.3),
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_values_increase_with_the_word(law: Distribution, dtype: str) -> None:
    bits = 64 if dtype == "float64" else 32
    limits = np.iinfo(f"int{bits}")
    words = np.random.default_rng(0).integers(limits.min, limits.max, 2**15, f"int{bits}")
    words = np.sort(np.concatenate([words, np.asarray([limits.min, limits.max], words.dtype)]))
    values = drawn(law, words, dtype).astype(float)
    assert (np.diff(values) >= 0).all()
    assert len(np.unique(values)) > 10


def value(x: Any) -> Fraction:
    return Fraction(float(x))


@pytest.mark.parametrize(("a", "b"), UNIFORMS[:8])
def test_a_uniform_value_is_the_words_share_of_the_interval(a: float, b: float) -> None:
    words = np.random.default_rng(1).integers(LOWEST, HIGHEST, 2000, np.int32)
    values = drawn(Uniform(a, b), words, "float32")
    # Off by the word's dropped bits, the fixed point's step and one float32 rounding at most.
    allowed = Fraction(b - a) / 2**23 + Fraction(max(abs(a), abs(b))) / 2**23
    for word, x in zip(words.tolist(), values.tolist(), strict=True):
        share = Fraction(word + 2**31, 2**32)
        assert abs(value(x) - (value(a) + (value(b) - value(a)) * share)) <= allowed


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.5, 0.3), (-100.0, 0.1), (0.01, 20.0)])
def test_a_normal_value_is_mean_plus_std_times_the_quantile(mean: float, std: float) -> None:
    words = np.random.default_rng(2).integers(LOWEST, HIGHEST, 4000, np.int32)
    p = (words.astype(np.int64) + 2**31 + 0.5) / 2**32
    z = ndtri(p)
    expected = mean + std * z
    values = drawn(Normal(mean, std), words, "float32").astype(float)
    # The quantile's error, half a bin of two words (wide in z where the density is low), and
    # float32's rounding.
    bin_width = 2.0**-32 / norm.pdf(z)
    allowed = std * (1.0e-7 + bin_width / 2) + 2.0**-24 * (np.abs(expected) + abs(mean))
    assert (np.abs(values - expected) <= allowed).all()


def test_a_mean_is_kept_to_the_last_bit() -> None:
    # float32 numbers around 2**20 are 2**-4 apart: values are exact multiples, around the mean.
    values = drawn(Normal(2.0**20, 1.0), EXTREMES, "float32")
    assert np.array_equal(values, np.round(values * 16) / 16)
    assert abs(float(values[3]) - 2.0**20) <= 2**-4


def test_no_spread_is_the_constant() -> None:
    assert (drawn(Normal(0.3, 0.0), EXTREMES, "float32") == np.float32(0.3)).all()
    assert (drawn(Uniform(0.3, 0.3), EXTREMES, "float32") == np.float32(0.3)).all()
    assert (drawn(TruncatedNormal(0.0, 1.0, 0.25, 0.25), EXTREMES, "float32") == 0.25).all()


@pytest.mark.parametrize(
    ("law", "mean", "std"),
    [
        (Uniform(1.0, 3.0), 2.0, 2 / math.sqrt(12)),
        (Normal(0.5, 0.3), 0.5, 0.3),
        (TruncatedNormal(0.0, 1.0, -2.0, 2.0), 0.0, 0.8796256610342398),  # JAX's constant
        (
            TruncatedNormal(0.0, 1.0, 0.0, math.inf),
            math.sqrt(2 / math.pi),
            math.sqrt(1 - 2 / math.pi),
        ),
        (TruncatedNormal(1.0, 2.0, -3.0, 5.0), 1.0, 2 * 0.8796256610342398),
    ],
)
def test_moments_are_the_textbooks(law: Distribution, mean: float, std: float) -> None:
    assert math.isclose(law.mean, mean, rel_tol=1e-12, abs_tol=1e-12)
    assert math.isclose(law.std, std, rel_tol=1e-12)
