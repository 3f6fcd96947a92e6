"""A Keras model as the twin of PyTorch's: see :class:`portinit.testing.twins.TwinModel`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import keras
import numpy as np

from portinit import Key, Recipe, RecipeError
from portinit.checkpoints.planned import planned_tensors
from portinit.checkpoints.tensors import TensorSpec
from portinit.probes.inputs import Arguments, arguments_of
from portinit.probes.outputs import output_leaves
from portinit.recipes.matching import plans
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit.recipes.matching.uses.uses import Uses
from portinit_keras.cells import with_gates
from portinit_keras.drawing import as_tensor, to_array, to_tensor
from portinit_keras.initialize import fill, leaf_plans
from portinit_keras.recording import recorder, watched
from portinit_keras.tree import Variables
from portinit_keras.uses import uses

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class KerasTwin:
    """A built Keras model and its example input.

    Attributes:
        model: the model.
        arguments: the example input.
        dry: whether ``initialize`` leaves the model as it is.
        needs_build: whether the factory's model has no variables before it is called.
    """

    model: Any
    arguments: Arguments
    dry: bool = False
    needs_build: bool = False
    notes: tuple[str, ...] = ()
    framework: ClassVar[str] = "Keras"
    adapter: ClassVar[str] = "portinit_keras"

    def plans(self, recipe: Recipe, request: MatchRequest) -> list[LeafPlan]:
        return leaf_plans(Variables.of(self.model), recipe, request)

    def match(self, recipe: Recipe, request: MatchRequest, *, strict: bool = True) -> Matching:
        tree = Variables.of(self.model).tree
        return plans.match(tree, recipe, with_gates(tree, recipe, request), strict=strict)

    def initialize(self, recipe: Recipe, key: Key, request: MatchRequest) -> Any:
        return self.model if self.dry else fill(self.model, recipe, key, request)

    def forward(self, filled: Any) -> KerasForward:
        return KerasForward(filled, self.arguments)

    def uses(self) -> Uses | None:
        args, kwargs = self.arguments
        is_followed = keras.backend.backend() in ("jax", "torch")
        return uses(self.model, *args, **kwargs) if is_followed else None

    def paths(self, filled: Any) -> dict[str, Any]:
        held = Variables.of(filled)
        leaves = held.tree.leaves.values()
        return {leaf.label: to_array(held.variables[leaf.position]) for leaf in leaves}

    def tensors(self, recipe: Recipe, dtype: Any, request: MatchRequest) -> list[TensorSpec]:
        plans = self.plans(recipe, request)
        return planned_tensors(plans, self.adapter, lambda leaf: leaf.array, dtype)

    def python(self, made: str, inputs: str) -> list[str]:
        """Lines of Python that make ``model``, which ``initialize`` takes: see `python_lines`."""
        return [f"model = {made}()", *[f"model({inputs})"] * self.needs_build]

    def copied(self) -> Self:
        return replace(self, dry=True)


class KerasForward:
    """A Keras model on its example input as a function of its variables, which it keeps.

    Attributes:
        arrays: the variables' values, by the positions of their leaves and in their shapes.
    """

    framework: ClassVar[str] = "Keras"

    def __init__(self, model: Any, arguments: Arguments) -> None:
        self._model, self._arguments = model, arguments
        held = Variables.of(model)
        self._variables = held.variables
        shapes = {leaf.position: leaf.shape for leaf in held.tree.leaves.values()}
        self.arrays: list[Any] = [
            to_array(variable).reshape(shapes[position])
            for position, variable in enumerate(held.variables)
        ]

    def outputs(self, arrays: Sequence[Any]) -> dict[str, Array]:
        """The leaves of the output, in inference mode."""
        with self._holding(arrays):
            args, kwargs = self._arguments
            output = self._model(*args, **kwargs)
        return {name: to_array(leaf) for name, leaf in output_leaves(output).items()}

    def layers(self, arrays: Sequence[Any]) -> list[tuple[str, str, Any]]:
        """The path, the class and the output of each call of a layer that calls no other."""
        seen = recorder()
        with watched(self._model, seen):
            self.outputs(arrays)
        return [(*call, to_array(x)) for call, x in zip(seen.calls, seen.outputs, strict=True)]

    @contextmanager
    def _holding(self, arrays: Sequence[Any]) -> Iterator[None]:
        """Give the variables other values for a while."""
        try:
            self._assign(arrays)
            yield
        finally:
            self._assign(self.arrays)

    def _assign(self, arrays: Sequence[Any]) -> None:
        for variable, values in zip(self._variables, arrays, strict=True):
            shaped = np.asarray(values).reshape(tuple(variable.shape))
            variable.assign(to_tensor(shaped, variable.dtype))


def twin(made: Any, inputs: Any = None, target: str = "the factory") -> KerasTwin:
    """The twin that a factory made, built on its example input where it is not built yet.

    Raises:
        portinit.RecipeError: it is not built, and there is no input.
    """
    arguments: Arguments = ((), {})
    if inputs is not None:
        arguments = arguments_of(inputs, as_tensor)
    needs_build = not made.built
    if needs_build:
        if inputs is None:
            raise RecipeError(
                f"{target} makes a Keras model that is not built, so that it has no variables yet: "
                "define example_input() beside the factory, or name one with --twin-input"
            )
        made(*arguments[0], **arguments[1])
    return KerasTwin(made, arguments, needs_build=needs_build)
