"""How a forward pass uses each parameter: when, in which operation, along which axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from portinit.arrays.layouts import Layout, Shape
from portinit.recipes.matching.trees.leaf import Leaf
from portinit.recipes.matching.uses.axes import reshaped


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


@dataclass(frozen=True)
class TwinUses:
    """How PyTorch's model and its twin use their parameters, on the same example input.

    Attributes:
        torch: PyTorch's uses by name.
        twin: the other model's by path.
    """

    torch: Uses
    twin: Uses

    @classmethod
    def of(cls, uses: TwinUses | tuple[Uses, Uses] | None) -> TwinUses | None:
        """A pair as callers write it."""
        if uses is None or isinstance(uses, TwinUses):
            return uses
        if not isinstance(uses, tuple) or not all(isinstance(one, Uses) for one in uses):
            raise TypeError(
                "uses must be a pair, (portinit_torch.uses(model, *inputs), "
                f"portinit_flax.uses(model, *inputs) or another's), got {type(uses).__name__}"
            )
        return cls(*uses)

    def may_pair(self, leaf: Leaf, name: str, layouts: Iterable[Layout]) -> bool:
        """Whether a leaf and a parameter are used alike, in one of some layouts at least."""
        ours, theirs = self.of_name(name), self.of_leaf(leaf)
        if not ours or not theirs:
            return True
        common = common_use(ours, theirs)
        if common is None:
            return Operation.OTHER in {use.operation for use in (*ours, *theirs)}
        return any(agrees(layout, leaf.shape, *common) is not False for layout in layouts)

    def of_name(self, name: str) -> tuple[Use, ...]:
        """The uses of one of PyTorch's parameters; none if it has none."""
        return self.torch.get(name, ())

    def of_leaf(self, leaf: Leaf) -> tuple[Use, ...]:
        """The uses of a leaf; of a stack's layer, those of the layer."""
        found = self.twin.get("/".join(leaf.array or leaf.path), ())
        if leaf.axis is None or leaf.extent is not None:
            return found
        return tuple(use.of_layer(leaf.layer, leaf.axis) for use in found)


def common_use(ours: Iterable[Use], theirs: Iterable[Use]) -> tuple[Use, Use] | None:
    """The first uses of one kind that two parameters have in common.

    A tied embedding is looked up, and multiplied with; a copy of it may be only the latter. A
    lookup may be a product with rows that are one-hot.
    """
    pairs = list(product(ours, theirs))
    same = (pair for pair in pairs if pair[0].operation.kind == pair[1].operation.kind)
    matrices = (pair for pair in pairs if all(use.operation.is_matrix for use in pair))
    return next(same, None) or next(matrices, None)


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
    if len(theirs.axes) != len(shape):
        return None
    seen = layout.seen(shape)
    roles = _seen_roles(theirs.axes, shape, seen)
    groups = layout.groups(len(seen))
    if len(groups) != len(ours.axes):
        return None
    compared = [
        (role, roles[axis])
        for role, group in zip(ours.axes, groups, strict=True)
        for axis in group
        if seen[axis] != 1 and role in _DIRECTED and roles[axis] in _DIRECTED
    ]
    return all(one == other for one, other in compared) if compared else None


_DIRECTED = ("in", "out")


def _seen_roles(axes: tuple[str, ...], shape: Shape, seen: Shape) -> tuple[str, ...]:
    """What the axes of a view are to an operation, given what those of the array are."""
    if seen == shape:
        return axes
    places = reshaped(shape, seen)(tuple(frozenset({axis}) for axis in range(len(shape))))
    roles = [{axes[axis] for axis in own} for own in places]
    return tuple(role.pop() if len(role) == 1 else "" for role in roles)
