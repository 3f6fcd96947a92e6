"""The normal quantile in traced programs: looked up on a CPU, arithmetic on all else.

A CPU takes 2.5 times as long for the arithmetic as for a look-up; a TPU or a GPU would have to make
a pass of its own of the look-up. The bits are the same.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from portinit.sampling.quantile import quantile as by_arrays

quantile_p = Primitive("portinit_quantile")
_arithmetic = partial(by_arrays, jnp, bits=32, by_table=False)
_look_up = partial(by_arrays, jnp, bits=32, by_table=True)


def quantile(xp: Any, c: Any, bits: int) -> Any:
    """As :func:`portinit.sampling.quantile.quantile`; 32 bits as suits the program's platform."""
    return quantile_p.bind(c) if bits == 32 else by_arrays(xp, c, bits)  # type: ignore[no-untyped-call]


def _lowered_for_cpu(context: Any, c: Any) -> Any:
    # Along axes of a mesh that are explicit, a gather would have to be told where its result lies.
    is_sharded = any(context.avals_in[0].sharding.spec)
    function = _arithmetic if is_sharded else _look_up
    return mlir.lower_fun(function, multiple_results=False)(context, c)


quantile_p.def_impl(_arithmetic)  # type: ignore[no-untyped-call]
quantile_p.def_abstract_eval(lambda c: c)  # type: ignore[no-untyped-call]
batching.defvectorized(quantile_p)  # type: ignore[no-untyped-call]
mlir.register_lowering(quantile_p, mlir.lower_fun(_arithmetic, multiple_results=False))
mlir.register_lowering(quantile_p, _lowered_for_cpu, platform="cpu")
