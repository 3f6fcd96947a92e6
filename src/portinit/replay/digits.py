"""PyTorch's own digits: the operations of a replay, and which of them are bit for bit PyTorch's.

PyTorch computes some functions with Intel's MKL. Where a copy of the version that it was built
with is at hand, a replay calls that one, and has its bits; without it they are near. Sums are
added in PyTorch's order, which is that of one thread.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from portinit.replay.operations import INEXACT, OPERATIONS, Array, Attributes, Operation
from portinit.replay.program import Node, Version
from portinit.replay.torch_math import mkl, reductions
from portinit.replay.torch_math.functions import NAMES, function

_LINEAR_ALGEBRA = frozenset({"qr_q", "qr_r", "matmul"})
_REDUCTIONS = frozenset({"sum", "mean", "norm"})
_INEXACT_COMPLEX = frozenset(
    {"mul", "div", "reciprocal", "pow", "abs", "sign", "cumsum", "cumprod", "log1p", "expm1"}
)
_FULL_PRECISION = ("float32", "float64")
_FLOATS = (*_FULL_PRECISION, "bfloat16", "float16")
_WHOLE = ("bool", "int", "uint")


def operations_of(version: Version) -> Mapping[str, Operation]:
    """The operations as a version of PyTorch computes them, as nearly as is possible here."""
    operations = dict(OPERATIONS)
    operations |= {name: _elementwise(name, version) for name in NAMES}
    operations |= {
        "sum": _reduction("sum", reductions.sum_along),
        "mean": _reduction("mean", _mean),
        "norm": _reduction("norm", reductions.norm_along),
    }
    return operations | _linear_algebra(version)


def _is_full_precision(x: Array) -> bool:
    return x.dtype.name in _FULL_PRECISION


def _elementwise(name: str, version: Version) -> Operation:
    return lambda a, x: function(name, x, version)


def _reduction(name: str, exact: Operation) -> Operation:
    def apply(a: Attributes, x: Array) -> Array:
        if x.dtype.name not in (_FLOATS if name == "norm" else _FULL_PRECISION):
            return OPERATIONS[name](a, x)
        return exact(x, a.get("axes"), a.get("keepdims", False), a.get("order"))

    return apply


def _mean(x: Array, axes: Sequence[int] | None, keepdims: bool, order: Any) -> Array:
    values = reductions.sum_along(x, axes, keepdims, order)
    return np.asarray(values / x.dtype.type(x.size // max(values.size, 1)))


def _linear_algebra(version: Version) -> dict[str, Operation]:
    last: tuple[Any, tuple[Array, Array]] | None = None

    def library(*matrices: Array) -> mkl.Library | None:
        """MKL, if it is at hand and takes these matrices."""
        alike = len({x.dtype for x in matrices}) == 1 and all(x.ndim == 2 for x in matrices)
        return mkl.find(version) if alike and _is_full_precision(matrices[0]) else None

    def qr(part: int) -> Operation:
        def apply(a: Attributes, x: Array) -> Array:
            nonlocal last  # Q and R are two operations on one matrix
            found = None if a.get("complete") else library(x)
            if found is None:
                return OPERATIONS[("qr_q", "qr_r")[part]](a, x)
            if last is None or last[0]() is not x:
                last = weakref.ref(x), found.qr(x)
            return last[1][part]

        return apply

    def matmul(a: Attributes, x: Array, y: Array) -> Array:
        found = library(x, y)
        if found is None:
            return OPERATIONS["matmul"](a, x, y)
        by_columns = a.get("by_columns", ())
        laid_out = (np.asfortranarray(z) if i in by_columns else z for i, z in enumerate((x, y)))
        return found.matmul(*laid_out)

    return {"qr_q": qr(0), "qr_r": qr(1), "matmul": matmul}


def inexact_operations(nodes: Sequence[Node], version: Version) -> list[frozenset[str]]:
    """For each node, the operations it depends on whose last bits may not be PyTorch's here."""
    found: list[frozenset[str]] = []
    for node in nodes:
        names = frozenset().union(*(found[i] for i in node.inputs))
        found.append(names if _is_exact(node, nodes, version) else names | {node.op})
    return found


def _is_exact(node: Node, nodes: Sequence[Node], version: Version) -> bool:
    dtype = nodes[node.inputs[0]].dtype if node.inputs else node.dtype
    if dtype.startswith("complex") or node.dtype.startswith("complex"):
        return node.op not in INEXACT and node.op not in _INEXACT_COMPLEX
    if node.op == "trunc_normal":
        by_erfinv = version < (2, 12) and dtype in _FULL_PRECISION
        return not by_erfinv or mkl.find(version) is not None
    if node.op in NAMES:
        return dtype not in _FULL_PRECISION or mkl.find(version) is not None
    if node.op in _LINEAR_ALGEBRA:
        plain = len(node.shape) == 2 and not node.attributes.get("complete")
        exact = dtype in _FULL_PRECISION and plain
        library = mkl.find(version)
        by_mkl = library is not None and library.has_pytorchs_layer
        return dtype.startswith(_WHOLE) or (exact and by_mkl)
    if node.op == "norm" and dtype in _FLOATS:
        return True
    if node.op in _REDUCTIONS:
        return dtype in _FULL_PRECISION or dtype.startswith(_WHOLE)
    if node.op == "rsqrt":  # 16-bit vectors round once, and their last elements twice
        return dtype in _FULL_PRECISION
    return node.op not in INEXACT
