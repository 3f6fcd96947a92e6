"""``Tensor.normal_``: Box and Muller's pairs, 16 at a time or one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from portinit.replay.torch_rng.engines import Values, Words, block_sizes
from portinit.replay.torch_rng.formats import LATEST, Version, empty, is_complex, real_dtype
from portinit.replay.torch_rng.generator import Generator
from portinit.replay.torch_rng.kernels import Kernel, kernel_of
from portinit.replay.torch_rng.pairs import scalar_normals, skip_scalar_normals

ROW = 16  # values that the vectorised path computes together


def normal(
    gen: Generator,
    n: int,
    mean: float = 0.0,
    std: float = 1.0,
    dtype: Any = "float32",
    *,
    contiguous: bool = True,
    version: Version = LATEST,
) -> Values:
    """The n elements that ``tensor.normal_(mean, std)`` draws, in storage order.

    16 and more elements of a contiguous tensor: bit for bit in float32, and in bfloat16 and
    float16 from torch 2.13 on. All else calls the C library's log, sine and cosine as torch does,
    and is bit for bit where both have the same library.

    Args:
        gen: the generator, which moves on.
        n: how many elements.
        mean: the mean; of complex dtypes, of the real and of the imaginary part.
        std: the standard deviation.
        dtype: float32, float64, bfloat16, float16, complex64 or complex128.
        contiguous: whether the tensor is; others are drawn one pair after the other.
        version: of the torch that is replayed.

    Raises:
        ValueError: ``std`` is negative.
    """
    out, flat = empty(n, dtype)
    draw = NormalDraw.of(flat.size, mean, std, dtype, contiguous, version)
    draw.fill(gen, flat)
    return out


def skip_normal(
    gen: Generator,
    n: int,
    dtype: Any = "float32",
    *,
    contiguous: bool = True,
    version: Version = LATEST,
) -> None:
    """Move on by what :func:`normal` draws; the cached half of a pair included."""
    n *= 1 + is_complex(dtype)
    NormalDraw.of(n, 0.0, 1.0, real_dtype(dtype), contiguous, version).skip(gen)


@dataclass(frozen=True)
class NormalDraw:
    """One call of ``normal_`` on n real numbers.

    Attributes:
        n: how many numbers.
        mean: their mean.
        std: their standard deviation.
        real: their dtype.
        kernel: what computes 16 at a time; none for pair after pair.
    """

    n: int
    mean: float
    std: float
    real: str
    kernel: Kernel | None

    @classmethod
    def of(
        cls, n: int, mean: float, std: float, dtype: Any, contiguous: bool, version: Version
    ) -> NormalDraw:
        """The draw of a call; of complex dtypes n counts the parts."""
        if not std >= 0:
            raise ValueError(f"std must be 0 or more, got {std}")
        if is_complex(dtype):
            std = std / math.sqrt(2.0)
        real = real_dtype(dtype)
        vectorised = contiguous and n >= ROW
        kernel = kernel_of(real, mean, std, version) if vectorised else None
        return cls(n, mean, std, real, kernel)

    def fill(self, gen: Generator, out: Values) -> None:
        """Draw all numbers into an array."""
        if self.kernel is None:
            for start, values in self.scalars(gen):
                out[start : start + values.size] = values
            return
        for start, kept, words in self.rows(gen, self.kernel):
            out[start : start + kept] = self.kernel.values(gen.engine, words)[:kept]

    def skip(self, gen: Generator) -> None:
        """Move on by what all numbers draw."""
        if self.kernel is None:
            skip_scalar_normals(gen, self.n)
        else:
            rest = self.n % ROW
            words = self.n - rest + (rest > 0) * ROW + self.kernel.draws_rest * rest
            gen.skip(words * self.kernel.words)

    def scalars(self, gen: Generator) -> Iterator[tuple[int, Values]]:
        """Where each block of numbers starts, and the block, pair after pair."""
        for start, stop in block_sizes(self.n):
            yield start, scalar_normals(gen, stop - start, self.mean, self.std, self.real)

    def rows(self, gen: Generator, kernel: Kernel) -> Iterator[tuple[int, int, Words]]:
        """Where each block of rows starts, how many of its values are kept, and its words.

        What does not fill a row is 16 fresh values, which overwrite the last 16.
        """
        rest = self.n % ROW
        kept = self.n - ROW if rest else self.n
        for start, stop in block_sizes(self.n - rest):
            words = gen.random32((stop - start) * kernel.words)
            yield start, min(stop, kept) - start, words
        if rest:
            gen.skip(rest * kernel.draws_rest * kernel.words)
            yield self.n - ROW, ROW, gen.random32(ROW * kernel.words)
