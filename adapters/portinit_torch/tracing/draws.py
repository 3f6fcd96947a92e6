"""Random draws as nodes of a program."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from portinit.arrays.dtypes import dtype_name
from portinit_torch.tracing.calls import Named, arguments_of, mutated, tensors_in
from portinit_torch.tracing.modes import on_real_tensors
from portinit_torch.tracing.nodes import RecordedNode, is_dense, memory_order
from portinit_torch.tracing.recorder import Recorder
from portinit_torch.tracing.witness import Call


@functools.cache
def is_draw(func: Any) -> bool:
    """Whether an operation takes from a random stream, for some arguments at least."""
    if torch.Tag.nondeterministic_seeded in func.tags:
        return True
    return any(argument.name == "generator" for argument in func._schema.arguments)


def draws_nothing(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether this call of it takes nothing: dropout at rate 0, attention without dropout."""
    named = arguments_of(func, args, kwargs)
    training = named.get("train", named.get("training", True))
    rate = named.get("dropout_p", named.get("dropout", None if "p" in named else 1))
    if func._schema.name in _FORWARD_DROPOUTS:
        rate = named["p"]
    return training is False or rate == 0


_FORWARD_DROPOUTS = ("aten::dropout", "aten::alpha_dropout", "aten::_fused_dropout")


def lower_draw(recorder: Recorder, func: Any, name: str, args: Any, kwargs: Any) -> Any:
    """Run a random operation on fake tensors and record the draw."""
    recorder.note_thread()
    named = arguments_of(func, args, kwargs)
    call = recorder.call(func, args, kwargs, written=mutated(func, args, kwargs))
    out = args[0] if name.endswith("_") else func(*args, **kwargs)
    targets = mutated(func, args, kwargs) or tensors_in(out, {})
    plain = name.removesuffix("_").removesuffix("_like")
    value = _Draw(recorder, call, named, targets[0]).node(plain)
    recorder.write(targets[0], value)
    for position, target in enumerate(targets[1:], 1):
        extra = recorder.add(f"aten.{plain}", (value,), target)
        extra.call = call.at(position)
        recorder.write(target, extra)
    return out


