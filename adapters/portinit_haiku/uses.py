"""How a transformed function of Haiku uses its parameters."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from portinit.probes.inputs import inference_flags
from portinit.recipes.matching.uses.uses import Uses
from portinit_haiku.forward import drawn, run
from portinit_haiku.tree import HaikuArrays
from portinit_jax.inputs import jax_arguments
from portinit_jax.uses import uses_of


def uses(model: Any, *args: Any, **kwargs: Any) -> Uses:
    """Trace one forward pass and say how it uses each array. Nothing is computed.

    The call is given the flags that mean inference, such as ``is_training=False``, where it takes
    them and they are not given.

    Args:
        model: what ``hk.transform`` or ``hk.transform_with_state`` gives.
        args: example inputs.
        kwargs: example inputs by name.

    Returns:
        The uses by path, as :func:`match` lists it, the first use first.

    >>> import haiku as hk, jax.numpy as jnp
    >>> import portinit_haiku
    >>> net = hk.transform(lambda x: hk.Linear(2, name="fc")(x))
    >>> print(portinit_haiku.uses(net, jnp.ones((1, 3))))
    fc/w: contraction (in, out) at depth 1
    fc/b: add at depth 1
    """
    positional, named = jax_arguments(args)[0], jax_arguments(kwargs)[1]
    named |= inference_flags(model.init, ((None, *positional), named))
    empty = jax.eval_shape(partial(drawn, model, (positional, named)), jax.random.key(0))
    return traced_uses(partial(_output, model), empty, (positional, named))


def _output(model: Any, filled: Any, *args: Any, **kwargs: Any) -> Any:
    params, state = filled if isinstance(filled, tuple) else (filled, None)
    return run(model, params, state, None, (args, kwargs))


def traced_uses(apply: Any, empty: Any, arguments: tuple[Any, Any]) -> Uses:
    """The uses in a function of params, or of params and state, for arguments that are JAX's."""
    arrays = HaikuArrays.of(empty)
    labels = {leaf.position: leaf.label for leaf in arrays.tree.leaves.values()}
    names = [labels.get(position) for position in range(len(arrays.values))]
    return uses_of(apply, empty, names, *arguments)
