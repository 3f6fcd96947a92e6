"""Example inputs as the arguments of a model in JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from portinit.arrays.convert import to_numpy
from portinit.probes.inputs import Arguments, arguments_of


def jax_arguments(inputs: Any) -> Arguments:
    """The arguments that an example input is for JAX: arrays of any framework become JAX's.

    Args:
        inputs: as for :func:`portinit.probe`; none for a call without arguments.
    """
    return ((), {}) if inputs is None else arguments_of(inputs, _as_jax)


def _as_jax(array: Any) -> Any:
    return array if isinstance(array, jax.Array) else jnp.asarray(to_numpy(array))
