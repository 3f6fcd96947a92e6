"""An Equinox model as the twin of PyTorch's: see :class:`portinit.testing.twins.TwinModel`.

Equinox's layers take one example, so that a model is run under ``jax.vmap`` over the first axis of
its inputs. A model that takes a whole batch, and so cannot be run so, is called with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import numpy as np

from portinit import Key, Recipe
from portinit.probes.inputs import Arguments, inference_flags, is_array, map_arrays
from portinit.probes.outputs import output_leaves
from portinit.recipes.matching import plans
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit.recipes.matching.uses import Uses
from portinit_equinox.initialize import fill
from portinit_equinox.layers import layer_outputs
from portinit_equinox.tree import EquinoxArrays
from portinit_jax.inputs import jax_arguments
from portinit_jax.uses import uses_of

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
        arrays = EquinoxArrays.of(self.model)
        labels = {leaf.position: leaf.label for leaf in arrays.tree.leaves.values()}
        places = [i for i, value in enumerate(arrays.values) if is_array(value)]

        def call(held: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
            model = arrays.filled(dict(zip(places, held, strict=True)))
            return _outputs(model, args, kwargs, is_batched=self.is_batched)

        held, names = [arrays.values[i] for i in places], [labels.get(i) for i in places]
        return uses_of(call, held, names, *self.arguments)

    def paths(self, filled: Any) -> dict[str, Any]:
        arrays = EquinoxArrays.of(filled)
        return {leaf.label: arrays.values[leaf.position] for leaf in arrays.tree.leaves.values()}

    def copied(self) -> Self:
        return self  # filling it makes another


class EquinoxForward:
    """An Equinox model on its example input as a function of its arrays, compiled once.

    Attributes:
        arrays: the leaves of the pytree, by their positions.
    """

    def __init__(self, model: Any, arguments: Arguments, *, is_batched: bool) -> None:
        self.arrays, self._structure = jax.tree.flatten(model)
        self._arguments, self._is_batched = arguments, is_batched
        self._run: Callable[..., Any] = eqx.filter_jit(partial(_outputs, is_batched=is_batched))

    def outputs(self, arrays: Sequence[Any]) -> dict[str, Any]:
        """The leaves of the output, in inference mode."""
        model = jax.tree.unflatten(self._structure, arrays)
        with jax.default_matmul_precision("highest"):
            found: dict[str, Any] = self._run(model, *self._arguments)
        return found

    def layers(self, arrays: Sequence[Any]) -> list[tuple[str, str, Any]]:
        """The path, the class and the output of each call of a layer, for all examples."""
        model = jax.tree.unflatten(self._structure, arrays)
        module = model[0] if isinstance(model, tuple) else model
        examples: list[Any] = [self._arguments]
        if self._is_batched:
            count = next(len(x) for x in jax.tree.leaves(self._arguments) if is_array(x))
            examples = [map_arrays(self._arguments, itemgetter(i)) for i in range(count)]
        each = [
            layer_outputs(module, partial(_outputs, model, *one, is_batched=False))
            for one in examples
        ]
        if not self._is_batched:
            return each[0]
        return [
            (path, kind, np.stack([calls[number][2] for calls in each]))
            for number, (path, kind, _) in enumerate(each[0])
        ]


def _outputs(model: Any, args: Any, kwargs: Any, *, is_batched: bool) -> dict[str, Any]:
    """The leaves of the output, the new State left out."""
    model, state = model if isinstance(model, tuple) else (model, None)
    more = _more_arguments(model, (args, kwargs), state)

    def call(args: Any, kwargs: Any) -> dict[str, Any]:
        return output_leaves(model(*args, **kwargs, **more))

    run: Callable[..., dict[str, Any]] = eqx.filter_vmap(call) if is_batched else call
    return run(args, kwargs)


def _more_arguments(model: Any, arguments: Arguments, state: Any) -> dict[str, Any]:
    """The state, no key, and the flags of inference mode, as far as a call takes them."""
    call, (args, kwargs) = type(model).__call__, arguments
    flags: dict[str, Any] = {**inference_flags(call, ((model, *args), kwargs))}
    if state is not None:
        flags["state"] = state
    key = inspect.signature(call).parameters.get("key")
    if key is not None and key.default is inspect.Parameter.empty:
        flags["key"] = None
    return flags


def twin(made: Any, inputs: Any = None, target: str = "the factory") -> EquinoxTwin:
    """The twin that a factory made: a module, or a pair of one and its State."""
    made, arguments = eqx.nn.inference_mode(made), jax_arguments(inputs)
    if inputs is None:
        return EquinoxTwin(made, arguments)
    batched = _runs(made, arguments, is_batched=True)
    return EquinoxTwin(made, arguments, batched, (_BATCHED if batched else _WHOLE,))


def _runs(made: Any, arguments: Arguments, *, is_batched: bool) -> bool:
    """Whether a model can be called so, as shapes tell."""
    if not all(getattr(x, "ndim", 1) for x in jax.tree.leaves(arguments) if is_array(x)):
        return False  # a number has no axis of examples
    try:
        eqx.filter_eval_shape(partial(_outputs, is_batched=is_batched), made, *arguments)
    except Exception:  # whatever a model says of an input that is not its own
        return False
    return True
