"""Recording one ATen operation: it runs on fake tensors, and each of its results gets a node."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from portinit_torch.tracing.calls import Named, arguments_of, map_leaves, mutated, tensors_in
from portinit_torch.tracing.draws import draws_nothing, is_draw, lower_draw
from portinit_torch.tracing.modes import (
    DECIDED_BY_VALUES,
    UNSUPPORTED,
    on_real_tensors,
    source_line,
)
from portinit_torch.tracing.operations import FILLS, MAKERS, node_of
from portinit_torch.tracing.operations.result import Result
from portinit_torch.tracing.questions import read_scalar
from portinit_torch.tracing.recorder import CONCRETE, Recorder
from portinit_torch.tracing.witness import Call, RealTensor

_FILLS_IN_PLACE = {"zero_", "fill_"}
"""What changes neither shapes nor storages: fake tensors need not see it, which takes long."""

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
        out = args[0] if name in _FILLS_IN_PLACE else func(*args, **kwargs)
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
        node = node_of(Result(recorder, named, list(call.nodes), target, position), plain)
        if value is not None:
            node.concrete = value
        elif plain not in _OVERWRITES and node.call is None and len(recorder.nodes) > made:
            node.call = call.at(position)
        recorder.write(target, node)


_OVERWRITES = {"copy", "zero", "fill"}

_MOVES_STATISTICS = {"native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"}


def _move_statistics(recorder: Recorder, name: str, call: Call, named: Named) -> None:
    """Batch normalisation moves its running statistics in training, and no schema says so."""
    moved = [named[name] for name in _STATISTICS if named[name] is not None]
    if not named.get("training") or not moved:
        return
    known = _moved_for_real(call) if all(node.is_known for node in call.nodes) else None
    for position, (statistic, tensor) in enumerate(zip(_STATISTICS, moved, strict=True)):
        node = recorder.add(f"aten.{name}.{statistic}", call.nodes, tensor)
        if known is not None:
            node.concrete = known[position]
        recorder.write(tensor, node)


_STATISTICS = ("running_mean", "running_var")


def _moved_for_real(call: Call) -> list[Tensor]:
    """The running statistics after a call on known values."""
    given = arguments_of(call.func, call.args, call.kwargs)
    slots = [given[name] for name in _STATISTICS]
    moved = on_real_tensors(lambda: [slot.node.concrete.clone() for slot in slots])
    places = [position for position, x in enumerate(call.args) if any(x is s for s in slots)]
    args = list(call.args)
    for place, tensor in zip(places, moved, strict=True):
        args[place] = RealTensor(tensor)
    on_real_tensors(lambda: replace(call, args=tuple(args)).results(lambda node: node.concrete))
    return moved


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
        if name in MAKERS:
            named = arguments_of(call.func, call.args, call.kwargs)
            result = Result(recorder, named, list(call.nodes), tensor, len(made))
            node = MAKERS[name](result) or node
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
    if plain in FILLS or not all(node.is_known for node in nodes):
        return nothing
    if any(math.prod(x.shape) > CONCRETE for x in [*nodes, *targets]):
        return nothing
    result = on_real_tensors(lambda: call.results(lambda node: node.concrete))
    values: list[Tensor | None] = [*tensors_in(result, {})]
    return values if len(values) == len(targets) else nothing


@functools.cache
def _is_alias(func: Any) -> bool:
    """A view: its result has an argument's storage, and nothing is written."""
    returns = func._schema.returns
    return bool(returns) and all(
        r.alias_info is not None and not r.alias_info.is_write for r in returns
    )
