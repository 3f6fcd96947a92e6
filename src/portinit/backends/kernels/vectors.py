"""From counters to values in whole vector registers, a batch at a time.

Each function emits LLVM's code for ``BATCH`` elements; :mod:`portinit.backends.kernels.loops`
calls what they make. The cipher is :func:`portinit.random.threefry.threefry2x32` itself, run on
:class:`~portinit.backends.kernels.lanes.Lanes`. What follows it is
:meth:`portinit.sampling.transform.Transform.integers`.

A block's rounds wait for one another, so several blocks must be under way at once. The vectoriser
interleaves two; here as many are written out as there are registers for.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from portinit.backends.kernels.lanes import (
    COUNT,
    Lanes,
    constant,
    element_ptr,
    ir,
    load,
    splat,
    store,
    vector,
)
from portinit.random.threefry import threefry2x32
from portinit.sampling.quantile32 import FIRST_SEGMENT, POSITION_BITS

BATCH = 128
"""Elements at a time."""

_VECTORS = range(0, BATCH, COUNT)
_EMITTED: dict[str, Callable[..., Any]] = {}


def emitted(emit: Callable[..., Any]) -> Callable[..., Any]:
    """Have :func:`functions` make a function of one that emits code; its first is the builder."""
    _EMITTED[emit.__name__] = emit
    return emit


def functions() -> dict[str, Any]:
    """The intrinsic functions that the loops call, by name."""
    intrinsic = importlib.import_module("numba.extending").intrinsic
    return {name: intrinsic(_typed(emit)) for name, emit in _EMITTED.items()}


def _typed(emit: Callable[..., Any]) -> Callable[..., Any]:
    void = importlib.import_module("numba.types").void

    def of(*kinds: Any) -> Any:
        return void(*kinds), _coded(emit)

    # numba asks for the number of arguments.
    forms: dict[int, Callable[..., Any]] = {
        2: lambda _, a, b: of(a, b),
        3: lambda _, a, b, c: of(a, b, c),
        4: lambda _, a, b, c, d: of(a, b, c, d),
        5: lambda _, a, b, c, d, e: of(a, b, c, d, e),
    }
    return forms[len(inspect.signature(emit).parameters) - 1]


def _coded(emit: Callable[..., Any]) -> Callable[..., Any]:
    """The code generator that numba expects: arrays come as pointers, tuples as lists."""
    kinds = importlib.import_module("numba.types")

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def plain(kind: Any, value: Any) -> Any:
            if isinstance(kind, kinds.Array):
                return context.make_array(kind)(context, builder, value).data
            if isinstance(kind, kinds.BaseTuple):
                return [builder.extract_value(value, i) for i in range(len(kind))]
            return value

        emit(builder, *map(plain, signature.args, values))
        return context.get_dummy_value()

    return code


class StridedCounters:
    """Counters whose vectors lie a stride apart, to add a word to.

    The word is added to the first, and then each is made from the one before: vectors that depend
    on nothing LLVM puts behind one another, and their rounds no longer overlap.
    """

    def __init__(self, first: Lanes, stride: Lanes, count: int) -> None:
        self.first = first
        self.stride = stride
        self.count = count

    def __add__(self, word: Lanes) -> Lanes:
        sums = [self.first + word]
        for _ in range(1, self.count):
            sums.append(sums[-1] + self.stride)
        return Lanes(word.builder, [part.parts[0] for part in sums])


def _side_by_side() -> int:
    """How many vectors there are registers for: with AVX-512 32 of 16 lanes."""
    features = importlib.import_module("llvmlite.binding").get_host_cpu_features()
    return 8 if features.get("avx512f") else 4


@emitted
def words(builder: Any, key: Any, counter: Any, step: Any, out: Any, at: Any) -> None:
    """The words at counter, counter + step, ..., which share their high word."""
    k0, k1, stream = (splat(builder, word) for word in key)
    counters, step = splat(builder, counter), _low_half(splat(builder, step))
    high, low = _high_half(counters), _low_half(counters)
    vectors, target = _side_by_side(), builder.gep(out, [at])
    for first in range(0, BATCH, vectors * COUNT):
        start = low + step * Lanes(builder, [constant([*range(first, first + COUNT)])])
        strided: Any = StridedCounters(start, step * COUNT, vectors)
        x, y = threefry2x32((k0, k1), (high ^ stream, strided))
        store(x ^ y, target, first)


@emitted
def words_at(builder: Any, key: Any, counters: Any, out: Any, at: Any) -> None:
    """The words at any counters."""
    k0, k1, stream = (splat(builder, word) for word in key)
    vectors, target = _side_by_side(), builder.gep(out, [at])
    for first in range(0, BATCH, vectors * COUNT):
        counter = load(builder, counters, first, vectors)
        x, y = threefry2x32((k0, k1), (_high_half(counter) ^ stream, _low_half(counter)))
        store(x ^ y, target, first)


@emitted
def copy(builder: Any, x: Any, out: Any, at: Any) -> None:
    """The words themselves to memory."""
    target = builder.gep(out, [at])
    for first in _VECTORS:
        store(load(builder, x, first, 1), target, first)


@emitted
def scale_to_range(builder: Any, x: Any, scaling: Any) -> None:
    """Words scaled to first, ..., first + size - 1."""
    size, lowest, _ = (splat(builder, value) for value in scaling)
    for first in _VECTORS:
        unsigned = (load(builder, x, first, 1) ^ -(1 << 31)).map(_wider(builder.zext))
        store(_high_half(unsigned.zip_with(size, builder.mul)) + lowest, x, first)


@emitted
def multiply(builder: Any, x: Any, scaling: Any) -> None:
    """The high half of a product."""
    factor = splat(builder, scaling[2])
    for first in _VECTORS:
        signed = load(builder, x, first, 1).map(_wider(builder.sext))
        store(_high_half(signed.zip_with(factor, builder.mul)), x, first)


def _wider(extend: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    return lambda part: extend(part, vector(ir().IntType(64)))


def _high_half(x: Lanes) -> Lanes:
    shift = ir().Constant(vector(ir().IntType(64)), [32] * COUNT)
    return _low_half(x.map(lambda part: x.builder.lshr(part, shift)))


def _low_half(x: Lanes) -> Lanes:
    return x.map(lambda part: x.builder.trunc(part, vector(ir().IntType(32))))


@emitted
def locate(builder: Any, x: Any, segments: Any) -> None:
    """In which segments of the quantile's table ranks lie: see ``sampling.quantile32``."""
    for first in _VECTORS:
        code = _code(load(builder, x, first, 1))
        store((code >> POSITION_BITS) - FIRST_SEGMENT, segments, first)


