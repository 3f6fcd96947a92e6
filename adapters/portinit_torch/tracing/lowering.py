"""ATen's operations as the nodes of a program."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from portinit.arrays.dtypes import dtype_name
from portinit_torch.tracing.calls import Named, arguments_of, map_leaves, mutated, tensors_in
from portinit_torch.tracing.draws import draws_nothing, is_draw, lower_draw, read_scalar
from portinit_torch.tracing.modes import (
    DECIDED_BY_VALUES,
    UNSUPPORTED,
    on_real_tensors,
    source_line,
)
from portinit_torch.tracing.recorder import CONCRETE, RecordedNode, Recorder, memory_order
from portinit_torch.tracing.witness import Call

Maybe = RecordedNode | None

_COMPARED = {"lt", "le", "gt", "ge", "eq", "ne"} | {
    "bitwise_and", "bitwise_or", "bitwise_xor"
}  # fmt: skip
_BINARY = {"add", "sub", "mul", "div", "maximum", "minimum", "pow", "remainder", "fmod", "atan2"}
_BINARY |= _COMPARED
_UNARY = {
    "bitwise_not", "neg", "abs", "sign", "sqrt", "rsqrt", "reciprocal", "exp", "log", "expm1",
    "log1p", "erfinv", "sin", "cos", "tanh", "sigmoid", "floor", "round", "ceil", "trunc", "tan",
    "asin", "acos", "atan", "sinh", "cosh", "log2", "log10", "exp2", "relu", "erf", "isnan",
    "isinf", "isfinite", "sgn", "logical_not", "conj_physical", "_conj_physical", "matrix_exp",
    "linalg_matrix_exp", "angle",
}  # fmt: skip
_UNARY_NAMES = {
    "sgn": "sign", "conj_physical": "conj", "_conj_physical": "conj",
    "linalg_matrix_exp": "matrix_exp",
}  # fmt: skip
_SAME = {
    "resolve_conj",
    "resolve_neg",
    "clone",
    "detach",
    "alias",
    "lift_fresh",
    "contiguous",
    "detach_copy",
    "lift",
}
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
    if is_draw(func) and not draws_nothing(func, args, kwargs):
        return lower_draw(recorder, func, name, args, kwargs)
    if _is_alias(func) and not recorder.is_real(args[0]):
        return func(*args, **kwargs)
    only_written = [kwargs["out"]] if isinstance(kwargs.get("out"), Tensor) else []
    call = recorder.call(func, args, kwargs, only_written)
    try:
        out = func(*args, **kwargs)
    except DECIDED_BY_VALUES:
        return _decided_by_values(recorder, name, call, args)
    except UNSUPPORTED as error:
        raise recorder.refuse(
            f"aten.{name} at {source_line()} has no counterpart without values: {error}"
        ) from error
    if name in _EMPTY:
        recorder.write(out, recorder.add("uninitialized", (), out))
        return out
    if torch.Tag.inplace_view in func.tags or name == "resize_":
        return out
    targets = mutated(func, args, kwargs) or tensors_in(out, {})
    _record(recorder, func, name, call, targets, arguments_of(func, args, kwargs))
    if name in _MOVES_STATISTICS:
        _move_statistics(recorder, name, call, arguments_of(func, args, kwargs))
    return out


def _record(
    recorder: Recorder, func: Any, name: str, call: Call, targets: list[Tensor], named: Named
) -> None:
    """Write into each of an operation's results the node that gives it."""
    plain = name.removesuffix("_")
    values = _real_values(recorder, plain, call, targets)
    for position, (target, value) in enumerate(zip(targets, values, strict=True)):
        made = len(recorder.nodes)
        node = _node(recorder, plain, list(call.nodes), target, named, position)
        if value is not None:
            node.concrete = value
        elif plain not in _OVERWRITES and node.call is None and len(recorder.nodes) > made:
            node.call = call.at(position)
        recorder.write(target, node)


_OVERWRITES = {"copy", "zero", "fill"}

_MOVES_STATISTICS = {"native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"}


