"""Replays: the values that ``torch.manual_seed(seed)`` and a constructor give, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from portinit.replay import torch_rng
from portinit.replay.digits import operations_of
from portinit.replay.program import Node, Program, Version, evaluate, parse_version
from portinit.sampling.truncated_normal import TruncatedNormal

Array = np.ndarray[Any, Any]


def replay(
    program: Program, wanted: Iterable[int], seed: int, torch_version: str | None = None
) -> Iterator[tuple[int, Array]]:
    """The values of a program's nodes on PyTorch's own stream.

    Args:
        program: of a traced constructor.
        wanted: positions of nodes.
        seed: as for ``torch.manual_seed``.
        torch_version: whose samplers to replay, such as ``"2.13"``; the traced one's by default.

    Yields:
        Positions and values, in the program's order.
    """
    version = parse_version(torch_version or program.torch)
    stream = TorchStream(seed, version, program.nodes)
    return evaluate(program.nodes, wanted, stream, operations_of(version))


class TorchStream:
    """PyTorch's CPU generators: the default one, and those that the constructor made.

    A constructor may set a generator to where a stream was after some draw; such places are
    remembered as they are passed.
    """

    def __init__(self, seed: int, version: Version, nodes: Sequence[Node]) -> None:
        self.version = version
        self.generators = {0: torch_rng.Generator(seed)}
        self.generators[0].expect(sum(_size(node) for node in nodes if node.op in _DRAWS))
        self.draws = {0: 0}
        self.lost: dict[int, str] = {}  # generators whose place is not known, and why
        self.places = {
            (node.attributes["stream"], node.attributes["position"]): b""
            for node in nodes
            if node.op == "seed" and "position" in node.attributes
        }
        self._remember(0)

    def skip(self, node: Node) -> None:
        """Move on as the draw would."""
        if node.op == "seed":
            self._seed(node)
            return
        number = node.attributes.get("generator", 0)
        if node.op not in _SKIPS and "device" not in node.attributes:
            self.lost.setdefault(number, str(node.attributes.get("name", node.op)))
        if number in self.lost or "device" in node.attributes:
            return
        _SKIPS[node.op](self._generator(node), _size(node), node, self.version)
        self._drawn(node)

    def draw(self, node: Node) -> Array:
        """The values of a draw, in the tensor's shape."""
        number = node.attributes.get("generator", 0)
        if number in self.lost or node.op not in _DRAWS or "device" in node.attributes:
            what = self.lost.get(number) or node.attributes.get("name", node.op)
            raise ValueError(f"a replay needs draws whose stream is known, got {what}")
        flat: Array = _DRAWS[node.op](self._generator(node), _size(node), node, self.version)
        self._drawn(node)
        if "order" not in node.attributes:
            return flat.reshape(node.shape)
        order = node.attributes["order"]
        return flat.reshape([node.shape[i] for i in order]).transpose(np.argsort(order))

    def _generator(self, node: Node) -> torch_rng.Generator:
        number = node.attributes.get("generator", 0)
        if number not in self.generators:
            raise ValueError(f"generator {number} must be seeded before it is drawn from")
        return self.generators[number]

    def _drawn(self, node: Node) -> None:
        number = node.attributes.get("generator", 0)
        self.draws[number] = self.draws.get(number, 0) + 1
        self._remember(number)

    def _remember(self, number: int) -> None:
        place = (number, self.draws[number])
        if place in self.places:
            self.places[place] = self.generators[number].state()

    def _seed(self, node: Node) -> None:
        a = node.attributes
        number = a.get("generator", 0)
        if a.get("stream") in self.lost:
            self.lost[number] = self.lost[a["stream"]]
            return
        self.lost.pop(number, None)
        if "seed" in a:
            self.generators[number] = torch_rng.Generator(a["seed"])
            return
        state = a["state"] if "state" in a else self.places[a["stream"], a["position"]]
        self.generators[number] = torch_rng.Generator.from_state(state)


def _size(node: Node) -> int:
    return math.prod(node.shape)


def _memory_layout(node: Node) -> dict[str, bool]:
    """How a tensor lies in memory, which decides between two ways to draw normals."""
    return {"contiguous": node.attributes.get("contiguous", True)}


def _truncated(node: Node, version: Version) -> dict[str, Any]:
    a = node.attributes
    TruncatedNormal(a["mean"], a["std"], a["a"], a["b"])  # its rejection must have an end
    again = a.get("contiguous", True) or a.get("gaps", False)
    bounds = {name: a[name] for name in ("mean", "std", "a", "b")}
    layout = _memory_layout(node) | {"redraw_contiguous": again}
    return bounds | layout | {"dtype": node.dtype, "version": version}


_Draw = Callable[[torch_rng.Generator, int, Node, Version], Any]

_DRAWS: dict[str, _Draw] = {
    "uniform": lambda g, n, node, v: torch_rng.uniform(
        g, n, node.attributes["a"], node.attributes["b"], node.dtype, v
    ),
    "normal": lambda g, n, node, v: torch_rng.normal(
        g,
        n,
        node.attributes["mean"],
        node.attributes["std"],
        node.dtype,
        version=v,
        **_memory_layout(node),
    ),
    "trunc_normal": lambda g, n, node, v: torch_rng.trunc_normal(g, n, **_truncated(node, v)),
    "randperm": lambda g, n, node, v: torch_rng.randperm(g, n),
    "randint": lambda g, n, node, v: torch_rng.random_integers(
        g, n, node.attributes["low"], node.attributes["high"], node.dtype
    ),
}
_SKIPS: dict[str, _Draw] = {
    "uniform": lambda g, n, node, v: torch_rng.skip_uniform(g, n, node.dtype),
    "normal": lambda g, n, node, v: torch_rng.skip_normal(
        g, n, node.dtype, version=v, **_memory_layout(node)
    ),
    "trunc_normal": lambda g, n, node, v: torch_rng.skip_trunc_normal(g, n, **_truncated(node, v)),
    "randperm": lambda g, n, node, v: torch_rng.skip_randperm(g, n),
    "randint": lambda g, n, node, v: torch_rng.skip_random_integers(
        g, n, node.attributes["low"], node.attributes["high"]
    ),
}
