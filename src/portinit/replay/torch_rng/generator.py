"""torch's CPU generator: mt19937, the cached half of a pair of normals, and its state bytes."""

from __future__ import annotations

import operator
import struct
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from portinit.replay.torch_rng import compiled
from portinit.replay.torch_rng.engines import KEY_SIZE, Engine, NumpyEngine, Words

STATE_SIZE = 5056
"""The length of ``torch.Generator.get_state()`` on CPU."""

_COMPILE_AFTER = 1 << 24  # words; compiling takes longer than drawing some so many without it
_LOAD_AFTER = 1 << 20  # where the machine code is kept on disk

_HEAD = struct.Struct("<QiiQ")  # seed, left, seeded, next
_TAIL = struct.Struct("<dddi4xf?3x")  # x, y, rho, whether y is cached; the same of float32
_KEY_END = _HEAD.size + 8 * KEY_SIZE


class Generator:
    """The stream of ``torch.Generator("cpu").manual_seed(seed)``.

    Args:
        seed: from -2**63 up to 2**64 - 1; negative seeds are taken modulo 2**64, as torch does.

    Attributes:
        seed: the seed, from 0.
        cached_normal: the second of the last pair of double normals, if it is still to be used.
    """

    def __init__(self, seed: int) -> None:
        seed = operator.index(seed)
        if not -(1 << 63) <= seed < 1 << 64:
            raise ValueError(f"seed must be from -2**63 to 2**64 - 1, got {seed}")
        self.seed = seed % (1 << 64)
        self.cached_normal: float | None = None
        self._expected = 0
        self._start(_seeded_key(self.seed), KEY_SIZE, drawn=0)

    def _start(self, key: Words, used: int, drawn: int) -> None:
        self._engine: Engine = NumpyEngine(key, used)
        self._drawn = drawn  # 0 only of a new generator, whose state torch writes differently
        self._compiled = False

    @property
    def engine(self) -> Engine:
        """The engine that draws; compiled once there is much to draw."""
        if not self._compiled and self._is_worth_compiling():
            self._compiled = True
            self._engine = compiled.engine(*self._engine.position()) or self._engine
        return self._engine

    def expect(self, words: int) -> None:
        """Say how many words are going to be drawn, which decides about compiling at once."""
        self._expected = words

    def _is_worth_compiling(self) -> bool:
        words = max(self._drawn, self._expected)
        return words >= _COMPILE_AFTER or (words >= _LOAD_AFTER and _is_kept())

    def random32(self, n: int) -> Words:
        """The next n 32-bit words."""
        self._drawn += n
        return self.engine.words(n)

    def random64(self, n: int) -> NDArray[np.uint64]:
        """The next n 64-bit words: two 32-bit words each, the high half first."""
        return joined(self.random32(2 * n))

    def skip(self, n: int) -> None:
        """Pass over n 32-bit words."""
        self._drawn += n
        self.engine.skip(n)

    def state(self) -> bytes:
        """The bytes of ``torch.Generator.get_state()``."""
        key, used = self._engine.position()
        unused = 1 if used == KEY_SIZE else KEY_SIZE + 1 - used
        head = _HEAD.pack(self.seed, unused, 1, used if self._drawn else 0)
        cached = self.cached_normal
        tail = _TAIL.pack(0.0, cached or 0.0, 0.0, cached is not None, 0.0, False)
        return head + key.astype("<u8").tobytes() + tail

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """The generator of ``torch.Generator.get_state()``'s bytes.

        Raises:
            ValueError: not such a state.
        """
        state = bytes(state)
        if len(state) != STATE_SIZE:
            raise ValueError(f"a generator's state must be {STATE_SIZE} bytes, got {len(state)}")
        seed, left, seeded, following = _HEAD.unpack_from(state)
        fresh = (left, following) == (1, 0)
        if seeded != 1 or not (fresh or 1 <= left == KEY_SIZE + 1 - following <= KEY_SIZE):
            raise ValueError(
                f"a generator's state must be seeded, with left from 1 to {KEY_SIZE} and "
                f"next = {KEY_SIZE + 1} - left; got seeded={seeded}, left={left}, next={following}"
            )
        generator = cls(seed)
        key = np.frombuffer(state[_HEAD.size : _KEY_END], dtype="<u8")
        generator._start(_checked_key(key), KEY_SIZE if fresh else following, drawn=not fresh)
        generator.cached_normal = _cached_normal(state[_KEY_END:])
        return generator


@cache
def _is_kept() -> bool:
    return compiled.is_kept()


def joined(words: Words) -> NDArray[np.uint64]:
    """64-bit words of twice as many 32-bit words."""
    halves = words.astype(np.uint64).reshape(-1, 2)
    return (halves[:, 0] << np.uint64(32)) | halves[:, 1]


def _seeded_key(seed: int) -> Words:
    state = np.random.RandomState(seed & 0xFFFFFFFF).get_state(legacy=False)
    assert isinstance(state, dict)
    key: Words = state["state"]["key"]
    return key


def _checked_key(key: NDArray[np.uint64]) -> Words:
    if key.max() >> 32:
        raise ValueError(f"a generator's state must hold 32-bit words, got {int(key.max()):#x}")
    return key.astype(np.uint32)


def _cached_normal(tail: bytes) -> float | None:
    _, normal, _, valid, _, float_valid = _TAIL.unpack(tail)
    if valid not in (0, 1) or float_valid:
        raise ValueError(
            "a generator's state must have its flags of cached normals 0 or 1, and none of a "
            f"float32; got {valid} and {float_valid}"
        )
    return float(normal) if valid else None