def _move_statistics(recorder: Recorder, name: str, call: Call, named: Named) -> None:
    """Batch normalisation moves its running statistics in training, and no schema says so."""
    if not named.get("training"):
        return
    for statistic in ("running_mean", "running_var"):
        tensor = named[statistic]
        if tensor is not None:
            recorder.write(tensor, recorder.add(f"aten.{name}.{statistic}", call.nodes, tensor))


def _decided_by_values(recorder: Recorder, name: str, call: Call, args: Any) -> Any:
    """An operation whose shape or answer its operands' values decide."""
    if name in ("index", "masked_select"):
        selected = _selected(recorder, *args)
        if selected is not None:
            return selected
    result = recorder.results(call, f"a random value (aten.{name})")
    if all(recorder.is_settled(node) for node in call.nodes):
        return map_leaves(recorder.known, result)
    made: list[Tensor] = []

    def fake(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        tensor = recorder.mode.from_tensor(x)
        node = recorder.add(f"aten.{name}", call.nodes, tensor)
        node.call = call.at(len(made))
        maker = _SPECIAL.get(name)
        if maker is not None:
            named = arguments_of(call.func, call.args, call.kwargs)
            node = maker(recorder, named, list(call.nodes), tensor, len(made)) or node
            node.call = node.call or call.at(len(made))
        made.append(tensor)
        recorder.write(tensor, node)
        return tensor

    return map_leaves(fake, result)


def _selected(recorder: Recorder, source: Tensor, masks: Any) -> Tensor | None:
    """x[mask] with a mask that is known: the places that it chooses."""
    indices: list[Tensor | None] = []
    for mask in masks if isinstance(masks, list | tuple) else [masks]:
        if mask is None or mask.dtype not in (torch.bool, torch.uint8):
            indices.append(mask)
            continue
        node = recorder.read(mask)
        if not recorder.is_settled(node):
            return None
        value = recorder.value_of(node, "a mask")
        places = on_real_tensors(lambda: value.nonzero().unbind(1))  # noqa: B023
        indices += [recorder.known(place) for place in places]
    selected: Tensor = recorder.lower(torch.ops.aten.index.Tensor, (source, indices), {})
    return selected


def _real_values(
    recorder: Recorder, plain: str, call: Call, targets: list[Tensor]
) -> list[Tensor | None]:
    """What an operation gives for real, where no draw has a part in it and it is small."""
    nothing: list[Tensor | None] = [None] * len(targets)
    nodes = call.nodes
    if plain in _FILLS or not all(node.is_known for node in nodes):
        return nothing
    if any(math.prod(x.shape) > CONCRETE for x in [*nodes, *targets]):
        return nothing
    result = on_real_tensors(lambda: call.results(lambda node: node.concrete))
    values: list[Tensor | None] = [*tensors_in(result, {})]
    return values if len(values) == len(targets) else nothing


def _is_alias(func: Any) -> bool:
    """A view: its result has an argument's storage, and nothing is written."""
    returns = func._schema.returns
    return bool(returns) and all(
        r.alias_info is not None and not r.alias_info.is_write for r in returns
    )


def _node(
    recorder: Recorder,
    plain: str,
    inputs: list[RecordedNode],
    target: Tensor,
    named: Named,
    position: int,
) -> RecordedNode:
    """The node of an operation's result; one named aten.* has no counterpart in a program."""
    if plain in ("fill", "full", "full_like", "new_full", "scalar_tensor"):
        return _fill(recorder, target, named, inputs)
    if plain == "zero" or plain in _FULL:
        return recorder.fill(target, _FULL.get(plain, 0.0))
    if plain == "copy":
        return _cast(recorder, _broadcast(recorder, inputs[1], target), target)
    if plain in _SAME or plain == "_to_copy":
        return _cast(recorder, inputs[0], target)
    if plain in _BINARY or plain == "rsub":
        return _binary(recorder, plain, named, inputs, target)
    if plain in _UNARY and not named.get("decimals"):
        return recorder.add(_UNARY_NAMES.get(plain, plain), inputs[:1], target)
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
        plain = f"{named['rounding_mode']}_divide"
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


def _indexed(indices: Any, nodes: list[RecordedNode]) -> tuple[list[int], list[RecordedNode]]:
    """The axes that an index has arrays for, and the arrays; a mask is as many as its axes."""
    axes, arrays, axis, position = [], [], 0, 0
    for index in indices:
        if index is None:
            axis += 1
            continue
        node, position = nodes[position], position + 1
        axes.append(axis)
        arrays.append(node)
        axis += len(node.shape) if node.dtype == "bool" else 1
    return axes, arrays


def _index(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    axes, arrays = _indexed(named["indices"], inputs[1:])
    if any(array.dtype == "bool" for array in arrays):
        return None
    return r.add("index", [inputs[0], *arrays], t, axes=axes)


def _index_put(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    axes, arrays = _indexed(named["indices"], inputs[1:-1])
    if named.get("accumulate"):
        return None
    if any(array.dtype == "bool" for array in arrays):
        if axes != [0] or len(arrays) != 1:
            return None
        value = _number(r, named["values"])
        if value is None:
            return None
        mask = arrays[0]
        size = [*mask.shape, *[1] * (t.ndim - len(mask.shape))]
        mask = r.add("reshape", (mask,), (tuple(size), "bool"), size=size)
        return r.add("where", [_broadcast(r, mask, t), r.fill(t, value), inputs[0]], t)
    value = _number(r, named["values"])
    if t.ndim == 1 and value is not None:
        return r.add("index_put", inputs[:2], t, value=value)
    return r.add("index_put", [inputs[0], *arrays, inputs[-1]], t, axes=axes)


def _index_select(
    r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int
) -> RecordedNode:
    return r.add("index", inputs[:2], t, axes=[named["dim"] % max(1, t.ndim)])


def _embedding(
    r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int
) -> RecordedNode:
    return r.add("index", inputs[:2], t, axes=[0])


def _gather(
    r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int
) -> RecordedNode:
    return r.add("gather", inputs[:2], t, axis=named["dim"] % max(1, t.ndim))


def _scatter(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    if named.get("reduce"):
        return None
    axis, value = named["dim"] % max(1, t.ndim), named.get("value")
    if named.get("src") is not None:
        return r.add("scatter_along", inputs[:3], t, axis=axis)
    return r.add("scatter_along", inputs[:2], t, axis=axis, value=_number(r, value))


def _index_copy(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    return r.add("index_put", inputs[:3], t, axes=[0]) if named["dim"] in (0, -t.ndim) else None


def _index_fill(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    value = _number(r, named["value"])
    if value is None or named["dim"] not in (0, -t.ndim):
        return None
    return r.add("index_put", [*inputs[:2], r.fill(t[:0], value)], t, axes=[0])


def _sort(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> RecordedNode:
    a = {"axis": named["dim"] % max(1, t.ndim), "descending": bool(named["descending"])}
    return r.add(("sort", "argsort")[p], inputs[:1], t, **a)


def _topk(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> RecordedNode:
    (x,) = inputs
    a = {"axis": named["dim"] % max(1, t.ndim), "descending": bool(named["largest"])}
    like = (x.shape, x.dtype if p == 0 else "int64")
    ordered = r.add(("sort", "argsort")[p], (x,), like, **a)
    return r.add("first", (ordered,), t, axis=a["axis"], count=named["k"])


def _extreme(op: str) -> Callable[..., Maybe]:
    """Max and min along an axis: the values, and their places."""

    def make(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
        if named.get("dim") is None:
            return r.add(f"a{op}", inputs[:1], t, axes=None, keepdims=False)
        axis, keep = named["dim"] % max(1, len(inputs[0].shape)), bool(named.get("keepdim"))
        if p == 0:
            return r.add(f"a{op}", inputs[:1], t, axes=[axis], keepdims=keep)
        return r.add(f"arg{op}", inputs[:1], t, axis=axis, keepdims=keep)

    return make


def _extreme_place(op: str) -> Callable[..., RecordedNode]:
    def make(
        r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int
    ) -> RecordedNode:
        axis = named.get("dim")
        if axis is not None:
            axis %= max(1, len(inputs[0].shape))
        return r.add(op, inputs[:1], t, axis=axis, keepdims=bool(named.get("keepdim")))

    return make


def _scan(op: str) -> Callable[..., Maybe]:
    def make(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
        x = _cast(r, inputs[0], t)
        return r.add(op, (x,), t, axis=named["dim"] % max(1, t.ndim))

    return make


def _roll(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> RecordedNode:
    if named.get("dims"):
        axes = [d % t.ndim for d in named["dims"]]
        return r.add("roll", inputs[:1], t, shifts=list(named["shifts"]), axes=axes)
    count = math.prod(t.shape)
    flat = r.add("reshape", inputs[:1], ((count,), inputs[0].dtype), size=[count])
    rolled = r.add("roll", (flat,), ((count,), flat.dtype), shifts=named["shifts"][:1], axes=[0])
    return r.add("reshape", (rolled,), t, size=list(t.shape))


def _pad(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> RecordedNode:
    widths = list(named["pad"])
    pairs = [(0, 0)] * (t.ndim - len(widths) // 2)
    pairs += [*zip(widths[-2::-2], widths[::-2], strict=True)]
    before, after = [list(side) for side in zip(*pairs, strict=True)]
    a = {"before": before, "after": after, "value": named.get("value") or 0}
    return r.add("pad", inputs[:1], t, **a)


def _diag_embed(
    r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int
) -> RecordedNode:
    axes = [named["dim1"] % t.ndim, named["dim2"] % t.ndim]
    return r.add("diag_embed", inputs[:1], t, offset=named["offset"], axes=axes)


def _spread(op: str) -> Callable[..., Maybe]:
    def make(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
        correction = named.get("correction", 1 if named.get("unbiased", True) else 0)
        axes = named.get("dim")
        axes = [axes] if isinstance(axes, int) else axes or None
        a = {"axes": axes, "keepdims": bool(named.get("keepdim"))}
        count = 1 if correction is None else correction
        if p:  # the mean of var_mean and std_mean, in an order of its own
            return None
        return r.add(op, inputs[:1], t, correction=count, **a)

    return make


def _along(op: str) -> Callable[..., RecordedNode]:
    def make(
        r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int
    ) -> RecordedNode:
        return r.add(op, inputs[:1], t, axis=named["dim"] % max(1, t.ndim))

    return make


def _softplus(
    r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int
) -> RecordedNode:
    a = {name: float(named[name]) for name in ("beta", "threshold")}
    return r.add("softplus", inputs[:1], t, **a)


def _plain(op: str, count: int | None = None) -> Callable[..., RecordedNode]:
    """An operation that needs nothing but its operands."""

    def make(
        r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int
    ) -> RecordedNode:
        return r.add(op, inputs[:count], t)

    return make


def _parts(*ops: str) -> Callable[..., Maybe]:
    """An operation with several results."""

    def make(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
        return r.add(ops[p], inputs[:1], t) if p < len(ops) and ops[p] else None

    return make


def _added_product(
    r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int
) -> Maybe:
    """addmm, addmv, baddbmm: beta times a tensor, plus alpha times a product."""
    added, left, right = inputs[:3]
    product = r.add("product", (left, right), t)
    alpha, beta = named.get("alpha", 1), named.get("beta", 1)
    if alpha != 1:
        product = r.add("mul", (product,), t, other=alpha)
    if beta == 0:
        return product
    if beta != 1:
        added = r.add("mul", (added,), (added.shape, added.dtype), other=beta)
    return r.add("add", (_broadcast(r, added, t), product), t)


def _solve(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    if p:
        return None
    a: dict[str, Any] = {} if named.get("left", True) else {"left": False}
    if len(inputs[1].shape) == 1:
        a["vector"] = True
    return r.add("solve", inputs[:2], t, **a)


def _triangular(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    a = {"upper": bool(named["upper"]), "unitriangular": bool(named.get("unitriangular"))}
    return r.add("solve_triangular", inputs[:2], t, left=bool(named.get("left", True)), **a)


def _cholesky(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    return None if p else r.add("cholesky", inputs[:1], t, upper=bool(named.get("upper")))


def _lerp(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    if isinstance(named["weight"], Tensor):
        return r.add("lerp", [_broadcast(r, x, t) for x in inputs[:3]], t)
    ends = [_broadcast(r, x, t) for x in inputs[:2]]
    return r.add("lerp", ends, t, weight=float(named["weight"]))


def _qr(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> RecordedNode:
    return r.add(("qr_q", "qr_r")[p], inputs[:1], t)


def _diagonal(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
    if len(inputs[0].shape) != 2:
        return None
    offset = {"offset": named["offset"]} if named.get("offset") else {}
    return r.add("diagonal", inputs[:1], t, **offset)


def _reduction(op: str) -> Callable[..., Maybe]:
    def make(r: Recorder, named: Named, inputs: list[RecordedNode], t: Tensor, p: int) -> Maybe:
        axes = named.get("dim")
        axes = [axes] if isinstance(axes, int) else axes or None
        a = {"axes": axes, "keepdims": bool(named.get("keepdim"))}
        x = named["self"]
        order = memory_order(x.shape, x.stride())  # which decides in what order is added
        if order != sorted(order):
            a["order"] = order
        norm = named.get("ord", named.get("p")) if op == "norm" else None
        if norm in (None, 2, 2.0):
            return r.add(op, inputs[:1], t, **a)
        if norm not in _ABSOLUTE:
            return None
        real = dtype_name(t.dtype)
        absolute = r.add("abs", inputs[:1], (inputs[0].shape, real))
        return r.add(_ABSOLUTE[norm], (absolute,), t, **a)

    return make


_ABSOLUTE = {1: "absolute_sum", math.inf: "amax", -math.inf: "amin"}
"""A norm's order, as the reduction of the absolute values."""


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
    "index": _index,
    "_unsafe_index": _index,
    "index_put": _index_put,
    "_unsafe_index_put": _index_put,
    "index_select": _index_select,
    "embedding": _embedding,
    "gather": _gather,
    "scatter": _scatter,
    "index_copy": _index_copy,
    "sort": _sort,
    "topk": _topk,
    "max": _extreme("max"),
    "min": _extreme("min"),
    "argmax": _extreme_place("argmax"),
    "argmin": _extreme_place("argmin"),
    "cumsum": _scan("cumsum"),
    "cumprod": _scan("cumprod"),
    "roll": _roll,
    "constant_pad_nd": _pad,
    "diag_embed": _diag_embed,
    "any": _reduction("any"),
    "all": _reduction("all"),
    "prod": _reduction("prod"),
    "std": _spread("std"),
    "var": _spread("var"),
    "std_mean": _spread("std"),
    "var_mean": _spread("var"),
    "_softmax": _along("softmax"),
    "_log_softmax": _along("log_softmax"),
    "softplus": _softplus,
    "logical_and": _plain("logical_and"),
    "logical_or": _plain("logical_or"),
    "logical_xor": _plain("logical_xor"),
    "complex": _plain("complex"),
    "polar": _plain("polar"),
    "lerp": _lerp,
    "addmm": _added_product,
    "addmv": _added_product,
    "baddbmm": _added_product,
    "bmm": _plain("product", 2),
    "mv": _plain("product", 2),
    "dot": _plain("product", 2),
    "vdot": _plain("product", 2),
    "linalg_qr": _qr,
    "linalg_lu": _parts("lu_p", "lu_l", "lu_u"),
    "linalg_inv_ex": _parts("inverse"),
    "linalg_pinv": _plain("pinv", 1),
    "_linalg_det": _parts("determinant"),
    "_linalg_svd": _parts("", "singular_values"),  # the vectors have no signs of their own
    "_linalg_eigh": _parts("eigenvalues"),
    "linalg_cholesky_ex": _cholesky,
    "_linalg_solve_ex": _solve,
    "linalg_solve_triangular": _triangular,
    "linalg_lstsq": _plain("lstsq", 2),
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
