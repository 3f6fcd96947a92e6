"""Values of any framework against the initializer that they are said to be drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from portinit.arrays.dtypes import dtype_name
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout, as_layout, as_shape
from portinit.initializers.base import Initializer, distribution
from portinit.initializers.basic import constant
from portinit.initializers.matrices import delta_orthogonal, orthogonal
from portinit.initializers.sparse import sparse
from portinit.sampling.distributions import Distribution, Normal
from portinit.testing.arrays import Array, as_double, to_numpy
from portinit.testing.causes import likely_cause
from portinit.testing.fits import failed, in_words, p_values
from portinit.testing.parts import Part
from portinit.testing.structure import (
    EXACT,
    exact,
    not_delta_orthogonal,
    not_orthogonal,
    rest_of_sparse,
    zeros_off,
)


def assert_distribution(
    array: Any,
    initializer: Initializer,
    *,
    shape: Any = None,
    layout: Layout | str | None = None,
    alpha: float = 1e-6,
) -> None:
    """Assert that values can be an initializer's draws, whoever drew them, from whatever stream.

    Independent draws are tested against :meth:`portinit.Initializer.distribution_of`, by
    ``portinit.testing.goodness.goodness`` from 1024 values on. What no key changes (constants,
    ``eye``, ``assign``) is compared exactly, ``orthogonal`` by its product with its transpose (not
    for being uniformly distributed), ``sparse`` by the zeros of its columns and the law of the
    rest, ``blocks`` and ``where`` part by part.

    Args:
        array: an array of any framework, in a dtype that can be drawn.
        initializer: what it is said to be drawn from.
        shape: the shape of the whole array, whose fans count, where this is a part of it.
        layout: how the array's axes map to PyTorch's; by default PyTorch's own for a torch tensor,
            and for others as for a call of the initializer.
        alpha: the chance of failing by chance, over all tests of the call together; each of k
            tests has 1 / k of it.

    Raises:
        AssertionError: telling which test failed, its p-value, mean and std as expected and as
            found, and what the values fit instead, if a common mistake explains them.
        TypeError: an initializer whose draws cannot be told, such as a traced expression.

    >>> import numpy as np, portinit
    >>> kernel = np.random.default_rng(0).normal(0, 0.25, (32, 64)).astype("float32")
    >>> assert_distribution(kernel, portinit.kaiming_normal())
    """
    values = to_numpy(array)
    whole = as_shape(values.shape if shape is None else shape)
    default = "torch" if hasattr(array, "detach") else initializer.default_layout
    grid = Grid.whole(whole, as_layout(layout or default))
    law = distribution(initializer, grid, dtype_name(values.dtype))
    part = Part(initializer, grid, values)
    if whole != values.shape and law is None:
        raise TypeError(f"a part can be checked of independent draws only, got {initializer}")
    parts = [*part.split()] if whole == values.shape else [part]
    lines = [line for one in parts for line in _wrong(one, alpha / len(parts))]
    if lines:
        head = f"the values must be draws of {initializer}, got {part.dtype} {values.shape}:"
        raise AssertionError("\n  ".join([head, *lines]))


def _wrong(part: Part, alpha: float) -> Iterator[str]:
    """A line for each thing that is wrong with one part."""
    label = f"{part.label}: " if part.label else ""
    for line in _found(part, alpha):
        if line is not None:
            yield label + line


def _found(part: Part, alpha: float) -> list[str | None]:
    inner = part.initializer
    if isinstance(inner, EXACT):
        return [exact(part)]
    if isinstance(inner, orthogonal):
        return [not_orthogonal(part, inner.gain)]
    if isinstance(inner, delta_orthogonal):
        return [not_delta_orthogonal(part, inner.scale)]
    if isinstance(inner, sparse):
        rest = replace(part, values=rest_of_sparse(part, inner))
        law = Normal(0.0, inner.std).scaled(part.factor)
        return [zeros_off(part, inner, alpha / 2), *_misfits(rest, law, alpha / 2)]
    independent = distribution(inner, part.grid, part.dtype, part.factor)
    if independent is None:
        raise TypeError(f"an initializer's distribution must be known, got {inner}")
    return _misfits(part, independent, alpha)


def _misfits(part: Part, law: Distribution, alpha: float) -> list[str | None]:
    """The tests that independent draws fail, and what explains it."""
    if not law.std:
        return [exact(replace(part, initializer=constant(law.mean), factor=1.0))]
    lines = failed(p_values(part.flat, law), alpha)
    return [_moments(part.flat, law), *lines, likely_cause(part, law)] if lines else []


def _moments(values: Array, law: Distribution) -> str:
    laws = law.complex_parts() if values.dtype.kind == "c" else (law,)
    x, std = as_double(values), math.hypot(*(one.std for one in laws))
    return (
        f"{values.size} values must be {in_words(law)}: mean {law.mean:.4g}, std {std:.4g}; "
        f"got mean {x.mean():.4g}, std {x.std():.4g}"
    )
