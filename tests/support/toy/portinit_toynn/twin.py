"""A model as the twin of PyTorch's: see :class:`portinit.testing.twins.TwinModel`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

import toynn

from portinit import Key, Recipe
from portinit.arrays.convert import to_numpy
from portinit.checkpoints.planned import planned_tensors
from portinit.checkpoints.tensors import TensorSpec
from portinit.probes.inputs import Arguments, arguments_of, is_array
from portinit.probes.outputs import output_leaves
from portinit.probes.recording import CallRecorder
from portinit.recipes.matching import plans
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit_toynn.initialize import fill
from portinit_toynn.tree import ToyTree, arrays_of, modules_of, put


@dataclass(frozen=True)
class ToyTwin:
    """A model and its example input."""

    model: toynn.Module
    arguments: Arguments
    notes: tuple[str, ...] = ()
    framework: ClassVar[str] = "toynn"
    adapter: ClassVar[str] = "portinit_toynn"

    def plans(self, recipe: Recipe, request: MatchRequest) -> list[LeafPlan]:
        return plans.leaf_plans(ToyTree.of(self.model), recipe, request)

    def match(self, recipe: Recipe, request: MatchRequest, *, strict: bool = True) -> Matching:
        return plans.match(ToyTree.of(self.model), recipe, request, strict=strict)

    def initialize(self, recipe: Recipe, key: Key, request: MatchRequest) -> Any:
        return fill(self.model, recipe, key, request)

    def forward(self, filled: Any) -> ToyForward:
        return ToyForward(filled, self.arguments)

    def uses(self) -> None:
        return None  # NumPy has no graph of a computation

    def paths(self, filled: Any) -> dict[str, Any]:
        return {"/".join(path): array for path, array in arrays_of(filled).items()}

    def tensors(self, recipe: Recipe, dtype: Any, request: MatchRequest) -> list[TensorSpec]:
        own = self.plans(recipe, request)
        return planned_tensors(own, self.adapter, lambda leaf: leaf.array, dtype)

    def copied(self) -> Self:
        return replace(self, model=copy.deepcopy(self.model))


class ToyForward:
    """A model on its example input as a function of its arrays."""

    framework: ClassVar[str] = "toynn"

    def __init__(self, model: toynn.Module, arguments: Arguments) -> None:
        self._model, self._arguments = model, arguments
        self.arrays: list[Any] = [*arrays_of(model).values()]

    def outputs(self, arrays: Sequence[Any]) -> dict[str, Any]:
        return output_leaves(self._run(arrays, None))

    def layers(self, arrays: Sequence[Any]) -> list[tuple[str, str, Any]]:
        seen = CallRecorder(lambda x: is_array(x) and x.dtype.kind == "f")
        self._run(arrays, seen)
        return [(*call, x) for call, x in zip(seen.calls, seen.outputs, strict=True)]

    def _run(self, arrays: Sequence[Any], recorder: CallRecorder | None) -> Any:
        model = copy.deepcopy(self._model)
        for path, values in zip(arrays_of(model), arrays, strict=True):
            put(model, path, values)
        if recorder is not None:
            for path, module in modules_of(model):
                module.__class__ = _told(type(module), "/".join(path), recorder)
        args, kwargs = self._arguments
        return model(*args, **kwargs)


def _told(kind: type, path: str, recorder: CallRecorder) -> type:
    def call(self: Any, *args: Any) -> Any:
        return recorder.call(partial(kind.__call__, self, *args), self, path)

    return type(kind.__name__, (kind,), {"__call__": call})


def twin(made: Any, inputs: Any = None, target: str = "the factory") -> ToyTwin:
    """The twin that a factory made."""
    return ToyTwin(made, ((), {}) if inputs is None else arguments_of(inputs, to_numpy))
