"""An Equinox model as the twin of PyTorch's: see :class:`portinit.testing.twins.TwinModel`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import equinox as eqx
import jax

from portinit import Key, Recipe
from portinit.checkpoints.planned import planned_tensors
from portinit.checkpoints.tensors import TensorSpec
from portinit.probes.inputs import Arguments
from portinit.probes.outputs import output_leaves
from portinit.recipes.matching import plans
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit.recipes.matching.uses.uses import Uses
from portinit_equinox.forward import run, takes_examples, with_flags
from portinit_equinox.initialize import fill
from portinit_equinox.tree import EquinoxArrays
from portinit_equinox.uses import traced_uses
from portinit_jax.inputs import jax_arguments
from portinit_jax.probing import JaxRecorder

_BATCHED = "Equinox's model ran on one example at a time, under jax.vmap over axis 0 of its inputs"
_WHOLE = "Equinox's model ran on its whole input, which it does not take one by one"


@dataclass(frozen=True)
class EquinoxTwin:
    """A pytree of modules, alone or with its State, and its example input.

    Attributes:
        model: what is filled, in inference mode.
        arguments: the example input.
        is_batched: whether the model is run under ``jax.vmap``.
        notes: what was decided for the user.
    """

    model: Any
    arguments: Arguments
    is_batched: bool = False
    notes: tuple[str, ...] = ()
    framework: ClassVar[str] = "Equinox"
    adapter: ClassVar[str] = "portinit_equinox"

    def plans(self, recipe: Recipe, request: MatchRequest) -> list[LeafPlan]:
        return plans.leaf_plans(EquinoxArrays.of(self.model).tree, recipe, request)

    def match(self, recipe: Recipe, request: MatchRequest, *, strict: bool = True) -> Matching:
        return plans.match(EquinoxArrays.of(self.model).tree, recipe, request, strict=strict)

    def initialize(self, recipe: Recipe, key: Key, request: MatchRequest) -> Any:
        return fill(self.model, recipe, key, request)

    def forward(self, filled: Any) -> EquinoxForward:
        return EquinoxForward(filled, self.arguments, is_batched=self.is_batched)

    def uses(self) -> Uses:
        return traced_uses(self.model, self.arguments, is_batched=self.is_batched)

    def paths(self, filled: Any) -> dict[str, Any]:
        arrays = EquinoxArrays.of(filled)
        return {leaf.label: arrays.values[leaf.position] for leaf in arrays.tree.leaves.values()}

    def tensors(self, recipe: Recipe, dtype: Any, request: MatchRequest) -> list[TensorSpec]:
        plans = self.plans(recipe, request)
        return planned_tensors(plans, self.adapter, lambda leaf: leaf.array, dtype)

    def copied(self) -> Self:
        return self  # filling it makes another


class EquinoxForward:
    """An Equinox model on its example input as a function of its arrays, compiled once.

    Attributes:
        arrays: the leaves of the pytree, by their positions.
    """

    framework: ClassVar[str] = "Equinox"

    def __init__(self, model: Any, arguments: Arguments, *, is_batched: bool) -> None:
        self.arrays, self._structure = jax.tree.flatten(model)
        self._arguments, self._is_batched = arguments, is_batched
        self._calls: list[tuple[str, str]] = []
        self._run: Callable[..., Any] = eqx.filter_jit(self._recorded)

    def _recorded(self, model: Any, arguments: Arguments) -> tuple[dict[str, Any], list[Any]]:
        recorder = JaxRecorder()
        output = run(model, arguments, None, recorder, is_batched=self._is_batched)
        self._calls = recorder.calls
        return output_leaves(output), recorder.outputs

    def _both(self, arrays: Sequence[Any]) -> tuple[dict[str, Any], list[Any]]:
        model = jax.tree.unflatten(self._structure, arrays)
        with jax.default_matmul_precision("highest"):
            found: tuple[dict[str, Any], list[Any]] = self._run(model, self._arguments)
        return found

    def outputs(self, arrays: Sequence[Any]) -> dict[str, Any]:
        """The leaves of the output, in inference mode."""
        return self._both(arrays)[0]

    def layers(self, arrays: Sequence[Any]) -> list[tuple[str, str, Any]]:
        """The path, the class and the output of each call of a module that calls no other.

        What is under ``jax.vmap`` has the mapped axes; other transformations hide their calls.
        """
        outputs = self._both(arrays)[1]
        return [(*call, x) for call, x in zip(self._calls, outputs, strict=True)]


def twin(made: Any, inputs: Any = None, target: str = "the factory") -> EquinoxTwin:
    """The twin that a factory made: a module, or a pair of one and its State."""
    made, arguments = eqx.nn.inference_mode(made), jax_arguments(inputs)
    if inputs is None:
        return EquinoxTwin(made, arguments)
    arguments = with_flags(made, arguments)
    batched = takes_examples(made, arguments)
    return EquinoxTwin(made, arguments, batched, (_BATCHED if batched else _WHOLE,))
