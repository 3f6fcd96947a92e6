"""``torch.randperm`` and ``torch.randint``: words modulo a range."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portinit.arrays.dtypes import dtype_name
from portinit.replay.torch_rng.engines import Values, block_sizes
from portinit.replay.torch_rng.formats import native
from portinit.replay.torch_rng.generator import Generator, joined

_LONG = (2**32 - 1) // 20  # permutations from here on are drawn otherwise
_WIDE = 1 << 28  # ranges from here on take two words


def randperm(gen: Generator, n: int) -> NDArray[np.int64]:
    """The permutation ``torch.randperm(n)``.

    Bit for bit; from 214,748,364 elements on as torch does since 2.6.
    """
    order = np.arange(n, dtype=np.int64)
    if n >= _LONG:
        return _inside_out(gen, order)
    for start, stop in block_sizes(max(n - 1, 0)):
        words = gen.random32(stop - start)
        gen.engine.shuffle(order, words, start)
    return order


def skip_randperm(gen: Generator, n: int) -> None:
    """Move on by what :func:`randperm` draws."""
    gen.skip(2 * n if n >= _LONG else max(n - 1, 0))


def _inside_out(gen: Generator, order: NDArray[np.int64]) -> NDArray[np.int64]:
    for start, stop in block_sizes(order.size):
        words = joined(gen.random32(2 * (stop - start)))
        gen.engine.insert(order, words, start)
    return order


def random_integers(gen: Generator, n: int, low: int, high: int, dtype: Any = "int64") -> Values:
    """The n elements of ``torch.randint(low, high, …)`` and ``tensor.random_(low, high)``.

    Bit for bit, in storage order, as torch draws since ranges of 2**28 and more take two words.

    Args:
        gen: the generator, which moves on.
        n: how many elements.
        low: the smallest integer.
        high: the integer above the largest.
        dtype: the dtype, an integer or floating one.

    Raises:
        ValueError: ``low`` is not below ``high``, or one of them is beyond int64.
    """
    width = _width(low, high)
    out = np.empty(n, native(dtype_name(dtype)))
    for start, stop in block_sizes(n):
        words = gen.random32((stop - start) * _words(width))
        wide = joined(words) if _words(width) == 2 else words.astype(np.uint64)
        # Modulo 2**64, as in C++.
        values = (wide % np.uint64(width) + np.uint64(low % 2**64)).view(np.int64)
        out[start:stop] = values.astype(np.float32) if out.dtype.kind not in "iufb" else values
    return out


def skip_random_integers(gen: Generator, n: int, low: int, high: int) -> None:
    """Move on by what :func:`random_integers` draws."""
    gen.skip(n * _words(_width(low, high)))


def _words(width: int) -> int:
    return 2 if width >= _WIDE else 1


def _width(low: int, high: int) -> int:
    low, high = operator.index(low), operator.index(high)
    if not -(1 << 63) <= low < high <= 1 << 63:
        raise ValueError(
            f"random integers must have low < high, both of int64, got low={low} and high={high}"
        )
    return high - low
