"""Random draws as nodes of a program, and the questions a constructor asks of random values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from portinit_torch.tracing.calls import Named, arguments_of, mutated, tensors_in
from portinit_torch.tracing.modes import TraceError, on_real_tensors, source_line
from portinit_torch.tracing.recorder import RecordedNode, Recorder, is_dense, memory_order


def lower_draw(recorder: Recorder, func: Any, name: str, args: Any, kwargs: Any) -> Any:
    """Run a random operation on fake tensors and record the draw."""
    named = arguments_of(func, args, kwargs)
    out = func(*args, **kwargs)
    target = (mutated(func, args, kwargs) or tensors_in(out, {}))[0]
    op, numbers = _draw_numbers(name, named, target)
    node = recorder.add(op, (), target, **numbers, **_placement(target))
    _note_generator(recorder, node, named.get("generator"))
    node.random = True
    recorder.write(target, node)
    return out


def _draw_numbers(name: str, named: Named, target: Tensor) -> tuple[str, dict[str, Any]]:
    plain = name.removesuffix("_").removesuffix("_like")
    if plain == "uniform":
        return "uniform", {"a": float(named["from"]), "b": float(named["to"])}
    if plain == "rand":
        return "uniform", {"a": 0.0, "b": 1.0}
    if plain == "randn":
        return "normal", {"mean": 0.0, "std": 1.0}
    if plain == "normal" and not any(isinstance(named.get(k), Tensor) for k in ("mean", "std")):
        return "normal", {"mean": float(named["mean"]), "std": float(named["std"])}
    if plain == "randperm":
        return "randperm", {}
    if plain == "randint":
        return "randint", {"low": int(named.get("low") or 0), "high": int(named["high"])}
    if plain == "random" and named.get("to") is not None:
        return "randint", {"low": int(named.get("from") or 0), "high": int(named["to"])}
    return f"aten.{plain}", {}


def _placement(target: Tensor) -> dict[str, Any]:
    """How a draw's elements lie in memory, where that is not row by row without gaps."""
    size, stride = tuple(target.shape), target.stride()
    order = memory_order(size, stride)
    placed: dict[str, Any] = {} if order == sorted(order) else {"order": order}
    if not target.is_contiguous():
        placed["contiguous"] = False
        if not is_dense(size, stride):
            placed["gaps"] = True
    return placed


def _note_generator(
    recorder: Recorder, node: RecordedNode, generator: torch.Generator | None
) -> None:
    """Which stream a draw takes from, and whether it was set since that stream's last draw."""
    stream = torch.default_generator if generator is None else generator
    number, event = recorder.marks.observe(stream)
    named = {"generator": number} if number else {}
    if event is not None:
        seed = RecordedNode("seed", attributes=named | event, random=True)
        recorder.nodes.insert(len(recorder.nodes) - 1, seed)
    node.attributes |= named


# Values that leave for Python


def read_scalar(recorder: Recorder, tensor: Tensor) -> Any:
    """The number that a constructor reads out of a tensor; a TraceError where a draw decides."""
    node = recorder.read(tensor)
    if node.concrete is not None:
        return on_real_tensors(node.concrete.item)
    if node.op == "full":
        return node.attributes["value"]
    if _rejects(recorder, node):
        return False
    raise TraceError(
        f"the constructor reads a random value ({node.op}) at {source_line()}; what it does then "
        "cannot be known without drawing it"
    )


def _rejects(recorder: Recorder, node: RecordedNode) -> bool:
    """Whether this is the question of trunc_normal_'s rejection loop: is any value outside?

    Its answer here is no: the draw becomes a truncated one, which replays the loop.
    """
    if node.op != "aten.any":
        return False
    (mask,) = node.inputs
    return _rejected_normal(mask) or _rejected_uniform(recorder, mask)


def _rejected_normal(mask: RecordedNode) -> bool:
    if mask.op != "bitwise_or" or {s.op for s in mask.inputs} != {"lt", "gt"}:
        return False
    low, high = sorted(mask.inputs, key=lambda s: s.op == "gt")
    (draw,) = low.inputs
    if draw.op != "normal" or high.inputs != (draw,):
        return False
    draw.op = "trunc_normal"
    draw.attributes |= {"a": low.attributes["other"], "b": high.attributes["other"]}
    return True


def _rejected_uniform(recorder: Recorder, mask: RecordedNode) -> bool:
    """log(u) > -((c - mean) / std)^2 / 2 - peak, for candidates c and u both uniform."""
    chain = [mask.inputs[1]] if mask.op == "gt" and len(mask.inputs) == 2 else []
    while chain and chain[-1].op in ("sub", "mul", "pow", "div") and len(chain[-1].inputs) == 1:
        chain.append(chain[-1].inputs[0])
    if [s.op for s in chain] != ["sub", "mul", "pow", "div", "sub", "uniform"]:
        return False
    accepted, draw = mask.inputs[0], chain[-1]
    if accepted.op != "log" or accepted.inputs[0].op != "uniform":
        return False
    recorder.nodes.remove(accepted.inputs[0])
    a, b = draw.attributes.pop("a"), draw.attributes.pop("b")
    mean, std = float(chain[4].attributes["other"]), float(chain[3].attributes["other"])
    draw.op = "trunc_normal"
    draw.attributes |= {"mean": mean, "std": std, "a": a, "b": b}
    return True
