"""Products and factorisations of matrices, in float64 and rounded once.

PyTorch calls BLAS and LAPACK in the tensor's own precision, so its last digits are others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Attributes = Mapping[str, Any]


def _wide(x: Array) -> Array:
    if x.dtype.kind == "c":
        return x.astype(np.complex128)
    return x.astype(np.float64) if x.dtype.kind in "fV" else x


def _narrow(values: Any, like: Array) -> Array:
    return np.asarray(values).astype(like.dtype)


def _of_matrices(function: Callable[..., Any]) -> Callable[..., Array]:
    def apply(a: Attributes, *arguments: Array) -> Array:
        return _narrow(function(*map(_wide, arguments)), arguments[0])

    return apply


def _lu(matrix: Array) -> tuple[Array, Array, Array]:
    """P, L, U with P L U = A, the largest element of each column as its pivot."""
    rows, columns = matrix.shape
    work, order, rank = matrix.copy(), np.arange(rows), min(rows, columns)
    for k in range(rank):
        pivot = k + int(np.argmax(np.abs(work[k:, k])))
        work[[k, pivot]], order[[k, pivot]] = work[[pivot, k]], order[[pivot, k]]
        if work[k, k] != 0:
            work[k + 1 :, k] /= work[k, k]
            work[k + 1 :, k + 1 :] -= np.outer(work[k + 1 :, k], work[k, k + 1 :])
    lower = np.tril(work[:, :rank], -1) + np.eye(rows, rank)
    return np.eye(rows)[:, order], lower, np.triu(work[:rank])


def _each(function: Callable[[Array], Array], x: Array) -> Array:
    """A function of each matrix of a stack."""
    if x.ndim == 2:
        return function(x)
    flat = x.reshape(-1, *x.shape[-2:])
    made = np.stack([function(matrix) for matrix in flat])
    return made.reshape(*x.shape[:-2], *made.shape[1:])


def _lu_part(part: int) -> Callable[..., Array]:
    return _of_matrices(lambda x: _each(lambda matrix: _lu(matrix)[part], x))


def _matrix_exp(matrix: Array) -> Array:
    """Exp by scaling and squaring of a Taylor polynomial, which float64 holds exactly enough."""
    size = np.abs(matrix).sum(axis=-1).max(initial=0.0)
    squarings = max(0, int(np.ceil(np.log2(size))) + 3) if size > 0 else 0
    scaled = matrix / 2.0**squarings
    total = term = np.eye(matrix.shape[-1], dtype=matrix.dtype)
    for k in range(1, 19):
        term = term @ scaled / k
        total = total + term
    for _ in range(squarings):
        total = total @ total
    return total


def _solve(a: Attributes, x: Array, y: Array) -> Array:
    x, wide, like = _wide(x), _wide(y), y
    if not a.get("left", True):  # X A = B
        solved = np.linalg.solve(np.swapaxes(x, -1, -2), np.swapaxes(wide, -1, -2))
        return _narrow(np.swapaxes(solved, -1, -2), like)
    if a.get("vector"):
        return _narrow(np.linalg.solve(x, wide[..., None])[..., 0], like)
    return _narrow(np.linalg.solve(x, wide), like)


def _triangular(a: Attributes, x: Array, y: Array) -> Array:
    """Solve with a triangle of x, its diagonal taken for ones where it is unitriangular."""
    triangle = np.triu(x) if a["upper"] else np.tril(x)
    if a.get("unitriangular"):
        eye = np.eye(x.shape[-1], dtype=x.dtype)
        triangle = triangle * (1 - eye) + eye
    return _solve(a, triangle, y)


def _cholesky(a: Attributes, x: Array) -> Array:
    lower = np.linalg.cholesky(_wide(x))
    return _narrow(np.swapaxes(lower, -1, -2).conj() if a.get("upper") else lower, x)


def _cholesky_inverse(a: Attributes, x: Array) -> Array:
    wide = _wide(x)
    product = _adjoint(wide) @ wide if a.get("upper") else wide @ _adjoint(wide)
    return _narrow(np.linalg.inv(product), x)


def _cholesky_solve(a: Attributes, y: Array, x: Array) -> Array:
    wide = _wide(x)
    product = _adjoint(wide) @ wide if a.get("upper") else wide @ _adjoint(wide)
    return _narrow(np.linalg.solve(product, _wide(y)), y)


def _adjoint(x: Array) -> Array:
    return np.asarray(np.swapaxes(x, -1, -2).conj())


def _svd(part: int) -> Callable[..., Array]:
    def apply(a: Attributes, x: Array) -> Array:
        return _narrow(np.linalg.svd(_wide(x), full_matrices=a.get("full", False))[part], x)

    return apply


def _eigh(part: int) -> Callable[..., Array]:
    def apply(a: Attributes, x: Array) -> Array:
        return _narrow(np.linalg.eigh(_wide(x), "U" if a.get("upper") else "L")[part], x)

    return apply


def _outer_sum(a: Attributes, x: Array, y: Array, z: Array) -> Array:
    total = a["beta"] * _wide(x) + a["alpha"] * np.multiply.outer(_wide(y), _wide(z))
    return _narrow(total, x)


def _cross(a: Attributes, x: Array, y: Array) -> Array:
    return _narrow(np.cross(_wide(x), _wide(y), axis=a["axis"]), x)


def _lstsq(x: Array, y: Array) -> Array:
    return np.linalg.pinv(x) @ y


UNSIGNED = frozenset({"svd_u", "svd_vh", "eigenvectors"})
"""Those whose columns may have the other sign in PyTorch: both signs solve the equations."""

LINEAR_ALGEBRA: dict[str, Callable[..., Array]] = {
    "matmul": _of_matrices(np.matmul),
    "product": _of_matrices(np.matmul),  # of vectors and stacks, and what is added to
    "lu_p": _lu_part(0),
    "lu_l": _lu_part(1),
    "lu_u": _lu_part(2),
    "inverse": _of_matrices(np.linalg.inv),
    "pinv": _of_matrices(np.linalg.pinv),
    "solve": _solve,
    "solve_triangular": _triangular,
    "lstsq": _of_matrices(_lstsq),
    "cholesky": _cholesky,
    "matrix_exp": _of_matrices(lambda x: _each(_matrix_exp, x)),
    "determinant": _of_matrices(np.linalg.det),
    "determinant_sign": _of_matrices(lambda x: np.linalg.slogdet(x)[0]),
    "log_determinant": _of_matrices(lambda x: np.linalg.slogdet(x)[1]),
    "cholesky_inverse": _cholesky_inverse,
    "cholesky_solve": _cholesky_solve,
    "svd_u": _svd(0),
    "svd_vh": _svd(2),
    "singular_values": _svd(1),
    "eigenvalues": _eigh(0),
    "eigenvectors": _eigh(1),
    "outer_sum": _outer_sum,
    "cross": _cross,
}
"""Functions of an operation's attributes and inputs."""
