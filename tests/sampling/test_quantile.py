"""The normal quantile in fixed point: its arithmetic, its error, and that it never decreases."""

from functools import partial
from types import ModuleType
from typing import Any

import array_api_compat.numpy as xnp
import array_api_compat.torch as xtorch
import array_api_strict
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy.special import ndtri

from portinit.random.integers import _float_bits_by_integers
from portinit.sampling import quantile32, quantile64
from portinit.sampling.quantile import FRACTION_BITS, quantile, rank

WIDTHS = [32, 64]
ERROR = {32: 1.0e-7, 64: 1e-15}  # as documented


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)


def words(values: Any, bits: int) -> Any:
    return np.asarray(values, dtype=f"int{bits}")


def q(c: Any, bits: int) -> Any:
    return quantile(np, words(c, bits), bits)


def ranks_of(magnitudes: Any, bits: int) -> Any:
    """The ranks below the median whose tail probability is about m / 2**bits."""
    return [int(m) - (1 << (bits - 1)) for m in magnitudes]


def every_octave(rng: np.random.Generator, bits: int, each: int) -> list[int]:
    """Random magnitudes in every octave of the tail, with both ends of each."""
    chosen = []
    for octave in range(bits - 1):
        low, high = 1 << octave, 2 << octave
        inner = [low + int(share * (high - low)) for share in rng.random(each)]
        chosen += [low, *inner, high - 1]
    return chosen


# How it is computed

SEGMENTS = 31 * 2048 + 1  # of the last only the start is used, the median


def test_the_lines_of_32_bits_are_the_definitions(
    reference: ModuleType, rng: np.random.Generator
) -> None:
    values, halves = quantile32.table()
    assert values.shape == halves.shape == (SEGMENTS,)
    ends = [0, 1, 2047, 2048, 20 * 2048, 28 * 2048 - 257, 28 * 2048 - 256, SEGMENTS - 2]
    for k in [*ends, *rng.integers(0, SEGMENTS, 200).tolist()]:
        octave, segment = divmod(k, 2048)
        middle = reference.Fraction(4096 + 2 * segment + 1, 4096) * 2**octave
        assert (values[k], halves[k]) == reference.line(middle), k


def test_pairs_hold_the_table() -> None:
    values, halves = quantile32.table()
    low, high = quantile32.pairs().view(np.int32).reshape(-1, 2).T
    assert np.array_equal(low, values)
    assert np.array_equal(high, halves)


@pytest.mark.parametrize("name", ["numpy", "torch", "jax", "jit"])
def test_the_arithmetic_is_the_table_in_every_namespace(
    name: str, rng: np.random.Generator
) -> None:
    m = magnitudes(every_octave(rng, 32, 500))
    code = m.astype(np.float32).view(np.int32)
    xp = {"numpy": xnp, "torch": xtorch, "jax": jnp, "jit": jnp}[name]
    take_line = partial(quantile32.line, xp)
    found = (jax.jit(take_line) if name == "jit" else take_line)(xp.asarray(code))
    number = (code >> quantile32.POSITION_BITS) - quantile32.FIRST_SEGMENT
    for column, wanted in zip(found, quantile32.table(), strict=True):
        assert np.array_equal(np.asarray(column), wanted[number])


@pytest.mark.parametrize("name", ["jax", "jit"])
def test_arithmetic_and_table_give_one_quantile(name: str, rng: np.random.Generator) -> None:
    m = magnitudes(every_octave(rng, 32, 500))
    of_magnitude = partial(quantile32.magnitude_quantile, jnp)
    found = (jax.jit(of_magnitude) if name == "jit" else of_magnitude)(jnp.asarray(m))
    assert np.array_equal(np.asarray(found), quantile32.magnitude_quantile_by_table(np, m))


def magnitudes(values: Any) -> Any:
    """Odd magnitudes of tail probabilities of 32 bits."""
    return np.asarray(values, np.int64).astype(np.int32) | 1


CHUNK = 1 << 22


