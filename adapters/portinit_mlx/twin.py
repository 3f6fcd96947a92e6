"""An MLX module as the twin of PyTorch's: see :class:`portinit.testing.twins.TwinModel`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from mlx.utils import tree_unflatten

from portinit import Key, Recipe
from portinit.arrays.convert import to_numpy
from portinit.checkpoints.planned import planned_tensors
from portinit.checkpoints.tensors import TensorSpec
from portinit.probes.inputs import Arguments, arguments_of
from portinit.probes.outputs import output_leaves
from portinit.recipes.matching import plans
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit_mlx.arrays import as_mlx
from portinit_mlx.backend import from_numpy
from portinit_mlx.initialize import fill
from portinit_mlx.recording import VmapRecorder, watched
from portinit_mlx.tree import MlxTree, flat_arrays


@dataclass(frozen=True)
class MlxTwin:
    """An MLX module and its example input.

    Attributes:
        model: the module.
        arguments: the example input.
        dry: whether ``initialize`` leaves the module as it is.
    """

    model: Any
    arguments: Arguments
    dry: bool = False
    notes: tuple[str, ...] = ()
    framework: ClassVar[str] = "MLX"
    adapter: ClassVar[str] = "portinit_mlx"

    def plans(self, recipe: Recipe, request: MatchRequest) -> list[LeafPlan]:
        return plans.leaf_plans(MlxTree.of(self.model), recipe, request)

    def match(self, recipe: Recipe, request: MatchRequest, *, strict: bool = True) -> Matching:
        return plans.match(MlxTree.of(self.model), recipe, request, strict=strict)

    def initialize(self, recipe: Recipe, key: Key, request: MatchRequest) -> Any:
        return self.model if self.dry else fill(self.model, recipe, key, request)

    def forward(self, filled: Any) -> MlxForward:
        return MlxForward(filled, self.arguments)

    def uses(self) -> None:
        return None  # MLX has no public graph of a computation

    def paths(self, filled: Any) -> dict[str, Any]:
        return {name.replace(".", "/"): to_numpy(array) for name, array in flat_arrays(filled)}

    def tensors(self, recipe: Recipe, dtype: Any, request: MatchRequest) -> list[TensorSpec]:
        plans = self.plans(recipe, request)
        return planned_tensors(plans, self.adapter, lambda leaf: leaf.array, dtype)

    def copied(self) -> Self:
        return replace(self, dry=True)


class MlxForward:
    """An MLX module on its example input as a function of its arrays, which it keeps.

    Attributes:
        arrays: the module's arrays in NumPy, by their positions.
    """

    framework: ClassVar[str] = "MLX"

    def __init__(self, model: Any, arguments: Arguments) -> None:
        self._model, self._arguments = model, arguments
        self._held = flat_arrays(model)
        self.arrays: list[Any] = [to_numpy(array) for _, array in self._held]

    def outputs(self, arrays: Sequence[Any]) -> dict[str, np.ndarray[Any, Any]]:
        """The leaves of the output, in inference mode."""
        given = [
            (name, from_numpy(np.asarray(array), held.dtype))
            for (name, held), array in zip(self._held, arrays, strict=True)
        ]
        training = self._model.training
        try:
            self._model.update(tree_unflatten(given))
            self._model.eval()
            args, kwargs = self._arguments
            output = self._model(*args, **kwargs)
            return {name: to_numpy(leaf) for name, leaf in output_leaves(output).items()}
        finally:
            self._model.update(tree_unflatten(self._held))
            self._model.train(training)

    def layers(self, arrays: Sequence[Any]) -> list[tuple[str, str, Any]]:
        """The path, the class and the output of each call of a module that has no other in it."""
        seen = VmapRecorder()
        with watched(self._model, seen):
            self.outputs(arrays)
        return seen.known()


def twin(made: Any, inputs: Any = None, target: str = "the factory") -> MlxTwin:
    """The twin that a factory made, a module."""
    return MlxTwin(made, ((), {}) if inputs is None else arguments_of(inputs, as_mlx))
