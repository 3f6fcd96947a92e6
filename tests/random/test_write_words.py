"""The tool write_words: JAX's words, as bytes, for a program that reads them."""

import os
import pty
import subprocess
import sys
from typing import Any

import click.testing
import jax
import numpy as np
import pytest
from tools import write_words

import portinit
from portinit.random.keys import Key

MAIN = [sys.executable, write_words.__file__]


def words(*arguments: object) -> Any:
    """The words that a call writes."""
    result = click.testing.CliRunner().invoke(write_words.main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return np.frombuffer(result.stdout_bytes, dtype="<u4")


def jax_words(key: Key, n: int) -> Any:
    data = np.asarray(key.words, dtype=np.uint32)
    return np.asarray(jax.random.bits(jax.random.wrap_key_data(data), (n,)))


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
@pytest.mark.parametrize("count", [0, 1, 1000, 2**16 + 3])
def test_elements_are_jaxs_words(seed: int, count: int) -> None:
    assert np.array_equal(
        words("--key", seed, "--count", count), jax_words(portinit.key(seed), count)
    )


def test_a_word_is_four_bytes_the_lowest_first() -> None:
    result = click.testing.CliRunner().invoke(write_words.main, ["--count", "1"])
    first = int(jax_words(portinit.key(0), 1)[0])
    assert result.stdout_bytes == first.to_bytes(4, "little")


@pytest.mark.parametrize("start", [1, 65535, 2**32 - 5, 2**32, 2**40 + 7, 2**62])
def test_a_stream_begins_anywhere(start: int, reference: Any) -> None:
    found = words("--key", 7, "--start", start, "--count", 10)
    for i, word in enumerate(found.tolist()):
        high, low = divmod(start + i, 1 << 32)
        a, b = reference.threefry2x32((0, 7), (high, low))
        assert word == a ^ b


def test_a_later_start_continues_the_stream() -> None:
    whole = words("--count", 200_000)
    assert np.array_equal(words("--start", 100_000, "--count", 100_000), whole[100_000:])


def test_the_stream_ends_before_counters_of_the_second_stream() -> None:
    assert len(words("--start", 2**63 - 4, "--count", 10)) == 4


def test_the_second_stream_has_the_counters_top_bit_set(reference: Any) -> None:
    for i, word in enumerate(words("--of", "second", "--count", 10).tolist()):
        a, b = reference.threefry2x32((0, 0), (1 << 31, i))
        assert word == a ^ b


def children(key: Key, numbers: Any, each: int) -> Any:
    return np.concatenate([jax_words(key.fold_in(i), each) for i in numbers])


@pytest.mark.parametrize("each", [1, 3])
def test_children_are_fold_ins(each: int) -> None:
    found = words("--key", 5, "--of", "children", "--each", each, "--count", 10 * each)
    assert np.array_equal(found, children(portinit.key(5), range(10), each))


def test_after_the_last_child_comes_the_firsts_next_word() -> None:
    found = words("--of", "children", "--start", 2**32 - 1, "--count", 2)
    key = portinit.key(0)
    last, first = jax_words(key.fold_in(2**32 - 1), 1)[0], jax_words(key.fold_in(0), 2)[1]
    assert found.tolist() == [last, first]


@pytest.mark.parametrize("each", [1, 3])
def test_names_are_fold_ins_of_names(each: int) -> None:
    found = words("--of", "names", "--each", each, "--start", 2 * each, "--count", 5 * each)
    named = [f"layers.{i}.weight" for i in range(2, 7)]
    assert np.array_equal(found, children(portinit.key(0), named, each))


def test_keys_are_seeds_from_the_key_on() -> None:
    found = words("--of", "keys", "--key", 2**64 - 2, "--each", 2, "--count", 8)
    seeds = [2**64 - 2, 2**64 - 1, 0, 1]
    assert np.array_equal(found, np.concatenate([jax_words(portinit.key(s), 2) for s in seeds]))


def test_a_family_is_parent_and_children_in_turn() -> None:
    found = words("--of", "family", "--count", 20)
    assert np.array_equal(found[0::2], jax_words(portinit.key(0), 10))
    assert np.array_equal(found[1::2], children(portinit.key(0), range(10), 1))


# The other end of the pipe


def test_a_reader_that_stops_ends_the_stream_quietly() -> None:
    with subprocess.Popen(MAIN, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        data = process.stdout.read(1 << 20)
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 0
    assert said == b""
    assert np.array_equal(np.frombuffer(data, "<u4"), jax_words(portinit.key(0), 1 << 18))


def test_a_terminal_is_refused() -> None:
    ours, theirs = pty.openpty()
    result = subprocess.run(MAIN, stdout=theirs, stderr=subprocess.PIPE, check=False)
    os.close(theirs)
    os.close(ours)
    assert result.returncode == 2
    assert b"words are binary" in result.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        ["--key", "-1"],
        ["--key", str(2**64)],
        ["--of", "cousins"],
        ["--each", "0"],
        ["--start", str(2**63)],
        ["--count", "-1"],
    ],
)
def test_what_is_out_of_range_is_refused(wrong: list[str]) -> None:
    result = click.testing.CliRunner().invoke(write_words.main, wrong)
    assert result.exit_code == 2
    assert wrong[0] in result.output
