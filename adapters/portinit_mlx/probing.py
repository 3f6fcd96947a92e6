"""Activations and gradients of an MLX module, by adding zeros to what its layers return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_unflatten

from portinit import Recipe
from portinit.probes.inputs import Arguments, arguments_of, map_arrays
from portinit.probes.parameters import probed_parameters
from portinit.probes.probing import cotangent
from portinit.probes.recording import CallRecorder, probed_layers
from portinit.probes.result import Probe
from portinit.recipes.matching.plans import leaf_plans
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.tables.targets import NameTable
from portinit_mlx.arrays import as_mlx
from portinit_mlx.initialize import fill
from portinit_mlx.recording import is_float, recorder, watched
from portinit_mlx.tree import MlxTree, flat_arrays


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
    if not isinstance(model, nn.Module):
        raise TypeError(f"a model must be an mlx.nn.Module, got {type(model).__name__}")
    if variables is not None:
        raise ValueError("variables are for linen and Haiku, got a module of MLX with them")
    if key is not None and recipe is None:
        raise ValueError("a key must come with a recipe that draws with it, got a key alone")
    request, arguments = MatchRequest.of(names), arguments_of(inputs, as_mlx)
    with _as_it_was(model):
        if recipe is not None and key is not None:
            fill(model, recipe, key, request)
        tree, held = MlxTree.of(model), flat_arrays(model)
        arrays = [array for _, array in held]
        seen, gradients = _run(model, held, arguments, loss)
    layers = (*probed_layers(seen.calls, seen.outputs, gradients[0]),)
    measures = probed_parameters(
        tree.leaves.values(), dict(enumerate(arrays)), dict(enumerate(gradients[1])),
        [] if recipe is None else leaf_plans(tree, recipe, request), layers,
    )  # fmt: skip
    return Probe("mlx", layers, measures, (*seen.unseen,), limit)


@contextmanager
def _as_it_was(model: Any) -> Iterator[None]:
    """Leave a module's arrays and MLX's generator as they were."""
    state: Any = mx.random.state
    held, (high, low) = flat_arrays(model), np.asarray(state[0]).tolist()
    try:
        yield
    finally:
        model.update(tree_unflatten(held))
        mx.random.seed(high << 32 | low)


def _run(
    model: Any,
    held: list[tuple[str, mx.array]],
    arguments: Arguments,
    loss: Callable[[Any], Any] | None,
) -> tuple[CallRecorder, tuple[list[Any], list[Any]]]:
    """Forward and backward: the calls, and the gradients at outputs and at arrays.

    A first pass, of which MLX computes nothing, finds the outputs' shapes.
    """
    args, kwargs = arguments
    names = [name for name, _ in held]
    shapes = recorder()
    with watched(model, shapes):
        model(*args, **kwargs)
    zeros = [mx.zeros_like(x) for x in shapes.outputs]
    recorders: list[CallRecorder] = []

    def total(zeros: list[Any], arrays: list[Any]) -> tuple[Any, list[Any]]:
        model.update(tree_unflatten([*zip(names, arrays, strict=True)]))
        seen = recorder(lambda number, output: output + zeros[number])
        recorders.append(seen)
        with watched(model, seen):
            output = model(*args, **kwargs)
        value = _default_loss(output) if loss is None else loss(output)
        return value, seen.outputs

    differentiate = mx.value_and_grad(total, argnums=(0, 1))
    (_, outputs), gradients = differentiate(zeros, [array for _, array in held])
    recorders[-1].outputs = outputs
    return recorders[-1], gradients


def _default_loss(output: Any) -> mx.array:
    """The outputs' elements, each times its weight, summed."""
    flat: list[mx.array] = []
    map_arrays(output, lambda x: flat.append(x) if is_float(x) else None)
    total = mx.zeros(())
    for place, x in enumerate(flat):
        weights = mx.array(cotangent(place, tuple(x.shape)))
        total = total + (x * weights.astype(x.dtype)).sum()
    return total
