"""Values that stand in for random ones, where a constructor reads them.

Nothing is drawn while a constructor is traced. Where it reads a random value all the same (an
assertion, a number for its log), it gets what this seed would give, and the whole constructor is
run again with another: what comes out alike did not depend on the value that was read.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from portinit.arrays.dtypes import dtype_name, numpy_dtype
from portinit.replay.operations import apply
from portinit_torch.tracing.calls import leaves, map_leaves, tensors_in
from portinit_torch.tracing.modes import TraceError, on_real_tensors
from portinit_torch.tracing.storage import raw_bytes

LARGEST = 1 << 26
"""Values of more elements are not computed to answer a question."""

_OTHER_SEEDS = 24
"""How many seeds are tried for a value that is another one."""


@dataclass(frozen=True)
class Slot:
    """A node in the place of a tensor argument."""

    node: Any


@dataclass(frozen=True)
class Blank:
    """An argument that is only written."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def tensor(self) -> Tensor:
        """Memory for it."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype)


@dataclass(frozen=True, eq=False)
class RealTensor:
    """A real tensor in the place of a tensor argument: the call may write it."""

    tensor: Tensor


@dataclass(frozen=True)
class Call:
    """A call of torch, with nodes in the place of its tensors, and which of its results it is."""

    func: Any
    args: Any
    kwargs: Any
    position: int = 0

    @property
    def nodes(self) -> list[Any]:
        """The nodes whose values it needs."""
        return [x.node for x in leaves((self.args, self.kwargs)) if isinstance(x, Slot)]

    def at(self, position: int) -> Call:
        """Another of the results."""
        return replace(self, position=position)

    def results(self, value_of: Callable[[Any], Tensor]) -> Any:
        """What it gives on real tensors; they are not written."""

        def real(x: Any) -> Any:
            if isinstance(x, Blank):
                return x.tensor()
            if isinstance(x, RealTensor):
                return x.tensor
            if isinstance(x, torch.Generator):  # the default one is set in its place
                return None
            return value_of(x.node).clone() if isinstance(x, Slot) else x

        args, kwargs = map_leaves(real, self.args), map_leaves(real, self.kwargs)
        if kwargs.get("device") is not None:
            kwargs["device"] = "cpu"
        with torch.no_grad():
            return self.func(*args, **kwargs)

    def result(self, value_of: Callable[[Any], Tensor]) -> Tensor:
        """The one of the results."""
        tensor = tensors_in(self.results(value_of), {})[self.position]
        return tensor.detach()


class Witness:
    """The values that one seed gives to the nodes of a trace, computed when they are asked for.

    A draw of a generator that the constructor seeded gives what it gives in torch, whatever the
    seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._values: dict[int, tuple[Any, Tensor]] = {}
        self._settled: dict[int, tuple[Any, bool]] = {}

    def is_settled(self, node: Any) -> bool:
        """Whether a node's value is the same for every seed."""
        for part in self._unmet(node, self._settled):
            settled = part.is_known or (
                _is_seeded(part) if part.random else part.op != "uninitialized"
            )
            inputs = [] if part.is_known else parts_of(part)
            settled = settled and all(self._settled[id(x)][1] for x in inputs)
            self._settled[id(part)] = part, settled
        return self._settled[id(node)][1]

    def value(self, node: Any) -> Tensor:
        """A node's value as a real tensor."""
        for part in self._unmet(node, self._values):
            self._values[id(part)] = part, on_real_tensors(lambda: self._compute(part))  # noqa: B023
        return self._values[id(node)][1]

    def results(self, call: Call) -> Any:
        """What a call gives on the nodes' values."""
        values = {id(node): self.value(node) for node in call.nodes}
        return on_real_tensors(lambda: call.results(lambda node: values[id(node)]))

    def another(self, compute: Callable[[Witness], Any]) -> Any:
        """What another seed answers; the same if no seed seems to answer anything else."""
        mine = compute(self)
        if isinstance(mine, bool):
            return not mine
        if isinstance(mine, Tensor) and mine.dtype.is_floating_point:
            return mine
        for number in range(1, _OTHER_SEEDS):
            other = compute(Witness(self.seed + number))
            if _differ(mine, other):
                return other
        return ~mine if isinstance(mine, Tensor) and mine.dtype == torch.bool else mine

    def _unmet(self, node: Any, met: dict[int, Any]) -> list[Any]:
        """The nodes that a node needs and that were not met, inputs first."""
        order: list[Any] = []
        stack, seen = [node], set()
        while stack:
            part = stack[-1]
            inputs = [] if part.is_known else parts_of(part)
            missing = [x for x in inputs if id(x) not in met and id(x) not in seen]
            if id(part) in met or id(part) in seen:
                stack.pop()
            elif missing:
                stack += missing
            else:
                seen.add(id(part))
                order.append(part)
                stack.pop()
        return order

    def _compute(self, node: Any) -> Tensor:
        if node.concrete is not None:
            known: Tensor = node.concrete
            return known
        if int(np.prod(node.shape, dtype=object)) > LARGEST:
            raise TraceError(
                f"the constructor reads a value of {node.shape} at {node.source}, too large to "
                "be computed during a trace"
            )
        if node.random:
            return self._drawn(node)
        if node.op == "uninitialized":
            return self._seeded(node, lambda: _anything(node))
        if node.call is not None:
            result: Tensor = node.call.result(lambda x: self._values[id(x)][1])
            return result
        arguments = [_to_numpy(self._values[id(x)][1]) for x in node.inputs]
        return _to_torch(apply(node.op, node.attributes, arguments, node.shape, node.dtype))

    def _drawn(self, node: Any) -> Tensor:
        if not _is_seeded(node):
            return self._seeded(node, lambda: self._draw(node))
        state = torch.get_rng_state()
        try:
            node.stream.begin()
            for draw in node.stream.draws:
                value = self._draw(draw)
                self._values.setdefault(id(draw), (draw, value))
                if draw is node:
                    return value
        finally:
            torch.set_rng_state(state)
        raise AssertionError("a stream must have its draws")

    def _draw(self, node: Any) -> Tensor:
        if node.op == "trunc_normal":
            a = node.attributes
            empty = torch.empty(node.shape, dtype=getattr(torch, node.dtype))
            bounds = a["mean"], a["std"], a["a"], a["b"]
            return torch.nn.init.trunc_normal_(empty, *bounds)
        drawn: Tensor = node.call.result(lambda x: self._values[id(x)][1])
        return drawn

    def _seeded(self, node: Any, compute: Any) -> Tensor:
        """A value that is this seed's and this node's alone."""
        state = torch.get_rng_state()
        try:
            torch.manual_seed(zlib.crc32(f"{self.seed} {node.number}".encode()))
            value: Tensor = compute()
        finally:
            torch.set_rng_state(state)
        return value


