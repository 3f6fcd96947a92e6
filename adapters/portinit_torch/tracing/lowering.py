"""ATen's operations as the nodes of a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from portinit.arrays.dtypes import dtype_name
from portinit_torch.tracing.calls import Named, arguments_of, mutated, tensors_in
from portinit_torch.tracing.draws import lower_draw, read_scalar
from portinit_torch.tracing.modes import DECIDED_BY_VALUES, TraceError, on_real_tensors, source_line
from portinit_torch.tracing.recorder import (
    CONCRETE,
    RecordedNode,
    Recorder,
    memory_order,
    real_result,
)

Maybe = RecordedNode | None

_COMPARED = {"lt", "le", "gt", "ge", "eq", "ne"} | {
    "bitwise_and", "bitwise_or", "bitwise_xor"
}  # fmt: skip
_BINARY = {"add", "sub", "mul", "div", "maximum", "minimum", "pow"} | _COMPARED
_UNARY = {
    "bitwise_not", "neg", "abs", "sign", "sqrt", "rsqrt", "reciprocal", "exp", "log", "expm1",
    "log1p", "erfinv", "sin", "cos", "tanh", "sigmoid", "floor", "round",
}  # fmt: skip
_SAME = {"clone", "detach", "alias", "lift_fresh", "contiguous", "detach_copy", "lift"}
_FULL = {
    "zeros": 0.0, "ones": 1.0, "zeros_like": 0.0, "ones_like": 1.0, "new_zeros": 0.0,
    "new_ones": 1.0,
}  # fmt: skip
_FILLS = {*_FULL, "zero", "fill", "full", "full_like", "new_full"}
_EMPTY = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}


def lower(recorder: Recorder, func: Any, args: Any, kwargs: Any) -> Any:
    """Run one operation on fake tensors and record what it did."""
    name = func._schema.name.partition("::")[2]
    if name == "_local_scalar_dense":
        return read_scalar(recorder, args[0])
    if torch.Tag.nondeterministic_seeded in func.tags:
        return lower_draw(recorder, func, name, args, kwargs)
    alias = _is_alias(func) and not recorder.is_real(args[0])
    inputs = [] if alias else [recorder.read(x) for x in tensors_in(args, kwargs)]
    try:
        out = func(*args, **kwargs)
    except DECIDED_BY_VALUES:
        return _decided_by_values(recorder, func, name, args, kwargs)
    if name in _EMPTY:
        recorder.write(out, recorder.add("uninitialized", (), out))
        return out
    if alias or torch.Tag.inplace_view in func.tags or name == "resize_":
        return out
    targets = mutated(func, args, kwargs) or tensors_in(out, {})
    values = _real_values(recorder, func, name, args, kwargs, targets)
    for position, (target, value) in enumerate(zip(targets, values, strict=True)):
        node = _step(recorder, func, name, inputs, target, args, kwargs, position)
        if value is not None:
            node.concrete = value
        recorder.write(target, node)
    return out


def _decided_by_values(recorder: Recorder, func: Any, name: str, args: Any, kwargs: Any) -> Any:
    """An operation whose shape or answer its operands' values decide; they must be known."""
    result = real_result(recorder, func, args, kwargs)
    if result is None:
        raise TraceError(
            f"aten.{name} of random values at {source_line()}: what the constructor does then "
            "cannot be known without drawing them"
        )
    return tree_map(recorder.known, result)


def _real_values(
    recorder: Recorder, func: Any, name: str, args: Any, kwargs: Any, targets: list[Tensor]
) -> list[Tensor | None]:
    """What an operation gives for real, where no draw has a part in it and it is small."""
    sized = [*tensors_in(args, kwargs), *targets]
    plain = name.removesuffix("_")
    if plain in _FILLS or any(x.numel() > CONCRETE for x in sized):
        return [None] * len(targets)
    result = real_result(recorder, func, args, kwargs)
    values: list[Tensor | None] = [*tensors_in(result, {})]
    return values if len(values) == len(targets) else [None] * len(targets)


def _is_alias(func: Any) -> bool:
    """A view: its result has an argument's storage, and nothing is written."""
    returns = func._schema.returns
    return bool(returns) and all(
        r.alias_info is not None and not r.alias_info.is_write for r in returns
    )


