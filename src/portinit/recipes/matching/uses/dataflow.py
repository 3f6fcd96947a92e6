"""Parameters and activations followed through a forward pass, whatever framework runs it.

An adapter tells a :class:`Dataflow` of each operation, in the order in which they run, and hands
it the values of its operands. What is computed from parameters alone (a transpose, a cast, the
square root of a variance) stands for these parameters; what inputs have a part in is data. A
parameter is used where it meets data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from portinit.recipes.matching.uses.axes import Axes, union
from portinit.recipes.matching.uses.uses import Operation, Use, Uses

_NONE: frozenset[int] = frozenset()


@dataclass(eq=False)
class _Record:
    """A use that is being followed: what its result goes through is added as it is seen."""

    operation: Operation
    order: int
    depth: int
    axes: tuple[str, ...]
    functions: set[str] = field(default_factory=set)
    period: int = 0

    def use(self) -> Use:
        functions = frozenset(self.functions)
        return Use(self.operation, self.order, self.depth, self.axes, functions, self.period)


Sides = tuple[frozenset[_Record], ...]
AxesOfBoth = tuple[Sequence[int], Sequence[int]]
"""Axes of the left operand, and of the right one."""


@dataclass(frozen=True)
class Value:
    """What is known of an array in a forward pass.

    Attributes:
        weights: the parameters that it is computed from, with where their axes are in it; none of
            data and of constants.
        depth: how many matrices lie on the longest way from the inputs; -1 if no input has a part.
        latest: the uses of matrices whose results it holds, with no other matrix between; of the
            greatest depth.
        sides: of a product of data with data, for each axis the uses whose results it comes from:
            the rows of attention's scores are the queries', its columns the keys'.
    """

    weights: Mapping[str, Axes] = field(default_factory=dict)
    depth: int = -1
    latest: frozenset[_Record] = frozenset()
    sides: Sides = ()

    @property
    def is_data(self) -> bool:
        """Whether the model's inputs have a part in it."""
        return self.depth >= 0

    def moved(self, move: Callable[[Axes], Axes]) -> Value:
        """The value with its axes rearranged."""
        if not self.weights and not self.sides:
            return self
        weights = {name: move(axes) for name, axes in self.weights.items()}
        return replace(self, weights=weights, sides=_moved_sides(self.sides, move))

    def of_rank(self, ndim: int) -> Value:
        """The value of an array of a rank; what is said of the axes of another is dropped."""
        if all(len(axes) == ndim for axes in self.weights.values()):
            return self if len(self.sides) in (0, ndim) else replace(self, sides=())
        return replace(self, weights=dict.fromkeys(self.weights, (_NONE,) * ndim), sides=())


def _moved_sides(sides: Sides, move: Callable[[Axes], Axes]) -> Sides:
    if not sides:
        return ()
    moved = move(tuple(frozenset({axis}) for axis in range(len(sides))))
    return tuple(frozenset[_Record]().union(*(sides[axis] for axis in own)) for own in moved)


CONSTANT = Value()
"""A number, a mask, a table: neither parameters nor inputs have a part in it."""

INPUT = Value(depth=0)
"""An input of the model."""


