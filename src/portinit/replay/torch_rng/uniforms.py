"""``Tensor.uniform_``: one word a value, two for float64, then one fused multiply-add."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from portinit.replay.torch_math.arithmetic import fma64
from portinit.replay.torch_rng.engines import Engine, Values, Words, block_sizes
from portinit.replay.torch_rng.formats import (
    LATEST,
    Version,
    empty,
    is_complex,
    is_low,
    real_dtype,
    rounded,
    scalar,
)
from portinit.replay.torch_rng.generator import Generator, joined

_PRECISION = {"bfloat16": 8, "float16": 11}


def uniform(
    gen: Generator,
    n: int,
    a: float = 0.0,
    b: float = 1.0,
    dtype: Any = "float32",
    version: Version = LATEST,
) -> Values:
    """The n elements that ``tensor.uniform_(a, b)`` draws, in storage order.

    Bit for bit, in every version.

    Args:
        gen: the generator, which moves on.
        n: how many elements.
        a: the lower bound.
        b: the upper bound; since torch 2.12 a value that rounds to it becomes ``a``.
        dtype: float32, float64, bfloat16, float16, complex64 or complex128.
        version: of the torch that is replayed.

    Raises:
        ValueError: ``a`` is above ``b``.
    """
    if not a <= b:
        raise ValueError(f"uniform bounds must have a <= b, got a={a} and b={b}")
    out, flat = empty(n, dtype)
    real = real_dtype(dtype)
    for start, stop in block_sizes(flat.size):
        words = gen.random32((stop - start) * uniform_words(real))
        flat[start:stop] = uniforms_of(gen.engine, words, a, b, real, version)
    return out


def skip_uniform(gen: Generator, n: int, dtype: Any = "float32") -> None:
    """Move on by what :func:`uniform` draws."""
    gen.skip(n * (1 + is_complex(dtype)) * uniform_words(real_dtype(dtype)))


def uniform_words(real: str) -> int:
    """How many 32-bit words a uniform of a real dtype takes."""
    return 2 if real == "float64" else 1


def uniforms_of(
    engine: Engine, words: Words, a: float, b: float, real: str, version: Version
) -> Values:
    """The uniforms of a block of words."""
    if real == "float64":
        values = fma64(unit64(joined(words)), b - a, a)
    elif is_low(real) and version < (2, 12):
        values = _narrow(words, a, b, real)
    else:
        low = np.float32(a)
        values = engine.uniform(words, low, np.float32(b) - low)
    values = rounded(values, real)
    if version >= (2, 12):
        values[values == rounded(b, real)] = rounded(a, real)
    return values


def unit64(words: NDArray[np.uint64]) -> Values:
    """Uniform doubles in [0, 1), of 64-bit words."""
    unit: Values = (words & np.uint64((1 << 53) - 1)).astype(np.float64)
    return unit * 2.0**-53


def _narrow(words: Words, a: float, b: float, real: str) -> Values:
    """The number of bits that the dtype holds, as torch drew before 2.12."""
    unit = unit_narrow(words, real)
    low, high = scalar(a, real), scalar(b, real)
    width = np.float32(scalar(high - low, real))
    # The product is exact, so that its fusion with the sum does not matter.
    return unit * width + np.float32(low)


def unit_narrow(words: Words, real: str) -> Values:
    """Uniforms in [0, 1) with the dtype's precision, as float32."""
    bits = _PRECISION[real]
    unit: Values = (words & np.uint32((1 << bits) - 1)).astype(np.float32)
    return unit * np.float32(2.0**-bits)
