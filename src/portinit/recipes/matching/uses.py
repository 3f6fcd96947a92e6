"""How a forward pass uses each parameter: when, in which operation, along which axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from portinit.arrays.layouts import Layout, Shape


class Operation(StrEnum):
    """What a forward pass does with a parameter and what it computes from its inputs."""

    CONTRACTION = "contraction"
    """A matrix product, or another sum over products along axes of both."""
    CONVOLUTION = "convolution"
    LOOKUP = "lookup"
    """A choice of rows: an embedding."""
    MULTIPLY = "multiply"
    """A product element by element: the scale of a normalization."""
    ADD = "add"
    """A sum or difference element by element: a bias."""
    OTHER = "other"

    @property
    def is_matrix(self) -> bool:
        """Whether the parameter has inputs and outputs in it."""
        return self in _MATRICES

    @property
    def kind(self) -> str:
        """A name that operations have in common which twins may take for one another."""
        products = (Operation.CONTRACTION, Operation.CONVOLUTION)
        return "product" if self in products else self.value


_MATRICES = (Operation.CONTRACTION, Operation.CONVOLUTION, Operation.LOOKUP)


@dataclass(frozen=True)
class Use:
    """The first time that a forward pass uses a parameter in one kind of operation.

    Attributes:
        operation: what is done with it.
        order: the number of this use among all.
        depth: how many matrices lie on the longest way from the inputs to the result. Branches
            that run side by side, in whatever order, have equal depths.
        axes: for each axis of the array what it is to the operation: ``"in"`` is summed over or
            looked up, ``"out"`` remains; ``"batch"`` and ``"space"`` belong to both sides;
            ``"layer"`` is the axis that a loop over layers takes apart; ``""`` is not known.
        functions: the nonlinear functions, such as ``"exp"`` and ``"tanh"``, that the result goes
            through before it meets the next matrix.
        period: how much deeper each next layer along the axis ``"layer"`` is used.
    """

    operation: Operation
    order: int
    depth: int
    axes: tuple[str, ...]
    functions: frozenset[str] = frozenset()
    period: int = 0

    def of_layer(self, layer: int, axis: int) -> Use:
        """The use of one layer of a stack along an axis."""
        axes = (*self.axes[:axis], *self.axes[axis + 1 :])
        depth = self.depth + layer * self.period
        return Use(self.operation, self.order, depth, axes, self.functions)

    def __str__(self) -> str:
        axes = f" ({', '.join(axis or '?' for axis in self.axes)})" if any(self.axes) else ""
        return f"{self.operation}{axes} at depth {self.depth}"


class Uses(Mapping[str, tuple[Use, ...]]):
    """The uses of each parameter by its name, the first first; unused ones have no entry.

    >>> use = Use(Operation.CONTRACTION, 0, 1, ("out", "in"))
    >>> print(Uses({"fc.weight": (use,)}))
    fc.weight: contraction (out, in) at depth 1
    """

    def __init__(self, found: Mapping[str, tuple[Use, ...]]) -> None:
        by_order = sorted(found.items(), key=lambda item: item[1][0].order)
        self._found = dict(by_order)

    def __getitem__(self, name: str) -> tuple[Use, ...]:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __str__(self) -> str:
        return "\n".join(f"{name}: {uses[0]}" for name, uses in self._found.items())

    def __repr__(self) -> str:
        return f"<Uses of {len(self)} parameters>"


def common_use(ours: tuple[Use, ...], theirs: tuple[Use, ...]) -> tuple[Use, Use] | None:
    """The first uses of one kind that two parameters have in common.

    A tied embedding is looked up, and multiplied with; a copy of it may be only the latter.
    """
    for one in ours:
        for other in theirs:
            if one.operation.kind == other.operation.kind:
                return one, other
    return None


def agrees(layout: Layout, shape: Shape, ours: Use, theirs: Use) -> bool | None:
    """Whether a layout puts inputs on inputs and outputs on outputs.

    Args:
        layout: how the array's axes are PyTorch's.
        shape: of the array.
        ours: how PyTorch uses the parameter.
        theirs: how the other model uses the array.

    Returns:
        None if the uses do not tell.
    """
    if layout.view is not None or len(theirs.axes) != len(shape):
        return None
    groups = layout.groups(len(shape))
    if len(groups) != len(ours.axes):
        return None
    compared = [
        (role, theirs.axes[axis])
        for role, group in zip(ours.axes, groups, strict=True)
        for axis in group
        if shape[axis] != 1 and role in _DIRECTED and theirs.axes[axis] in _DIRECTED
    ]
    return all(one == other for one, other in compared) if compared else None


_DIRECTED = ("in", "out")
