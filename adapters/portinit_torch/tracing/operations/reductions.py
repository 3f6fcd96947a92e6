"""Sums, norms, spreads, and what else is computed along axes."""

from __future__ import annotations

import math

from portinit.arrays.dtypes import dtype_name
from portinit_torch.tracing.nodes import RecordedNode, memory_order
from portinit_torch.tracing.operations.result import Maker, Result, along


def _reduction(op: str) -> Maker:
    def make(r: Result) -> RecordedNode | None:
        a = r.reduced_axes()
        x = r.named["self"]
        order = memory_order(x.shape, x.stride())  # which decides in what order is added
        if order != sorted(order):
            a["order"] = order
        if op == "norm":
            return _norm(r, a)
        return r.node(op, 1, **a)

    return make


_ABSOLUTE = {1: "absolute_sum", math.inf: "amax", -math.inf: "amin"}
"""A norm's order, as the reduction of the absolute values."""


def _norm(r: Result, a: dict[str, object]) -> RecordedNode | None:
    norm = r.named.get("ord", r.named.get("p"))
    if norm in (None, 2, 2.0):
        return r.node("norm", 1, **a)
    if norm == 0:  # how many are not 0
        nonzero = r.step("ne", r.inputs[:1], (r.inputs[0].shape, "bool"), other=0)
        return r.of("sum", [nonzero], **a)
    if norm not in _ABSOLUTE:
        return r.node("norm_of_order", 1, norm=float(norm), **a)
    like = (r.inputs[0].shape, dtype_name(r.target.dtype))
    return r.of(_ABSOLUTE[norm], [r.step("abs", r.inputs[:1], like)], **a)


def _spread(op: str) -> Maker:
    """A variance or deviation; and the mean of var_mean and std_mean, in an order of its own."""

    def make(r: Result) -> RecordedNode:
        if r.position:
            return r.node("mean_of_spread", 1, **r.reduced_axes())
        correction = r.named.get("correction", 1 if r.named.get("unbiased", True) else 0)
        count = 1 if correction is None else correction
        return r.node(op, 1, correction=count, **r.reduced_axes())

    return make


def _scan(op: str) -> Maker:
    return lambda r: r.of(op, [r.cast(r.inputs[0])], axis=r.axis())


def _logsumexp(r: Result) -> RecordedNode:
    return r.node("logsumexp", 1, **r.reduced_axes())


MAKERS: dict[str, Maker] = {
    "sum": _reduction("sum"),
    "mean": _reduction("mean"),
    "amax": _reduction("amax"),
    "amin": _reduction("amin"),
    "any": _reduction("any"),
    "all": _reduction("all"),
    "prod": _reduction("prod"),
    "linalg_vector_norm": _reduction("norm"),
    "norm": _reduction("norm"),
    "std": _spread("std"),
    "var": _spread("var"),
    "std_mean": _spread("std"),
    "var_mean": _spread("var"),
    "cumsum": _scan("cumsum"),
    "cumprod": _scan("cumprod"),
    "logcumsumexp": along("logcumsumexp"),
    "logsumexp": _logsumexp,
    "_softmax": along("softmax"),
    "_log_softmax": along("log_softmax"),
}
"""Operations along axes."""
