"""The nodes of a program for ATen's operations, by what an operation does.

``arithmetic`` has the operations on elements, ``selection`` those that move elements,
``reductions`` those along axes, and ``linear_algebra`` those on matrices. Each is a table of
functions that make a result's node; ``result`` is what these are given.
"""

from __future__ import annotations

from torch import Tensor

from portinit_torch.tracing.modes import on_real_tensors
from portinit_torch.tracing.nodes import RecordedNode
from portinit_torch.tracing.operations import arithmetic, linear_algebra, reductions, selection
from portinit_torch.tracing.operations.result import Maker, Result

MAKERS: dict[str, Maker] = {
    **arithmetic.MAKERS,
    **selection.MAKERS,
    **reductions.MAKERS,
    **linear_algebra.MAKERS,
}

_SAME = {
    "resolve_conj", "resolve_neg", "clone", "detach", "alias", "lift_fresh", "contiguous",
    "detach_copy", "lift", "_to_copy",
}  # fmt: skip
_FULL = {
    "zeros": 0.0, "ones": 1.0, "zeros_like": 0.0, "ones_like": 1.0, "new_zeros": 0.0,
    "new_ones": 1.0, "zero": 0.0,
}  # fmt: skip
_FILLED = {"fill", "full", "full_like", "new_full", "scalar_tensor"}

FILLS = {*_FULL, *_FILLED} - {"scalar_tensor"}
"""Operations that write one number everywhere."""


def node_of(r: Result, name: str) -> RecordedNode:
    """The node of an operation's result; one named aten.* has no counterpart in a program."""
    return _node_of(r, name) or r.node(f"aten.{name}")


def _node_of(r: Result, name: str) -> RecordedNode | None:
    if name in _FILLED:
        return _fill(r)
    if name in _FULL:
        return r.filled(_FULL[name])
    if name == "copy":
        return r.cast(r.broadcast(r.inputs[1]))
    if name in _SAME:
        return r.cast(r.inputs[0])
    if name in arithmetic.BINARY:
        return arithmetic.binary(r, name)
    if name in arithmetic.UNARY:
        return arithmetic.unary(r, name)
    maker = MAKERS.get(name)
    return None if maker is None else maker(r)


def _fill(r: Result) -> RecordedNode:
    value = r.named.get("value", r.named.get("fill_value", r.named.get("s")))
    if isinstance(value, Tensor):
        known = r.recorder.read(value).concrete
        if known is None:
            return r.broadcast(r.cast(r.inputs[-1]))
        value = on_real_tensors(known.item)
    return r.filled(value)
