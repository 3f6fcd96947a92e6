"""jax.nn.initializers, and portinit_jax.initializers, under jit."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import portinit
import portinit_jax
from benchmarks.measure import Side, Sides, Wall

_COMPILATIONS = 3


def draw(
    name: str,
    shape: tuple[int, ...],
    memory: str,
    arguments: tuple[Any, ...] = (),
    layout: str | None = None,
) -> Sides:
    """Values of a shape, in new memory or in a donated array's.

    The compilations are interleaved too, with JAX's caches cleared before each.
    """
    ours = getattr(portinit_jax.initializers, name)(*arguments)
    if layout is not None:
        ours = partial(getattr(portinit, name)(*arguments), layout=layout)
    theirs = getattr(jax.nn.initializers, name)(*arguments)
    functions = [_function(init, tuple(shape), memory) for init in (ours, theirs)]
    for function in functions:  # what the first of all compilations sets up
        _compile(function, shape, memory)
    built = [
        [_compile(function, shape, memory) for function in functions] for _ in range(_COMPILATIONS)
    ]
    one, other = (list(column) for column in zip(*built, strict=True))
    return _side(one, shape, memory), _side(other, shape, memory)


def call(name: str, shape: tuple[int, ...], arguments: tuple[Any, ...] = ()) -> Sides:
    """Our initializer called as it is, which compiles nothing on a CPU, and theirs under jit."""
    ours = getattr(portinit_jax.initializers, name)(*arguments)
    theirs = _function(getattr(jax.nn.initializers, name)(*arguments), tuple(shape), "new")
    key = jax.random.key(0)
    one = Side(Wall(lambda: ours(key, tuple(shape)).block_until_ready()))
    return one, _side([_compile(theirs, shape, "new")], shape, "new")


def _function(init: Any, shape: tuple[int, ...], memory: str) -> Callable[..., Any]:
    if memory == "new":
        return lambda key: init(key, shape)
    return lambda key, old: init(key, shape)


def _compile(
    function: Callable[..., Any], shape: tuple[int, ...], memory: str
) -> tuple[float, Any]:
    """The seconds that tracing and compiling take, and what comes of it."""
    jax.clear_caches()  # type: ignore[no-untyped-call]
    old = (jax.eval_shape(lambda: jnp.zeros(tuple(shape))),) if memory == "reused" else ()
    donated = (1,) if old else ()
    jitted = jax.jit(function, donate_argnums=donated, keep_unused=True)
    key = jax.eval_shape(lambda: jax.random.key(0))
    begin = time.perf_counter()
    compiled = jitted.lower(key, *old).compile()
    return time.perf_counter() - begin, compiled


def _side(built: list[tuple[float, Any]], shape: tuple[int, ...], memory: str) -> Side:
    compiled = built[-1][1]
    facts = {"compile": statistics.median(seconds for seconds, _ in built)}
    if (analysis := compiled.memory_analysis()) is not None:
        facts["temporary"] = float(analysis.temp_size_in_bytes)
    key = jax.random.key(0)
    if memory == "new":
        return Side(Wall(lambda: compiled(key).block_until_ready()), facts)
    kept = [jnp.zeros(tuple(shape))]

    def again() -> None:
        kept[0] = compiled(key, kept[0]).block_until_ready()

    return Side(Wall(again), facts)
