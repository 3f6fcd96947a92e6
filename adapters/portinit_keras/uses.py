"""How a Keras model's forward pass uses its variables, where its backend tells."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import keras

from portinit.recipes.matching.uses.uses import Uses
from portinit_keras.tree import Variables


def uses(model: Any, *args: Any, **kwargs: Any) -> Uses:
    """Say how one forward pass, in inference mode, uses each variable.

    On JAX it is traced and nothing is computed; on PyTorch it runs.

    Args:
        model: a built ``keras.Model`` or ``keras.Layer``.
        args: example inputs.
        kwargs: example inputs by name.

    Returns:
        The uses by path, joined by ``/``, the first use first.

    Raises:
        TypeError: Keras runs on a backend other than JAX or PyTorch, whose operations are not
            followed.

    >>> import keras, numpy as np
    >>> import portinit_keras
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="fc")])
    >>> print(portinit_keras.uses(model, np.ones((1, 3), "float32")))
    fc/kernel: contraction (in, out) at depth 1
    fc/bias: add at depth 1
    """
    held = Variables.of(model)
    labels = {leaf.position: leaf.label for leaf in held.tree.leaves.values()}
    names = [labels[position] for position in range(len(held.variables))]
    values = [variable.value for variable in held.variables]
    backend = keras.backend.backend()
    if backend == "jax":
        jaxs: Uses = importlib.import_module("portinit_jax.uses").uses_of(
            _stateless(model, held.variables), values, names, args, kwargs
        )
        return jaxs
    if backend == "torch":
        tensors = dict(zip(names, values, strict=True))
        torchs: Uses = importlib.import_module("portinit_torch.uses").uses_of(
            model, tensors, args, kwargs
        )
        return torchs
    raise TypeError(
        "uses are read off JAX's programs or PyTorch's operations, and Keras runs on "
        f"{backend}: set KERAS_BACKEND to jax or torch, or state names in names="
    )


def _stateless(model: Any, variables: Sequence[Any]) -> Callable[..., Any]:
    """The model as a function of its variables' values and of its arguments."""

    def call(values: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        pairs = [*zip(variables, values, strict=True)]
        with keras.StatelessScope(state_mapping=pairs):
            return model(*args, **kwargs)

    return call