class _Draw:
    """One call of a sampler."""

    def __init__(self, recorder: Recorder, call: Call, named: Named, target: Tensor) -> None:
        self.recorder, self.call, self.named, self.target = recorder, call, named, target
        self.shape, self.dtype = tuple(target.shape), dtype_name(target.dtype)

    def node(self, plain: str) -> RecordedNode:
        """The node that gives what was drawn."""
        named = self.named
        if plain == "uniform":
            return self.draw("uniform", a=float(named["from"]), b=float(named["to"]))
        if plain == "rand":
            return self.draw("uniform", a=0.0, b=1.0)
        if plain == "randn":
            return self.draw("normal", mean=0.0, std=1.0)
        if plain == "randperm":
            return self.draw("randperm")
        if plain == "normal":
            return self.normal() or self.draw("aten.normal")
        if plain in ("randint", "random"):
            bounds = self.bounds(plain)
            return self.draw("randint", **bounds) if bounds else self.draw(f"aten.{plain}")
        if plain == "bernoulli" and isinstance(self.probability(), Tensor):
            return self.bernoulli_of(self.probability())
        if plain == "multinomial":
            return self.multinomial() or self.draw("aten.multinomial")
        numbers = {name: named.get(name) for name in _BY_INVERSION.get(plain, ())}
        if plain in _BY_INVERSION and _samples_by_inversion():
            return self.inverted(plain, {name: float(x) for name, x in numbers.items()})  # type: ignore[arg-type]
        return self.draw(f"aten.{plain}")

    def draw(self, op: str, **attributes: Any) -> RecordedNode:
        """A node for the draw itself."""
        node = self.recorder.add(op, (), self.target, **attributes, **_placement(self.target))
        node.call, node.random, node.device = self.call, True, self.target.device.type
        _note_generator(self.recorder, node, self.named.get("generator"))
        return node

    def uniform(self, dtype: str) -> RecordedNode:
        """Uniform values between 0 and 1 in some dtype, for an operation on them."""
        node = self.draw("uniform", a=0.0, b=1.0)
        node.dtype = dtype
        node.call = Call(torch.rand, (self.shape,), {"dtype": getattr(torch, dtype)})
        return node

    def probability(self) -> Any:
        """Bernoulli's probability: a number, or a tensor of them."""
        return self.named.get("p", self.named.get("self"))

    def inverted(self, plain: str, numbers: dict[str, float]) -> RecordedNode:
        """A value that PyTorch computes in float64 from one uniform number."""
        if plain == "bernoulli":
            uniform = self.uniform("float64")
            less = self.recorder.add("lt", (uniform,), (self.shape, "bool"), other=numbers["p"])
            return self.recorder.add("cast", (less,), self.target)
        if plain == "log_normal":
            node = self.draw("normal", **numbers)
            node.dtype, node.attributes["contiguous"] = "float64", False
            std, mean = numbers["std"], numbers["mean"]
            node.call = Call(torch.normal, (mean, std, self.shape), {"dtype": torch.float64})
            return self.recorder.add("libm_exp", (node,), self.target)
        return self.recorder.add(plain, (self.uniform("float64"),), self.target, **numbers)

    def bernoulli_of(self, probability: Tensor) -> RecordedNode:
        """Probabilities that are a tensor: in its dtype, at float32 at least."""
        at = self.recorder.read(probability)
        wide = at.dtype if at.dtype in ("float32", "float64") else "float32"
        uniform = self.uniform(wide)
        if at.dtype != wide:
            at = self.recorder.add("cast", (at,), (at.shape, wide))
        if at.shape != self.shape:
            at = self.recorder.add("broadcast", (at,), (self.shape, wide), size=list(self.shape))
        less = self.recorder.add("lt", (uniform, at), (self.shape, "bool"))
        return self.recorder.add("cast", (less,), self.target)

    def multinomial(self) -> RecordedNode | None:
        """Places by their weights.

        With replacement one uniform number each, by inversion; without it, and for one place, the
        largest quotients of the weights and as many exponentials.
        """
        weights, count = self.named["self"], self.named["num_samples"]
        plain = weights.is_contiguous() and weights.dtype in (torch.float32, torch.float64)
        if not plain or not _samples_by_inversion():
            return None
        if self.named.get("replacement") and count != 1:
            return self.recorder.add(
                "chosen", (self.recorder.read(weights), self.uniform("float64")), self.target
            )
        recorder, at = self.recorder, self.recorder.read(weights)
        waits = _Draw(recorder, self.call, self.named, weights).inverted(
            "exponential", {"lambd": 1.0}
        )
        quotients = recorder.add("div", (at, waits), weights)
        axis = weights.ndim - 1
        if count == 1:
            return recorder.add("argmax", (quotients,), self.target, axis=axis, keepdims=True)
        like = (at.shape, "int64")
        ordered = recorder.add("argsort", (quotients,), like, axis=axis, descending=True)
        return recorder.add("first", (ordered,), self.target, axis=axis, count=count)

    def normal(self) -> RecordedNode | None:
        """Normal values; means and deviations that are tensors come after the draw."""
        mean, std = self.named["mean"], self.named["std"]
        tensors = [x for x in (mean, std) if isinstance(x, Tensor)]
        if not tensors:
            return self.draw("normal", mean=float(mean), std=float(std))
        if any(dtype_name(x.dtype) != self.dtype for x in tensors):
            return None
        spread = 1.0 if isinstance(std, Tensor) else float(std)
        node = self.draw("normal", mean=0.0, std=spread)
        node.call = Call(torch.normal, (0.0, spread, self.shape), {"dtype": self.target.dtype})
        if isinstance(std, Tensor):
            node = self.recorder.add("mul", (node, self.wide(std)), self.target)
        if isinstance(mean, Tensor):
            return self.recorder.add("add", (node, self.wide(mean)), self.target)
        return self.recorder.add("add", (node,), self.target, other=float(mean))

    def wide(self, tensor: Tensor) -> RecordedNode:
        """A tensor's value in the draw's shape."""
        node = self.recorder.read(tensor)
        if node.shape == self.shape:
            return node
        like = (self.shape, node.dtype)
        return self.recorder.add("broadcast", (node,), like, size=list(self.shape))

    def bounds(self, plain: str) -> dict[str, int] | None:
        """The least whole number that is drawn, and the one behind the last."""
        named = self.named
        if plain == "randint":
            low, high = named.get("low") or 0, named["high"]
            return None if isinstance(high, Tensor) else {"low": int(low), "high": int(high)}
        if named.get("to") is not None:
            return {"low": int(named.get("from") or 0), "high": int(named["to"])}
        if named.get("from") is None and self.dtype in _WHOLE:
            return {"low": 0, "high": _WHOLE[self.dtype]}
        return None


_WHOLE = {
    "float64": 2**53 + 1, "float32": 2**24 + 1, "bfloat16": 2**8 + 1, "float16": 2**11 + 1,
    "int64": 2**63, "int32": 2**31, "int16": 2**15, "int8": 2**7, "uint8": 2**8,
}  # fmt: skip
"""What ``random_()`` draws below, by the dtype."""

_BY_INVERSION: dict[str, tuple[str, ...]] = {
    "bernoulli": ("p",),
    "exponential": ("lambd",),
    "cauchy": ("median", "sigma"),
    "geometric": ("p",),
    "log_normal": ("mean", "std"),
}
"""Samplers that compute each value from one uniform or normal number in float64."""


@functools.cache
def _samples_by_inversion() -> bool:
    """Whether this torch does so for all of them: with some processors it has MKL draw."""

    def seen() -> bool:
        generator = torch.Generator().manual_seed(0)
        uniform = torch.rand(8, dtype=torch.float64, generator=generator.manual_seed(0))
        heads = torch.empty(8).bernoulli_(0.3, generator=generator.manual_seed(0))
        waits = torch.empty(8).exponential_(2.0, generator=generator.manual_seed(0))
        expected = [-0.5 * math.log1p(-x) for x in uniform.tolist()]
        near = torch.allclose(waits, torch.tensor(expected))
        return near and torch.equal(heads.bool(), uniform < 0.3)

    return on_real_tensors(seen)


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
    if node.device != "cpu":
        return
    stream = torch.default_generator if generator is None else generator
    number, event = recorder.marks.observe(stream)
    named = {"generator": number} if number else {}
    if event is not None:
        seed = RecordedNode("seed", attributes=named | event, random=True, source=node.source)
        recorder.nodes.insert(len(recorder.nodes) - 1, seed)
    node.attributes |= named
    node.stream = recorder.marks.stream(number)
    node.stream.draws.append(node)
