"""How an Equinox model's forward pass uses its arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx

from portinit.probes.inputs import Arguments, is_array
from portinit.recipes.matching.uses.uses import Uses
from portinit_equinox.forward import run, takes_examples, with_flags
from portinit_equinox.tree import EquinoxArrays
from portinit_jax.inputs import jax_arguments
from portinit_jax.uses import uses_of


def uses(model: Any, *args: Any, **kwargs: Any) -> Uses:
    """Trace one forward pass in inference mode and say how it uses each array.

    Nothing is computed. A model that takes one example is called under ``jax.vmap``.

    Args:
        model: a pytree of modules, or a pair of one and its State; structs are enough.
        args: example inputs, a batch.
        kwargs: example inputs by name.

    Returns:
        The uses by path, joined by ``/``, the first use first.

    >>> import equinox as eqx, jax, jax.numpy as jnp
    >>> import portinit_equinox
    >>> print(portinit_equinox.uses(eqx.nn.Linear(3, 2, key=jax.random.key(0)), jnp.ones((1, 3))))
    weight: contraction (out, in) at depth 1
    bias: add at depth 1
    """
    made = eqx.nn.inference_mode(model)
    arguments = with_flags(made, (jax_arguments(args)[0], jax_arguments(kwargs)[1]))
    return traced_uses(made, arguments, is_batched=takes_examples(made, arguments))


def traced_uses(model: Any, arguments: Arguments, *, is_batched: bool) -> Uses:
    """The uses of a model that is in inference mode, for arguments that are JAX's."""
    arrays = EquinoxArrays.of(model)
    labels = {leaf.position: leaf.label for leaf in arrays.tree.leaves.values()}
    places = [i for i, value in enumerate(arrays.values) if is_array(value)]

    def call(held: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        filled = arrays.filled(dict(zip(places, held, strict=True)))
        return run(filled, (args, kwargs), is_batched=is_batched)

    held, names = [arrays.values[i] for i in places], [labels.get(i) for i in places]
    return uses_of(call, held, names, *arguments)
