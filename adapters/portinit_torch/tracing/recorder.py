"""Recording what a constructor does to tensors, below every Python API, without any memory.

The constructor runs on fake tensors: they have shapes, dtypes and shared storages, but no data, so
a model of any size is built in seconds, and no random number is drawn. A dispatch mode sees every
ATen operation on them. For each storage it keeps the node that tells what the storage holds; an
in-place operation on any view replaces it, so aliases of every kind are followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from portinit.arrays.dtypes import dtype_name
from portinit_torch.tracing.marks import GeneratorMarks
from portinit_torch.tracing.modes import (
    FakeTensor,
    FakeTensorMode,
    OnCPU,
    RecordOps,
    RecordReads,
    TraceError,
    on_real_tensors,
    source_line,
    take_over,
)

CONCRETE = 1 << 20
"""Values that come from no draw are also computed for real, up to this many elements."""


@dataclass(eq=False)
class RecordedNode:
    """A node while it is recorded: it refers to other nodes, and may still change its mind."""

    op: str
    inputs: tuple[RecordedNode, ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    attributes: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    concrete: Tensor | None = None  # the value, where no draw has a part in it
    random: bool = False  # whether it moves a random stream


@dataclass
class Content:
    """What a storage holds: a node's value, laid out with these sizes and strides."""

    node: RecordedNode
    size: tuple[int, ...]
    stride: tuple[int, ...]
    storage: Any  # keeps the storage alive, so that its address stays its own


class Recorder:
    """The nodes of one constructor, and what each storage holds."""

    def __init__(self) -> None:
        self.nodes: list[RecordedNode] = []
        self.contents: dict[int, Content] = {}
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.marks = GeneratorMarks(on_real_tensors)

    def run(self, build: Callable[[], Any], lower: Callable[[Any, Any, Any, Any], Any]) -> Any:
        """Call the constructor on fake tensors; ``lower`` runs and records each operation."""
        self.marks.begin(torch.default_generator)
        try:
            with (
                mock.patch.object(torch.utils, "swap_tensors", take_over),
                OnCPU(),
                self.mode,
                RecordOps(self, lower),
                RecordReads(self),
            ):
                return build()
        finally:
            self.marks.restore()

    def add(
        self,
        op: str,
        inputs: Sequence[RecordedNode],
        like: Tensor | tuple[tuple[int, ...], str],
        **a: Any,
    ) -> RecordedNode:
        """Append a node whose shape and dtype are a tensor's, or are given."""
        shape, dtype = (
            (tuple(like.shape), dtype_name(like.dtype)) if isinstance(like, Tensor) else like
        )
        node = RecordedNode(op, tuple(inputs), shape, dtype, a, source_line())
        self.nodes.append(node)
        return node

    @staticmethod
    def is_real(value: Any) -> bool:
        """Whether a value is a tensor with data, made outside of the recording."""
        return isinstance(value, Tensor) and not isinstance(value, FakeTensor)

    # What storages hold

    def read(self, tensor: Tensor) -> RecordedNode:
        """The node that gives a tensor's present value."""
        if not isinstance(tensor, FakeTensor):
            return self.constant(tensor)
        content = self.contents.get(_address(tensor))
        if content is None:
            return self.add("uninitialized", (), tensor)
        size, stride, offset = _geometry(tensor)
        if tensor.is_conj() or tensor.is_neg() or content.node.dtype != dtype_name(tensor.dtype):
            return self._reinterpreted(content, tensor)
        if (size, stride, offset) == (content.size, content.stride, 0):
            return content.node
        return self._view(content, tensor, size, stride, offset)

    def _reinterpreted(self, content: Content, tensor: Tensor) -> RecordedNode:
        """A view that reads the memory as something else; only known values can be."""
        node, known = self.add("aten.view_dtype", (content.node,), tensor), content.node.concrete
        if known is not None and not (tensor.is_conj() or tensor.is_neg()):
            flat = on_real_tensors(
                lambda: _laid_out(known, content).contiguous().view(tensor.dtype)
            )
            node.concrete = on_real_tensors(lambda: flat.as_strided(*_geometry(tensor)).clone())
        return node

    def _view(
        self,
        content: Content,
        tensor: Tensor,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        offset: int,
    ) -> RecordedNode:
        window = {"size": list(size), "stride": list(stride), "offset": offset}
        written = _written(content, window)
        if written is not None and written.shape == size:
            return written
        like = (size, content.node.dtype)
        if content.node.op in ("uninitialized", "full"):
            node = self.add(content.node.op, (), like, **content.node.attributes)
        else:
            node = self.add("strided", (content.node,), like, **window, **_order(content))
        known = content.node.concrete
        if known is not None:
            flat = on_real_tensors(lambda: _laid_out(known, content))
            node.concrete = on_real_tensors(lambda: flat.as_strided(size, stride, offset).clone())
        return node

    def write(self, tensor: Tensor, node: RecordedNode) -> None:
        """Put a node's value where a tensor lies."""
        if not isinstance(tensor, FakeTensor):
            raise TraceError(f"a tensor from outside the constructor is written at {source_line()}")
        size, stride, offset = _geometry(tensor)
        storage = tensor.untyped_storage()
        address = storage._cdata
        whole = storage.nbytes() == tensor.numel() * tensor.element_size()
        if whole and is_dense(size, stride):
            self.contents[address] = Content(node, size, stride, storage)
            return
        content = self.contents.get(address) or self._blank(tensor, storage)
        base = content.node
        if base.dtype != dtype_name(tensor.dtype):
            base = self.add("aten.view_dtype", (base, node), (base.shape, base.dtype))
            self.contents[address] = Content(base, content.size, content.stride, storage)
            return
        window = {"size": list(size), "stride": list(stride), "offset": offset}
        if _written(content, window) is not None:
            base = base.inputs[0]  # what was there is overwritten
        like = (base.shape, base.dtype)
        merged = self.add("scatter", (base, node), like, **window, **_order(content))
        before, value = base.concrete, node.concrete
        if before is not None and value is not None:
            flat = on_real_tensors(lambda: _laid_out(before, content).clone())
            on_real_tensors(lambda: flat.as_strided(size, stride, offset).copy_(value))
            merged.concrete = on_real_tensors(
                lambda: flat.as_strided(content.size, content.stride).clone()
            )
        self.contents[address] = Content(merged, content.size, content.stride, storage)

    def _blank(self, tensor: Tensor, storage: Any) -> Content:
        """An uninitialised storage that is about to be written in part."""
        count = storage.nbytes() // tensor.element_size()
        node = self.add("uninitialized", (), ((count,), dtype_name(tensor.dtype)))
        return Content(node, (count,), (1,), storage)

    def known(self, value: Any) -> Any:
        """A real tensor as one of the constructor's, with its values known; others as they are."""
        if not self.is_real(value):
            return value
        fake = self.mode.from_tensor(value)
        self.write(fake, self.constant(value))
        return fake

    def constant(self, tensor: Tensor) -> RecordedNode:
        """A node for real data."""
        node = self.add("data", (), tensor)
        node.concrete = on_real_tensors(lambda: tensor.detach().clone())
        return node

    def fill(self, like: Tensor, value: Any) -> RecordedNode:
        """A node for one number everywhere."""
        node = self.add("full", (), like, value=value)
        if like.numel() <= CONCRETE:
            shape, dtype = tuple(like.shape), like.dtype
            node.concrete = on_real_tensors(lambda: torch.full(shape, value, dtype=dtype))
        return node


