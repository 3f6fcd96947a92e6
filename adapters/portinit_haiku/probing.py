"""Activations and gradients of a transformed function of Haiku."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import haiku as hk
import jax

from portinit import Recipe
from portinit.probes.inputs import Arguments, inference_flags
from portinit.probes.parameters import probed_parameters
from portinit.probes.result import Probe
from portinit.recipes.matching.plans import leaf_plans
from portinit.recipes.matching.tables.targets import NameTable
from portinit_haiku.forward import drawn, run, watched
from portinit_haiku.initialize import fill, match_request
from portinit_haiku.tree import HaikuArrays
from portinit_jax.inputs import jax_arguments
from portinit_jax.probing import JaxRecorder, as_jax_key, measured


def probe(
    model: Any,
    inputs: Any,
    *,
    recipe: Recipe | None,
    key: Any,
    variables: Any,
    names: NameTable | None,
    loss: Callable[[Any], Any] | None,
    limit: float,
) -> Probe:
    """See :func:`portinit.probe`."""
    if not isinstance(model, hk.Transformed | hk.TransformedWithState):
        raise TypeError(f"a model must be what hk.transform gives, got {type(model).__name__}")
    if variables is not None and key is not None:
        raise ValueError("a key draws new values: give either variables or a key, got both")
    if variables is None and key is None:
        raise ValueError(
            "a transformed function needs variables, its params or the pair of params and state, "
            "or a key to draw them; got neither"
        )
    arguments, request = _arguments(model, inputs), match_request(names)
    if variables is None:
        variables = _drawn(model, arguments, recipe, key, request)
    has_state = isinstance(model, hk.TransformedWithState)
    params, state = variables if has_state else (variables, None)
    rng = as_jax_key(key)

    def forward(params: Any, recorder: JaxRecorder) -> Any:
        with watched(recorder):
            return run(model, params, state, rng, arguments)

    layers, gradients, unseen = measured(forward, params, loss)
    arrays, slopes = HaikuArrays.of(params), jax.tree.leaves(gradients)
    plans = []
    if recipe is not None:
        plans = leaf_plans(HaikuArrays.of(variables).tree, recipe, request)
    measures = probed_parameters(
        arrays.tree.leaves.values(), dict(enumerate(arrays.values)), dict(enumerate(slopes)),
        plans, layers,
    )  # fmt: skip
    return Probe("haiku", layers, measures, unseen, limit)


def own_variables(model: Any, inputs: Any, key: Any) -> Any:
    """The params, or params and state, that a model draws by itself."""
    return drawn(model, _arguments(model, inputs), as_jax_key(key))


def _arguments(model: Any, inputs: Any) -> Arguments:
    """The arguments with inference mode, where a call must name a mode and they do not."""
    args, kwargs = jax_arguments(inputs)
    flags = inference_flags(model.init, ((None, *args), kwargs), required=True)
    return args, {**kwargs, **flags}


def _drawn(model: Any, arguments: Arguments, recipe: Recipe | None, key: Any, request: Any) -> Any:
    """The params, or params and state: the model's own, or a recipe's."""
    init = partial(drawn, model, arguments, as_jax_key(key))
    return init() if recipe is None else fill(jax.eval_shape(init), recipe, key, request)
