"""Initializers that are a computation: what a traced constructor did, on portinit's stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from portinit.arrays.dtypes import float_format, numpy_dtype
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout
from portinit.backends.plan import Hosted, Plan
from portinit.initializers.assigned import times
from portinit.initializers.base import Initializer
from portinit.random.integers import mulhi
from portinit.random.words import numbered_stream, random_words
from portinit.replay.program import DRAWS, Node, evaluate
from portinit.sampling.distributions import Normal, Uniform
from portinit.sampling.truncated_normal import TruncatedNormal

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class expression(Initializer):
    """Values computed from draws by a short program, in PyTorch's shape.

    It is computed in NumPy on the host, for every framework alike, so it needs a key whose words
    are known: call it outside of ``jax.jit``. Its n-th draw takes the n-th stream of the
    parameter's key.

    Args:
        nodes: the program; its last node is the value.
    """

    nodes: tuple[Node, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ValueError("an expression needs at least one node, got none")

    def __str__(self) -> str:
        return in_words(self.nodes)

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Hosted:
        if self.nodes[-1].shape != grid.shape:
            raise ValueError(f"an expression of shape {self.nodes[-1].shape} got {grid.shape}")
        for node in self.nodes:
            if node.op in DRAWS:
                _check_draw(node)
        return Hosted(_evaluated, (self.nodes, factor), keyed=True)


def _evaluated(words: tuple[int, int], nodes: tuple[Node, ...], factor: float) -> Array:
    ((_, value),) = evaluate(nodes, [len(nodes) - 1], PortinitStream(words))
    return times(value, factor)


def _check_draw(node: Node) -> None:
    if node.op not in _NEEDED:
        raise ValueError(f"a draw must be one of {', '.join(_NEEDED)}; got {node.op!r}")
    missing = [name for name in _NEEDED[node.op] if name not in node.attributes]
    if missing:
        raise ValueError(f"a {node.op} needs {', '.join(_NEEDED[node.op])}; got no {missing[0]}")
    if node.op in _LAWS:
        try:
            _LAWS[node.op](node.attributes).check(float_format(node.dtype))
        except TypeError as error:
            raise ValueError(f"a {node.op} of {node.attributes}: {error}") from error


class PortinitStream:
    """The draws of one expression, each from a stream of its own under one key."""

    def __init__(self, key: tuple[int, int]) -> None:
        self.key = key
        self.number = 0

    def skip(self, node: Node) -> None:
        """Streams are numbered; there is nothing to move on."""
        self.number += 1

    def draw(self, node: Node) -> Array:
        """The values of a draw, row by row over its shape."""
        stream = numbered_stream(node.attributes.get("number", self.number))
        self.number += 1
        grid = Grid.whole(node.shape, Layout())
        bits = 64 if node.dtype in ("float64", "complex128") else 32
        words = random_words(np, self.key, grid.counters(np, None), bits, stream)
        if node.op in _LAWS:
            fmt = float_format(node.dtype)
            sampled = _LAWS[node.op](node.attributes).sample(np, words, fmt)
            return np.asarray(sampled).astype(numpy_dtype(node.dtype)).reshape(node.shape)
        return _integers(node, words).astype(numpy_dtype(node.dtype)).reshape(node.shape)


def _integers(node: Node, words: Array) -> Array:
    a = node.attributes
    if node.op == "randperm":
        return np.argsort(words, kind="stable")
    if node.op == "randint":
        unsigned: Array = mulhi(words, a["high"] - a["low"], 32)
        return unsigned.astype(np.int64) + int(a["low"])
    raise ValueError(f"a draw must be one of {', '.join(_NEEDED)}; got {node.op!r}")


_LAWS: dict[str, Any] = {
    "uniform": lambda a: Uniform(a["a"], a["b"]),
    "normal": lambda a: Normal(a["mean"], a["std"]),
    "trunc_normal": lambda a: TruncatedNormal(a["mean"], a["std"], a["a"], a["b"]),
}


_NEEDED: dict[str, tuple[str, ...]] = {
    "uniform": ("a", "b"),
    "normal": ("mean", "std"),
    "trunc_normal": ("mean", "std", "a", "b"),
    "randint": ("low", "high"),
    "randperm": (),
}
_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}


_LONGEST = 200


def in_words(nodes: tuple[Node, ...]) -> str:
    """An expression as a person would write it, cut short behind 200 letters."""
    texts: list[str] = []
    for node in nodes:
        # One letter too many tells that it was cut; nodes that are used twice must not add up.
        texts.append(_in_words(node, [texts[i] for i in node.inputs])[: _LONGEST + 1])
    return texts[-1] if len(texts[-1]) <= _LONGEST else texts[-1][: _LONGEST - 3] + "..."


def _in_words(node: Node, inputs: list[str]) -> str:
    a = node.attributes
    if node.op in _SIGNS:
        other = [_number(a["other"])] if "other" in a else []
        sides = other + inputs if a.get("reverse") else inputs + other
        return f"({f' {_SIGNS[node.op]} '.join(sides)})"
    if node.op in ("full", "data"):
        return f"{a['value']:g}" if node.op == "full" else "data"
    shown = [f"{k}={v:.4g}" for k, v in a.items() if isinstance(v, float)]
    return f"{node.op}({', '.join(inputs + shown)})"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else repr(value)


@dataclass(frozen=True)
class unavailable(Initializer):
    """A parameter whose values a recipe cannot give, and why; it is refused when asked for.

    Args:
        reason: what a trace could not carry, and where.
    """

    reason: str

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        raise ValueError(self.reason)
