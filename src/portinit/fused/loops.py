"""The loops of a fused fill, in plain Python that numba compiles.

Compiled, the vectoriser turns them into whole-register instructions. Every sum and product is cut
to its width, for in numba, other than in NumPy, two words of 32 bits add up to one of 64.

Nothing here is floating point but the last conversion, the last multiplication and the bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import float32, int32, int64, uint32, uint64
from numpy.typing import NDArray

Integers = NDArray[Any]

BLOCK = 1024  # elements at a time: all buffers together stay in the first-level cache
BATCH = 128  # words that are made at a time, in registers side by side
_TOP = uint32(0x80000000)
_PARITY = uint32(0x1BD11BDA)
_ALL = int64(0xFFFFFFFF)


def bits_of(value: Any) -> Any:
    """The bit pattern of a float32."""
    return float32(value).view(int32)


def turn(x: Any, y: Any, left: Any) -> Any:
    """One round of Threefry."""
    x = uint32(x + y)
    return x, uint32(uint32(uint32(y << left) | uint32(y >> uint32(uint32(32) - left))) ^ x)


def even(x: Any, y: Any) -> Any:
    """Rounds 1 to 4 of eight."""
    x, y = turn(x, y, uint32(13))
    x, y = turn(x, y, uint32(15))
    x, y = turn(x, y, uint32(26))
    return turn(x, y, uint32(6))


def odd(x: Any, y: Any) -> Any:
    """Rounds 5 to 8 of eight."""
    x, y = turn(x, y, uint32(17))
    x, y = turn(x, y, uint32(29))
    x, y = turn(x, y, uint32(16))
    return turn(x, y, uint32(24))


def word(k0: Any, k1: Any, high: Any, low: Any) -> Any:
    """The word at a counter: see :mod:`portinit.threefry`."""
    k2 = uint32(uint32(k0 ^ k1) ^ _PARITY)
    x, y = even(uint32(high + k0), uint32(low + k1))
    x, y = odd(uint32(x + k1), uint32(y + uint32(k2 + uint32(1))))
    x, y = even(uint32(x + k2), uint32(y + uint32(k0 + uint32(2))))
    x, y = odd(uint32(x + k0), uint32(y + uint32(k1 + uint32(3))))
    x, y = even(uint32(x + k1), uint32(y + uint32(k2 + uint32(4))))
    return int32(uint32(x + k2) ^ uint32(y + uint32(k0 + uint32(5))))


def words(k0: Any, k1: Any, high: Any, low: Any, step: Any, out: Integers) -> None:
    """The words at counters low, low + step, ... that share their high word."""
    whole = out.size - out.size % BATCH
    for i in range(0, whole, BATCH):
        batch(k0, k1, high, ahead(low, step, i), step, out, i)
    for i in range(whole, out.size):
        out[i] = word(k0, k1, high, ahead(low, step, i))


def batch(k0: Any, k1: Any, high: Any, low: Any, step: Any, out: Integers, first: Any) -> None:
    """``BATCH`` words from ``first`` on; compiled, it is :func:`portinit.fused.vectors.batch`."""
    for i in range(BATCH):
        out[first + i] = word(k0, k1, high, ahead(low, step, i))


def ahead(low: Any, step: Any, count: Any) -> Any:
    """A counter's low word some steps on."""
    return uint32(low + uint32(uint32(count) * step))


def span(x: Integers, size: Any, first: Any) -> None:
    """Words scaled to first, ..., first + size - 1."""
    for i in range(x.size):
        product = uint64(uint32(uint32(x[i]) ^ _TOP)) * size
        x[i] = int32(int32(uint32(product >> uint64(32))) + first)


def locate(x: Integers, segment: Integers, position: Integers) -> None:
    """Where the ranks lie in the table of the quantile: see :mod:`portinit.quantile`."""
    for i in range(x.size):
        magnitude = int32((x[i] ^ int32(x[i] >> int32(31))) ^ int32(0x7FFFFFFF)) | int32(1)
        code = bits_of(float32(int32(magnitude)))
        segment[i] = int32(int32(code >> int32(13)) - int32(127 << 10))
        position[i] = int32(code & int32(0x1FFF))


def look_up(table: Integers, segment: Integers, out: Integers) -> None:
    """Each segment's knot and slope, in one word of 64 bits."""
    for i in range(segment.size):
        out[i] = table[uint32(segment[i])]


def interpolate(x: Integers, position: Integers, found: Integers) -> None:
    """The quantiles in fixed point, in the place of the ranks."""
    for i in range(x.size):
        sign = int32(x[i] >> int32(31))
        knot = int32(found[i] & _ALL)
        slope = int32(found[i] >> int64(32))
        z = int32(knot + int32(int32(slope * position[i]) >> int32(13)))
        x[i] = int32(int32(z ^ sign) - sign)


def multiply(x: Integers, factor: Any) -> None:
    """The high half of a product."""
    for i in range(x.size):
        x[i] = int32((int64(x[i]) * factor) >> int64(32))


def finish(x: Integers, last: Any, floats: Any, memory: Integers, first: Any, spacing: Any) -> None:
    """The bits of the integers' values to their places."""
    if spacing == 1:
        target = memory[first : first + x.size]
        for i in range(x.size):
            target[i] = value(x[i], last, floats)
    else:
        for i in range(x.size):
            memory[first + i * spacing] = value(x[i], last, floats)


def finish_half(
    x: Integers, last: Any, floats: Any, memory: Integers, first: Any, spacing: Any
) -> None:
    """As :func:`finish`, in bfloat16."""
    if spacing == 1:
        target = memory[first : first + x.size]
        for i in range(x.size):
            target[i] = half(value(x[i], last, floats))
    else:
        for i in range(x.size):
            memory[first + i * spacing] = half(value(x[i], last, floats))


