"""The tensors of a checkpoint, by name, and the initializers that fill them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from portinit.arrays.dtypes import FORMATS, dtype_name, float_format, numpy_dtype
from portinit.arrays.grids import Grid, place
from portinit.arrays.layouts import Shape
from portinit.initializers.base import Initializer
from portinit.random.keys import Key
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule, raise_misfits
from portinit.replay.program import Program

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ParameterPart:
    """A parameter of a recipe, or some of its rows.

    Attributes:
        source: its name in the recipe, which its key is folded with.
        initializer: what fills it.
        grid: the elements, and how they lie.
        value: the node of a traced recipe's program that gives it in a replay.
    """

    source: str
    initializer: Initializer
    grid: Grid
    value: int | None = None


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a checkpoint.

    Attributes:
        name: its name in the checkpoint.
        dtype: the name of its dtype.
        parts: the parameter that it holds; several where layers are stacked.
        axis: which of its axes layers are stacked along, if they are.
        path: its place in a tree of nested dicts.
    """

    name: str
    dtype: str
    parts: tuple[ParameterPart, ...]
    axis: int | None = None
    path: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        """The shape of the tensor."""
        shape = self.parts[0].grid.array_shape
        if self.axis is None:
            return shape
        return (*shape[: self.axis], len(self.parts), *shape[self.axis :])

    @property
    def nbytes(self) -> int:
        """The bytes of the tensor."""
        return math.prod(self.shape) * numpy_dtype(self.dtype).itemsize

    @property
    def value(self) -> int | None:
        """The node of a traced recipe's program that gives the tensor in a replay."""
        return self.parts[0].value if self.axis is None else None

    def draw(self, key: Key) -> Array:
        """The tensor that a model's key gives."""
        layers = (
            part.initializer.evaluate(key.fold_in(part.source), part.grid, self.dtype, xp=np)
            for part in self.parts
        )
        if self.axis is None:
            return _in_c(next(layers))
        tensor = np.empty(self.shape, numpy_dtype(self.dtype))
        for rows, layer in zip(np.moveaxis(tensor, self.axis, 0), layers, strict=True):
            rows[...] = layer
        return tensor

    def place(self, values: Array) -> Array:
        """The tensor of a parameter's values in PyTorch's shape."""
        cast = values.astype(numpy_dtype(self.dtype), copy=False)
        return _in_c(place(np, cast, self.parts[0].grid))


def _in_c(values: Any) -> Array:
    """Contiguous, which is what writers of files ask for; 0-d arrays stay so."""
    return np.asarray(values, order="C")


def checkpoint_tensors(recipe: Recipe, dtype: Any = None) -> list[TensorSpec]:
    """The tensors of a model whose recipe names each parameter and its shape.

    Args:
        recipe: of one model: traced, or bound by ``portinit_torch.bind``. The tensors have
            PyTorch's names and shapes.
        dtype: of the floating tensors, or a table from names to dtypes. By default what a traced
            constructor made, and else float32. Counters (``num_batches_tracked``) stay integers.

    Returns:
        A description of each tensor, in the recipe's order.

    Raises:
        portinit.RecipeError: listing the rules without a name or shape of their own, and those
            that do not suit their tensor.

    >>> import portinit
    >>> recipe = portinit.Recipe([portinit.Rule("bias", portinit.zeros, shape=(3,))])
    >>> checkpoint_tensors(recipe, "bfloat16")[0].nbytes
    6
    """
    patterns = [
        f"{rule.pattern}: a pattern, or of no shape"
        for rule in recipe.rules
        if rule.name is None or rule.shape is None
    ]
    raise_misfits("a checkpoint needs a recipe bound to a model", patterns)
    found = [_spec(rule, _dtype(rule, recipe.program, dtype)) for rule in recipe.rules]
    require_suited(found)
    return found


def _spec(rule: Rule, dtype: str) -> TensorSpec:
    name = rule.name or ""
    grid = Grid.whole(rule.shape or (), rule.torch_layout)
    path = tuple(name.split("."))
    return TensorSpec(
        name, dtype, (ParameterPart(rule.key_name, rule.initializer, grid, rule.value),), path=path
    )


def _dtype(rule: Rule, program: Program | None, wanted: Any) -> str:
    if isinstance(wanted, Mapping):
        return dtype_name(wanted[rule.name])
    if program is not None and rule.value is not None:
        own = program.nodes[rule.value].dtype
    else:
        own = "int64" if rule.pattern.endswith("num_batches_tracked") else "float32"
    return chosen_dtype(own, wanted)


def chosen_dtype(own: str, wanted: Any) -> str:
    """The wanted dtype for a floating tensor, and for others their own."""
    return own if wanted is None or own not in FORMATS else float_format(wanted).name


def require_suited(found: Iterable[TensorSpec]) -> None:
    """Raise a RecipeError listing the names given twice, and what no initializer can fill."""
    found = list(found)
    counts = Counter(spec.name for spec in found)
    twice = [f"{name}: named {count} times" for name, count in counts.items() if count > 1]
    raise_misfits("every tensor must suit its initializer", [*twice, *_unsuited(found)])


def _unsuited(found: list[TensorSpec]) -> Iterator[str]:
    for spec in found:
        try:
            numpy_dtype(spec.dtype)
            for part in spec.parts:
                part.initializer.planned(part.grid, spec.dtype)
        except (ValueError, TypeError) as error:
            yield f"{spec.name} {spec.shape}: {error}"
