"""Haiku's transformed function as the twin of PyTorch's model.

See :class:`portinit.testing.twins.TwinModel`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import haiku as hk
import jax

from portinit import Key, Recipe, RecipeError
from portinit.checkpoints.planned import planned_tensors
from portinit.checkpoints.tensors import TensorSpec
from portinit.probes.inputs import INFERENCE, Arguments, inference_flags, written_call
from portinit.probes.outputs import output_leaves
from portinit.recipes.matching import plans
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit.recipes.matching.uses.uses import Uses
from portinit_haiku.forward import drawn, run, watched
from portinit_haiku.initialize import fill, without_marks
from portinit_haiku.tree import HaikuArrays
from portinit_haiku.uses import traced_uses
from portinit_jax.inputs import jax_arguments
from portinit_jax.probing import JaxRecorder


@dataclass(frozen=True)
class HaikuTwin:
    """A transformed function and its example input.

    Attributes:
        apply: from params, or a pair of params and state, and arguments to the output.
        empty: what is filled: structs of params, or of both.
        arguments: the example input.
    """

    apply: Callable[..., Any]
    empty: Any
    arguments: Arguments
    notes: tuple[str, ...] = ()
    framework: ClassVar[str] = "Haiku"
    adapter: ClassVar[str] = "portinit_haiku"

    def plans(self, recipe: Recipe, request: MatchRequest) -> list[LeafPlan]:
        return plans.leaf_plans(HaikuArrays.of(self.empty).tree, recipe, without_marks(request))

    def match(self, recipe: Recipe, request: MatchRequest, *, strict: bool = True) -> Matching:
        return plans.match(
            HaikuArrays.of(self.empty).tree, recipe, without_marks(request), strict=strict
        )

    def initialize(self, recipe: Recipe, key: Key, request: MatchRequest) -> Any:
        return fill(self.empty, recipe, key, without_marks(request))

    def forward(self, filled: Any) -> HaikuForward:
        return HaikuForward(self.apply, filled, self.arguments)

    def uses(self) -> Uses:
        return traced_uses(self.apply, self.empty, self.arguments)

    def paths(self, filled: Any) -> dict[str, Any]:
        arrays = HaikuArrays.of(filled)
        return dict(zip(arrays.paths, arrays.values, strict=True))

    def tensors(self, recipe: Recipe, dtype: Any, request: MatchRequest) -> list[TensorSpec]:
        paths = HaikuArrays.of(self.empty).paths
        return planned_tensors(
            self.plans(recipe, request),
            self.adapter,
            lambda leaf: tuple(paths[leaf.position].rsplit("/", 1)),
            dtype,
        )

    def python(self, made: str, inputs: str) -> list[str]:
        """Lines of Python that make ``model``, which ``initialize`` takes: see `python_lines`."""
        flags = {name: not mode for name, mode in INFERENCE.items() if name in self.arguments[1]}
        init = f"{made}().init(jax.random.key(0), {written_call(inputs, flags)})"
        return [f"model = jax.eval_shape(lambda: {init})"]

    def copied(self) -> Self:
        return self  # filling it makes other dicts


class HaikuForward:
    """A transformed function on its example input as a function of its arrays, compiled once.

    Attributes:
        arrays: the leaves of the dicts, by their positions.
    """

    framework: ClassVar[str] = "Haiku"

    def __init__(self, apply: Callable[..., Any], filled: Any, arguments: Arguments) -> None:
        self.arrays, self._structure = jax.tree.flatten(filled)
        (args, kwargs), self._arguments = arguments, jax.tree.leaves(arguments[0])
        structure = jax.tree.structure(args)
        self._calls: list[tuple[str, str]] = []

        def run(filled: Any, leaves: list[Any]) -> tuple[dict[str, Any], list[Any]]:
            recorder = JaxRecorder()
            with watched(recorder):
                output = apply(filled, *jax.tree.unflatten(structure, leaves), **kwargs)
            self._calls = recorder.calls
            return output_leaves(output), recorder.outputs

        self._run = jax.jit(run)

    def _both(self, arrays: Sequence[Any]) -> tuple[dict[str, Any], list[Any]]:
        filled = jax.tree.unflatten(self._structure, arrays)
        with jax.default_matmul_precision("highest"):
            found: tuple[dict[str, Any], list[Any]] = self._run(filled, self._arguments)
        return found

    def outputs(self, arrays: Sequence[Any]) -> dict[str, Any]:
        """The leaves of the output."""
        return self._both(arrays)[0]

    def layers(self, arrays: Sequence[Any]) -> list[tuple[str, str, Any]]:
        """The path, the class and the output of each call of a module that calls no other.

        What is under ``hk.vmap`` has the mapped axes; other transformations hide their calls.
        """
        outputs = self._both(arrays)[1]
        return [(*call, x) for call, x in zip(self._calls, outputs, strict=True)]


def twin(made: Any, inputs: Any = None, target: str = "the factory") -> HaikuTwin:
    """The twin that a factory made: what ``hk.transform`` or ``hk.transform_with_state`` gives.

    It runs in inference mode, ``is_training=False`` for example, where its arguments have such a
    mode that the example input leaves open; and in training mode for ``init``, where a batch norm
    makes its state.

    Raises:
        portinit.RecipeError: something else, or there is no input.
    """
    kinds = hk.Transformed | hk.TransformedWithState
    if not isinstance(made, kinds):
        raise RecipeError(
            f"{target} must return what hk.transform gives, got {type(made).__name__}"
        )
    if inputs is None:
        raise RecipeError(
            f"{target} makes a transformed function, which has no parameters before it sees an "
            "input: define example_input() beside the factory, or name one with --twin-input"
        )
    args, kwargs = jax_arguments(inputs)
    flags = inference_flags(made.init, ((None, *args), kwargs))
    notes = tuple(f"Haiku ran with {name}={value}" for name, value in flags.items())
    kwargs |= flags
    arguments = args, kwargs
    empty = jax.eval_shape(partial(drawn, made, arguments), jax.random.key(0))
    return HaikuTwin(_forward_of(made), empty, arguments, notes)


def _forward_of(made: hk.Transformed | hk.TransformedWithState) -> Callable[..., Any]:
    """A function of params, or of params and state, and arguments, that draws nothing."""
    has_state = isinstance(made, hk.TransformedWithState)

    def forward(filled: Any, *args: Any, **kwargs: Any) -> Any:
        params, state = filled if has_state else (filled, None)
        return run(made, params, state, None, (args, kwargs))

    return forward