def _step(
    recorder: Recorder,
    func: Any,
    name: str,
    inputs: list[RecordedNode],
    target: Tensor,
    args: Any,
    kwargs: Any,
    position: int,
) -> RecordedNode:
    plain, named = name.removesuffix("_"), arguments_of(func, args, kwargs)
    if plain in ("fill", "full", "full_like", "new_full", "scalar_tensor"):
        return _fill(recorder, target, named, inputs)
    if plain == "zero" or plain in _FULL:
        return recorder.fill(target, _FULL.get(plain, 0.0))
    if plain == "copy":
        return _cast(recorder, _broadcast(recorder, inputs[1], target), target)
    if "out" in kwargs and plain not in _SPECIAL:
        inputs = inputs[:-1]
    if plain in _SAME or plain == "_to_copy":
        return _cast(recorder, inputs[0], target)
    if plain in _BINARY or plain == "rsub":
        return _binary(recorder, plain, named, inputs, target)
    if plain in _UNARY and not named.get("decimals"):
        return recorder.add(plain, inputs[:1], target)
    maker = _SPECIAL.get(plain)
    if maker is not None:
        node = maker(recorder, named, inputs, target, position)
        if node is not None:
            return node
    return recorder.add(f"aten.{plain}", inputs, target)


def _fill(
    recorder: Recorder, target: Tensor, named: Named, inputs: list[RecordedNode]
) -> RecordedNode:
    value = named.get("value", named.get("fill_value", named.get("s")))
    if isinstance(value, Tensor):
        known = recorder.read(value).concrete
        if known is None:
            return _broadcast(recorder, inputs[-1], target)
        value = on_real_tensors(known.item)
    return recorder.fill(target, value)


def _cast(recorder: Recorder, node: RecordedNode, target: Tensor) -> RecordedNode:
    """A node's value in the dtype of a tensor, as operands are converted before they meet."""
    dtype = dtype_name(target.dtype)
    if node.dtype == dtype:
        return node
    if node.op == "full" and node.shape == tuple(target.shape):
        return recorder.fill(target, node.attributes["value"])
    cast, known = recorder.add("cast", (node,), (node.shape, dtype)), node.concrete
    if known is not None:
        cast.concrete = on_real_tensors(lambda: known.to(target.dtype))
    return cast


def _common_dtype(named: Named, target: Tensor) -> torch.dtype:
    """The dtype that two tensors are computed in."""
    operands = [x for x in (named.get("self"), named.get("other")) if isinstance(x, Tensor)]
    if len(operands) != 2:
        return target.dtype
    common = torch.result_type(*operands)
    return torch.promote_types(common, target.dtype) if common.is_floating_point else target.dtype


def _broadcast(recorder: Recorder, node: RecordedNode, target: Tensor) -> RecordedNode:
    shape = tuple(target.shape)
    if node.shape == shape:
        return node
    like = (shape, node.dtype)
    wide, known = recorder.add("broadcast", (node,), like, size=list(shape)), node.concrete
    if known is not None:
        wide.concrete = on_real_tensors(lambda: known.broadcast_to(shape).clone())
    return wide


def _number(recorder: Recorder, value: Any) -> Any:
    """A Python number, or the known value of a tensor without axes; None if it is neither."""
    if isinstance(value, Tensor):
        known = recorder.read(value).concrete if value.ndim == 0 else None
        return None if known is None else on_real_tensors(known.item)
    return value


def _binary(
    recorder: Recorder, plain: str, named: Named, inputs: list[RecordedNode], target: Tensor
) -> RecordedNode:
    a: dict[str, Any] = {}
    if named.get("alpha") not in (None, 1):
        a["alpha"] = named["alpha"]
    if a and (target.dtype != torch.float32 or len(inputs) != 2):
        # Fused in some lanes and not in others; two float32 tensors are fused throughout.
        return recorder.add(f"aten.{plain}.alpha", inputs, target)
    if plain not in _COMPARED:
        common = _common_dtype(named, target)
        if common != target.dtype:  # computed in the wider dtype, and then narrowed
            wide = on_real_tensors(lambda: torch.empty(target.shape, dtype=common, device="meta"))
            return _cast(recorder, _binary(recorder, plain, named, inputs, wide), target)
        inputs = [_cast(recorder, x, target) for x in inputs]
    if named.get("rounding_mode"):
        return recorder.add(f"aten.{plain}.{named['rounding_mode']}", inputs, target)
    left = named.get("self")
    right = named.get("other", named.get("exponent"))
    if plain == "rsub":
        plain, a["reverse"] = "sub", True
    number = _number(recorder, right)
    if number is not None:
        return recorder.add(plain, inputs[:1], target, other=number, **a)
    number = _number(recorder, left)
    if number is not None:
        return recorder.add(plain, inputs[-1:], target, other=number, reverse=True, **a)
    return recorder.add(plain, inputs, target, **a)


