"""Programs: how values come out of draws, constants and arithmetic, as data.

A program is a list of nodes, each a draw, a constant, or an operation on earlier nodes. It is
what a traced PyTorch constructor did, with nothing left out that moves the random stream, and it
is evaluated here in NumPy: with PyTorch's own stream for a replay, or with portinit's.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from portinit.arrays.dtypes import numpy_dtype
from portinit.arrays.layouts import Shape, as_shape
from portinit.replay.operations import CONSTANTS, IN_PLACE, OPERATIONS, Operation, apply

Array = np.ndarray[Any, Any]
Version = tuple[int, int]

DRAWS = ("uniform", "normal", "trunc_normal", "randperm", "randint", "seed", "opaque")
"""The operations that move a random stream: ``seed`` restarts it, and how ``opaque`` does is not
known, so it stands in the way of a replay."""


_FRESH = frozenset({*IN_PLACE, *CONSTANTS})
"""Operations whose results share no memory with any other value."""

_KNOWN = frozenset({*DRAWS, *CONSTANTS, *OPERATIONS})


@dataclass(frozen=True)
class Node:
    """One value: an operation on the values of earlier nodes.

    Attributes:
        op: one of :data:`DRAWS`, or of the operations in :mod:`portinit.replay.operations`.
        inputs: positions of earlier nodes.
        shape: of the value.
        dtype: of the value, by name.
        attributes: the operation's numbers.
    """

    op: str
    inputs: tuple[int, ...] = ()
    shape: Shape = ()
    dtype: str = "float32"
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.op, self.inputs, self.shape, self.dtype))


@dataclass(frozen=True)
class Program:
    """The nodes of one constructor.

    Attributes:
        nodes: in the order in which they were computed.
        torch: the version of PyTorch whose constructor it is.
    """

    nodes: tuple[Node, ...]
    torch: str


_MEANINGLESS = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    MemoryError,
)
"""The exceptions that meaningless attributes raise, in a program written by hand."""


class Source(Protocol):
    """Where the values of draws come from."""

    def draw(self, node: Node) -> Array:
        """The values of a draw."""

    def skip(self, node: Node) -> None:
        """Move on as the draw would; nobody wants its values."""


def evaluate(
    nodes: Sequence[Node],
    wanted: Iterable[int],
    source: Source,
    operations: Mapping[str, Operation] = OPERATIONS,
) -> Iterator[tuple[int, Array]]:
    """The values of some nodes, each as soon as it is known.

    Draws are made in the program's order. A value is dropped after its last use, so that the
    memory in use stays near the size of what is kept.

    Args:
        nodes: the program.
        wanted: positions of nodes.
        source: of the draws.
        operations: what computes each operation; the same everywhere by default.

    Yields:
        Positions and values, in the program's order.
    """
    outputs = frozenset(wanted)
    uses = _uses(nodes, outputs)
    only_used = [count == 1 for count in uses]
    values: dict[int, Array] = {}

    def use(number: int) -> None:
        uses[number] -= 1
        if not uses[number]:
            del values[number]

    for number, node in enumerate(nodes):
        try:
            if not uses[number]:
                if node.op in DRAWS:
                    source.skip(node)
                continue
            if node.op in DRAWS:
                values[number] = source.draw(node)
            else:
                arguments = [values[i] for i in node.inputs]
                for i in node.inputs:
                    use(i)
                # A thousand writes into parts of a tensor need no thousand copies of it.
                own = node.op in IN_PLACE and only_used[node.inputs[0]]
                fresh = own and nodes[node.inputs[0]].op in _FRESH and arguments[0].flags.writeable
                chosen = IN_PLACE if fresh else operations
                values[number] = apply(
                    node.op, node.attributes, arguments, node.shape, node.dtype, chosen
                )
        except _MEANINGLESS as error:
            raise ValueError(f"node {number} ({node.op}): {error}") from error
        if number in outputs:
            yield number, values[number]
            use(number)


def _uses(nodes: Sequence[Node], outputs: frozenset[int]) -> list[int]:
    uses = [int(number in outputs) for number in range(len(nodes))]
    for number in reversed(range(len(nodes))):
        if uses[number]:
            for i in nodes[number].inputs:
                uses[i] += 1
    return uses


def unreplayable(nodes: Sequence[Node]) -> dict[int, str]:
    """The nodes whose values PyTorch's CPU generator alone does not tell, and why for each.

    They are draws of samplers that are not known, draws on other devices, and draws from a stream
    whose place is unknown because something unknown was drawn from it before; and what is computed
    from any of these.
    """
    reasons: dict[int, str] = {}
    unknown: dict[int, str] = {}  # why a stream's place is not known, by its generator
    for number, node in enumerate(nodes):
        needs = next((reasons[i] for i in node.inputs if i in reasons), None)
        if needs is not None:
            reasons[number] = needs
        if node.op not in DRAWS:
            continue
        generator = node.attributes.get("generator", 0)
        if not isinstance(generator, int):
            raise ValueError(f"node {number} must have a number as generator, got {generator!r}")
        if node.op == "seed":
            before = unknown.get(node.attributes.get("stream", -1))
            unknown.pop(generator, None)
            if before is not None:
                unknown[generator] = before
        elif node.op == "opaque":
            reasons[number] = str(node.attributes.get("name", node.op))
            if "device" not in node.attributes:
                unknown.setdefault(generator, reasons[number])
        elif "device" in node.attributes:
            reasons[number] = f"it is drawn on {node.attributes['device']}, from another stream"
        elif generator in unknown:
            reasons[number] = (
                f"a replay needs draws whose stream is known, got {unknown[generator]} before it"
            )
    return reasons


# As JSON data


def node_to_data(node: Node) -> dict[str, Any]:
    """A node as JSON data."""
    data: dict[str, Any] = {"op": node.op}
    if node.inputs:
        data["inputs"] = list(node.inputs)
    data["shape"] = list(node.shape)
    if node.dtype != "float32":
        data["dtype"] = node.dtype
    return data | {key: _to_data(value) for key, value in node.attributes.items()}


def _to_data(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float) and not np.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, complex):
        return {"complex": [_to_data(value.real), _to_data(value.imag)]}
    return value


def nodes_from_data(data: Any) -> tuple[Node, ...]:
    """The nodes of JSON data; a ValueError says what is wrong with the data."""
    if not isinstance(data, list):
        raise ValueError(f"a program must be a list of nodes, got {type(data).__name__}")
    return tuple(_node_from_data(number, node) for number, node in enumerate(data))


def _node_from_data(number: int, data: Any) -> Node:
    op = data.get("op") if isinstance(data, dict) else None
    if not isinstance(op, str) or op not in _KNOWN:
        known = ", ".join(sorted(_KNOWN))
        raise ValueError(f"node {number} must be an object with one of {known} as op, got {data!r}")
    rest = {key: value for key, value in data.items() if key != "op"}
    try:
        inputs, shape = _integers(rest.pop("inputs", [])), as_shape(_integers(rest.pop("shape")))
        dtype = rest.pop("dtype", "float32")
        numpy_dtype(dtype)
        attributes = {key: _from_data(value) for key, value in rest.items()}
        _check_constant(op, shape, dtype, attributes)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"node {number} is malformed: {error}") from error
    if not all(0 <= i < number for i in inputs):
        raise ValueError(f"node {number} must use earlier nodes, got {inputs}")
    return Node(op, inputs, shape, dtype, attributes)


def _check_constant(op: str, shape: Shape, dtype: str, attributes: Mapping[str, Any]) -> None:
    """Constants are read by rules and printed, not only evaluated: they must hold values."""
    value, data = attributes.get("value"), attributes.get("bytes")
    if op == "full" and not isinstance(value, int | float):
        raise ValueError(f"full must have a number as value, got {value!r}")
    size = math.prod(shape) * numpy_dtype(dtype).itemsize
    if op == "data" and not (isinstance(data, bytes) and len(data) == size):
        raise ValueError(f"data must have {size} bytes, got {type(data).__name__}")


def _integers(value: Any) -> tuple[int, ...]:
    integers = isinstance(value, list) and all(type(item) is int for item in value)
    if not integers:
        raise ValueError(f"a list of integers is needed, got {value!r}")
    return tuple(value)


def _from_data(value: Any) -> Any:
    """An attribute: a number, text, null, bytes, or a list of integers."""
    if isinstance(value, int) and value.bit_length() > 64:
        raise ValueError(f"an integer must have at most 64 bits, got {value.bit_length()}")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return list(_integers(value))
    if set(value) == {"base64"}:
        try:
            return base64.b64decode(value["base64"], validate=True)
        except (binascii.Error, TypeError) as error:
            raise ValueError(f"data must be base64 text: {error}") from error
    if value.get("float") in ("inf", "-inf", "nan"):
        return float(value["float"])
    if set(value) == {"complex"} and len(value["complex"]) == 2:
        real, imag = map(_from_data, value["complex"])
        if isinstance(real, int | float) and isinstance(imag, int | float):
            return complex(real, imag)
    raise ValueError(f"an attribute must be a number, text, bytes or integers, got {value!r}")


def parse_version(text: str) -> Version:
    """(2, 13) from ``"2.13.0+cpu"``."""
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0]
    if not (major.isdigit() and minor.isdigit()):
        raise ValueError(f"a torch version must be such as '2.13', got {text!r}")
    return int(major), int(minor)
