"""Writes raw words of the stream, for a battery of statistical tests.

python tools/write_words.py --key 0 | dieharder -a -g 200
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.streams import STREAMS, positions

from portinit.random.keys import key as key_of

_BLOCK = 1 << 16  # words; temporaries stay in the cache


@click.command()
@click.option("--key", "seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True,
              help="The seed of the key.")  # fmt: skip
@click.option("--of", "stream", type=click.Choice([*STREAMS]), default="elements",
              show_default=True, help="Whose words.")  # fmt: skip
@click.option("--each", type=click.IntRange(1, 2**32), default=1, show_default=True,
              help="Words of each of the children, names or keys.")  # fmt: skip
@click.option("--start", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True,
              help="Position of the first word.")  # fmt: skip
@click.option("--count", type=click.IntRange(0), help="How many words; without end by default.")
def main(seed: int, stream: str, each: int, start: int, count: int | None) -> None:
    """Write raw 32-bit words, little-endian, to standard output.

    For a pipe into a battery of tests: `RNG_test stdin32` of PractRand, `dieharder -g 200`.

    \b
    elements  the words of one key at counters 0, 1, 2, ...
    second    its second stream, for masks and imaginary parts
    children  the first words of fold_in(0), fold_in(1), ...
    names     the first words of fold_in("layers.0.weight"), ...
    keys      the first words of the keys of neighbouring seeds
    family    a key's own words and its children's first, in turn
    """  # noqa: D301
    if sys.stdout.isatty():
        raise click.UsageError("words are binary: pipe them into a program or a file")
    words, key = STREAMS[stream], key_of(seed)
    blocks = (words(key, positions(at, size), each) for at, size in _blocks(start, count))
    _write(sys.stdout.buffer, blocks)


def _blocks(start: int, count: int | None) -> Iterator[tuple[int, int]]:
    """Positions and sizes of the blocks."""
    stop = 2**63 if count is None else min(start + count, 2**63)
    for at in range(start, stop, _BLOCK):
        yield at, min(_BLOCK, stop - at)


def _write(out: BinaryIO, blocks: Iterator[Any]) -> None:
    try:
        for words in blocks:
            out.write(words.astype("<u4", copy=False).data)
        out.flush()
    except BrokenPipeError:  # the reader has seen enough
        # The interpreter flushes on its way out, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