def _clamp(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    low, high = _number(r, named.get("min")), _number(r, named.get("max"))
    if (low is None) != (named.get("min") is None) or (high is None) != (named.get("max") is None):
        return None  # bounds that are tensors
    return r.add("clamp", inputs[:1], t, min=low, max=high)


def _concat(
    r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int
) -> RecordedNode:
    inputs = inputs[: len(named["tensors"])]
    return r.add("concat", inputs, t, axis=named["dim"] % max(1, t.ndim))


def _stack(
    r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int
) -> RecordedNode:
    axis = named["dim"] % t.ndim
    size = [*inputs[0].shape[:axis], 1, *inputs[0].shape[axis:]]
    parts = [r.add("reshape", (x,), (tuple(size), x.dtype), size=size) for x in inputs]
    return r.add("concat", parts, t, axis=axis)


def _triangle(op: str) -> Callable[..., RecordedNode]:
    def make(
        r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int
    ) -> RecordedNode:
        return r.add(op, inputs[:1], t, diagonal=named.get("diagonal") or 0)

    return make


def _where(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    if len(inputs) != 3:
        return None
    return r.add("where", [_broadcast(r, x, t) for x in inputs], t)


def _masked_fill(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    value = _number(r, named["value"])
    if value is None:
        return None
    return r.add("where", [_broadcast(r, inputs[1], t), r.fill(t, value), inputs[0]], t)


def _index_put(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    value = _number(r, named["values"])
    if t.ndim != 1 or len(inputs) < 2 or value is None or named.get("accumulate"):
        return None
    return r.add("index_put", inputs[:2], t, value=value)


def _qr(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> RecordedNode:
    return r.add(("qr_q", "qr_r")[p], inputs[:1], t)


def _diagonal(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    if named.get("offset") or len(inputs[0].shape) != 2:
        return None
    return r.add("diagonal", inputs[:1], t)


def _reduction(op: str) -> Callable[..., Maybe]:
    def make(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
        if op == "norm" and named.get("ord", named.get("p")) not in (None, 2, 2.0):
            return None
        axes = named.get("dim")
        axes = [axes] if isinstance(axes, int) else axes or None
        x = named["self"]
        order = memory_order(x.shape, x.stride())  # which decides in what order is added
        a = {} if order == sorted(order) else {"order": order}
        return r.add(op, inputs[:1], t, axes=axes, keepdims=bool(named.get("keepdim")), **a)

    return make


def _flip(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> RecordedNode:
    return r.add("flip", inputs[:1], t, axes=[d % t.ndim for d in named["dims"]])


def _repeat(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    repeats, (x,) = named["repeats"], inputs
    extra = len(repeats) - len(x.shape)
    sizes = (1,) * extra + x.shape
    paired = [n for pair in zip(repeats, sizes, strict=True) for n in pair]
    single = [n for size in sizes for n in (1, size)]
    x = r.add("reshape", (x,), (tuple(single), x.dtype), size=single)
    x = r.add("broadcast", (x,), (tuple(paired), x.dtype), size=paired)
    return r.add("reshape", (x,), t, size=list(t.shape))


def _reshape(
    r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int
) -> RecordedNode:
    return r.add("reshape", inputs[:1], t, size=list(t.shape))


def _matmul(
    r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int
) -> RecordedNode:
    return r.add("matmul", inputs[:2], t)


_SPECIAL: dict[str, Callable[..., RecordedNode | None]] = {
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    "cat": _concat,
    "stack": _stack,
    "tril": _triangle("tril"),
    "triu": _triangle("triu"),
    "where": _where,
    "masked_fill": _masked_fill,
    "index_put": _index_put,
    "linalg_qr": _qr,
    "diagonal_copy": _diagonal,
    "flip": _flip,
    "repeat": _repeat,
    "_reshape_copy": _reshape,
    "_unsafe_view": _reshape,
    "mm": _matmul,
    "sum": _reduction("sum"),
    "mean": _reduction("mean"),
    "amax": _reduction("amax"),
    "amin": _reduction("amin"),
    "linalg_vector_norm": _reduction("norm"),
    "norm": _reduction("norm"),
}
