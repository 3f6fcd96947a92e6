"""The forward pass of a transformed function of Haiku, and who watches its modules' calls."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import haiku as hk

from portinit.probes.inputs import INFERENCE, Arguments
from portinit.probes.recording import is_public
from portinit_haiku.tree import module_path
from portinit_jax.probing import JaxRecorder


def drawn(model: Any, arguments: Arguments, key: Any) -> Any:
    """The params, or params and state, that ``init`` draws.

    It runs in training mode where the arguments state a mode, for a batch norm makes its state
    then only.
    """
    args, kwargs = arguments
    training = {name: not value for name, value in INFERENCE.items() if name in kwargs}
    return model.init(key, *args, **{**kwargs, **training})


def run(model: Any, params: Any, state: Any, rng: Any, arguments: Arguments) -> Any:
    """The output of a transformed function, without the new state.

    Args:
        model: what ``hk.transform`` or ``hk.transform_with_state`` gives.
        params: its parameters.
        state: its state; not looked at of a function that has none.
        rng: a key, or None; left out where ``hk.without_apply_rng`` takes none.
        arguments: the function's own.
    """
    (args, kwargs), has_state = arguments, isinstance(model, hk.TransformedWithState)
    held = (params, state) if has_state else (params,)
    takes_a_key = "rng" in inspect.signature(model.apply).parameters
    output = model.apply(*held, *(rng,) * takes_a_key, *args, **kwargs)
    return output[0] if has_state else output


@contextmanager
def watched(recorder: JaxRecorder) -> Iterator[None]:
    """Tell the recorder of the calls of modules."""

    def interceptor(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module, method = context.module, context.method_name
        is_layer = is_public(method) and not isinstance(module, hk.ExponentialMovingAverage)
        if not is_layer:  # one that is being made has no name yet
            return call(*args, **kwargs)
        name = "/".join(module_path(module.module_name))
        return recorder.call(partial(call, *args, **kwargs), module, name, method)

    with hk.intercept_methods(interceptor):
        yield
