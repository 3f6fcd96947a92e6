"""Structure between elements: given values, orthogonal matrices, sparse columns."""

from __future__ import annotations

import math

import numpy as np

from portinit.arrays.dtypes import float_format
from portinit.initializers.assigned import Given
from portinit.initializers.base import Initializer
from portinit.initializers.basic import constant
from portinit.initializers.matrices import dirac, eye
from portinit.initializers.sparse import sparse
from portinit.testing.arrays import Array, as_double, described, differing, scipy_stats
from portinit.testing.parts import Part

EXACT: tuple[type[Initializer], ...] = (constant, eye, dirac, Given)
"""The values that do not depend on a key."""


def exact(part: Part) -> str | None:
    """How values differ from those that any key gives."""
    if not part.flat.size:
        return None
    if isinstance(part.initializer, constant):
        expected = np.broadcast_to(_one_element(part), part.values.shape)
    else:
        expected = part.draw()
    where = differing(expected, part.values) & (expected != part.values)
    if part.chosen is not None:
        where &= part.chosen
    if not where.any():
        return None
    return described(expected, part.values, where, ("expected", "found"))


def _one_element(part: Part) -> Array:
    """A constant as its dtype holds it."""
    grid = part.grid
    for axis in range(len(grid.axes)):
        grid = grid.part(axis, slice(0, 1))
    return part.draw(grid).reshape(())


def not_orthogonal(part: Part, scale: float) -> str | None:
    """How far a matrix, PyTorch's axis 0 against the rest, is from orthonormal rows or columns."""
    logical = _whole(part)
    return _deviation(logical.reshape(logical.shape[0], -1), scale * part.factor, part.dtype)


def not_delta_orthogonal(part: Part, scale: float) -> str | None:
    """Whether the centre tap is not orthogonal, or another tap is not zero, in words."""
    logical = _whole(part)
    centre = tuple((size - 1) // 2 for size in logical.shape[2:])
    beside = logical.copy()
    beside[..., *centre] = 0
    if np.any(beside):
        return f"all but the centre tap {list(centre)} must be 0, got {np.count_nonzero(beside)}"
    return _deviation(logical[..., *centre], scale * part.factor, part.dtype)


def _whole(part: Part) -> Array:
    if part.chosen is not None or part.values.shape != part.grid.array_shape:
        raise TypeError(f"{part.initializer} can be checked as a whole only, got a part of it")
    return part.grid.layout.to_torch(part.values)


def _deviation(matrix: Array, scale: float, dtype: str) -> str | None:
    if not matrix.size:
        return None
    m, fmt = as_double(matrix), float_format(dtype)
    gram = m @ m.conj().T if len(m) < m.shape[1] else m.conj().T @ m
    far = np.abs(gram - scale**2 * np.eye(len(gram)))
    allowed = max({32: 1e-5, 64: 1e-10}[fmt.bits], 4 * 2.0 ** (1 - fmt.precision)) * scale**2
    if far.max() <= allowed:
        return None
    i, j = np.unravel_index(far.argmax(), far.shape)
    return (
        f"the Gram matrix must be {scale**2:.4g} times the identity to within {allowed:.2g}, "
        f"got {gram[i, j]:.4g} at [{i}, {j}]"
    )


def zeros_off(part: Part, initializer: sparse, alpha: float) -> str | None:
    """The first column with too few zeros, or with more than chance explains."""
    logical, wanted = _whole(part), _zeros(part, initializer)
    zeros = (logical == 0).sum(axis=0)
    extra = int((zeros - wanted).clip(0).sum())
    expected = logical.size * _chance_of_zero(part, initializer.std * abs(part.factor))
    by_chance = scipy_stats().poisson.sf(extra - 1, expected) >= alpha
    wrong = np.flatnonzero(zeros < wanted if by_chance else zeros != wanted)
    if not wrong.size:
        return None
    return f"each column must have {wanted} zeros, got {zeros[wrong[0]]} in column {wrong[0]}"


def rest_of_sparse(part: Part, initializer: sparse) -> Array:
    """The values that are left of each column without its zeros."""
    logical = _whole(part)
    order = np.argsort(logical != 0, axis=0, kind="stable")
    rest = order[_zeros(part, initializer) :]
    return np.take_along_axis(logical, rest, axis=0).reshape(-1)


def _zeros(part: Part, initializer: sparse) -> int:
    return math.ceil(initializer.sparsity * part.grid.shape[0])


def _chance_of_zero(part: Part, std: float) -> float:
    """The chance that a normal is rounded to 0: in its table's last bit, or in its format."""
    fmt = float_format(part.dtype)
    least = math.ldexp(0.5, fmt.min_exponent - fmt.precision + 1)
    return max(2.0**-27, min(1.0, least / std)) if std else 1.0