def half(bits: Any) -> Any:
    """A finite float32's bits rounded to bfloat16's, to nearest, ties to even."""
    tie = int32(int32(bits >> int32(16)) & int32(1))
    return int32(int32(bits + int32(0x7FFF) + tie) >> int32(16))


def value(x: Any, last: Any, floats: Any) -> Any:
    """The last integer steps, the conversion, the multiplication and the bounds."""
    scale, low, high = floats
    y = float32(float32(int32(int32(x >> last[0]) + last[1])) * scale)
    y = low if y < low else y
    return bits_of(high if y > high else y)


def put(x: Integers, memory: Integers, first: Any, spacing: Any) -> None:
    """Words, as they are, to their places."""
    if spacing == 1:
        target = memory[first : first + x.size]
        for i in range(x.size):
            target[i] = x[i]
    else:
        for i in range(x.size):
            memory[first + i * spacing] = x[i]


def fitting(counter: Any, step: Any, most: Any) -> Any:
    """How many counters from here on share a high word; ``most`` at most."""
    below = counter & _ALL
    if step > 0:
        return min(most, (_ALL - below) // step + 1)
    if step < 0:
        return min(most, below // -step + 1)
    return most


def draw(
    starts: Integers, inner: Any, step: Any, row: Any, column: Any, key: Any, out: Integers
) -> Any:
    """The next words, row after row; how many, for a block can hold more."""
    done = 0
    while done < out.size and row < starts.size:
        counter = int64(starts[row] + column * step)
        n = fitting(counter, step, min(out.size - done, inner - column))
        high = uint32(uint32((counter >> int64(32)) & _ALL) ^ key[2])
        words(
            key[0], key[1], high, uint32(counter & _ALL), uint32(step & _ALL), out[done : done + n]
        )
        done += n
        column += n
        if column == inner:
            row, column = row + 1, 0
    return done


def fill(
    memory: Integers,
    places: Integers,
    starts: Integers,
    geometry: tuple[Any, Any, Any],
    key: tuple[Any, Any, Any],
    scaling: tuple[Any, Any, Any],
    last: tuple[Any, Any],
    floats: tuple[Any, Any, Any],
    flags: tuple[Any, Any, Any, Any],
    table: Integers,
    halved: Any,
) -> None:
    """Rows of values, or of raw words, into memory.

    Args:
        memory: what is written to, as int32 or int16.
        places: where each row begins there.
        starts: the counter of each row's first element.
        geometry: a row's length, the distance of its elements in memory, and of their counters.
        key: two words, and what is exclusive-ored to the counters' high word.
        scaling: size and first of the span, and the factor.
        last: shift and offset.
        floats: scale and bounds.
        flags: whether there is a span, a quantile, a factor; whether words stay words.
        table: what :func:`look_up` looks up.
        halved: whether values become bfloat16.
    """
    # Long on purpose: its steps in functions of their own took 0.1 ns more of a uniform's 0.6.
    inner, spacing, step = geometry
    numbers, found = np.empty(BLOCK, int32), np.empty(BLOCK, int64)
    segment, position = np.empty(BLOCK, int32), np.empty(BLOCK, int32)
    row, column = 0, 0
    while row < starts.size:
        n = draw(starts, inner, step, row, column, key, numbers)
        x = numbers[:n]
        if flags[0]:
            span(x, scaling[0], scaling[1])
        if flags[1]:
            locate(x, segment[:n], position[:n])
            look_up(table, segment[:n], found[:n])
            interpolate(x, position[:n], found[:n])
        if flags[2]:
            multiply(x, scaling[2])
        done = 0
        while done < n:
            part = min(n - done, inner - column)
            first = places[row] + column * spacing
            if flags[3]:
                put(x[done : done + part], memory, first, spacing)
            elif halved:
                finish_half(x[done : done + part], last, floats, memory, first, spacing)
            else:
                finish(x[done : done + part], last, floats, memory, first, spacing)
            done += part
            column += part
            if column == inner:
                row, column = row + 1, 0


def thin(
    memory: Integers,
    places: Integers,
    starts: Integers,
    geometry: tuple[Any, Any, Any],
    key: tuple[Any, Any, Any],
    limits: Integers,
) -> None:
    """Zeros where a word is at most its column's limit; arguments as for :func:`fill`."""
    inner, spacing, step = geometry
    numbers = np.empty(BLOCK, int32)
    for row in range(starts.size):
        column = 0
        while column < inner:
            counter = int64(starts[row] + column * step)
            n = in_line(counter, step, limits.size, min(BLOCK, inner - column))
            n = draw(starts[row : row + 1], column + n, step, 0, column, key, numbers[:n])
            first = counter % limits.size
            clear(numbers[:n], limits[first:], step % limits.size, memory, places[row], spacing)
            places[row] += n * spacing
            column += n


def in_line(counter: Any, step: Any, columns: Any, most: Any) -> Any:
    """How many counters from here on lie in one column, or in columns that follow one another."""
    along = step % columns
    if along == 0:
        return most
    return min(most, columns - counter % columns) if along == 1 else 1


def clear(
    x: Integers, limits: Integers, along: Any, memory: Integers, first: Any, spacing: Any
) -> None:
    """Zeros in the places of the words that are at most their limits."""
    if spacing == 1 and along == 1:
        target = memory[first : first + x.size]
        for i in range(x.size):
            target[i] = 0 if x[i] <= limits[i] else target[i]
    else:
        for i in range(x.size):
            if x[i] <= limits[i * along]:
                memory[first + i * spacing] = 0
