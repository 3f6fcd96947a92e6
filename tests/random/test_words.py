"""Random words are JAX's, and Random123's: one word a counter, in any order, anywhere."""

import math
from types import ModuleType
from typing import Any

import array_api_compat
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.random import threefry_2x32

import portinit
from portinit.random.threefry import threefry2x32
from portinit.random.words import SECOND_STREAM, fold_in_each, numbered_stream, random_words

# Random123's tests/kat_vectors, "threefry2x32 20": counter, key, result. Zeros, ones, digits of pi.
KNOWN_ANSWERS = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]
KEYS = [portinit.key(0), portinit.key(2**64 - 1), portinit.key(1).fold_in("layers.0.weight")]
SHAPES: list[tuple[int, ...]] = [(), (0,), (1,), (7,), (3, 5), (2, 3, 4), (4097,), (3, 0, 2)]


def wrap(x: int) -> int:
    return x & 0xFFFFFFFF


def int32(values: Any) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.asarray(values, dtype=np.uint32).view(np.int32)


def split_counters(counters: Any) -> tuple[Any, Any]:
    counters = np.asarray(counters, dtype=np.uint64)
    return int32(counters >> np.uint64(32)), int32(counters & np.uint64(0xFFFFFFFF))


def words(key: portinit.Key, counters: Any, bits: int = 32, stream: int = 0) -> Any:
    """Unsigned words at 64-bit counters, in NumPy."""
    xp = array_api_compat.array_namespace(np.zeros(1))
    found = random_words(xp, key.words, split_counters(counters), bits, stream)
    return np.asarray(found).view(f"u{bits // 8}")


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_threefry_gives_random123s_known_answers(
    counter: Any, key: Any, answer: Any, reference: ModuleType
) -> None:
    assert threefry2x32(key, counter, wrap) == answer
    assert reference.threefry2x32(key, counter) == answer
    theirs = threefry_2x32(np.asarray(key, np.uint32), np.asarray(counter, np.uint32))
    assert tuple(np.asarray(theirs).tolist()) == answer


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_arrays_give_the_known_answers_in_every_namespace(
    xp: ModuleType, counter: Any, key: Any, answer: Any
) -> None:
    arrays = [xp.asarray(int32([x])) for x in (*key, *counter)]
    found = threefry2x32((arrays[0], arrays[1]), (arrays[2], arrays[3]))
    assert tuple(int(x[0]) & 0xFFFFFFFF for x in found) == answer


@settings(deadline=None, derandomize=True, max_examples=200)
@given(*[st.integers(0, 2**32 - 1)] * 4)
def test_threefry_is_jaxs(k0: int, k1: int, c0: int, c1: int) -> None:
    theirs = threefry_2x32(np.asarray([k0, k1], np.uint32), np.asarray([c0, c1], np.uint32))
    assert threefry2x32((k0, k1), (c0, c1), wrap) == tuple(np.asarray(theirs).tolist())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("key", KEYS)
def test_words_are_those_of_jax_random_bits(key: portinit.Key, shape: tuple[int, ...]) -> None:
    jax_key = jax.random.wrap_key_data(np.asarray(key.words, np.uint32), impl="threefry2x32")
    counters = np.arange(math.prod(shape)).reshape(shape or (1,))
    with jax.enable_x64(True):
        for bits in (32, 64):
            theirs = np.asarray(jax.random.bits(jax_key, shape, f"uint{bits}"))
            assert np.array_equal(words(key, counters, bits).reshape(shape), theirs)


def test_any_elements_in_any_order_have_the_words_of_the_whole() -> None:
    whole = words(KEYS[2], np.arange(1000))
    chosen = np.random.default_rng(0).permutation(1000)[:300]
    assert np.array_equal(words(KEYS[2], chosen), whole[chosen])
    assert np.array_equal(words(KEYS[2], chosen.reshape(10, 30)), whole[chosen].reshape(10, 30))


def test_counters_beyond_32_bits_are_counted_on(reference: ModuleType) -> None:
    counters = [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**40 + 3, 2**62, 2**63 - 1]
    for seed in (0, 0x0123456789ABCDEF):
        for bits in (32, 64):
            expected = [reference.word(seed, counter, bits) for counter in counters]
            assert words(portinit.key(seed), counters, bits).tolist() == expected


def test_the_second_stream_is_that_of_the_counters_with_the_top_bit_set() -> None:
    counters = [0, 1, 2**32 + 5]
    second = words(KEYS[1], counters, stream=SECOND_STREAM)
    assert np.array_equal(second, words(KEYS[1], [c + 2**63 for c in counters]))