def _address(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


def _geometry(tensor: Tensor) -> tuple[tuple[int, ...], tuple[int, ...], int]:
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


def _order(content: Content) -> dict[str, Any]:
    order = memory_order(content.size, content.stride)
    return {} if order == sorted(order) else {"order": order}


def _written(content: Content, window: dict[str, Any]) -> RecordedNode | None:
    """The value that was last written into just this window; none if it was another."""
    node, window = content.node, window | _order(content)
    if node.op != "scatter" or any(node.attributes.get(k) != v for k, v in window.items()):
        return None
    return node.inputs[1]


def _laid_out(value: Tensor, content: Content) -> Tensor:
    """A real tensor's elements in the order they have in the storage."""
    return value.permute(memory_order(content.size, content.stride)).reshape(-1)


def real_result(recorder: Recorder, func: Any, args: Any, kwargs: Any) -> Any:
    """What an operation gives on the known values of its arguments; None if one is unknown."""
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    known: dict[int, Tensor] = {}
    for tensor in tensors:
        if tensor is kwargs.get("out"):
            known[id(tensor)] = on_real_tensors(lambda: torch.empty(0, dtype=tensor.dtype))  # noqa: B023
            continue
        value = recorder.read(tensor).concrete
        if value is None:
            return None
        known[id(tensor)] = value

    def real(x: Any) -> Any:
        return known[id(x)].clone() if isinstance(x, Tensor) else x

    return on_real_tensors(lambda: func(*tree_map(real, args), **tree_map(real, kwargs)))
