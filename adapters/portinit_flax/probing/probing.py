"""Activations and gradients of a Flax model, linen or nnx.

A zero is added to each layer's output: what Flax's ``perturb`` does, for every layer and with no
change to the model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import linen, nnx

from portinit import Recipe
from portinit.probes.inputs import Arguments, inference_flags
from portinit.probes.parameters import probed_parameters
from portinit.probes.result import Probe
from portinit.recipes.matching.tables.targets import NameTable
from portinit_flax.initialize import initialize
from portinit_flax.matching import MatchRequest, leaf_plans
from portinit_flax.probing.recording import watched
from portinit_flax.tree import COLLECTIONS, leaves
from portinit_jax.inputs import jax_arguments
from portinit_jax.probing import Forward, JaxRecorder, as_jax_key, measured


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
    arguments = _with_required_flags(model, jax_arguments(inputs))
    if isinstance(model, nnx.Module):
        if variables is not None:
            raise ValueError("variables are for linen modules, got an nnx module with them")
        if key is not None and recipe is None:
            raise ValueError("a key must come with a recipe that draws with it, got a key alone")
        parameters, forward = _nnx(model, arguments, recipe, key, names)
    elif isinstance(model, linen.Module):
        if variables is not None and key is not None:
            raise ValueError("a key draws new values: give either variables or a key, got both")
        parameters, forward = _linen(model, arguments, recipe, key, names, variables)
    else:
        raise TypeError(f"a model must be an nnx or a linen module, got {type(model).__name__}")
    layers, gradients, unseen = measured(forward, parameters, loss)
    found, values, _ = leaves(parameters)
    slopes = leaves(gradients)[1]
    plans = [] if recipe is None else leaf_plans(parameters, recipe, MatchRequest.of(names))
    measures = probed_parameters(
        found, dict(enumerate(values)), dict(enumerate(slopes)), plans, layers
    )
    return Probe("flax", layers, measures, unseen, limit)


def _with_required_flags(model: Any, arguments: Arguments) -> Arguments:
    """The arguments with inference mode, where a call must name a mode and they do not."""
    flags = inference_flags(model.__call__, arguments, required=True)
    return arguments[0], arguments[1] | flags


def own_variables(model: Any, inputs: Any, key: Any) -> Any:
    """The variables that a linen module draws by itself; None of an nnx module."""
    if not isinstance(model, linen.Module):
        return None
    args, kwargs = _with_required_flags(model, jax_arguments(inputs))
    return model.init(as_jax_key(key), *args, **kwargs)


# The two kinds of models as a function of their parameters


def _linen(
    model: linen.Module,
    arguments: tuple[Any, Any],
    recipe: Recipe | None,
    key: Any,
    names: NameTable | None,
    variables: Any,
) -> tuple[Any, Forward]:
    rngs = {"params": as_jax_key(key)}  # what asks for another stream is given this one
    if variables is None:
        if key is None:
            raise ValueError("a linen module needs variables, or a key to draw them; got neither")
        variables = _drawn(
            functools.partial(model.init, rngs, *arguments[0], **arguments[1]), recipe, key, names
        )
    rest = {name: tree for name, tree in variables.items() if name != "params"}

    def forward(parameters: Any, recorder: JaxRecorder) -> Any:
        everything = {"params": parameters, **rest}
        with watched(model, recorder):
            output, _ = model.apply(
                everything, *arguments[0], **arguments[1], rngs=rngs, mutable=[*rest]
            )
        return output

    return variables.get("params", {}), forward


def _drawn(
    init: Callable[[], Any], recipe: Recipe | None, key: Any, names: NameTable | None
) -> Any:
    """A linen module's variables: its own, or a recipe's."""
    if recipe is None:
        return init()
    shapes = jax.eval_shape(init)
    known = {name: tree for name, tree in shapes.items() if name in COLLECTIONS}
    filled = initialize(known, recipe, key, names)
    return filled if len(known) == len(shapes) else {**init(), **filled}


def _nnx(
    model: nnx.Module,
    arguments: tuple[Any, Any],
    recipe: Recipe | None,
    key: Any,
    names: NameTable | None,
) -> tuple[Any, Forward]:
    if recipe is not None and key is not None:
        model = initialize(nnx.clone(model), recipe, key, names)
    split: tuple[Any, ...] = nnx.split(model, nnx.Param, ...)
    graph, parameters, rest = split

    def forward(parameters: Any, recorder: JaxRecorder) -> Any:
        copy = nnx.merge(graph, parameters, rest, copy=True)
        with watched(copy, recorder):
            return copy(*arguments[0], **arguments[1])

    return parameters, forward
