"""The numbers that a constructor reads out of tensors, and trunc_normal_'s own questions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from portinit_torch.tracing.modes import in_torchs_init
from portinit_torch.tracing.nodes import RecordedNode
from portinit_torch.tracing.recorder import Recorder


def read_scalar(recorder: Recorder, tensor: Tensor) -> Any:
    """The number that a constructor reads out of a tensor."""
    node = recorder.read(tensor)
    if node.concrete is None and node.op == "full":
        return node.attributes["value"]
    if _rejects(recorder, node):
        return False
    return recorder.answer(node, Tensor.item, f"a random value ({node.op.removeprefix('aten.')})")


def _rejects(recorder: Recorder, node: RecordedNode) -> bool:
    """Whether this is the question of trunc_normal_'s rejection loop: is any value outside?

    Its answer here is no: the draw becomes a truncated one, which replays the loop.
    """
    if node.op != "any" or node.concrete is not None or not in_torchs_init():
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
    if draw.stream is not None:
        draw.stream.draws.remove(accepted.inputs[0])
    a, b = draw.attributes.pop("a"), draw.attributes.pop("b")
    mean, std = float(chain[4].attributes["other"]), float(chain[3].attributes["other"])
    draw.op = "trunc_normal"
    draw.attributes |= {"mean": mean, "std": std, "a": a, "b": b}
    return True
