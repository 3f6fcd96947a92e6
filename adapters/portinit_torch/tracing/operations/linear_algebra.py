"""Products and factorisations of matrices."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from portinit_torch.tracing.nodes import RecordedNode
from portinit_torch.tracing.operations.result import Maker, Result, parts, plain


def _matmul(r: Result) -> RecordedNode:
    """A product of two matrices; BLAS is told which lie in memory by columns."""
    operands = [r.named["self"], r.named.get("mat2")]
    columns = [i for i, x in enumerate(operands) if x is not None and _is_by_columns(x)]
    return r.node("matmul", 2, **({"by_columns": columns} if columns else {}))


def _is_by_columns(x: Tensor) -> bool:
    rows, columns = x.shape
    return x.stride(0) == 1 and x.stride(1) >= max(1, rows) and rows > 1 and columns > 1


def _added_product(r: Result) -> RecordedNode | None:
    """addmm, addmv, baddbmm: beta times a tensor, plus alpha times a product."""
    added, left, right = r.inputs[:3]
    product = r.of("product", [left, right])
    alpha, beta = r.named.get("alpha", 1), r.named.get("beta", 1)
    if alpha != 1:
        product = r.of("mul", [product], other=alpha)
    if beta == 0:
        return product
    if beta != 1:
        added = r.step("mul", [added], (added.shape, added.dtype), other=beta)
    return r.of("add", [r.broadcast(added), product])


def _outer_sum(r: Result) -> RecordedNode:
    """addr: a matrix plus an outer product."""
    x, left, right = r.inputs
    a = {name: float(r.named[name]) for name in ("alpha", "beta")}
    return r.of("outer_sum", [r.broadcast(x), left, right], **a)


def _cross(r: Result) -> RecordedNode:
    left, right = (r.broadcast(x) for x in r.inputs)
    return r.of("cross", [left, right], axis=r.named["dim"] % r.target.ndim)


def _solve(r: Result) -> RecordedNode | None:
    if r.position:
        return None
    a: dict[str, Any] = {} if r.named.get("left", True) else {"left": False}
    if len(r.inputs[1].shape) == 1:
        a["vector"] = True
    return r.node("solve", 2, **a)


def _triangular(r: Result) -> RecordedNode:
    a = {"upper": bool(r.named["upper"]), "unitriangular": bool(r.named.get("unitriangular"))}
    return r.node("solve_triangular", 2, left=bool(r.named.get("left", True)), **a)


def _triangular_solve(r: Result) -> RecordedNode | None:
    if r.position:  # the matrix itself
        return r.inputs[1]
    if r.named.get("transpose"):
        return None
    a = {"upper": bool(r.named["upper"]), "unitriangular": bool(r.named["unitriangular"])}
    return r.of("solve_triangular", [r.inputs[1], r.inputs[0]], left=True, **a)


def _cholesky(r: Result) -> RecordedNode | None:
    return None if r.position else r.node("cholesky", 1, upper=bool(r.named.get("upper")))


def _with_factor(op: str) -> Maker:
    """What is computed from a Cholesky factor."""
    return lambda r: r.node(op, upper=bool(r.named.get("upper")))


def _qr(r: Result) -> RecordedNode:
    full = {"complete": True} if r.named.get("mode") == "complete" else {}
    return r.node(("qr_q", "qr_r")[r.position], 1, **full)


def _svd(r: Result) -> RecordedNode:
    full = {"full": True} if r.named.get("full_matrices") else {}
    return r.node(("svd_u", "singular_values", "svd_vh")[r.position], 1, **full)


def _eigh(r: Result) -> RecordedNode:
    upper = {"upper": True} if str(r.named.get("UPLO", "L")).upper() == "U" else {}
    return r.node(("eigenvalues", "eigenvectors")[r.position], 1, **upper)


MAKERS: dict[str, Maker] = {
    "mm": _matmul,
    "addmm": _added_product,
    "addmv": _added_product,
    "baddbmm": _added_product,
    "addr": _outer_sum,
    "bmm": plain("product", 2),
    "mv": plain("product", 2),
    "dot": plain("product", 2),
    "vdot": plain("product", 2),
    "linalg_cross": _cross,
    "linalg_qr": _qr,
    "linalg_lu": parts("lu_p", "lu_l", "lu_u"),
    "linalg_inv_ex": parts("inverse"),
    "linalg_pinv": plain("pinv", 1),
    "matrix_exp": plain("matrix_exp", 1),
    "linalg_matrix_exp": plain("matrix_exp", 1),
    "_linalg_det": parts("determinant"),
    "_linalg_slogdet": parts("determinant_sign", "log_determinant"),
    "_linalg_svd": _svd,
    "_linalg_eigh": _eigh,
    "linalg_cholesky_ex": _cholesky,
    "cholesky": _cholesky,
    "cholesky_inverse": _with_factor("cholesky_inverse"),
    "cholesky_solve": _with_factor("cholesky_solve"),
    "_linalg_solve_ex": _solve,
    "linalg_solve_triangular": _triangular,
    "triangular_solve": _triangular_solve,
    "linalg_lstsq": plain("lstsq", 2),
}
"""Operations on matrices."""
