"""A Flax model and its example input: its arrays without data, and its forward pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen, nnx

from portinit import RecipeError
from portinit.probes.inputs import (
    INFERENCE,
    Arguments,
    inference_flags,
    is_array,
    map_arrays,
)
from portinit.probes.outputs import output_leaves
from portinit.recipes.matching.uses.uses import Uses
from portinit_flax.probing.recording import watched
from portinit_flax.tree import COLLECTIONS
from portinit_flax.uses import uses
from portinit_jax.inputs import jax_arguments
from portinit_jax.probing import JaxRecorder

_Call = Callable[..., Any]


@dataclass(frozen=True)
class FlaxModel:
    """A Flax model and its example input.

    Attributes:
        model: what the factory made, put into inference mode.
        empty: what ``portinit_flax.initialize`` fills: linen's variables or an nnx module, without
            data where the factory allows.
        call: from filled values and arguments to the model's output; jax.jit can trace it.
        arguments: the example input.
        flags: the keyword arguments that put a call into inference mode.
        notes: what was decided for the user, a line each.
        rest: linen collections that are neither parameters nor batch statistics, with their data.
    """

    model: Any
    empty: Any
    call: _Call
    arguments: Arguments
    flags: Mapping[str, bool]
    notes: tuple[str, ...] = ()
    rest: Mapping[str, Any] | None = None

    def forward(self, values: Any) -> dict[str, Any]:
        """The leaves of the output for filled values, compiled where the model can be."""
        return FlaxForward(self, values).outputs()

    def whole(self, values: Any) -> Any:
        """Filled variables with the collections that no recipe fills."""
        return {**(self.rest or {}), **values}

    def probed(self, values: Any) -> Any:
        """The module for ``portinit.probe``, which takes linen's variables beside it."""
        return values if isinstance(values, nnx.Module) else self.model

    def uses(self) -> Uses:
        """How the forward pass uses the arrays: see :func:`portinit_flax.uses`."""
        args, kwargs = self.arguments
        if isinstance(self.empty, nnx.Module):
            return uses(self.empty, *args, **kwargs)
        variables = self.whole(self.empty)
        return uses(None, *args, variables=variables, call=self.call, **kwargs, **self.flags)

    def as_mapping(self) -> dict[str, Any] | None:
        """The example input and the flags by name; none if the model cannot be probed so."""
        if not isinstance(self.model, nnx.Module | linen.Module):
            return None
        call: Any = self.model.__call__
        parameters = inspect.signature(call).bind(*self.arguments[0], **self.arguments[1])
        kinds = {one.kind for one in parameters.signature.parameters.values()}
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            return None
        named = dict(parameters.arguments)
        for one in parameters.signature.parameters.values():
            if one.kind is inspect.Parameter.VAR_KEYWORD:
                named |= named.pop(one.name, {})
        return named | dict(self.flags)


