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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from portinit.arrays.dtypes import dtype_name
from portinit_torch.tracing.calls import map_leaves
from portinit_torch.tracing.marks import GeneratorMarks
from portinit_torch.tracing.modes import (
    FakeTensor,
    FakeTensorMode,
    TraceError,
    fake_tensor,
    on_real_tensors,
    source_line,
    torch_line,
)
from portinit_torch.tracing.nodes import (
    Content,
    RecordedNode,
    bytes_as,
    geometry,
    is_dense,
    laid_out,
    order_of,
    written_into,
)
from portinit_torch.tracing.patches import recording
from portinit_torch.tracing.witness import Blank, Call, Slot, Witness

CONCRETE = 1 << 20
"""Values that come from no draw are also computed for real, up to this many elements."""


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
        size, stride, offset = geometry(tensor)
        if tensor.is_conj() or tensor.is_neg() or content.node.dtype != dtype_name(tensor.dtype):
            return self._reinterpreted(content, tensor)
        if (size, stride, offset) == (content.size, content.stride, 0):
            return content.node
        return self._view(content, tensor, size, stride, offset)

    def _reinterpreted(self, content: Content, tensor: Tensor) -> RecordedNode:
        """A view that reads the memory as another dtype, or conjugated, or negated."""
        size, stride, offset = geometry(tensor)
        node, dtype = content.node, dtype_name(tensor.dtype)
        if node.dtype != dtype:
            window = {"to": dtype, "size": list(size), "stride": list(stride), "offset": offset}
            before = node
            node = self.add("reinterpret", (before,), (size, dtype), **window, **order_of(content))
            known = before.concrete
            if known is not None:
                flat = on_real_tensors(lambda: bytes_as(laid_out(known, content), tensor.dtype))
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
        written = written_into(content, window)
        if written is not None and written.shape == size:
            return written
        like = (size, content.node.dtype)
        if content.node.op in ("uninitialized", "full"):
            node = self.add(content.node.op, (), like, **content.node.attributes)
        else:
            node = self.add("strided", (content.node,), like, **window, **order_of(content))
        held = content.node
        if held.is_known:

            def part() -> Tensor:
                assert held.concrete is not None
                return laid_out(held.concrete, content).as_strided(size, stride, offset).clone()

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
        size, stride, offset = geometry(tensor)
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
        if written_into(content, window) is not None:
            base = base.inputs[0]  # what was there is overwritten
        like = (base.shape, base.dtype)
        merged = self.add("scatter", (base, node), like, **window, **order_of(content))
        if base.is_known and node.is_known:
            merged.defer_writes(content)
        self.contents[address] = Content(merged, content.size, content.stride, storage)

    def _as_dtype(self, content: Content, tensor: Tensor) -> Content:
        """A whole storage, as the flat memory of another dtype."""
        count = content.storage.nbytes() // tensor.element_size()
        dtype = dtype_name(tensor.dtype)
        window = {"to": dtype, "size": [count], "stride": [1], "offset": 0}
        like = ((count,), dtype)
        node = self.add("reinterpret", (content.node,), like, **window, **order_of(content))
        known = content.node.concrete
        if known is not None:
            node.concrete = on_real_tensors(
                lambda: bytes_as(laid_out(known, content), tensor.dtype).clone()
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
