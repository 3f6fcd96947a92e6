"""Operations on elements: sums, products, functions, comparisons, choices between two."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from portinit_torch.tracing.calls import Named
from portinit_torch.tracing.nodes import RecordedNode
from portinit_torch.tracing.operations.result import Maker, Result, meta, plain

_COMPARED = {
    "lt", "le", "gt", "ge", "eq", "ne", "bitwise_and", "bitwise_or", "bitwise_xor",
}  # fmt: skip
BINARY = _COMPARED | {
    "add", "sub", "mul", "div", "maximum", "minimum", "pow", "remainder", "fmod", "atan2",
    "copysign", "nextafter", "fmax", "fmin", "hypot", "heaviside", "logaddexp", "xlogy", "rsub",
    "floor_divide",
}  # fmt: skip
"""Operations on two tensors, or on a tensor and a number."""

UNARY = {
    "bitwise_not", "neg", "abs", "sign", "sqrt", "rsqrt", "reciprocal", "exp", "log", "expm1",
    "log1p", "erfinv", "sin", "cos", "tanh", "sigmoid", "floor", "round", "ceil", "trunc", "tan",
    "asin", "acos", "atan", "sinh", "cosh", "log2", "log10", "exp2", "relu", "erf", "erfc",
    "isnan", "isinf", "isfinite", "sgn", "logical_not", "conj_physical", "_conj_physical", "angle",
    "frac", "silu", "mish", "hardswish", "hardsigmoid", "asinh", "acosh", "atanh",
}  # fmt: skip
"""Operations on a tensor, and on nothing else."""

_UNARY_NAMES = {"sgn": "sign", "conj_physical": "conj", "_conj_physical": "conj"}


def unary(r: Result, name: str) -> RecordedNode | None:
    """A function of each element."""
    if r.named.get("decimals"):
        return None
    # A function of whole numbers is computed in the result's dtype.
    x = r.inputs[0] if r.target.dtype == torch.bool else r.cast(r.inputs[0])
    if r.inputs[0].dtype.startswith("complex"):
        x = r.inputs[0]
    return r.of(_UNARY_NAMES.get(name, name), [x])


def binary(r: Result, name: str) -> RecordedNode | None:
    """A function of two elements, one of which may be a number."""
    named, inputs, target = r.named, r.inputs, r.target
    a: dict[str, Any] = {}
    if named.get("alpha") not in (None, 1):
        a["alpha"] = named["alpha"]
    if a and (target.dtype != torch.float32 or len(inputs) != 2):
        return None  # fused in some lanes and not in others; two float32 tensors are throughout
    if name not in _COMPARED:
        common = _common_dtype(named, target)
        if common != target.dtype:  # computed in the wider dtype, and then narrowed
            wide = binary(r.with_target(meta(r.shape, common)), name)
            return None if wide is None else r.cast(wide)
        inputs = [r.cast(x) for x in inputs]
    if named.get("rounding_mode"):
        name = f"{named['rounding_mode']}_divide"
    left = named.get("self")
    right = named.get("other", named.get("exponent", named.get("values")))
    if name == "rsub":
        name, a["reverse"] = "sub", True
    number = r.number(right)
    if number is not None:
        return r.of(name, inputs[:1], other=number, **a)
    number = r.number(left)
    if number is not None:
        return r.of(name, inputs[-1:], other=number, reverse=True, **a)
    return r.of(name, inputs, **a)


def _common_dtype(named: Named, target: Tensor) -> torch.dtype:
    """The dtype that two tensors are computed in."""
    operands = [x for x in (named.get("self"), named.get("other")) if isinstance(x, Tensor)]
    if len(operands) != 2:
        return target.dtype
    common = torch.result_type(*operands)
    return torch.promote_types(common, target.dtype) if common.is_floating_point else target.dtype


def _clamp(r: Result) -> RecordedNode | None:
    low, high = r.named.get("min"), r.named.get("max")
    if r.named.get("min_val") is not None:  # hardtanh's names
        low, high = r.named["min_val"], r.named["max_val"]
    numbers = r.number(low), r.number(high)
    if [n is None for n in numbers] == [bound is None for bound in (low, high)]:
        return r.node("clamp", 1, min=numbers[0], max=numbers[1])
    node, rest = r.broadcast(r.cast(r.inputs[0])), r.inputs[1:]
    for bound, op in ((low, "maximum"), (high, "minimum")):
        if isinstance(bound, Tensor):
            node = r.of(op, [node, r.broadcast(r.cast(rest[0]))])
            rest = rest[1:]
    return node


def _where(r: Result) -> RecordedNode | None:
    if len(r.inputs) != 3:
        return None
    condition, x, y = r.inputs
    return r.of("where", [r.broadcast(condition), *(r.broadcast(r.cast(z)) for z in (x, y))])


def _masked_fill(r: Result) -> RecordedNode | None:
    x, mask, *_ = r.inputs
    value = r.number(r.named["value"])
    filled = r.broadcast(r.cast(r.inputs[-1])) if value is None else r.filled(value)
    return r.of("where", [r.broadcast(mask), filled, x])


def _lerp(r: Result) -> RecordedNode | None:
    if isinstance(r.named["weight"], Tensor):
        return r.of("lerp", [r.broadcast(x) for x in r.inputs[:3]])
    ends = [r.broadcast(x) for x in r.inputs[:2]]
    return r.of("lerp", ends, weight=float(r.named["weight"]))


def _softplus(r: Result) -> RecordedNode:
    a = {name: float(r.named[name]) for name in ("beta", "threshold")}
    return r.node("softplus", 1, **a)


def _leaky(r: Result) -> RecordedNode:
    return r.node("leaky_relu", 1, slope=float(r.named["negative_slope"]))


def _elu(r: Result) -> RecordedNode:
    names = ("alpha", "scale", "input_scale")
    return r.node("elu", 1, **{name: float(r.named[name]) for name in names})


def _gelu(r: Result) -> RecordedNode:
    return r.node("gelu", 1, approximate=r.named["approximate"])


def _nan_to_num(r: Result) -> RecordedNode:
    limits = {"posinf": torch.finfo(r.target.dtype).max, "neginf": torch.finfo(r.target.dtype).min}
    a = {"nan": 0.0} | limits
    given = {name: value for name in a if (value := r.named[name]) is not None}
    return r.node("nan_to_num", 1, **(a | given))


def _logit(r: Result) -> RecordedNode:
    return r.node("logit", 1, eps=r.named.get("eps"))


def _added(op: str) -> Maker:
    """addcmul, addcdiv: a tensor plus a number times a product or quotient of two."""

    def make(r: Result) -> RecordedNode | None:
        operands = [r.broadcast(r.cast(x)) for x in r.inputs]
        return r.of(op, operands, value=float(r.named["value"]))

    return make


MAKERS: dict[str, Maker] = {
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    "hardtanh": _clamp,
    "where": _where,
    "masked_fill": _masked_fill,
    "lerp": _lerp,
    "softplus": _softplus,
    "leaky_relu": _leaky,
    "elu": _elu,
    "gelu": _gelu,
    "logit": _logit,
    "nan_to_num": _nan_to_num,
    "addcmul": _added("addcmul"),
    "addcdiv": _added("addcdiv"),
    "logical_and": plain("logical_and"),
    "logical_or": plain("logical_or"),
    "logical_xor": plain("logical_xor"),
    "complex": plain("complex"),
    "polar": plain("polar"),
}
"""Operations on elements with arguments of their own."""
