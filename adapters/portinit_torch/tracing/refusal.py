"""Why a value cannot be carried."""

from __future__ import annotations

from portinit_torch.tracing.nodes import RecordedNode
from portinit_torch.tracing.rectangles import all_writes_of, first_base, is_overwritten


def refused(node: RecordedNode) -> str | None:
    """Why a node cannot be carried: the first operation in it that no program has."""
    seen: set[int] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        if id(node) in seen or (node.is_known and node.op != "full"):
            continue
        seen.add(id(node))
        why = _refused_by_itself(node)
        if why is not None:
            return why
        stack += reversed(_needed(node))
    return None


def _refused_by_itself(node: RecordedNode) -> str | None:
    if node.op == "uninitialized":
        return "nothing wrote it: it holds uninitialised memory"
    if node.op == "lazy":
        return "it has no shape yet: let the traced function run the model once on an input"
    if not node.is_known and node.is_complex_constant:
        return f"a complex constant at {node.source} has no counterpart in a recipe"
    if node.op.startswith("aten."):
        return f"{node.op} at {node.source} has no counterpart in a recipe"
    return None


def _needed(node: RecordedNode) -> list[RecordedNode]:
    """The nodes whose values one needs; of many writes into parts of one tensor, all at once."""
    if node.op != "scatter" or _refused_by_itself(first_base(node)) is None:
        return [*node.inputs]
    writes, base = all_writes_of(node)
    parts = [write.inputs[1] for write in writes]
    return parts if is_overwritten(node) else [*parts, base]
