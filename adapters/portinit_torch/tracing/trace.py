"""Reading a PyTorch model's initialisation off its constructor."""

from __future__ import annotations

import contextlib
import glob
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from portinit import Initializer, Recipe, Rule
from portinit.initializers.expression import expression, unavailable
from portinit.recipes.rule import usual_layout
from portinit.replay.linear_algebra import UNSIGNED
from portinit.replay.operations import INEXACT
from portinit.replay.program import DRAWS, Node, Program
from portinit_torch.tracing.modes import TraceError, on_real_tensors
from portinit_torch.tracing.nodes import RecordedNode
from portinit_torch.tracing.recognition import recognise
from portinit_torch.tracing.refusal import refused
from portinit_torch.tracing.relations import related, subprogram
from portinit_torch.tracing.runs import ConstructorRun, HeldTensor, run
from portinit_torch.tracing.storage import raw_bytes
from portinit_torch.tracing.witness import parts_below

LARGEST_DATA = 1 << 20
"""Values from outside of the constructor are kept as data, up to this many elements."""

LARGEST_TABLE = 1 << 22
"""Tables that the constructor computes without a draw are, up to this many."""


def trace(build: Callable[[], nn.Module]) -> Recipe:
    """The recipe of a model, read off its own constructor.

    The constructor runs once, on tensors without data: a model of any size is traced in seconds
    and in little memory, and no random number is drawn. For each parameter and buffer the recipe
    has what last wrote it: a named initializer where it is one (``kaiming_uniform(a=5**0.5)``), an
    expression of draws and arithmetic where it is not, and data where no draw has a part in it.
    ``recipe.replay(seed)`` gives what ``torch.manual_seed(seed); build()`` gives.

    Args:
        build: a callable without arguments that returns a module: ``lambda: MyModel(config)``.

    Returns:
        A recipe with a rule for each parameter and buffer, and its program.

    Raises:
        TraceError: the constructor's course depends on random values.

    Warns:
        UserWarning: naming each parameter that cannot be carried, the operation and the line: it
            is refused when the recipe is applied.
        InexactWarning: naming those whose last bits a replay may miss on this machine, and the
            operations that make them so; see :meth:`portinit.Recipe.inexact`.

    >>> recipe = trace(lambda: torch.nn.Linear(4, 3))
    >>> print(recipe.rules[0].initializer)
    kaiming_uniform(a=2.23606797749979)
    """
    if isinstance(build, nn.Module):
        kind = type(build).__name__
        raise TypeError(
            "build must be a function that makes the model, since it is the constructor that is "
            f"traced; got a finished {kind}: write trace(lambda: {kind}(...))"
        )
    first, unsettled = run(build)
    for held in first.held.values():
        _keep_table(first, held.node)
    program, numbers = _program(first, unsettled)
    rules = [
        _rule(name, held, unsettled.get(name), program, numbers)
        for name, held in first.held.items()
    ]
    recipe = Recipe(related(rules, program), program)
    _warn(recipe)
    return recipe


class InexactWarning(UserWarning):
    """Names the parameters of a trace whose last bits a replay may miss."""


InexactWarning.__module__ = "portinit_torch"


def _warn(recipe: Recipe) -> None:
    """Name each parameter that is lost, to a key or to a replay, and those that are near."""
    lost = {
        rule.name: rule.initializer.reason
        for rule in recipe.rules
        if isinstance(rule.initializer, unavailable)
    }
    unreplayable = recipe.unreplayable()
    drawn = {name: why for name, why in unreplayable.items() if name not in lost}
    lines = []
    for reasons, what in ((lost, "be carried"), (drawn, "be replayed, though a key draws them")):
        if reasons:
            lines.append(f"{len(reasons)} parameters cannot {what}:")
            lines += [f"  {name}: {why}" for name, why in reasons.items()]
    if lines:
        hint = [] if lost else ["(a replay in which they are not carried: strict=False)"]
        warnings.warn("\n".join([*lines, *hint]), stacklevel=3)
    near = {name: ops for name, ops in recipe.inexact().items() if name not in unreplayable}
    if near:
        warnings.warn("\n".join(_near_lines(near)), InexactWarning, stacklevel=3)


_MOST_NAMED = 6
"""How many parameters a warning names of those that the same operations make near."""


