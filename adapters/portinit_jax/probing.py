"""Activations and gradients of a model in JAX, by adding zeros to what its layers return.

The gradient with respect to a layer's output is that with respect to a zero which is added to it.
The libraries on JAX say how their layers' calls are watched; the rest is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

from portinit.probes.measured import ProbedLayer
from portinit.probes.probing import cotangent
from portinit.probes.recording import CallRecorder, probed_layers
from portinit.random.keys import key as make_key

_CORE: Any = jax.extend.core if hasattr(jax.extend.core, "get_opaque_trace_state") else jax.core


def _trace() -> Any:
    """What tells one transformation from another; nested ones differ, as Flax uses it."""
    return _CORE.get_opaque_trace_state(convention="flax")


class JaxRecorder(CallRecorder):
    """A recorder of calls in JAX: of those in the trace that it is made in, and under its ``vmap``.

    An output under ``vmap`` has the mapped axes in front. Other transformations let nothing out.

    Args:
        zeros: to be added to the outputs, in their order.

    Attributes:
        zeros: these.
    """

    def __init__(self, zeros: Sequence[Any] | None = None) -> None:
        super().__init__(is_float, None if zeros is None else self._add)
        self.zeros = zeros
        self._made_in = _trace()

    def _add(self, number: int, output: Any) -> Any:
        return output + (self.zeros or ())[number]

    def _reaches(self) -> bool:
        """Whether no transformation has begun since: ``scan``, ``vmap``, ``remat``, ``jit``."""
        return bool(_trace() == self._made_in)

    def taken(self, array: Any, change: Callable[[Any], Any]) -> Any | None:
        """Record an output, the whole of one that ``vmap`` maps; None inside ``scan`` and others.

        The rule of a ``custom_vmap`` is given the whole, in the trace outside of the ``vmap``.
        """
        if self._reaches():
            return super().taken(array, change)
        count = len(self.outputs)

        @custom_vmap
        def inside(x: Any) -> Any:
            return x

        @inside.def_vmap
        def outside(size: int, is_batched: Sequence[bool], x: Any) -> tuple[Any, bool]:
            is_taken = len(self.outputs) > count
            if is_taken or not self._reaches():
                return inside(x), True  # one ``vmap`` in another
            return super(JaxRecorder, self).taken(x, change), True

        output = inside(array)
        return output if len(self.outputs) > count else None

    def with_first(self, output: Any, change: Callable[[Any], Any]) -> Any:
        """An output, any pytree, with its first floating array changed."""
        flat, structure = jax.tree_util.tree_flatten(output)
        place = next((i for i, leaf in enumerate(flat) if is_float(leaf)), None)
        if place is None:
            return output
        flat[place] = change(flat[place])
        return jax.tree_util.tree_unflatten(structure, flat)

    def take(self, other: JaxRecorder, outputs: Sequence[Any]) -> None:
        """Record what another has, made inside a transformation, with what came out of that."""
        self.calls += other.calls
        self.unseen |= other.unseen
        self.outputs += outputs


def is_float(x: Any) -> bool:
    """Whether a leaf is an array of real numbers, with at least one."""
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating) and x.size > 0


def as_jax_key(key: Any) -> Any:
    """A key in JAX's form; that of the seed 0 for None."""
    if isinstance(key, jax.Array):
        return key
    words = np.array((make_key(0) if key is None else key).words, np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")


Forward = Callable[[Any, JaxRecorder], Any]
"""A forward pass: from the parameters and who watches to the output."""


def measured(
    forward: Forward, parameters: Any, loss: Callable[[Any], Any] | None
) -> tuple[tuple[ProbedLayer, ...], Any, tuple[str, ...]]:
    """Forward and backward, compiled; a first pass, which computes nothing, finds the shapes.

    Returns:
        The layers, the gradients at the parameters, and the names of layers that are not seen.
    """

    def shapes(parameters: Any) -> list[Any]:
        recorder = JaxRecorder()
        forward(parameters, recorder)
        return recorder.outputs

    zeros = [jnp.zeros(x.shape, x.dtype) for x in jax.eval_shape(shapes, parameters)]
    recorders: list[JaxRecorder] = []

    def total(zeros: list[Any], parameters: Any) -> tuple[Any, list[Any]]:
        recorder = JaxRecorder(zeros)
        recorders.append(recorder)
        output = forward(parameters, recorder)
        value = _default_loss(output) if loss is None else loss(output)
        return value, recorder.outputs

    differentiate = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True, allow_int=True))
    (slopes, gradients), outputs = differentiate(zeros, parameters)
    seen = recorders[-1]
    return (*probed_layers(seen.calls, outputs, slopes),), gradients, (*seen.unseen,)


def _default_loss(output: Any) -> Any:
    """The outputs' elements, each times its weight, summed."""
    flat = [x for x in jax.tree_util.tree_leaves(output) if is_float(x)]
    weights = [jnp.asarray(cotangent(place, x.shape)) for place, x in enumerate(flat)]
    terms = [jnp.sum(x * w.astype(x.dtype)) for x, w in zip(flat, weights, strict=True)]
    return sum(terms, start=jnp.zeros(()))