@pytest.mark.slow
def test_every_word_of_32_bits() -> None:
    """The error, the order, and that arithmetic and table agree, for all 2**32 words.

    Words c and ~c have negated quantiles, and two neighbours have one: 2**30 magnitudes are left.
    """
    by_arithmetic = jax.jit(partial(quantile32.magnitude_quantile, jnp))
    previous, largest = np.int32(2**31 - 1), 0.0
    for start in range(0, 2**31, 2 * CHUNK):
        m = np.arange(start + 1, start + 2 * CHUNK, 2, dtype=np.int32)
        z = quantile32.magnitude_quantile_by_table(np, m)
        assert z[0] <= previous
        assert (z[1:] <= z[:-1]).all()
        assert z[-1] >= 0
        previous = z[-1]
        assert np.array_equal(z, by_arithmetic(m))
        largest = max(largest, np.abs(z / 2.0**28 + ndtri(m / 2.0**32)).max())
    assert ERROR[32] / 2 < largest < ERROR[32]


@pytest.mark.slow
def test_scipys_quantile_is_a_reference(rng: np.random.Generator) -> None:
    """ndtri itself, against mpmath: its error is nothing beside ours."""
    m = magnitudes(every_octave(rng, 32, 40))
    with mp.workdps(40):
        for one, z in zip(m.tolist(), ndtri(m / 2.0**32).tolist(), strict=True):
            exact = -mp.sqrt(2) * mp.erfinv(1 - 2 * mp.mpf(one) / 2**32)
            assert abs(z - exact) < 1e-14, one


def test_the_quintics_of_64_bits_interpolate_at_chebyshev_nodes(
    reference: ModuleType, rng: np.random.Generator
) -> None:
    rows = quantile64.table()
    assert rows.shape == (63 * 64 + 1, 6)
    for k in [0, 63, 64, 63 * 64 - 1, *rng.integers(0, 63 * 64, 200).tolist()]:
        octave, segment = divmod(k, 64)
        length = reference.Fraction(2) ** (octave - 6)
        assert rows[k].tolist() == reference.quintic(length * (64 + segment), length), k


# The error

# A word stands for the middle of a bin of two words, whose tail probability is m / 2**bits for
# an odd m.


def test_the_error_of_32_bits_is_below_the_documented_bound(rng: np.random.Generator) -> None:
    c = words(ranks_of(every_octave(rng, 32, 4000), 32), 32)
    p = ((c.astype(np.int64) + 2**31) | 1) / 2**32
    error = np.abs(q(c, 32) / 2.0**28 - ndtri(p))  # ndtri's own error is about 1e-15
    assert error.max() < ERROR[32]
    assert error.max() > ERROR[32] / 3  # the bound says something


def test_the_error_of_64_bits_is_below_the_documented_bound(rng: np.random.Generator) -> None:
    c = ranks_of(every_octave(rng, 64, 25), 64)
    found = q(c, 64).tolist()
    with mp.workdps(45):
        for rank_, z in zip(c, found, strict=True):
            p = mp.mpf((rank_ + 2**63) | 1) / 2**64
            exact = -mp.sqrt(2) * mp.erfinv(1 - 2 * p)
            assert abs(mp.ldexp(z, -59) - exact) < ERROR[64], rank_


@pytest.mark.parametrize(("bits", "largest"), [(32, "6.23"), (64, "9.08")])
def test_the_extremes_are_the_quantiles_of_the_outermost_bins(bits: int, largest: str) -> None:
    exact = mp.sqrt(2) * mp.erfinv(1 - mp.ldexp(1, 1 - bits))
    ends = q([-(1 << (bits - 1)), (1 << (bits - 1)) - 1], bits)
    low, high = (mp.ldexp(int(z), -FRACTION_BITS[bits]) for z in ends)
    assert low == -high
    assert abs(high - exact) < ERROR[bits]
    assert mp.nstr(high, 3) == largest


# Order and symmetry


def around_boundaries(bits: int, per_octave: int, reach: int) -> list[list[int]]:
    """Runs of neighbouring ranks across every boundary of segments, so of octaves too."""
    runs = []
    for octave in range(bits - 1):
        for segment in range(per_octave):
            start = (per_octave + segment << octave) // per_octave
            # Conversion to floating point merges neighbours: step over what it merges.
            step = max(1, (1 << octave) >> {32: 23, 64: 52}[bits])
            run = [start + i * step for i in range(-reach, reach + 1)]
            runs.append([min(max(m, 0), (1 << (bits - 1)) - 1) for m in run])
    return runs


