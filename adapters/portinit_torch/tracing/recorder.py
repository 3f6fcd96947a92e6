"""Recording what a constructor does to tensors, below every Python API, without any memory.

The constructor runs on fake tensors: they have shapes, dtypes and shared storages, but no data, so
a model of any size is built in seconds, and no random number is drawn. A dispatch mode sees every
ATen operation on them. For each storage it keeps the node that tells what the storage holds; an
in-place operation on any view replaces it, so aliases of every kind are followed.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from portinit.arrays.dtypes import dtype_name
from portinit_torch.tracing.calls import map_leaves
from portinit_torch.tracing.marks import GeneratorMarks, Stream
from portinit_torch.tracing.modes import (
    FakeTensor,
    FakeTensorMode,
    TraceError,
    fake_tensor,
    on_real_tensors,
    recording,
    source_line,
    torch_line,
)
from portinit_torch.tracing.witness import Blank, Call, Slot, Witness

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
        flat = _laid_out(before, layout).clone()
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


@dataclass(frozen=True)
class Reading:
    """A random value that the constructor read."""

    line: str  # outside of torch
    place: str  # in torch or outside of it
    what: str
    value: Any


_SEVERAL = (tuple, list)

Lower = Callable[["Recorder", Any, Any, Any], Any]


class Recorder:
    """The nodes of one run of a constructor, and what each storage holds.

    Args:
        lower: runs and records one operation.
        seed: of the values that stand in for random ones where a constructor reads them.
        contrary: the place of a question that is answered otherwise than these values would.
        times: how often it is.
    """

    def __init__(self, lower: Lower, seed: int, contrary: str = "", times: int = 0) -> None:
        self.nodes: list[RecordedNode] = []
        self.made: list[weakref.ref[Tensor]] = []  # every fake tensor
        self.contents: dict[int, Content] = {}
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.marks = GeneratorMarks(on_real_tensors, seed)
        self.lock = threading.RLock()
        self.readings: list[Reading] = []
        self.refusal: TraceError | None = None
        self._lower = lower
        self._contrary, self._times = contrary, times
        self._witness = Witness(seed)
        self._drawing_threads: list[threading.Thread] = []
        self._made = 0

    def run(self, build: Callable[[], Any]) -> Any:
        """Call the constructor on fake tensors.

        Raises:
            TraceError: also where the constructor caught it, and went on with something else.
        """
        self.marks.begin(torch.default_generator)
        try:
            with recording(self):
                module = build()
        except Exception as error:
            if self.refusal is None or error is self.refusal:
                raise
            raise self.refusal from error
        finally:
            self.marks.restore()
        if self.refusal is not None:
            raise self.refusal
        return module

    def lower(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run and record one operation."""
        out = self._lower(self, func, args, kwargs)
        for tensor in (out,) if isinstance(out, Tensor) else out if type(out) in _SEVERAL else ():
            if type(tensor) is FakeTensor:
                self.made.append(weakref.ref(tensor))
        return out

    def refuse(self, message: str) -> TraceError:
        """The error to raise; it is remembered, so that no one can pass over it."""
        self.refusal = self.refusal or TraceError(message)
        return self.refusal

    # Random values that are read

    def is_settled(self, node: RecordedNode) -> bool:
        """Whether a value is the same for every seed."""
        return self._witness.is_settled(node)

    def peek(self, node: RecordedNode) -> Tensor:
        """A node's value, or one that stands in for it, without a note."""
        return self._witness.value(node)

    def value_of(self, node: RecordedNode, what: str) -> Tensor:
        """A node's value; where it is random, one that stands in for it, which is noted."""
        value: Tensor = self._ask([node], lambda witness: witness.value(node), what)
        return value

    def answer(self, node: RecordedNode, question: Callable[[Tensor], Any], what: str) -> Any:
        """A number or truth that is asked of a node's value."""

        def answered(witness: Witness) -> Any:
            return on_real_tensors(lambda: question(witness.value(node)))

        return self._ask([node], answered, what)

    def results(self, call: Call, what: str) -> Any:
        """What a call gives whose operands' values decide its answer, or its shape."""
        return self._ask(call.nodes, lambda witness: witness.results(call), what)

    def _ask(self, nodes: list[RecordedNode], compute: Callable[[Witness], Any], what: str) -> Any:
        try:
            value = compute(self._witness)
        except (TraceError, ValueError) as error:
            raise self.refuse(
                f"the constructor reads {what} at {source_line()}: {error}"
            ) from error
        if all(self._witness.is_settled(node) for node in nodes):
            return value
        place = torch_line()
        self.readings.append(Reading(source_line(), place, what, value))
        if self._times and place == self._contrary:
            self._times -= 1
            return on_real_tensors(lambda: self._witness.another(compute))
        return value

    def note_thread(self) -> None:
        """A draw is made; those of several threads at once would have no order."""
        thread = threading.current_thread()
        if thread is threading.main_thread() or thread in self._drawing_threads:
            return
        if any(other.is_alive() for other in self._drawing_threads):
            raise self.refuse(
                f"several threads draw at {source_line()}, in an order that is not fixed"
            )
        self._drawing_threads.append(thread)

    # Nodes

    def call(self, func: Any, args: Any, kwargs: Any, written: Sequence[Tensor] = ()) -> Call:
        """A call with the nodes that its tensors hold now; those only written are left out."""
        blank = {id(tensor) for tensor in written}

        def slot(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            if id(x) in blank:
                return Blank(tuple(x.shape), x.stride(), x.dtype)
            return Slot(self.read(x))

        return Call(func, map_leaves(slot, args), map_leaves(slot, kwargs))

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
        node.number = self._made = self._made + 1
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
        if not tensor.numel():
            return self.fill(tensor, 0)
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
        """A view that reads the memory as another dtype, or conjugated, or negated."""
        size, stride, offset = _geometry(tensor)
        node, dtype = content.node, dtype_name(tensor.dtype)
        if node.dtype != dtype:
            window = {"to": dtype, "size": list(size), "stride": list(stride), "offset": offset}
            before = node
            node = self.add("reinterpret", (before,), (size, dtype), **window, **_order(content))
            known = before.concrete
            if known is not None:
                flat = on_real_tensors(lambda: _bytes_as(_laid_out(known, content), tensor.dtype))
                node.concrete = on_real_tensors(
                    lambda: flat.as_strided(size, stride, offset).clone()
                )
        elif (size, stride, offset) != (content.size, content.stride, 0):
            node = self._view(content, tensor, size, stride, offset)
        if tensor.is_conj():
            node = self._changed("conj", node, torch.conj_physical)
        if tensor.is_neg():
            node = self._changed("neg", node, torch.neg)
        return node

    def _changed(self, op: str, node: RecordedNode, function: Any) -> RecordedNode:
        changed, known = self.add(op, (node,), (node.shape, node.dtype)), node.concrete
        if known is not None:
            changed.concrete = on_real_tensors(lambda: function(known))
        return changed

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
        held = content.node
        if held.is_known:

            def part() -> Tensor:
                assert held.concrete is not None
                return _laid_out(held.concrete, content).as_strided(size, stride, offset).clone()

            node.defer(part)
        return node

    def write(self, tensor: Tensor, node: RecordedNode) -> None:
        """Put a node's value where a tensor lies."""
        if not isinstance(tensor, FakeTensor):
            raise self.refuse(
                f"a tensor from outside the constructor is written at {source_line()}"
            )
        if tensor.is_conj():
            node = self._changed("conj", node, torch.conj_physical)
        if tensor.is_neg():
            node = self._changed("neg", node, torch.neg)
        size, stride, offset = _geometry(tensor)
        storage = tensor.untyped_storage()
        address = storage._cdata
        whole = storage.nbytes() == tensor.numel() * tensor.element_size()
        if whole and is_dense(size, stride):
            self.contents[address] = Content(node, size, stride, storage)
            return
        content = self.contents.get(address) or self._blank(tensor, storage)
        if content.node.dtype != dtype_name(tensor.dtype):
            content = self._as_dtype(content, tensor)
        base = content.node
        window = {"size": list(size), "stride": list(stride), "offset": offset}
        if _written(content, window) is not None:
            base = base.inputs[0]  # what was there is overwritten
        like = (base.shape, base.dtype)
        merged = self.add("scatter", (base, node), like, **window, **_order(content))
        if base.is_known and node.is_known:
            merged._layout = content
        self.contents[address] = Content(merged, content.size, content.stride, storage)

    def _as_dtype(self, content: Content, tensor: Tensor) -> Content:
        """A whole storage, as the flat memory of another dtype."""
        count = content.storage.nbytes() // tensor.element_size()
        dtype = dtype_name(tensor.dtype)
        window = {"to": dtype, "size": [count], "stride": [1], "offset": 0}
        like = ((count,), dtype)
        node = self.add("reinterpret", (content.node,), like, **window, **_order(content))
        known = content.node.concrete
        if known is not None:
            node.concrete = on_real_tensors(
                lambda: _bytes_as(_laid_out(known, content), tensor.dtype).clone()
            )
        return Content(node, (count,), (1,), content.storage)

    def _blank(self, tensor: Tensor, storage: Any) -> Content:
        """An uninitialised storage that is about to be written in part."""
        count = storage.nbytes() // tensor.element_size()
        node = self.add("uninitialized", (), ((count,), dtype_name(tensor.dtype)))
        return Content(node, (count,), (1,), storage)

    def known(self, value: Any) -> Any:
        """A real tensor as one of the constructor's, with its values known; others as they are."""
        if not self.is_real(value):
            return value
        value = on_real_tensors(lambda: value.detach().clone(memory_format=torch.contiguous_format))
        fake = self.mode.from_tensor(value)
        self.write(fake, self.constant(value))
        return fake

    def tensor_of(self, node: RecordedNode) -> Tensor:
        """A tensor of the constructor's that holds a node's value."""
        dtype = getattr(torch, node.dtype)
        tensor = fake_tensor(self.mode, node.shape, dtype)
        self.write(tensor, node)
        return tensor

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
            node.defer(lambda: torch.full(shape, value, dtype=dtype))
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


def _bytes_as(flat: Tensor, dtype: torch.dtype) -> Tensor:
    return flat.contiguous().view(dtype)
