"""A result of an ATen operation, whose node is to be made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from portinit.arrays.dtypes import dtype_name
from portinit_torch.tracing.calls import Named
from portinit_torch.tracing.modes import on_real_tensors
from portinit_torch.tracing.nodes import RecordedNode
from portinit_torch.tracing.recorder import Recorder

Like = Tensor | tuple[tuple[int, ...], str]
"""A tensor, or a shape and a dtype."""


@dataclass(frozen=True)
class Result:
    """One result of an operation, and all that its node is made of.

    Attributes:
        recorder: of the trace.
        named: the operation's arguments by name.
        inputs: the nodes of the tensors among them, in order.
        target: the fake tensor that holds the result.
        position: among the operation's results.
    """

    recorder: Recorder
    named: Named
    inputs: list[RecordedNode]
    target: Tensor
    position: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The result's shape."""
        return tuple(self.target.shape)

    @property
    def dtype(self) -> str:
        """The result's dtype, by name."""
        return dtype_name(self.target.dtype)

    def node(self, op: str, count: int | None = None, **a: Any) -> RecordedNode:
        """The result as an operation on the first ``count`` inputs, on all by default."""
        return self.recorder.add(op, self.inputs[:count], self.target, **a)

    def of(self, op: str, inputs: list[RecordedNode], **a: Any) -> RecordedNode:
        """The result as an operation on these nodes."""
        return self.recorder.add(op, inputs, self.target, **a)

    def step(self, op: str, inputs: list[RecordedNode], like: Like, **a: Any) -> RecordedNode:
        """A node on the way to the result."""
        return self.recorder.add(op, inputs, like, **a)

    def with_target(self, target: Tensor) -> Result:
        """The same in the place of another tensor."""
        return replace(self, target=target)

    def axis(self, name: str = "dim") -> int:
        """An argument that names an axis of the result, from 0."""
        axis: int = self.named[name] % max(1, self.target.ndim)
        return axis

    def reduced_axes(self) -> dict[str, Any]:
        """The attributes of an operation along axes: None for all of them."""
        axes = self.named.get("dim")
        axes = [axes] if isinstance(axes, int) else axes or None
        return {"axes": axes, "keepdims": bool(self.named.get("keepdim"))}

    def filled(self, value: Any) -> RecordedNode:
        """One number everywhere."""
        return self.recorder.fill(self.target, value)

    def number(self, value: Any) -> Any:
        """A Python number, or the known value of a tensor without axes; None if it is neither."""
        if isinstance(value, Tensor):
            known = self.recorder.read(value).concrete if value.ndim == 0 else None
            return None if known is None else on_real_tensors(known.item)
        return value

    def cast(self, node: RecordedNode) -> RecordedNode:
        """A node's value in the result's dtype, as operands are converted before they meet."""
        return cast(self.recorder, node, self.target)

    def broadcast(self, node: RecordedNode, shape: tuple[int, ...] | None = None) -> RecordedNode:
        """A node's value in a shape, which is the result's by default."""
        return broadcast(self.recorder, node, self.shape if shape is None else shape)

    def reshaped(self, node: RecordedNode, size: tuple[int, ...]) -> RecordedNode:
        """A node's value in another shape."""
        return self.step("reshape", [node], (size, node.dtype), size=list(size))


Maker = Callable[[Result], RecordedNode | None]
"""Makes a result's node, or None where a program has no counterpart."""


def cast(recorder: Recorder, node: RecordedNode, target: Tensor) -> RecordedNode:
    """A node's value in a tensor's dtype."""
    dtype = dtype_name(target.dtype)
    if node.dtype == dtype:
        return node
    if node.op == "full" and node.shape == tuple(target.shape):
        return recorder.fill(target, node.attributes["value"])
    made, known = recorder.add("cast", (node,), (node.shape, dtype)), node.concrete
    if known is not None:
        made.concrete = on_real_tensors(lambda: known.to(target.dtype))
    return made


def broadcast(recorder: Recorder, node: RecordedNode, shape: tuple[int, ...]) -> RecordedNode:
    """A node's value in a shape."""
    if node.shape == shape:
        return node
    like = (shape, node.dtype)
    wide, known = recorder.add("broadcast", (node,), like, size=list(shape)), node.concrete
    if known is not None:
        wide.concrete = on_real_tensors(lambda: known.broadcast_to(shape).clone())
    return wide


def plain(op: str, count: int | None = None) -> Maker:
    """An operation that needs nothing but its operands."""
    return lambda r: r.node(op, count)


def along(op: str) -> Maker:
    """An operation along an axis."""
    return lambda r: r.node(op, 1, axis=r.axis())


def parts(*ops: str) -> Maker:
    """An operation with several results; one whose name is empty has no counterpart."""

    def make(r: Result) -> RecordedNode | None:
        known = r.position < len(ops) and ops[r.position]
        return r.node(ops[r.position], 1) if known else None

    return make


def meta(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor that only says what another one would be like."""
    return on_real_tensors(lambda: torch.empty(shape, dtype=dtype, device="meta"))
