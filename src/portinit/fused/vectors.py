"""Words in whole vector registers, side by side.

A block's rounds wait for one another, so several blocks must be under way at once. The vectoriser
interleaves two; here as many are written out as there are registers for. The cipher is
:func:`portinit.threefry.threefry2x32` itself, which is run on :class:`Lanes` and so writes LLVM's
code instead of computing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from portinit.fused.loops import BATCH
from portinit.threefry import threefry2x32

_LANES = 16


class Lanes:
    """Vectors of 32-bit words in LLVM's code; of a single one, every vector is meant."""

    def __init__(self, builder: Any, parts: list[Any]) -> None:
        self.builder = builder
        self.parts = parts

    def _joined(self, other: Any, emit: Callable[[Any, Any], Any]) -> Lanes:
        theirs = other.parts if isinstance(other, Lanes) else [_constant([other] * _LANES)]
        count = max(len(self.parts), len(theirs))
        pairs = zip(_spread(self.parts, count), _spread(theirs, count), strict=True)
        return Lanes(self.builder, [emit(a, b) for a, b in pairs])

    def __add__(self, other: Any) -> Lanes:
        return self._joined(other, self.builder.add)

    def __xor__(self, other: Any) -> Lanes:
        return self._joined(other, self.builder.xor)

    def __or__(self, other: Any) -> Lanes:
        return self._joined(other, self.builder.or_)

    def __and__(self, other: Any) -> Lanes:
        return self._joined(other, self.builder.and_)

    def __lshift__(self, other: int) -> Lanes:
        return self._joined(other, self.builder.shl)

    def __rshift__(self, other: int) -> Lanes:
        return self._joined(other, self.builder.lshr)


def _spread(parts: list[Any], count: int) -> list[Any]:
    return parts * count if len(parts) == 1 else parts


def _ir() -> Any:
    return importlib.import_module("llvmlite.ir")


def _constant(words: list[int]) -> Any:
    ir = _ir()
    return ir.Constant(ir.VectorType(ir.IntType(32), len(words)), words)


def _filled(builder: Any, word: Any) -> Lanes:
    """One word in all lanes."""
    zero = _constant([0] * _LANES)
    first = builder.insert_element(zero, word, _ir().Constant(_ir().IntType(32), 0))
    return Lanes(builder, [builder.shuffle_vector(first, zero, zero)])


def _side_by_side() -> int:
    """How many vectors there are registers for: with AVX-512 32 of 16 lanes."""
    features = importlib.import_module("llvmlite.binding").get_host_cpu_features()
    return 8 if features.get("avx512f") else 4


def batch() -> Any:
    """What :func:`portinit.fused.loops.batch` says, as an intrinsic function of numba's."""
    extending = importlib.import_module("numba.extending")
    types = importlib.import_module("numba.types")

    def words(_: Any, k0: Any, k1: Any, high: Any, low: Any, step: Any, out: Any, at: Any) -> Any:
        return types.void(k0, k1, high, low, step, out, at), _emit

    return extending.intrinsic(words)


class Ladder:
    """Counters whose vectors lie a stride apart, to add a word to.

    The word is added to the first, and then each is made from the one before: vectors that depend
    on nothing LLVM puts behind one another, and their rounds no longer overlap.
    """

    def __init__(self, first: Lanes, stride: Lanes, count: int) -> None:
        self.first = first
        self.stride = stride
        self.count = count

    def __add__(self, word: Lanes) -> Lanes:
        rungs = [self.first + word]
        for _ in range(1, self.count):
            rungs.append(rungs[-1] + self.stride)
        return Lanes(word.builder, [rung.parts[0] for rung in rungs])


def _emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    *words, out, at = values
    array = context.make_array(signature.args[5])(context, builder, out)
    k0, k1, high, low, step = (_filled(builder, word) for word in words)
    lanes = Lanes(builder, [builder.mul(step.parts[0], _constant([*range(_LANES)]))])
    vectors = _side_by_side()
    for first in range(0, BATCH // _LANES, vectors):
        skipped = builder.mul(step.parts[0], _constant([first * _LANES] * _LANES))
        start = low + lanes + Lanes(builder, [skipped])
        ladder: Any = Ladder(start, step << (_LANES.bit_length() - 1), vectors)
        x, y = threefry2x32((k0, k1), (high, ladder))
        for number, part in enumerate((x ^ y).parts, first):
            _store(builder, part, array.data, at, _LANES * number)
    return context.get_dummy_value()


def _store(builder: Any, vector: Any, data: Any, at: Any, number: int) -> None:
    place = builder.gep(data, [builder.add(at, _ir().Constant(at.type, number))])
    builder.store(vector, builder.bitcast(place, vector.type.as_pointer()), align=4)