class FlaxForward:
    """A filled Flax model as a function of its arrays, compiled once.

    Args:
        flax: the model and its example input.
        values: linen's variables, or the nnx module itself.

    Attributes:
        arrays: the arrays, by the positions that leaves of the model's tree have.
    """

    framework: ClassVar[str] = "Flax"

    def __init__(self, flax: FlaxModel, values: Any) -> None:
        self._flax = flax
        self._state: Any = None
        if isinstance(values, nnx.Module):
            parts: Any = nnx.split(values, (nnx.Param, nnx.BatchStat), ...)
            self._graph, tree, self._state = parts
        else:
            self._graph, tree = None, values
        self.arrays, self._structure = jax.tree.flatten(tree)
        self._names: list[str] = []
        self._calls: list[tuple[str, str]] = []
        self._inputs: list[Any] = []
        self._arguments = map_arrays(flax.arguments, partial(_replace, self._inputs))
        self._compiled: dict[bool, _Call] = {
            watch: jax.jit(partial(self._run, watch=watch)) for watch in (False, True)
        }

    def outputs(self, arrays: Sequence[Any] | None = None) -> dict[str, Any]:
        """The leaves of the output, with other arrays than the model's own if they are given."""
        values, _ = self._call(self.arrays if arrays is None else arrays, watch=False)
        return dict(zip(self._names, values, strict=True))

    def layers(self, arrays: Sequence[Any] | None = None) -> list[tuple[str, str, Any]]:
        """The path, the class and the output of each call of a module that calls no other.

        What is under a ``vmap`` has the mapped axes; ``nn.scan`` and others hide their calls.
        """
        _, calls = self._call(self.arrays if arrays is None else arrays, watch=True)
        return [(*call, x) for call, x in zip(self._calls, calls, strict=True)]

    def _call(self, arrays: Sequence[Any], *, watch: bool) -> Any:
        given = [*arrays], self._state, self._inputs
        with jax.default_matmul_precision("highest"):  # GPUs and TPUs round to fewer bits
            try:
                return self._compiled[watch](*given)
            except jax.errors.JAXTypeError:  # a forward pass that looks at values, or leaks them
                return self._run(*given, watch=watch)

    def _run(
        self, arrays: list[Any], state: Any, inputs: list[Any], *, watch: bool
    ) -> tuple[list[Any], list[Any]]:
        flax, tree = self._flax, jax.tree.unflatten(self._structure, arrays)
        args, kwargs = map_arrays(self._arguments, lambda slot: inputs[slot.number])
        model: Any = flax.whole(tree)
        if self._graph is not None:
            model = nnx.merge(self._graph, tree, state, copy=True)
        recorder = JaxRecorder()
        with watched(model, recorder) if watch else nullcontext():
            leaves = output_leaves(flax.call(model, *args, **kwargs, **flax.flags))
        self._names = [*leaves]
        if watch:
            self._calls = recorder.calls
        return [*leaves.values()], recorder.outputs


@dataclass(frozen=True)
class _Slot:
    """The place of an array among the arguments of a compiled call."""

    number: int
    shape: tuple[int, ...]
    dtype: Any


def _replace(arrays: list[Any], array: Any) -> _Slot:
    arrays.append(array)
    return _Slot(len(arrays) - 1, array.shape, array.dtype)


def flax_model(made: Any, inputs: Any = None, target: str = "the factory") -> FlaxModel:
    """A Flax model and its example input.

    Args:
        made: an nnx module, a linen module, or a library's wrapper of one that is called with
            ``params=``.
        inputs: the example input: an array, a tuple of positional arguments, or a mapping of
            keyword arguments. A linen module has no parameters without one.
        target: what the user calls the model's factory.

    Raises:
        portinit.RecipeError: it is none of these, or a linen module comes without an input.
    """
    arguments = jax_arguments(inputs)
    if isinstance(made, nnx.Module):
        return _nnx(made, arguments)
    if isinstance(made, linen.Module):
        if inputs is None:
            raise RecipeError(
                f"{target} makes a linen module, which has no parameters before it sees an input: "
                "define example_input() beside the factory, or name one with --flax-input"
            )
        return _linen(made, arguments)
    if isinstance(getattr(made, "module", None), linen.Module) and callable(made):
        return _wrapper(made, arguments, target)
    raise RecipeError(_not_flax(made, target))


def _not_flax(made: Any, target: str) -> str:
    kind = type(made).__name__
    if any(base.__module__.startswith("torch.nn") for base in type(made).__mro__):
        return (
            f"{target} must return an nnx.Module or a linen module, got {kind}, a PyTorch module; "
            "the PyTorch factory comes first: portinit port net_torch.py:make net_flax.py:make"
        )
    hint = ""
    if isinstance(made, tuple | list) and any(isinstance(x, linen.Module) for x in made):
        hint = "; return the module alone, its variables are made from the example input"
    return f"{target} must return an nnx.Module or a linen module, got {kind}{hint}"


# nnx