@emitted
def interpolate(builder: Any, x: Any, segments: Any, table: Any) -> None:
    """The normal quantile in fixed point, in the place of the ranks."""
    for first in _VECTORS:
        rank, found = load(builder, x, first, 1), _look_up(builder, segments, first, table)
        sign, position = rank >> 31, _code(rank) & ((1 << POSITION_BITS) - 1)
        z = _low_half(found) + (_high_half(found) * position >> (POSITION_BITS - 1))
        store((z ^ sign) - sign, x, first)


def _code(rank: Lanes) -> Lanes:
    return _bits(_float((rank ^ (rank >> 31) ^ 0x7FFFFFFF) | 1))


def _look_up(builder: Any, segments: Any, first: int, table: Any) -> Lanes:
    """Each segment's value, and half of its rise above it, in a word of 64 bits.

    Sixteen scalar loads take less than gathers do, if the segments come from memory.
    """
    word = ir().IntType(64)
    found = ir().Constant(vector(word), ir().Undefined)
    for lane in range(COUNT):
        index = builder.zext(builder.load(element_ptr(builder, segments, first + lane)), word)
        line = builder.load(builder.gep(table, [index]))
        number = ir().Constant(ir().IntType(32), lane)
        found = builder.insert_element(found, line, number)
    return Lanes(builder, [found])


def _float(x: Lanes) -> Lanes:
    return x.map(lambda part: x.builder.sitofp(part, vector(ir().FloatType())))


def _bits(x: Lanes) -> Lanes:
    return x.map(lambda part: x.builder.bitcast(part, vector(ir().IntType(32))))


@emitted
def convert_and_store(builder: Any, x: Any, last: Any, floats: Any, out: Any, at: Any) -> None:
    """The integers' values to memory: the last shift and offset, and what is floating point."""
    shift, offset, scale, low, high = (splat(builder, value) for value in (*last, *floats))
    target = builder.gep(out, [at])
    for first in _VECTORS:
        y = _float((load(builder, x, first, 1) >> shift) + offset).zip_with(scale, builder.fmul)
        y = _chosen(_chosen(y, "<", low), ">", high)
        store(_half(_bits(y)) if out.type.pointee.width == 16 else _bits(y), target, first)


def _chosen(x: Lanes, sign: str, bound: Lanes) -> Lanes:
    """The bound where x is beyond it."""
    builder = x.builder

    def choose(a: Any, b: Any) -> Any:
        return builder.select(builder.fcmp_ordered(sign, a, b), b, a)

    return x.zip_with(bound, choose)


def _half(bits: Lanes) -> Lanes:
    """A finite float32's bits rounded to bfloat16's, to nearest, ties to even."""
    rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16
    return rounded.map(lambda part: bits.builder.trunc(part, vector(ir().IntType(16))))
