"""Keys are JAX's: the same words for the same seed, fold and split."""

import hashlib
import pickle
from typing import Any

import jax
import numpy as np
import pytest

import portinit

SEEDS = [0, 1, 7, 2**31 - 1, 2**31, 2**32 - 1]
WIDE_SEEDS = [2**32, 2**32 + 7, 0x0123456789ABCDEF, 2**63, 2**64 - 1]
NUMBERS = [0, 1, 2, 12345, 2**31, 2**32 - 1]


def words_of(jax_key: Any) -> tuple[int, int]:
    high, low = np.asarray(jax.random.key_data(jax_key)).tolist()
    return high, low


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_gives_jaxs_key(seed: int) -> None:
    assert portinit.key(seed).words == words_of(jax.random.key(seed))


@pytest.mark.parametrize("seed", SEEDS + WIDE_SEEDS)
def test_a_seed_of_64_bits_gives_the_key_of_jax_in_64_bit_mode(seed: int) -> None:
    with jax.enable_x64(True):
        signed = seed - 2**64 if seed >= 2**63 else seed  # JAX takes seeds as int64
        expected = words_of(jax.random.key(signed))
    assert portinit.key(seed).words == expected


@pytest.mark.parametrize("seed", WIDE_SEEDS)
def test_no_bit_of_a_seed_is_dropped(seed: int) -> None:
    high, low = portinit.key(seed).words
    assert (high << 32) + low == seed


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1])
def test_folding_in_a_number_gives_jaxs_child(seed: int, number: int) -> None:
    expected = jax.random.fold_in(jax.random.key(seed), np.uint32(number))
    assert portinit.key(seed).fold_in(number).words == words_of(expected)


def test_folds_chain_as_jaxs_do() -> None:
    ours, theirs = portinit.key(3), jax.random.key(3)
    for number in NUMBERS:
        ours = ours.fold_in(number)
        theirs = jax.random.fold_in(theirs, np.uint32(number))
    assert ours.words == words_of(theirs)


@pytest.mark.parametrize("num", [0, 1, 2, 5])
def test_split_gives_jaxs_children(num: int) -> None:
    expected = [words_of(child) for child in jax.random.split(jax.random.key(9), num)]
    assert [child.words for child in portinit.key(9).split(num)] == expected


def test_split_gives_two_children_by_default() -> None:
    assert len(portinit.key(0).split()) == len(jax.random.split(jax.random.key(0)))


@pytest.mark.parametrize(
    "name", ["", "weight", "layers.0.self_attn.in_proj_weight", "größe", "重み"]
)
def test_a_name_folds_in_the_first_eight_bytes_of_its_sha256(name: str) -> None:
    first, second = np.frombuffer(hashlib.sha256(name.encode("utf-8")).digest()[:8], dtype=">u4")
    child = jax.random.fold_in(jax.random.key(5), np.uint32(first))
    expected = jax.random.fold_in(child, np.uint32(second))
    assert portinit.key(5).fold_in(name).words == words_of(expected)


def test_the_hash_of_a_name_is_the_published_one() -> None:
    # FIPS 180-2's example: SHA-256("abc") = ba7816bf 8f01cfea ...
    key = portinit.key(0)
    assert key.fold_in("abc") == key.fold_in(0xBA7816BF).fold_in(0x8F01CFEA)


def test_names_and_numbers_give_different_children() -> None:
    key = portinit.key(0)
    children = {key.fold_in(data) for data in ("0", "1", "weight", "bias", 0, 1)}
    assert len(children) == 6


def test_two_names_that_collide_in_32_bits_give_different_children() -> None:
    first_word: dict[bytes, str] = {}
    for number in range(2**18):
        name = f"p{number}"
        other = first_word.setdefault(hashlib.sha256(name.encode()).digest()[:4], name)
        if other != name:
            break
    else:
        pytest.fail("no two of 2**18 names agree in 32 bits; 8 pairs are to be expected")
    key = portinit.key(0)
    assert key.fold_in(name) != key.fold_in(other)


def test_numpy_integers_serve_as_seeds_and_numbers() -> None:
    assert portinit.key(np.int64(7)).fold_in(np.uint8(3)) == portinit.key(7).fold_in(3)


def test_a_key_of_numpy_words_is_the_key_of_the_same_numbers() -> None:
    # As in Key(*jax.random.key_data(key)): the words must not stay NumPy's, which overflow.
    key = portinit.Key(*np.asarray([1, 0xFFFFFFF0], dtype=np.uint32))
    draw = portinit.uniform()(key, (4,))
    assert np.array_equal(draw, portinit.uniform()(portinit.Key(1, 0xFFFFFFF0), (4,)))


def test_keys_compare_hash_print_and_pickle() -> None:
    key = portinit.key(7)
    assert key == portinit.Key(0, 7) != portinit.key(8)
    assert len({key, portinit.Key(0, 7)}) == 1
    assert repr(key) == "Key(high=0, low=7)"
    assert pickle.loads(pickle.dumps(key)) == key


REFUSED = [
    (lambda: portinit.key(-1), ValueError, r"in \[0, 2\*\*64\), got -1"),
    (lambda: portinit.key(2**64), ValueError, r"in \[0, 2\*\*64\), got 18446744073709551616"),
    (lambda: portinit.key(1.5), TypeError, "integer"),
    (lambda: portinit.key("7"), TypeError, "integer"),
    (lambda: portinit.Key(2**32, 0), ValueError, r"in \[0, 2\*\*32\), got 4294967296"),
    (lambda: portinit.Key(0, -1), ValueError, r"in \[0, 2\*\*32\), got -1"),
    (lambda: portinit.Key(0.0, 1), TypeError, "integer"),
    (lambda: portinit.key(0).fold_in(-1), ValueError, r"in \[0, 2\*\*32\), got -1"),
    (lambda: portinit.key(0).fold_in(2**32), ValueError, r"in \[0, 2\*\*32\), got 4294967296"),
    (lambda: portinit.key(0).fold_in(1.0), TypeError, "an int or a str, got float"),
    (lambda: portinit.key(0).fold_in(b"w"), TypeError, "an int or a str, got bytes"),
    (lambda: portinit.key(0).split(-1), ValueError, "0 or more, got -1"),
    (lambda: portinit.key(0).split(2.0), TypeError, "integer"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_what_is_no_key_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("number", [np.uint32, np.int64, np.uint64])
def test_words_of_numpys_integers_are_pythons(number: Any) -> None:
    key = portinit.Key(number(7), number(0xFFFFFFFF))
    assert [*map(type, key.words)] == [int, int]
    assert key.fold_in("a") == portinit.Key(7, 0xFFFFFFFF).fold_in("a")


@pytest.mark.parametrize("seed", ["layers.0", 1.5, None])
def test_a_seed_that_is_no_integer_is_named_with_its_type(seed: Any) -> None:
    with pytest.raises(TypeError) as caught:
        portinit.key(seed)
    text = str(caught.value)
    assert f"must be an integer in [0, 2**64), got {seed!r} of {type(seed).__name__}" in text
    assert ('fold a name in: portinit.key(0).fold_in("layers.0")' in text) == (seed == "layers.0")


def test_a_seed_that_jax_traces_is_told_what_to_pass() -> None:
    class DynamicJaxprTracer:  # by its name alone, for JAX need not be installed
        pass

    with pytest.raises(
        TypeError, match=r"DynamicJaxprTracer; under jax\.jit pass jax\.random\.key"
    ):
        portinit.key(DynamicJaxprTracer())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r'of str; fold a name in: .*fold_in\("one"\)$'):
        portinit.key("one")  # type: ignore[arg-type]