def made_abstract(factory: Callable[[], Any]) -> Any:
    """What a factory makes; an nnx module without data, where its constructor allows."""
    made: list[Any] = []

    def build() -> Any:
        made.append(factory())
        if not isinstance(made[0], nnx.Module):
            return None
        graph, state = nnx.split(made[0])
        made.append(graph)
        return state

    try:
        state = jax.eval_shape(build)
    except jax.errors.JAXTypeError:  # the constructor looks at values
        return factory()
    if not isinstance(made[0], nnx.Module):
        return factory() if _has_tracers(made[0]) else made[0]
    model: nnx.Module = nnx.merge(made[1], state)
    return factory() if _needs_values(model) else model


def _has_tracers(made: Any) -> bool:
    """Whether something that is no nnx module was made of arrays without data."""
    if isinstance(made, linen.Module):
        parts = [getattr(made, field.name, None) for field in fields(made)]
        return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(parts))
    return True


def _needs_values(model: nnx.Module) -> bool:
    """Whether a module holds arrays that no recipe and no key gives."""
    given = nnx.Any(nnx.Param, nnx.BatchStat, nnx.RngState)
    held = [x for _, part in nnx.iter_modules(model) for x in vars(part).values()]
    return any(isinstance(x, jax.core.Tracer) for x in held) or any(
        is_array(x) for x in jax.tree.leaves(nnx.state(model, nnx.Not(given)))
    )


def _nnx(model: nnx.Module, arguments: Arguments) -> FlaxModel:
    nnx.Module.eval(model)  # type: ignore[no-untyped-call]
    flags = inference_flags(type(model).__call__, ((model, *arguments[0]), arguments[1]))
    return FlaxModel(model, model, _call, arguments, flags, _notes(flags))


def _call(model: Any, *args: Any, **kwargs: Any) -> Any:
    return model(*args, **kwargs)


def _notes(flags: Mapping[str, bool], attributes: Mapping[str, bool] | None = None) -> tuple[str]:
    said = [f"{name}={value}" for name, value in {**(attributes or {}), **flags}.items()]
    return (f"Flax ran with {', '.join(said)}",) if said else ()  # type: ignore[return-value]


# linen


def _linen(module: Any, arguments: Arguments) -> FlaxModel:
    names = {field.name for field in fields(module)}
    modes = {name: value for name, value in INFERENCE.items() if name in names}
    if modes:
        module = module.clone(**modes)
    flags = inference_flags(module.__call__, arguments)
    init = partial(module.init, jax.random.key(0), *arguments[0], **arguments[1], **flags)
    shapes = dict(jax.eval_shape(init))
    others = [name for name in shapes if name not in COLLECTIONS]
    rest = jax.jit(lambda: {name: init()[name] for name in others})() if others else {}
    empty = {name: tree for name, tree in shapes.items() if name in COLLECTIONS}
    return FlaxModel(module, empty, module.apply, arguments, flags, _notes(flags, modes), rest)


# FlaxBertModel and the like: a module and its parameters in one object, called with params=


def _wrapper(made: Any, arguments: Arguments, target: str) -> FlaxModel:
    call = type(made).__call__
    if "params" not in inspect.signature(call).parameters:
        raise RecipeError(
            f"{target} makes a {type(made).__name__} around a linen module, and cannot be called "
            "with params=...: return its module instead"
        )
    held = made.params_shape_tree if hasattr(made, "params_shape_tree") else made.params
    shapes = jax.eval_shape(lambda: jax.tree.map(_zeros_like, _plain(held)))
    flags = inference_flags(call, ((made, *arguments[0]), arguments[1]))

    def forward(values: Any, *args: Any, **kwargs: Any) -> Any:
        return made(*args, params=values, **kwargs)

    return FlaxModel(made, shapes, forward, arguments, flags, _notes(flags))


def _zeros_like(x: Any) -> jax.Array:
    return jnp.zeros(x.shape, x.dtype)


def _plain(tree: Any) -> Any:
    """A tree of plain dicts, as Flax's frozen ones are not."""
    if isinstance(tree, Mapping):
        return {name: _plain(part) for name, part in tree.items()}
    return tree