@pytest.mark.parametrize(("bits", "per_octave"), [(32, 2048), (64, 64)])
def test_the_quantile_never_decreases_across_segments(bits: int, per_octave: int) -> None:
    runs = around_boundaries(bits, per_octave, reach=6)
    c = words(runs, bits) ^ np.iinfo(f"int{bits}").min  # ranks from magnitudes
    for half in (c, ~c[:, ::-1]):
        z = q(half, bits)
        falls = np.argwhere(z[:, 1:] < z[:, :-1])
        assert not len(falls), (len(falls), runs[falls[0][0]])


@pytest.mark.parametrize("bits", WIDTHS)
def test_the_quantile_never_decreases(bits: int, rng: np.random.Generator) -> None:
    top = 1 << (bits - 1)
    c = np.sort(rng.integers(-top, top, 2**18, dtype=f"int{bits}"))
    runs = np.concatenate([np.arange(-2000, 2000), c, np.arange(top - 4000, top, dtype=np.int64)])
    assert (np.diff(q(np.sort(words(runs, bits)), bits)) >= 0).all()


@pytest.mark.parametrize("bits", WIDTHS)
def test_mirrored_ranks_have_negated_quantiles(bits: int, rng: np.random.Generator) -> None:
    top = 1 << (bits - 1)
    c = rng.integers(-top, top, 2**16, dtype=f"int{bits}")
    assert np.array_equal(q(~c, bits), -q(c, bits))


@pytest.mark.parametrize("bits", WIDTHS)
def test_rank_is_the_inverse(bits: int, rng: np.random.Generator) -> None:
    top = 1 << (bits - 1)
    for c in rng.integers(-top, top, 100, dtype=f"int{bits}").tolist():
        z = int(q([c], bits)[0])
        first = rank(z, bits)
        assert first <= c
        assert int(q([first], bits)[0]) == z
        assert first == -top or int(q([first - 1], bits)[0]) < z


@pytest.mark.parametrize("bits", WIDTHS)
def test_rank_beyond_the_extremes_takes_all_or_none(bits: int) -> None:
    top, far = 1 << (bits - 1), 10 << FRACTION_BITS[bits]
    assert rank(-far, bits) == -top
    assert rank(far, bits) == top
    assert rank(1, bits) >= 0 >= rank(0, bits)


# The way round a bitcast, for namespaces that have none


def magnitudes_with_ties(bits: int) -> list[int]:
    """For each exponent: powers of two, their neighbours, ties and what lies beside a tie."""
    kept = {32: 23, 64: 52}[bits]
    chosen = {1}
    for exponent in range(bits - 1):
        base, dropped = 1 << exponent, max(0, exponent - kept)
        half = (1 << dropped) >> 1
        for upper in (0, 1, 2, 3, (1 << min(kept, exponent)) - 1):  # even and odd, and a carry
            middle = base + (upper << dropped) + half
            chosen |= {middle - 1, middle, middle + 1}
    limit = 1 << (bits - 1)
    return sorted(m for m in chosen if 0 < m < limit)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("strict", [False, True])
def test_the_bits_of_a_float_are_found_by_integers_too(bits: int, strict: bool) -> None:
    m = words(magnitudes_with_ties(bits), bits)
    assert len(m) > 3 * bits
    xp = array_api_strict if strict else np
    found = np.asarray(_float_bits_by_integers(xp, xp.asarray(m), bits))
    assert np.array_equal(found, m.astype(f"float{bits}").view(f"int{bits}"))


@pytest.mark.parametrize("bits", WIDTHS)
def test_array_api_strict_gives_numpys_quantiles(bits: int, rng: np.random.Generator) -> None:
    top = 1 << (bits - 1)
    c = rng.integers(-top, top, 5000, dtype=f"int{bits}")
    c = np.concatenate([c, words(ranks_of(magnitudes_with_ties(bits), bits), bits)])
    strict = quantile(array_api_strict, array_api_strict.asarray(c), bits)
    assert np.array_equal(np.asarray(strict), q(c, bits))
