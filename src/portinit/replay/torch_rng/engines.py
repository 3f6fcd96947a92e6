"""The generator's engine: the mt19937 words and the two float32 samplers, in NumPy.

``compiled`` has the same class in machine code; both give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from portinit.replay.torch_math.arithmetic import fma_exact
from portinit.replay.torch_rng.cephes import box_muller, unit

Words = NDArray[np.uint32]
Values = NDArray[Any]

BLOCK = 1 << 16  # words at a time
KEY_SIZE = 624


def block_sizes(n: int, block: int = BLOCK) -> Iterator[tuple[int, int]]:
    """Start and stop of the blocks that n elements fall into."""
    for start in range(0, n, block):
        yield start, min(start + block, n)


class Engine(Protocol):
    """An mt19937 stream at some position, and what is worth compiling."""

    def words(self, n: int) -> Words:
        """The next n words."""

    def skip(self, n: int) -> None:
        """Pass over n words."""

    def position(self) -> tuple[Words, int]:
        """The 624 words of state, and how many of them are used up."""

    def uniform(self, words: Words, low: np.float32, width: np.float32) -> Values:
        """A float32 low + width * u a word, the sum fused; may overwrite the words."""

    def normal(self, words: Words, mean: np.float32, std: np.float32) -> Values:
        """16 float32 normals for each 16 words; may overwrite the words."""

    def shuffle(self, order: NDArray[np.int64], words: Words, start: int) -> None:
        """Swap each position from start on with a later one, as Fisher and Yates do."""

    def insert(self, order: NDArray[np.int64], words: NDArray[np.uint64], start: int) -> None:
        """Put each number from start on in the place of an earlier one, which moves to its."""


class NumpyEngine:
    """The engine where numba is not installed, or not yet worth its loading."""

    def __init__(self, key: Words, used: int) -> None:
        self._stream = np.random.RandomState(0)
        self._stream.set_state(("MT19937", key, used, 0, 0.0))

    def words(self, n: int) -> Words:
        """See :class:`Engine`."""
        # Zero bytes would cost a word; and what bytes() gives cannot be written to.
        data = self._stream.bytes(4 * n) if n else b""
        return np.frombuffer(data, dtype="<u4").astype(np.uint32)

    def skip(self, n: int) -> None:
        """See :class:`Engine`."""
        for start, stop in block_sizes(n):
            self._stream.bytes(4 * (stop - start))

    def position(self) -> tuple[Words, int]:
        """See :class:`Engine`."""
        state = self._stream.get_state(legacy=False)
        assert isinstance(state, dict)
        return state["state"]["key"], state["state"]["pos"]

    def uniform(self, words: Words, low: np.float32, width: np.float32) -> Values:
        """See :class:`Engine`."""
        values: Values = fma_exact(unit(words), width, float(low))
        return values

    def normal(self, words: Words, mean: np.float32, std: np.float32) -> Values:
        """See :class:`Engine`."""
        rows = words.reshape(-1, 2, 8)
        values = np.empty(rows.shape, np.float32)
        # Contiguous halves: every step below is one pass over them.
        first, second = box_muller(rows[:, 0].copy(), rows[:, 1].copy())
        values[:, 0], values[:, 1] = first, second
        scaled: Values = fma_exact(values.reshape(-1), std, float(mean))
        return scaled

    def shuffle(self, order: NDArray[np.int64], words: Words, start: int) -> None:
        """See :class:`Engine`."""
        remaining = order.size - np.arange(start, start + words.size)
        swaps = order.data
        for here, step in enumerate((words % remaining).tolist(), start):
            swaps[here], swaps[here + step] = swaps[here + step], swaps[here]

    def insert(self, order: NDArray[np.int64], words: NDArray[np.uint64], start: int) -> None:
        """See :class:`Engine`."""
        places = words % np.arange(start + 1, start + words.size + 1, dtype=np.uint64)
        swaps = order.data
        for here, place in enumerate(places.tolist(), start):
            swaps[here], swaps[place] = swaps[place], here