def _near_lines(near: dict[str, tuple[str, ...]]) -> list[str]:
    """The parameters whose last bits a replay may miss, a line for each set of operations."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, operations in near.items():
        groups.setdefault(operations, []).append(name)
    lines = [f"{len(near)} parameters are carried, but a replay may miss their last bits:"]
    for operations, names in groups.items():
        more = len(names) - _MOST_NAMED
        named = ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        why = f"torch rounds {', '.join(operations)} in an order of its own"
        if UNSIGNED.intersection(operations):
            why += ", and the vectors may have the other sign"
        lines.append(f"  {named}: {why}")
    return lines


def _rule(
    name: str, held: HeldTensor, unsettled: str | None, program: Program, numbers: dict[int, int]
) -> Rule:
    value = None if unsettled else numbers.get(id(held.node))
    return Rule(
        glob.escape(name),
        unavailable(unsettled) if unsettled else _initializer(held.node, program, value),
        usual_layout(held.described),
        shape=None if held.node.op == "lazy" else held.described.shape,
        buffer=held.is_buffer,
        source=_short(held.node.source),
        value=value,
        layer=held.described.kind,
        drawn_as=None if held.described.name == name else held.described.name,
        other_names=held.described.other_names,
    )


def _initializer(node: RecordedNode, program: Program, value: int | None) -> Initializer:
    why = _uncarried(node)
    if why is not None:
        return unavailable(why)
    named = recognise(node)
    if named is not None:
        return named
    if value is None:
        return unavailable(f"{node.op} at {node.source} has no counterpart in a recipe")
    return expression(subprogram(program.nodes, value))


def _keep_table(first: ConstructorRun, node: RecordedNode) -> None:
    """Compute a large table for real, where a program would not give its very digits."""
    if node.concrete is not None or node.op in ("full", "lazy"):
        return
    if math.prod(node.shape) > LARGEST_TABLE or not first.recorder.is_settled(node):
        return
    if any(part.random or part.op == "data" for part in parts_below(node)):
        return
    if refused(node) or any(part.op in INEXACT for part in parts_below(node)):
        with contextlib.suppress(ValueError, TraceError):  # it stays what it is, and is named
            node.concrete = first.recorder.peek(node)


def _uncarried(node: RecordedNode) -> str | None:
    """Why a value has no place in a recipe; none if it has one."""
    count = 0 if node.op == "full" or node.concrete is None else node.concrete.numel()
    if count > (LARGEST_DATA if node.op == "data" else LARGEST_TABLE):
        return f"{count} values from elsewhere (pretrained?) at {node.source}"
    return refused(node)


def _short(source: str) -> str:
    """A source line without the folders above its package: they are one machine's."""
    _, installed, inside = source.rpartition("site-packages/")
    return inside if installed else "/".join(source.split("/")[-2:])


def _program(first: ConstructorRun, unsettled: dict[str, str]) -> tuple[Program, dict[int, int]]:
    """All draws, and what else the parameters need, in order; and each node's place there."""
    needed: set[int] = set()
    stack = [
        held.node
        for name, held in first.held.items()
        if name not in unsettled and _uncarried(held.node) is None
    ]
    while stack:
        recorded = stack.pop()
        if id(recorded) not in needed:
            needed.add(id(recorded))
            stack += [] if recorded.is_known else recorded.inputs
    elsewhere = any(node.random and node.device == "cpu" for node in first.recorder.nodes)
    nodes: list[Node] = []
    numbers: dict[int, int] = {}
    known: dict[tuple[Any, ...], int] = {}  # layers repeat each other's tables
    for recorded in first.recorder.nodes:
        moves = recorded.random and (recorded.device == "cpu" or not elsewhere)
        if id(recorded) in needed or moves:
            node = _node(recorded, numbers)
            if recorded.random and not moves:
                node = replace(node, attributes={**node.attributes, "device": recorded.device})
            data = (node.shape, node.dtype, node.attributes["bytes"]) if node.op == "data" else ()
            number = known.setdefault(data, len(nodes)) if data else len(nodes)
            numbers[id(recorded)] = number
            if number == len(nodes):
                nodes.append(node)
    for held in first.held.values():
        kept, reason = held.node, "it stays on the meta device, where torch gives it no values"
        if elsewhere and held.is_meta and id(kept) in numbers:
            numbers[id(kept)] = len(nodes)
            attributes = {"name": reason, "device": "meta"}
            nodes.append(Node("opaque", (), kept.shape, kept.dtype, attributes))
    return Program(tuple(nodes), torch.__version__.partition("+")[0]), numbers


def _node(node: RecordedNode, numbers: dict[int, int]) -> Node:
    if node.random and node.op not in DRAWS:
        name = {"name": f"{node.op} at {node.source}"}
        return Node("opaque", (), node.shape, node.dtype, name | _generator_of(node))
    if node.op == "uninitialized":  # all of it is overwritten, or it would be refused
        return Node("full", (), node.shape, node.dtype, {"value": 0})
    if node.op == "full" and not node.dtype.startswith("complex"):
        a = {"value": node.attributes["value"]}
        return Node("full", (), node.shape, node.dtype, a)
    if node.concrete is not None:
        return Node("data", (), node.shape, node.dtype, {"bytes": _bytes(node.concrete)})
    inputs = tuple(numbers[id(part)] for part in node.inputs)
    attributes = {key: value for key, value in node.attributes.items() if value is not None}
    return Node(node.op, inputs, node.shape, node.dtype, attributes)


def _generator_of(node: RecordedNode) -> dict[str, int]:
    number = node.attributes.get("generator", 0)
    return {"generator": number} if number else {}


def _bytes(tensor: Tensor) -> bytes:
    return on_real_tensors(lambda: raw_bytes(tensor))
