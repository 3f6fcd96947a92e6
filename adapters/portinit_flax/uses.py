"""How a Flax model's forward pass uses its arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
from flax import linen, nnx

from portinit.probes.inputs import inference_flags
from portinit.recipes.matching.uses.uses import Uses
from portinit_flax.tree import leaves
from portinit_jax.inputs import jax_arguments
from portinit_jax.uses import uses_of


def uses(
    model: Any,
    *args: Any,
    variables: Any = None,
    call: Callable[..., Any] | None = None,
    **kwargs: Any,
) -> Uses:
    """Trace one forward pass and say how it uses each array. Nothing is computed.

    The call is given the flags that mean inference, such as ``deterministic=True``, where it takes
    them.

    Args:
        model: an nnx module, abstract or not; a linen module; or None, with ``call``.
        args: example inputs.
        variables: of a linen module or of ``call``: arrays, or ``jax.eval_shape``'s structs; by
            default a linen module is initialised, without computing anything.
        call: what is traced for a model of another kind: a function of the variables and inputs.
        kwargs: example inputs by name.

    Returns:
        The uses by path, joined by ``/``, the first use first. An array of a stack that a loop
        takes apart has ``"layer"`` among its axes.

    >>> import jax.numpy as jnp
    >>> from flax import linen
    >>> print(uses(linen.Dense(2), jnp.zeros((1, 3))))
    kernel: contraction (in, out) at depth 1
    bias: add at depth 1
    """
    positional, named = jax_arguments(args)[0], jax_arguments(kwargs)[1]
    if call is not None:
        return _uses(call, variables, positional, named)
    if isinstance(model, nnx.Module):
        graph, state = nnx.split(model)
        arguments = ((model, *positional), named)
        named = {**named, **inference_flags(type(model).__call__, arguments)}
        return _uses(partial(_merged, graph), state, positional, named)
    if not isinstance(model, linen.Module):
        raise TypeError(f"a model must be an nnx or a linen module, got {type(model).__name__}")
    named = {**named, **inference_flags(model.__call__, (positional, named))}
    if variables is None:
        init = partial(model.init, jax.random.key(0), *positional, **named)
        variables = jax.eval_shape(init)
    return _uses(partial(model.apply, rngs=jax.random.key(0)), variables, positional, named)


def _merged(graph: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
    model = nnx.merge(graph, state)
    model.eval()
    return model(*args, **kwargs)


def _uses(
    call: Callable[..., Any], variables: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Uses:
    found, flat, _ = leaves(variables)
    names: list[str | None] = [None] * len(flat)
    for leaf in found:
        names[leaf.position] = leaf.label
    return uses_of(call, variables, names, args, kwargs)