def _is_seeded(draw: Any) -> bool:
    return draw.stream is not None and draw.stream.is_seeded


def _differ(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.shape != other.shape or not torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) != len(other) or any(
            _differ(*pair) for pair in zip(one, other, strict=True)
        )
    return bool(one != other)


def parts_below(node: Any) -> list[Any]:
    """The nodes that a node is made of in a program, itself included."""
    found, stack = {id(node): node}, [node]
    while stack:
        part = stack.pop()
        for x in () if part.concrete is not None else part.inputs:
            if id(x) not in found:
                found[id(x)] = x
                stack.append(x)
    return list(found.values())


def parts_of(node: Any) -> list[Any]:
    """The nodes that a node's value is computed from."""
    if node.call is not None:
        return list(node.call.nodes)
    return list(node.inputs)


def _anything(node: Any) -> Tensor:
    """What memory that nobody wrote may hold."""
    dtype = getattr(torch, node.dtype)
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(node.shape, dtype=dtype)
    return torch.randint(0, 2, node.shape).to(dtype)


def _to_numpy(tensor: Tensor) -> Any:
    dtype = numpy_dtype(dtype_name(tensor.dtype))
    return np.frombuffer(raw_bytes(tensor), dtype).reshape(tuple(tensor.shape))


def _to_torch(array: Any) -> Tensor:
    dtype = getattr(torch, dtype_name(array.dtype))
    raw = torch.frombuffer(
        bytearray(np.ascontiguousarray(array).tobytes()) or bytearray(1), dtype=torch.uint8
    )
    flat = raw.view(dtype) if array.size else torch.empty(0, dtype=dtype)
    return flat.reshape(array.shape)
