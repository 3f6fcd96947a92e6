"""Activations and gradients of an Equinox model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from portinit import Recipe
from portinit.probes.parameters import probed_parameters
from portinit.probes.result import Probe
from portinit.recipes.matching.plans import leaf_plans
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.tables.targets import NameTable
from portinit_equinox.forward import run, takes_examples, with_flags
from portinit_equinox.initialize import fill
from portinit_equinox.tree import EquinoxArrays
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
    if variables is not None:
        raise ValueError("variables are for linen and Haiku, got a model of Equinox with them")
    if key is not None and recipe is None:
        raise ValueError("a key must come with a recipe that draws with it, got a key alone")
    request, rng = MatchRequest.of(names), as_jax_key(key)
    if recipe is not None and key is not None:
        model = fill(model, recipe, key, request)
    arguments = with_flags(model, jax_arguments(inputs), required=True)
    is_batched = takes_examples(model, arguments, rng)
    parameters, rest = eqx.partition(model, eqx.is_inexact_array)

    def forward(parameters: Any, recorder: JaxRecorder) -> Any:
        whole = eqx.combine(parameters, rest)
        return run(whole, arguments, rng, recorder, is_batched=is_batched)

    layers, gradients, unseen = measured(forward, parameters, loss)
    arrays = EquinoxArrays.of(model)
    places = [i for i, value in enumerate(arrays.values) if eqx.is_inexact_array(value)]
    measures = probed_parameters(
        arrays.tree.leaves.values(),
        dict(enumerate(arrays.values)),
        dict(zip(places, jax.tree.leaves(gradients), strict=True)),
        [] if recipe is None else leaf_plans(arrays.tree, recipe, request),
        layers,
    )
    return Probe("equinox", layers, measures, unseen, limit)
