"""Nodes while they are recorded, and how their values lie in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from portinit_torch.tracing.marks import Stream
from portinit_torch.tracing.modes import on_real_tensors
from portinit_torch.tracing.witness import Call


@dataclass(eq=False)
class RecordedNode:
    """A node while it is recorded: it refers to other nodes, and may still change its mind."""

    op: str
    inputs: tuple[RecordedNode, ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    attributes: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    random: bool = False  # whether it moves a random stream
    call: Call | None = None  # torch's own call that gives it, where there was one
    device: str = "cpu"  # of a draw: other devices' draws move other streams, meta's none
    stream: Stream | None = None  # that a draw is from
    number: int = 0  # in the order of recording
    first_base: RecordedNode | None = None  # of a write: what was there before all writes
    _value: Tensor | None = None
    _pending: Callable[[], Tensor] | None = None
    _layout: Content | None = None  # of the storage, where this is a write into part of it

    @property
    def is_known(self) -> bool:
        """Whether no draw has a part in the value, so that it is computed for real."""
        return self._value is not None or self._pending is not None or self._layout is not None

    @property
    def is_complex_constant(self) -> bool:
        """Whether it is one complex number everywhere."""
        number = self.op == "full" and self.attributes["value"]
        return self.op == "full" and (
            isinstance(number, complex) or self.dtype.startswith("complex")
        )

    @property
    def concrete(self) -> Tensor | None:
        """The value, where no draw has a part in it."""
        if self._pending is not None:
            self._value, self._pending = on_real_tensors(self._pending), None
        elif self._layout is not None:
            self._value, self._layout = _after_writes(self), None
        return self._value

    @concrete.setter
    def concrete(self, value: Tensor | None) -> None:
        self._value = value

    def defer(self, compute: Callable[[], Tensor]) -> None:
        """Say how to compute the value when it is asked for."""
        self._pending = compute

    def defer_writes(self, layout: Content) -> None:
        """Say that it is a write of a known value into part of a known one, in a storage."""
        self._layout = layout


def _after_writes(node: RecordedNode) -> Tensor:
    """The value behind some writes into parts of a storage, one copy for all of them."""
    writes, layout = [], node._layout
    assert layout is not None
    while node._value is None and node._layout is not None:
        writes.append(node)
        node = node.inputs[0]
    before, parts = node.concrete, [write.inputs[1].concrete for write in writes]

    def compute() -> Tensor:
        assert before is not None
        flat = laid_out(before, layout).clone()
        for write, part in zip(reversed(writes), reversed(parts), strict=True):
            a = write.attributes
            assert part is not None
            flat.as_strided(a["size"], a["stride"], a["offset"]).copy_(part)
        return flat.as_strided(layout.size, layout.stride).clone()

    return on_real_tensors(compute)


@dataclass
class Content:
    """What a storage holds: a node's value, laid out with these sizes and strides."""

    node: RecordedNode
    size: tuple[int, ...]
    stride: tuple[int, ...]
    storage: Any  # keeps the storage alive, so that its address stays its own


def geometry(tensor: Tensor) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """A tensor's sizes, strides and offset."""
    size, stride = tuple(map(int, tensor.shape)), tuple(map(int, tensor.stride()))
    return size, stride, int(tensor.storage_offset())


def is_dense(size: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether a tensor's elements fill a stretch of memory, in whatever order."""
    expected = 1
    for axis in sorted(range(len(size)), key=lambda i: stride[i]):
        if size[axis] != 1 and stride[axis] != expected:
            return False
        expected *= size[axis]
    return True


def memory_order(size: Sequence[int], stride: Sequence[int]) -> list[int]:
    """The axes from the slowest to the fastest in memory."""
    return sorted(range(len(size)), key=lambda i: (-stride[i], i))


def order_of(content: Content) -> dict[str, Any]:
    """The attribute that says in which order the axes lie in memory, where it is another."""
    order = memory_order(content.size, content.stride)
    return {} if order == sorted(order) else {"order": order}


def written_into(content: Content, window: dict[str, Any]) -> RecordedNode | None:
    """The value that was last written into just this window; none if it was another."""
    node, window = content.node, window | order_of(content)
    if node.op != "scatter" or any(node.attributes.get(k) != v for k, v in window.items()):
        return None
    return node.inputs[1]


def laid_out(value: Tensor, content: Content) -> Tensor:
    """A real tensor's elements in the order they have in the storage."""
    return value.permute(memory_order(content.size, content.stride)).reshape(-1)


def bytes_as(flat: Tensor, dtype: torch.dtype) -> Tensor:
    """The memory of a tensor of one axis, as another dtype."""
    return flat.clone(memory_format=torch.contiguous_format).view(dtype)
