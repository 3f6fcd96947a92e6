"""``torch.nn.init.trunc_normal_``: by rejection since torch 2.12, by erfinv before."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from portinit.replay.torch_rng.engines import Values, block_sizes
from portinit.replay.torch_rng.formats import (
    LATEST,
    Version,
    empty,
    is_complex,
    real_dtype,
    rounded,
)
from portinit.replay.torch_rng.generator import Generator
from portinit.replay.torch_rng.rejection import Truncated, fill_by_normals, fill_by_uniforms
from portinit.replay.torch_rng.uniforms import skip_uniform, uniform_words, uniforms_of


def trunc_normal(
    gen: Generator,
    n: int,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    dtype: Any = "float32",
    version: Version = LATEST,
    *,
    contiguous: bool = True,
    redraw_contiguous: bool | None = None,
) -> Values:
    """The n elements that ``torch.nn.init.trunc_normal_`` draws, in storage order.

    From torch 2.12 on as exact as :func:`normal`; before, too, where MKL is at hand, whose erfinv
    torch calls. Without it 99.97 % are equal and the rest within 2 units in the last place.

    Args:
        gen: the generator, which moves on.
        n: how many elements.
        mean: the mean of the normal before truncation.
        std: its standard deviation.
        a: the lower bound.
        b: the upper bound.
        dtype: float32, float64, bfloat16 or float16.
        version: of the torch that is replayed.
        contiguous: whether the tensor is.
        redraw_contiguous: whether ``torch.empty_like`` of it is; if None, as the tensor itself.
            They differ for slices with gaps: not contiguous, but their copies are.
    """
    if is_complex(dtype):
        raise TypeError(f"trunc_normal must be of a real dtype, got {dtype}")
    out, _ = empty(n, dtype)
    law = Truncated(mean, std, a, b, real_dtype(dtype), version)
    if version < (2, 12):
        _by_erfinv(gen, out, law)
    elif law.mass > 0.3:
        again = contiguous if redraw_contiguous is None else redraw_contiguous
        fill_by_normals(gen, out, law, contiguous, again)
    else:
        fill_by_uniforms(gen, out, law)
    return out


def skip_trunc_normal(
    gen: Generator,
    n: int,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    dtype: Any = "float32",
    version: Version = LATEST,
    *,
    contiguous: bool = True,
    redraw_contiguous: bool | None = None,
) -> None:
    """Move on by what :func:`trunc_normal` draws; how often it redraws only the values tell."""
    if version < (2, 12):
        skip_uniform(gen, n, dtype)
    else:
        trunc_normal(
            gen,
            n,
            mean,
            std,
            a,
            b,
            dtype,
            version,
            contiguous=contiguous,
            redraw_contiguous=redraw_contiguous,
        )


def _by_erfinv(gen: Generator, out: Values, law: Truncated) -> None:
    low, high = rounded(law.a, law.real), rounded(law.b, law.real)
    for start, stop in block_sizes(out.size):
        out[start:stop] = np.clip(_normals_by_erfinv(gen, stop - start, law), low, high)


def _normals_by_erfinv(gen: Generator, n: int, law: Truncated) -> Values:
    """Each operation rounded to the dtype, as the operations of torch are."""
    low, high = (2 * p - 1 for p in law.tails)
    words = gen.random32(n * uniform_words(law.real))
    x = uniforms_of(gen.engine, words, low, high, law.real, law.version)
    x = law.step(law.function("erfinv", x))
    x = law.step(x * law.work(law.std * math.sqrt(2.0)))
    return rounded(x + law.term(law.mean), law.real)
