"""The kernel of a fused fill: from counters to values in a GPU's registers, in Triton.

One thread takes a few elements from their counters to the memory, and nothing is stored between.
All is integers but one conversion, one multiplication and the bounds, so there is nothing to
contract and nothing that a GPU rounds otherwise than a CPU. What a distribution lacks is None, and
is not compiled.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def turn(x: tl.tensor, y: tl.tensor, left: tl.constexpr) -> tl.tensor:
    """One round of Threefry."""
    x += y
    return x, ((y << left) | (y >> (32 - left))) ^ x


@triton.jit
def even(x: tl.tensor, y: tl.tensor) -> tl.tensor:
    """Rounds 1 to 4 of eight."""
    x, y = turn(x, y, 13)
    x, y = turn(x, y, 15)
    x, y = turn(x, y, 26)
    return turn(x, y, 6)


@triton.jit
def odd(x: tl.tensor, y: tl.tensor) -> tl.tensor:
    """Rounds 5 to 8 of eight."""
    x, y = turn(x, y, 17)
    x, y = turn(x, y, 29)
    x, y = turn(x, y, 16)
    return turn(x, y, 24)


@triton.jit
def word(k0: tl.tensor, k1: tl.tensor, high: tl.tensor, low: tl.tensor) -> tl.tensor:
    """The word at a counter: see :mod:`portinit.random.threefry`."""
    k2 = k0 ^ k1 ^ 0x1BD11BDA
    x, y = even(high + k0, low + k1)
    x, y = odd(x + k1, y + (k2 + 1))
    x, y = even(x + k2, y + (k0 + 2))
    x, y = odd(x + k0, y + (k1 + 3))
    x, y = even(x + k1, y + (k2 + 4))
    return (x + k2) ^ (y + (k0 + 5))


@triton.jit
def quantile(rank: tl.tensor, table: tl.tensor) -> tl.tensor:
    """The normal quantile in fixed point: see :mod:`portinit.sampling.quantile32`."""
    sign = rank >> 31
    code = ((rank ^ sign ^ 0x7FFFFFFF) | 1).to(tl.float32).to(tl.int32, bitcast=True)
    line = tl.load(table + ((code >> 12) - (127 << 11)))  # a value, and half of the segment's rise
    half = (line >> 32).to(tl.int32)
    z = line.to(tl.int32) + ((half * (code & 0xFFF)) >> 11)
    return (z ^ sign) - sign


@triton.jit
def locate(
    index: tl.tensor,
    first: tl.tensor,
    spacing: tl.tensor,
    step: tl.tensor,
    runs: tl.tensor,
    inner: tl.constexpr,
) -> tl.tensor:
    """Places in memory and counters of elements that are numbered as they lie in memory."""
    rest = index.to(tl.uint32)
    place = tl.zeros_like(index).to(tl.int64)
    counter = place + first
    for i in tl.static_range(inner):
        length = tl.load(runs + 5 * i).to(tl.uint32)
        factor = tl.load(runs + 5 * i + 1).to(tl.uint32)
        shift = tl.load(runs + 5 * i + 2).to(tl.uint32)
        whole = (tl.umulhi(rest, factor) + rest) >> shift  # rest // length
        position = (rest - whole * length).to(tl.int64)
        place += position * tl.load(runs + 5 * i + 3)
        counter += position * tl.load(runs + 5 * i + 4)
        rest = whole
    position = rest.to(tl.int64)
    return place + position * spacing, counter + position * step


@triton.jit
def integer(
    bits: tl.tensor,
    table: tl.tensor,
    count: tl.tensor,
    lowest: tl.tensor,
    factor: tl.tensor,
    shift: tl.constexpr,
    offset: tl.tensor,
) -> tl.tensor:
    """The integer that a word becomes: see :class:`portinit.sampling.transform.Transform`."""
    x = bits.to(tl.int32, bitcast=True)
    if count is not None:
        x = tl.umulhi(bits ^ 0x80000000, count.to(tl.uint32)).to(tl.int32, bitcast=True) + lowest
    if table is not None:
        x = quantile(x, table)
    if factor is not None:
        x = ((x.to(tl.int64) * factor) >> 32).to(tl.int32)
    x = x >> shift
    return x if offset is None else x + offset


@triton.jit
def bfloat16(value: tl.tensor) -> tl.tensor:
    """The bits of a float32 rounded to bfloat16: to nearest, ties to even."""
    code = value.to(tl.uint32, bitcast=True)
    return ((code + (((code >> 16) & 1) + 0x7FFF)) >> 16).to(tl.int16)


@triton.jit(do_not_specialize=list(range(17)))
def fill(
    out: tl.tensor,
    runs: tl.tensor,
    table: tl.tensor,
    first: tl.int64,
    size: tl.tensor,
    spacing: tl.int64,
    step: tl.int64,
    k0: tl.tensor,
    k1: tl.tensor,
    stream_bits: tl.tensor,
    count: tl.tensor,
    lowest: tl.tensor,
    factor: tl.tensor,
    offset: tl.tensor,
    scale: tl.tensor,
    low: tl.tensor,
    high: tl.tensor,
    shift: tl.constexpr,
    inner: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Values, or words, for the elements of some runs.

    Args:
        out: float32, float16, bfloat16 as int16, or int32 for words.
        runs: all but the slowest, fastest first: length, its reciprocal, spacing, step.
        table: the quantile's, a word for each segment.
        first: the counter of the first element.
        size: how many elements.
        spacing: the distance of the slowest run's elements in memory.
        step: and of their counters.
        k0: a word of the key.
        k1: the other.
        stream_bits: exclusive-ored to the counters' high words.
        count: the span's size.
        lowest: the span's first.
        factor: as in :class:`portinit.sampling.transform.Transform`, and so down to shift.
        offset: added to the integer.
        scale: none for words.
        low: the smallest value.
        high: the largest.
        shift: low bits that are dropped.
        inner: how many runs there are but the slowest.
        block: how many elements a program takes.
    """
    # Past the end the last element is written again: no mask, and one form for every size.
    index = tl.minimum(tl.program_id(0) * block + tl.arange(0, block), size - 1)
    place, counter = locate(index, first, spacing, step, runs, inner)
    top = (counter >> 32).to(tl.uint32) ^ stream_bits.to(tl.uint32)
    x = word(k0.to(tl.uint32), k1.to(tl.uint32), top, counter.to(tl.uint32))
    if scale is None:
        x = x.to(tl.int32, bitcast=True)
    else:
        x = integer(x, table, count, lowest, factor, shift, offset).to(tl.float32) * scale
        if low is not None:
            x = tl.minimum(tl.maximum(x, low), high)
        if out.dtype.element_ty == tl.int16:
            x = bfloat16(x)
    tl.store(out + place, x)