@pytest.mark.parametrize("number", [1, 2, 0x1234, 2**15 - 1])
def test_a_numbered_stream_is_that_of_counters_with_its_number_on_top(number: int) -> None:
    counters = [0, 1, 2**32 + 5]
    found = words(KEYS[1], counters, 64, numbered_stream(number))
    assert np.array_equal(found, words(KEYS[1], [c + 2**63 + (number << 48) for c in counters], 64))


def test_the_first_draw_is_of_the_elements_own_stream() -> None:
    assert numbered_stream(0) == 0


@pytest.mark.parametrize("number", [-1, 2**15])
def test_there_are_no_other_streams(number: int) -> None:
    with pytest.raises(
        ValueError, match=f"^a parameter can need 32768 draws, got number {number}$"
    ):
        numbered_stream(number)


def test_the_second_stream_shares_nothing_with_the_first() -> None:
    counters = np.arange(2**14)
    first, second = (words(KEYS[2], counters, 64, stream) for stream in (0, SECOND_STREAM))
    # Threefry is a bijection of the counter, so 64-bit words of one key never repeat.
    assert len({*first.tolist(), *second.tolist()}) == 2**15
    # Uncorrelated: half of the bits differ; 2**20 of them, so 6 sigma is 0.3 %.
    differing = np.bitwise_count(first ^ second).sum() / 2**20
    assert abs(differing - 0.5) < 0.003


@pytest.mark.parametrize("bits", [32, 64])
def test_words_are_the_same_in_every_namespace(xp: ModuleType, bits: int, to_numpy: Any) -> None:
    counters = [*range(100), 2**32 - 1, 2**32, 2**63 - 1]
    expected = words(KEYS[2], counters, bits, SECOND_STREAM)
    with jax.enable_x64(True):
        placed = [xp.asarray(half) for half in split_counters(counters)]
        namespace = array_api_compat.array_namespace(placed[0])
        found = random_words(namespace, KEYS[2].words, tuple(placed), bits, SECOND_STREAM)
    assert np.array_equal(to_numpy(found).view(expected.dtype), expected)


def test_words_of_32_bits_of_the_first_stream_are_what_is_asked_for() -> None:
    xp = array_api_compat.array_namespace(np.zeros(1))
    found = random_words(xp, KEYS[2].words, split_counters([5, 6]))
    assert np.array_equal(found.view(np.uint32), words(KEYS[2], [5, 6]))


def test_a_high_word_may_be_a_number() -> None:
    xp, key = array_api_compat.array_namespace(np.zeros(1)), (0x7FFFFFFF, 5)
    low = np.arange(4, dtype=np.int32)
    high = np.full(4, 3, np.int32)
    assert np.array_equal(random_words(xp, key, (3, low)), random_words(xp, key, (high, low)))


def test_every_bit_of_a_word_is_fair() -> None:
    counters = np.arange(2**16)
    ones = np.unpackbits(words(KEYS[0], counters).view(np.uint8).reshape(-1, 4), axis=1).sum(0)
    # Each of 32 counts is binomial(2**16, 1/2), sigma 128; 5 sigma for the largest of 32.
    assert np.abs(ones.astype(np.int64) - 2**15).max() < 5 * 128


def test_words_of_neighbouring_keys_are_unrelated() -> None:
    first, second = (words(portinit.key(seed), np.arange(2**15)) for seed in (1, 2))
    differing = np.bitwise_count(first ^ second).sum() / 2**20
    assert abs(differing - 0.5) < 0.003  # 6 sigma of 2**20 fair bits


def test_uniform_words_fill_their_range_evenly() -> None:
    counts = np.bincount(words(KEYS[0], np.arange(2**18)) >> np.uint32(24), minlength=256)
    statistic = ((counts - 1024.0) ** 2 / 1024).sum()
    # Chi-squared of 255 degrees: 0.001 % of streams exceed 363, as few stay below 169.
    assert 169 < statistic < 363


@pytest.mark.parametrize("names", [[], ["w"], [f"layers.{i}.weight" for i in range(100)]])
@pytest.mark.parametrize("seed", [0, 7, (1 << 64) - 1])
def test_names_are_folded_in_together_as_one_by_one(seed: int, names: list[str]) -> None:
    key = portinit.key(seed)
    high, low = fold_in_each(key, names)
    together = np.stack([high, low], axis=1).view(np.uint32)
    assert [tuple(words) for words in together.tolist()] == [key.fold_in(n).words for n in names]
