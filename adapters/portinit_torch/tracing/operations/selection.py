"""Operations that move elements: indices, masks, writes, orders, shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from portinit_torch.tracing.modes import on_real_tensors
from portinit_torch.tracing.nodes import RecordedNode
from portinit_torch.tracing.operations.result import Maker, Result, meta

# Indices


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


def _index(r: Result) -> RecordedNode | None:
    axes, arrays = _indexed(r.named["indices"], r.inputs[1:])
    if any(array.dtype == "bool" for array in arrays):
        return None
    return r.of("index", [r.inputs[0], *arrays], axes=axes)


def _index_put(r: Result) -> RecordedNode | None:
    axes, arrays = _indexed(r.named["indices"], r.inputs[1:-1])
    base, values = r.inputs[0], r.cast(r.inputs[-1])
    adds = {"accumulate": True} if r.named.get("accumulate") else {}
    if any(array.dtype == "bool" for array in arrays):
        alone = axes == [0] and len(arrays) == 1 and not adds
        return _mask_put(r, arrays[0], values) if alone else None
    value = r.number(r.named["values"])
    if r.target.ndim == 1 and value is not None and not adds:
        return r.of("index_put", r.inputs[:2], value=value)
    return r.of("index_put", [base, *arrays, values], axes=axes, **adds)


def _mask_put(r: Result, mask: RecordedNode, values: RecordedNode) -> RecordedNode | None:
    """x[mask] = values: one for all, or as many as the mask selects."""
    if math.prod(values.shape) != 1:
        return r.of("masked_scatter", [r.inputs[0], mask, values])
    mask = r.reshaped(mask, (*mask.shape, *[1] * (r.target.ndim - len(mask.shape))))
    number = r.number(r.named["values"])
    filled = r.filled(number) if number is not None else r.broadcast(values)
    return r.of("where", [r.broadcast(mask), filled, r.inputs[0]])


def _masked_scatter(r: Result) -> RecordedNode:
    x, mask, values = r.inputs
    return r.of("masked_scatter", [r.broadcast(x), r.broadcast(mask), values])


def _index_select(r: Result) -> RecordedNode:
    return r.node("index", 2, axes=[r.axis()])


def _embedding(r: Result) -> RecordedNode:
    return r.node("index", 2, axes=[0])


def _gather(r: Result) -> RecordedNode:
    return r.node("gather", 2, axis=r.axis())


def _take(r: Result) -> RecordedNode:
    x, places = r.inputs
    return r.of("index", [r.reshaped(x, (math.prod(x.shape),)), places], axes=[0])


def _put(r: Result) -> RecordedNode:
    x, places, values = r.inputs
    size, count = (math.prod(x.shape),), (math.prod(places.shape),)
    adds = {"accumulate": True} if r.named.get("accumulate") else {}
    flat = r.reshaped(x, size), r.reshaped(places, count), r.reshaped(values, count)
    made = r.step("index_put", [*flat], (size, x.dtype), axes=[0], **adds)
    return r.of("reshape", [made], size=list(r.shape))


_REDUCTIONS = {"add": "add", "sum": "add", "multiply": "multiply", "prod": "multiply",
               "amax": "amax", "amin": "amin"}  # fmt: skip


def _scatter(r: Result) -> RecordedNode | None:
    reduce = r.named.get("reduce")
    a: dict[str, Any] = {"axis": r.axis()}
    if reduce is not None:
        if reduce not in _REDUCTIONS or r.named.get("include_self") is False:
            return None
        a["reduce"] = _REDUCTIONS[reduce]
    if isinstance(r.named.get("src"), Tensor):
        return r.node("scatter_along", 3, **a)
    value = r.number(r.named.get("value"))
    return None if value is None else r.node("scatter_along", 2, value=value, **a)


def _scatter_add(r: Result) -> RecordedNode:
    return r.node("scatter_along", 3, axis=r.axis(), reduce="add")


def _index_add(r: Result) -> RecordedNode | None:
    if r.named.get("alpha", 1) != 1:
        return None
    return r.node("index_put", 3, axes=[r.axis()], accumulate=True)


def _index_copy(r: Result) -> RecordedNode:
    return r.node("index_put", 3, axes=[r.axis()])


def _index_fill(r: Result) -> RecordedNode | None:
    value = r.number(r.named["value"])
    if value is None:
        return None
    filled = r.recorder.fill(meta((), r.target.dtype), value)
    return r.of("index_put", [*r.inputs[:2], filled], axes=[r.axis()])


# Writes into a part of a copy


def _written(view: Callable[..., Tensor], *names: str) -> Maker:
    """A copy of a tensor with another one in the place of a view of it."""

    def make(r: Result) -> RecordedNode | None:
        x, values = r.inputs
        whole = meta(x.shape, r.target.dtype)
        at = on_real_tensors(lambda: view(whole, *(r.named[name] for name in names)))
        window = {"size": list(at.shape), "stride": list(at.stride())}
        return r.of("scatter", [x, r.cast(values)], **window, offset=at.storage_offset())

    return make


# Orders


def _sort(r: Result) -> RecordedNode:
    a = {"axis": r.axis(), "descending": bool(r.named["descending"])}
    return r.node(("sort", "argsort")[r.position], 1, **a)


def _topk(r: Result) -> RecordedNode:
    (x,) = r.inputs
    a = {"axis": r.axis(), "descending": bool(r.named["largest"])}
    like = (x.shape, x.dtype if r.position == 0 else "int64")
    ordered = r.step(("sort", "argsort")[r.position], [x], like, **a)
    return r.of("first", [ordered], axis=a["axis"], count=r.named["k"])


def _kth(r: Result) -> RecordedNode:
    """The k-th smallest along an axis, and its place."""
    (x,) = r.inputs
    axis = r.named["dim"] % max(1, len(x.shape))
    return _nth(r, x, axis, r.named["k"] - 1)


def _median(r: Result) -> RecordedNode:
    """The lower one of the two in the middle, and its place."""
    (x,) = r.inputs
    if r.named.get("dim") is None:
        x, axis = r.reshaped(x, (math.prod(x.shape),)), 0
    else:
        axis = r.named["dim"] % max(1, len(x.shape))
    return _nth(r, x, axis, (x.shape[axis] - 1) // 2 if x.shape else 0)


def _nth(r: Result, x: RecordedNode, axis: int, number: int) -> RecordedNode:
    dtype = x.dtype if r.position == 0 else "int64"
    ordered = r.step(("sort", "argsort")[r.position], [x], (x.shape, dtype), axis=axis)
    if not x.shape:
        return ordered
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    places = on_real_tensors(lambda: torch.full(shape, number))
    chosen = r.step("gather", [ordered, r.recorder.constant(places)], (shape, dtype), axis=axis)
    return chosen if shape == r.shape else r.of("reshape", [chosen], size=list(r.shape))


def _extreme(op: str) -> Maker:
    """Max and min along an axis: the values, and their places."""

    def make(r: Result) -> RecordedNode | None:
        keep = bool(r.named.get("keepdim"))
        if r.named.get("dim") is None:
            return r.node(f"a{op}", 1, axes=None, keepdims=False)
        axis = r.named["dim"] % max(1, len(r.inputs[0].shape))
        if r.position == 0:
            return r.node(f"a{op}", 1, axes=[axis], keepdims=keep)
        return r.node(f"arg{op}", 1, axis=axis, keepdims=keep)

    return make


def _extreme_place(op: str) -> Maker:
    def make(r: Result) -> RecordedNode:
        axis = r.named.get("dim")
        if axis is not None:
            axis %= max(1, len(r.inputs[0].shape))
        return r.node(op, 1, axis=axis, keepdims=bool(r.named.get("keepdim")))

    return make


def _search(r: Result) -> RecordedNode | None:
    """Where values belong in a sorted sequence."""
    ordered, values = r.named.get("sorted_sequence"), r.named.get("self")
    named = (r.named.get("boundaries"), values) if ordered is None else (ordered, values)
    nodes = [r.recorder.read(x) for x in named if isinstance(x, Tensor)]
    if len(nodes) != 2 or len(nodes[0].shape) != 1 or r.named.get("sorter") is not None:
        return None
    right = bool(r.named.get("right")) or r.named.get("side") == "right"
    return r.of("searchsorted", nodes, right=right)


def _running(op: str) -> Maker:
    """cummax, cummin: the values; their places have no counterpart."""
    return lambda r: r.node(op, 1, axis=r.axis()) if r.position == 0 else None


# Shapes


def _concat(r: Result) -> RecordedNode:
    kept = [r.cast(x) for x in r.inputs if x.shape != (0,) or r.target.ndim == 1]
    return r.of("concat", kept, axis=r.axis())


def _stack(r: Result) -> RecordedNode:
    axis = r.axis()
    size = (*r.inputs[0].shape[:axis], 1, *r.inputs[0].shape[axis:])
    return r.of("concat", [r.reshaped(r.cast(x), size) for x in r.inputs], axis=axis)


def _triangle(op: str) -> Maker:
    return lambda r: r.node(op, 1, diagonal=r.named.get("diagonal") or 0)


def _roll(r: Result) -> RecordedNode:
    if r.named.get("dims"):
        axes = [d % r.target.ndim for d in r.named["dims"]]
        return r.node("roll", 1, shifts=list(r.named["shifts"]), axes=axes)
    size = (math.prod(r.shape),)
    flat = r.reshaped(r.inputs[0], size)
    shifts = list(r.named["shifts"][:1])
    rolled = r.step("roll", [flat], (size, flat.dtype), shifts=shifts, axes=[0])
    return r.of("reshape", [rolled], size=list(r.shape))


def _pad(r: Result) -> RecordedNode:
    widths = list(r.named["pad"])
    pairs = [(0, 0)] * (r.target.ndim - len(widths) // 2)
    pairs += [*zip(widths[-2::-2], widths[::-2], strict=True)]
    before, after = [list(side) for side in zip(*pairs, strict=True)]
    return r.node("pad", 1, before=before, after=after, value=r.named.get("value") or 0)


def _diag_embed(r: Result) -> RecordedNode:
    axes = [r.named["dim1"] % r.target.ndim, r.named["dim2"] % r.target.ndim]
    return r.node("diag_embed", 1, offset=r.named["offset"], axes=axes)


def _block_diag(r: Result) -> RecordedNode:
    """Matrices along a diagonal: each padded to the whole width, one below the other."""
    width, left, rows = r.shape[1], 0, []
    for x in r.inputs:
        x = x if len(x.shape) == 2 else r.reshaped(x, (1, math.prod(x.shape)))
        a = {"before": [0, left], "after": [0, width - left - x.shape[1]], "value": 0}
        rows.append(r.step("pad", [r.cast(x)], ((x.shape[0], width), r.dtype), **a))
        left += x.shape[1]
    return r.of("concat", rows, axis=0)


def _diagonal(r: Result) -> RecordedNode | None:
    if len(r.inputs[0].shape) != 2:
        return None
    offset = {"offset": r.named["offset"]} if r.named.get("offset") else {}
    return r.node("diagonal", 1, **offset)


def _flip(r: Result) -> RecordedNode:
    return r.node("flip", 1, axes=[d % r.target.ndim for d in r.named["dims"]])


def _rot90(r: Result) -> RecordedNode:
    (x,) = r.inputs
    first, second = (d % r.target.ndim for d in r.named["dims"])
    turns = r.named["k"] % 4
    flipped = {0: [], 1: [second], 2: [first, second], 3: [first]}[turns]
    if flipped:
        x = r.step("flip", [x], (x.shape, x.dtype), axes=flipped)
    if turns % 2 == 0:
        return x
    axes = list(range(r.target.ndim))
    axes[first], axes[second] = axes[second], axes[first]
    return r.of("permute", [x], axes=axes)


def _repeat(r: Result) -> RecordedNode:
    repeats, (x,) = r.named["repeats"], r.inputs
    sizes = (1,) * (len(repeats) - len(x.shape)) + x.shape
    paired = tuple(n for pair in zip(repeats, sizes, strict=True) for n in pair)
    x = r.reshaped(x, tuple(n for size in sizes for n in (1, size)))
    return r.of("reshape", [r.broadcast(x, paired)], size=list(r.shape))


def _reshape(r: Result) -> RecordedNode:
    return r.node("reshape", 1, size=list(r.shape))


_aten = torch.ops.aten

MAKERS: dict[str, Maker] = {
    "index": _index,
    "_unsafe_index": _index,
    "index_put": _index_put,
    "_index_put_impl": _index_put,
    "_unsafe_index_put": _index_put,
    "masked_scatter": _masked_scatter,
    "index_select": _index_select,
    "embedding": _embedding,
    "gather": _gather,
    "take": _take,
    "put": _put,
    "scatter": _scatter,
    "scatter_reduce": _scatter,
    "scatter_add": _scatter_add,
    "index_add": _index_add,
    "index_copy": _index_copy,
    "index_fill": _index_fill,
    "diagonal_scatter": _written(_aten.diagonal.default, "offset", "dim1", "dim2"),
    "slice_scatter": _written(_aten.slice.Tensor, "dim", "start", "end", "step"),
    "select_scatter": _written(_aten.select.int, "dim", "index"),
    "sort": _sort,
    "topk": _topk,
    "kthvalue": _kth,
    "median": _median,
    "max": _extreme("max"),
    "min": _extreme("min"),
    "argmax": _extreme_place("argmax"),
    "argmin": _extreme_place("argmin"),
    "cummax": _running("cummax"),
    "cummin": _running("cummin"),
    "searchsorted": _search,
    "bucketize": _search,
    "cat": _concat,
    "stack": _stack,
    "tril": _triangle("tril"),
    "triu": _triangle("triu"),
    "roll": _roll,
    "constant_pad_nd": _pad,
    "diag_embed": _diag_embed,
    "block_diag": _block_diag,
    "diagonal_copy": _diagonal,
    "flip": _flip,
    "rot90": _rot90,
    "repeat": _repeat,
    "_reshape_copy": _reshape,
    "_unsafe_view": _reshape,
}
"""Operations that move elements; none of them rounds."""