class Dataflow:
    """The uses of parameters in a forward pass.

    Args:
        parameters: the names of parameters and the numbers of their axes.
    """

    def __init__(self, parameters: Mapping[str, int]) -> None:
        self._ndims = dict(parameters)
        self._records: dict[str, dict[str, _Record]] = {}
        self._layer_axes: dict[str, frozenset[int]] = {}
        self._count = 0
        self._is_paused = False

    def parameter(self, name: str) -> Value:
        """A parameter as it stands."""
        axes = tuple(frozenset({axis}) for axis in range(self._ndims[name]))
        return Value({name: axes})

    def uses(self) -> Uses:
        """What was found."""
        return Uses(
            {
                name: tuple(record.use() for record in records.values())
                for name, records in self._records.items()
            }
        )

    # Operations

    def combine(
        self,
        operands: Sequence[Value],
        operation: Operation = Operation.OTHER,
        function: str | None = None,
    ) -> Value:
        """An operation element by element on operands whose axes are aligned."""
        data = [value for value in operands if value.is_data]
        if not data:
            return _merged(operands)
        depth = max(value.depth for value in data)
        latest = frozenset().union(*(v.latest for v in data if v.depth == depth))
        for value in operands:
            self._use(value, operation, depth, lambda axes, n: ("",) * n)
        if function is not None:
            self._mark(latest, function)
        return Value(depth=depth, latest=latest, sides=_common_sides(data))

    def normalize(self, value: Value, axes: Sequence[int]) -> None:
        """Note that data is summed up, or compared, along some of its axes, as a softmax does."""
        for axis in axes if value.sides else ():
            self._mark(value.sides[axis], "normalized")

    def _mark(self, records: Iterable[_Record], function: str) -> None:
        for record in () if self._is_paused else records:
            record.functions.add(function)

    def unknown(self, operands: Sequence[Value], ndim: int) -> Value:
        """An operation of which nothing is known but its operands and the rank of its result."""
        result = self.combine([v.moved(lambda axes: (_NONE,) * ndim) for v in operands])
        return replace(result, sides=())

    def contract(
        self,
        left: Value,
        right: Value,
        contracted: AxesOfBoth,
        batch: AxesOfBoth = ((), ()),
        ndims: tuple[int, int] = (2, 2),
        operation: Operation = Operation.CONTRACTION,
    ) -> Value:
        """A sum over products; the result's axes are those of the batch, the left, the right."""
        kept = [
            [axis for axis in range(n) if axis not in {*c, *b}]
            for n, c, b in zip(ndims, contracted, batch, strict=True)
        ]
        if left.is_data and right.is_data:
            free = [
                value.sides[axis] if value.sides else value.latest
                for value, own in zip((left, right), kept, strict=True)
                for axis in own
            ]
            shared = [frozenset[_Record]()] * len(batch[0])
            return replace(self.combine([left, right]), sides=(*shared, *free))
        if left.is_data or right.is_data:
            side = 0 if right.is_data else 1
            weights, data = (left, right) if side == 0 else (right, left)
            roles = {
                **dict.fromkeys(kept[side], "out"),
                **dict.fromkeys(contracted[side], "in"),
                **dict.fromkeys(batch[side], "batch"),
            }
            return self.matrix(weights, data, roles, operation)
        if left.weights and right.weights:  # which of them is the matrix, nothing tells
            return self.unknown([left, right], len(batch[0]) + sum(map(len, kept)))
        return _summed(left, right, batch, kept)

    def matrix(
        self, weights: Value, data: Value, roles: Mapping[int, str], operation: Operation
    ) -> Value:
        """An operation on data with a matrix, given what each axis of the matrix is to it."""
        depth = data.depth + 1

        def labels(axes: Axes, ndim: int) -> tuple[str, ...]:
            found: list[set[str]] = [set() for _ in range(ndim)]
            for axis, role in roles.items():
                for own in axes[axis]:
                    found[own].add(role)
            return tuple(role.pop() if len(role) == 1 else "" for role in found)

        records = self._use(weights, operation, depth, labels)
        return Value(depth=depth, latest=frozenset(records)) if records else data

    def lookup(
        self, table: Value, indices: Sequence[Value], indexed: Sequence[int], view: Axes | None
    ) -> Value:
        """Rows of a table.

        Args:
            table: what is chosen from.
            indices: what chooses.
            indexed: the axes of the table that are chosen along.
            view: for each axis of the result, the axes of the table that it is, as numbers.
        """
        chosen = _merged_data(indices)
        if table.weights and chosen is not None:
            ndim = max(map(len, table.weights.values()))
            roles = {axis: "in" if axis in indexed else "out" for axis in range(ndim)}
            return self.matrix(table, chosen, roles, Operation.LOOKUP)
        if table.weights and view is not None:
            return table.moved(lambda axes: tuple(union(axes, own) for own in view))
        return self.combine([table, *indices])

    # Loops

    def layer_of(self, value: Value) -> Value:
        """What a loop over axis 0 of a value takes in one turn."""
        for name, axes in value.weights.items():
            self._layer_axes[name] = self._layer_axes.get(name, _NONE) | axes[0]
        return value.moved(lambda axes: axes[1:])

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Follow values, but note no use."""
        was, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = was

    def note_period(self, names: Sequence[str], period: int) -> None:
        """Note how much deeper each turn of a loop uses the layers that it takes."""
        for name in names:
            for record in self._records.get(name, {}).values():
                record.period = record.period or period

    # Uses

    def _use(
        self,
        value: Value,
        operation: Operation,
        depth: int,
        labels: Callable[[Axes, int], tuple[str, ...]],
    ) -> list[_Record]:
        """Note the use of the parameters in a value; the records of their results."""
        records = []
        for name, axes in value.weights.items():
            ndim = self._ndims[name]
            layer = self._layer_axes.get(name, _NONE)
            roles = tuple(
                "layer" if axis in layer else role for axis, role in enumerate(labels(axes, ndim))
            )
            record = _Record(operation, self._count, depth, roles)
            records.append(record)
            if not self._is_paused:
                self._count += 1
                self._records.setdefault(name, {}).setdefault(operation.kind, record)
        return records


def _summed(left: Value, right: Value, batch: AxesOfBoth, kept: Sequence[Sequence[int]]) -> Value:
    """What a sum over products of parameters with constants leaves of the parameters."""
    side = 0 if left.weights else 1
    others = (_NONE,) * len(kept[1 - side])

    def move(axes: Axes) -> Axes:
        shared = tuple(axes[axis] for axis in batch[side])
        own = tuple(axes[axis] for axis in kept[side])
        return (*shared, *own, *others) if side == 0 else (*shared, *others, *own)

    return (left, right)[side].moved(move)


def _merged(values: Sequence[Value]) -> Value:
    """What is computed element by element from parameters and constants."""
    weights: dict[str, Axes] = {}
    for value in values:
        for name, axes in value.weights.items():
            known = weights.get(name, axes)
            if len(known) != len(axes):
                known = axes = (_NONE,) * max(len(known), len(axes))
            weights[name] = tuple(a | b for a, b in zip(known, axes, strict=True))
    return Value(weights)


def _common_sides(values: Sequence[Value]) -> Sides:
    """The sides of what is computed element by element from data."""
    known = [value.sides for value in values if value.sides]
    if not known or any(len(sides) != len(known[0]) for sides in known):
        return ()
    return tuple(frozenset[_Record]().union(*own) for own in zip(*known, strict=True))


def _merged_data(values: Sequence[Value]) -> Value | None:
    data = [value for value in values if value.is_data]
    return max(data, key=lambda value: value.depth) if data else None
