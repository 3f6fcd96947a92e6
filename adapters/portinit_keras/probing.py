"""Activations and gradients of a Keras model, by adding zeros to what its layers return.

JAX, PyTorch and TensorFlow differentiate by these; NumPy's backend has no gradients.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from portinit import Recipe
from portinit.probes.inputs import Arguments, arguments_of, map_arrays
from portinit.probes.measured import ProbedLayer
from portinit.probes.parameters import probed_parameters
from portinit.probes.probing import cotangent
from portinit.probes.recording import CallRecorder, probed_layers
from portinit.probes.result import Probe
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.tables.targets import NameTable
from portinit_keras.drawing import as_tensor, to_array
from portinit_keras.initialize import fill, leaf_plans
from portinit_keras.recording import recorder, watched
from portinit_keras.tree import Variables

Loss = Callable[[Any], Any]
Measured = tuple[tuple[ProbedLayer, ...], Sequence[Any], tuple[str, ...]]
"""The layers, the gradients at the variables, and the names of layers that are not seen."""


def probe(
    model: Any,
    inputs: Any,
    *,
    recipe: Recipe | None,
    key: Any,
    variables: Any,
    names: NameTable | None,
    loss: Loss | None,
    limit: float,
) -> Probe:
    """See :func:`portinit.probe`."""
    if variables is not None:
        raise ValueError("variables are for linen and Haiku, got a model of Keras with them")
    if key is not None and recipe is None:
        raise ValueError("a key must come with a recipe that draws with it, got a key alone")
    request, arguments = MatchRequest.of(names), arguments_of(inputs, as_tensor)
    if isinstance(model, keras.Layer) and not model.built:
        model(*arguments[0], **arguments[1])
    with _as_it_was(model):
        held = Variables.of(model)
        if recipe is not None and key is not None:
            fill(model, recipe, key, request)
        values = {place: to_array(v).copy() for place, v in enumerate(held.variables)}
        run = _RUNS.get(keras.backend.backend(), _forward_only)
        layers, gradients, unseen = run(model, held.variables, arguments, loss or _default_loss)
    measures = probed_parameters(
        held.tree.leaves.values(), values, dict(enumerate(gradients)),
        [] if recipe is None else leaf_plans(held, recipe, request), layers,
    )  # fmt: skip
    return Probe("keras", layers, measures, unseen, limit)


@contextmanager
def _as_it_was(model: Any) -> Iterator[None]:
    """Leave a model's variables as they were, those of random generators too."""
    held = [(variable, to_array(variable).copy()) for variable in model.variables]
    try:
        yield
    finally:
        for variable, values in held:
            variable.assign(values)


def _default_loss(output: Any) -> Any:
    """The outputs' elements, each times its weight, summed."""
    flat: list[Any] = []
    map_arrays(output, flat.append)
    total = keras.ops.zeros(())
    floats = (x for x in flat if keras.backend.is_float_dtype(_dtype(x)))
    for place, x in enumerate(floats):
        weights = keras.ops.convert_to_tensor(cotangent(place, tuple(x.shape)), _dtype(x))
        total = total + keras.ops.cast(keras.ops.sum(x * weights), "float32")
    return total


def _dtype(tensor: Any) -> str:
    name: str = keras.backend.standardize_dtype(tensor.dtype)
    return name


def _by_jax(model: Any, variables: Sequence[Any], arguments: Arguments, loss: Loss) -> Measured:
    probing = importlib.import_module("portinit_jax.probing")

    def forward(parameters: Any, recorder: CallRecorder) -> Any:
        pairs = [*zip(variables, parameters, strict=True)]
        with keras.StatelessScope(state_mapping=pairs), watched(model, recorder):
            return model(*arguments[0], **arguments[1])

    found: Measured = probing.measured(forward, [v.value for v in variables], loss)
    return found


def _by_torch(model: Any, variables: Sequence[Any], arguments: Arguments, loss: Loss) -> Measured:
    torch = importlib.import_module("torch")
    zeros: list[Any] = []

    def change(number: int, output: Any) -> Any:
        zeros.append(torch.zeros_like(output, requires_grad=True))
        return output + zeros[-1]

    values = [variable.value for variable in variables]
    asked = [value.requires_grad for value in values]
    try:
        for value in values:
            value.requires_grad_()
        seen, total = _eager(model, arguments, loss, change)
        slopes = torch.autograd.grad(total, [*zeros, *values], allow_unused=True)
    finally:
        for value, own in zip(values, asked, strict=True):
            value.requires_grad_(own)
    return _measured(seen, slopes)


def _by_tensorflow(
    model: Any, variables: Sequence[Any], arguments: Arguments, loss: Loss
) -> Measured:
    tf = importlib.import_module("tensorflow")
    zeros: list[Any] = []

    def change(number: int, output: Any) -> Any:
        zeros.append(tf.zeros_like(output))
        tape.watch(zeros[-1])
        return output + zeros[-1]

    values = [variable.value for variable in variables]
    with tf.GradientTape() as tape:
        tape.watch(values)
        seen, total = _eager(model, arguments, loss, change)
    slopes = tape.gradient(total, [*zeros, *values])
    return _measured(seen, [x if x is None else tf.convert_to_tensor(x) for x in slopes])


def _forward_only(
    model: Any, variables: Sequence[Any], arguments: Arguments, loss: Loss
) -> Measured:
    seen = recorder()
    with watched(model, seen):
        model(*arguments[0], **arguments[1])
    return _measured(seen, [None] * (len(seen.outputs) + len(variables)))


_RUNS = {"jax": _by_jax, "torch": _by_torch, "tensorflow": _by_tensorflow}


def _eager(
    model: Any, arguments: Arguments, loss: Loss, change: Callable[[int, Any], Any]
) -> tuple[CallRecorder, Any]:
    """A forward pass that is recorded, and the loss."""
    seen = recorder(change)
    with watched(model, seen):
        output = model(*arguments[0], **arguments[1])
    return seen, loss(output)


def _measured(seen: CallRecorder, slopes: Sequence[Any]) -> Measured:
    count = len(seen.outputs)
    gradients = [None if slope is None else to_array(slope) for slope in slopes]
    outputs = [to_array(output) for output in seen.outputs]
    return (
        (*probed_layers(seen.calls, outputs, gradients[:count]),),
        gradients[count:],
        (*seen.unseen,),
    )
