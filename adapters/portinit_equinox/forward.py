"""The forward pass of an Equinox model, on each example of a batch, and who watches its layers.

Equinox's layers take one example, so that a model is run under ``jax.vmap`` over the first axis of
its inputs. A model that takes a whole batch, and so cannot be run so, is called with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial, wraps
from typing import Any

import equinox as eqx
import jax

from portinit.probes.inputs import Arguments, inference_flags, is_array
from portinit_jax.paths import path_of
from portinit_jax.probing import JaxRecorder


def run(
    model: Any,
    arguments: Arguments,
    key: Any = None,
    recorder: JaxRecorder | None = None,
    *,
    is_batched: bool,
) -> Any:
    """The output of a model, without the new State.

    Args:
        model: a module, or a pair of one and its State.
        arguments: its arguments.
        key: what a model that takes a key is given, each example one that is split off it; None
            for no key.
        recorder: of its layers' calls.
        is_batched: whether the model is called for each example.
    """
    if not is_batched:
        return _called(model, arguments, key, recorder)
    zeros = None if recorder is None else recorder.zeros
    inner: list[JaxRecorder] = []

    def one(zeros: Any, key: Any, arguments: Arguments) -> tuple[Any, list[Any]]:
        inner.append(JaxRecorder(zeros))
        watching = None if recorder is None else inner[-1]
        return _called(model, arguments, key, watching), inner[-1].outputs

    count = next(len(x) for x in jax.tree.leaves(arguments) if is_array(x))
    keys = None if key is None else jax.random.split(key, count)
    mapped = eqx.filter_vmap(one, axis_name=_axis_name(model))
    output, outputs = mapped(zeros, keys, arguments)
    if recorder is not None:
        recorder.take(inner[-1], outputs)
    return output


def _called(model: Any, arguments: Arguments, key: Any, recorder: JaxRecorder | None) -> Any:
    module, state = model if isinstance(model, tuple) else (model, None)
    (args, kwargs), more = arguments, dict[str, Any]()
    if state is not None:
        more["state"] = state
    takes = inspect.signature(type(module).__call__).parameters.get("key")
    if takes is not None and (key is not None or takes.default is inspect.Parameter.empty):
        more["key"] = key
    with nullcontext() if recorder is None else watched(module, recorder):
        output = module(*args, **{**more, **kwargs})
    return jax.tree.map(lambda x: None if _is_state(x) else x, output, is_leaf=_is_state)


def _is_state(x: Any) -> bool:
    return isinstance(x, eqx.nn.State)


def _axis_name(model: Any) -> Any:
    """The name that batch norms have for the axis of examples; None without them."""
    nodes = jax.tree.leaves(model, is_leaf=lambda x: isinstance(x, eqx.nn.BatchNorm))
    names = [x.axis_name for x in nodes if isinstance(x, eqx.nn.BatchNorm)]
    return names[0] if names and isinstance(names[0], str) else None


def with_flags(model: Any, arguments: Arguments, *, required: bool = False) -> Arguments:
    """The arguments with the flags of inference mode: see :func:`inference_flags`."""
    module = model[0] if isinstance(model, tuple) else model
    given = (module, *arguments[0]), arguments[1]
    flags = inference_flags(type(module).__call__, given, required=required)
    return arguments[0], {**arguments[1], **flags}


def takes_examples(model: Any, arguments: Arguments, key: Any = None) -> bool:
    """Whether a model can be called for each example, as shapes tell."""
    arrays = [x for x in jax.tree.leaves(arguments) if is_array(x)]
    if not arrays or not all(getattr(x, "ndim", 1) for x in arrays):
        return False  # a number has no axis of examples
    try:
        eqx.filter_eval_shape(partial(run, is_batched=True), model, arguments, key)
    except Exception:  # whatever a model says of an input that is not its own
        return False
    return True


@contextmanager
def watched(model: Any, recorder: JaxRecorder) -> Iterator[None]:
    """Tell the recorder of the calls of a model's modules.

    Their classes are changed while it lasts, for a module is frozen: not for two threads at once.
    """
    paths = {id(module): "/".join(path) for path, module in _modules(model)}
    kinds = {type(module) for _, module in _modules(model)}
    own = {kind: vars(kind).get("__call__") for kind in kinds}
    called = {kind: kind.__call__ for kind in kinds}
    try:
        for kind in kinds:
            kind.__call__ = _told(called[kind], paths, recorder)
        yield
    finally:
        for kind, function in own.items():
            if function is None:
                del kind.__call__
            else:
                kind.__call__ = function


def _told(function: Any, paths: Mapping[int, str], recorder: JaxRecorder) -> Any:
    @wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        own = partial(function, self, *args, **kwargs)
        return recorder.call(own, self, paths.get(id(self)))  # none for one made on the way

    return call


def _modules(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The modules of a pytree that can be called, outer ones first, with their paths."""
    if isinstance(node, eqx.Module) and callable(node):
        yield path, node
    inner = jax.tree_util.tree_flatten_with_path(
        node, is_leaf=lambda x: x is not node and isinstance(x, eqx.Module)
    )[0]
    for keys, part in inner:
        if isinstance(part, eqx.Module) and part is not node:
            yield from _modules(part, (*path, *path_of(keys)))
