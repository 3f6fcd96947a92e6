"""Activations and gradients of a Flax model, linen or nnx, by adding zeros to outputs.

The gradient with respect to a layer's output is that with respect to a zero which is added to it:
what Flax's ``perturb`` does, for every layer and with no change to the model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from portinit import Recipe
from portinit.probes.inputs import Arguments, inference_flags
from portinit.probes.measured import ProbedLayer, ProbedParameter
from portinit.probes.moments import Histogram, Moments
from portinit.probes.probing import cotangent, law_of
from portinit.probes.result import Probe
from portinit.random.keys import key as make_key
from portinit.recipes.matching.tables import NameTable
from portinit_flax.initialize import initialize
from portinit_flax.matching import MatchRequest, leaf_plans
from portinit_flax.probing.recording import FlaxRecorder, is_float, watched
from portinit_flax.tree import COLLECTIONS, leaves
from portinit_jax.inputs import jax_arguments

Forward = Callable[[Any, FlaxRecorder], Any]
"""A forward pass: from the parameters and who watches to the output."""


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
    recorder, gradients = _run(forward, parameters, loss)
    layers = tuple(recorder.layers(gradients[0]))
    found = _parameters(parameters, gradients[1], recipe, names)
    ordered = sorted(found, key=lambda one: _place(one.name, layers))
    return Probe("flax", layers, tuple(ordered), tuple(recorder.unseen), limit)


def _with_required_flags(model: Any, arguments: Arguments) -> Arguments:
    """The arguments with inference mode, where a call must name a mode and they do not."""
    flags = inference_flags(model.__call__, arguments, required=True)
    return arguments[0], arguments[1] | flags


# The two kinds of models as a function of their parameters


def _linen(
    model: linen.Module,
    arguments: tuple[Any, Any],
    recipe: Recipe | None,
    key: Any,
    names: NameTable | None,
    variables: Any,
) -> tuple[Any, Forward]:
    rngs = {"params": _as_jax_key(key)}  # what asks for another stream is given this one
    if variables is None:
        if key is None:
            raise ValueError("a linen module needs variables, or a key to draw them; got neither")
        variables = _drawn(
            functools.partial(model.init, rngs, *arguments[0], **arguments[1]), recipe, key, names
        )
    rest = {name: tree for name, tree in variables.items() if name != "params"}

    def forward(parameters: Any, recorder: FlaxRecorder) -> Any:
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


def _as_jax_key(key: Any) -> Any:
    if isinstance(key, jax.Array):
        return key
    words = np.array((make_key(0) if key is None else key).words, np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")


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

    def forward(parameters: Any, recorder: FlaxRecorder) -> Any:
        copy = nnx.merge(graph, parameters, rest, copy=True)
        with watched(copy, recorder):
            return copy(*arguments[0], **arguments[1])

    return parameters, forward


def _run(
    forward: Forward, parameters: Any, loss: Callable[[Any], Any] | None
) -> tuple[FlaxRecorder, tuple[list[Any], Any]]:
    """Forward and backward: a recorder with the outputs, and the gradients at them and at leaves.

    The first pass, which computes nothing, finds the outputs' shapes.
    """

    def shapes(parameters: Any) -> list[Any]:
        recorder = FlaxRecorder()
        forward(parameters, recorder)
        return recorder.outputs

    zeros = [jnp.zeros(x.shape, x.dtype) for x in jax.eval_shape(shapes, parameters)]
    recorders = []

    def total(zeros: list[Any], parameters: Any) -> tuple[Any, list[Any]]:
        recorder = FlaxRecorder(zeros)
        recorders.append(recorder)
        output = forward(parameters, recorder)
        value = _default_loss(output) if loss is None else loss(output)
        return value, recorder.outputs

    differentiate = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True, allow_int=True))
    gradients, outputs = differentiate(zeros, parameters)
    recorders[-1].outputs = outputs
    return recorders[-1], gradients


def _default_loss(output: Any) -> Any:
    """The outputs' elements, each times its weight, summed."""
    flat = [x for x in jax.tree_util.tree_leaves(output) if is_float(x)]
    weights = [jnp.asarray(cotangent(place, x.shape)) for place, x in enumerate(flat)]
    terms = [jnp.sum(x * w.astype(x.dtype)) for x, w in zip(flat, weights, strict=True)]
    return sum(terms, start=jnp.zeros(()))


# Parameters


def _parameters(
    parameters: Any, gradients: Any, recipe: Recipe | None, names: NameTable | None
) -> Iterator[ProbedParameter]:
    found, arrays, _ = leaves(parameters)
    slopes = leaves(gradients)[1]
    laws = {} if recipe is None else dict(_laws(parameters, recipe, names))
    for leaf in found:
        values = np.asarray(arrays[leaf.position])
        if not is_float(values):
            continue
        initializer, law = laws.get("/".join(leaf.path), (None, None))
        yield ProbedParameter(
            "/".join(leaf.path),
            leaf.shape,
            Moments.of(values),
            Moments.of(slopes[leaf.position]),
            Histogram.of(values),
            initializer,
            law,
        )


def _laws(parameters: Any, recipe: Recipe, names: NameTable | None) -> Iterator[tuple[str, Any]]:
    """The distribution of each leaf, in words and as an object, by path."""
    for plan in leaf_plans(parameters, recipe, MatchRequest.of(names)):
        initializer = plan.rule.initializer
        law = law_of(initializer, plan.grid, plan.leaf.dtype)
        yield "/".join(plan.leaf.path), (str(initializer), law)


def _place(name: str, layers: tuple[ProbedLayer, ...]) -> tuple[int, str]:
    """Where a parameter's layer is among the calls."""
    owners = (i for i, layer in enumerate(layers) if _holds(layer.name.partition("#")[0], name))
    return next(owners, len(layers)), name


def _holds(layer: str, parameter: str) -> bool:
    return not layer or parameter.startswith(f"{layer}/")
