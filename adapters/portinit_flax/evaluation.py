"""From what each leaf gets to arrays: made by NumPy on the host, or by a program for each spec."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from portinit.arrays.dtypes import dtype_name
from portinit.arrays.layouts import Shape
from portinit.backends.base import Words
from portinit.backends.plan import Plan, is_hosted
from portinit.initializers.base import Initializer
from portinit.recipes.names import split_name
from portinit.recipes.rule import raise_misfits
from portinit_flax.matching import Plan as LeafPlan
from portinit_jax.backend import BACKEND
from portinit_jax.host import make_on_host
from portinit_jax.keys import as_key, fold_in, fold_in_each
from portinit_jax.programs import FillSpec, place, require_fit, run, shared

CompiledFill = Callable[..., Any]
"""From the words of a key, or of several layers' keys, and an array's own constants to it."""


@dataclass(frozen=True)
class ArrayFill:
    """One array to make: a parameter, or the layers of a stack."""

    plans: tuple[LeafPlan, ...]
    sharding: Sharding | None

    @property
    def position(self) -> int:
        """The array's number in the tree."""
        return self.plans[0].leaf.position

    @property
    def path(self) -> str:
        """The path of the array, or of a stack's first layer."""
        return "/".join(self.plans[0].leaf.path)

    @property
    def shape(self) -> Shape:
        """The array's shape."""
        leaf = self.plans[0].leaf
        if leaf.axis is None:
            return leaf.shape
        return (*leaf.shape[: leaf.axis], len(self.plans), *leaf.shape[leaf.axis :])

    @cached_property
    def dtype(self) -> str:
        """The name of the array's dtype."""
        return dtype_name(self.plans[0].leaf.dtype)

    @cached_property
    def values(self) -> tuple[Plan, ...]:
        """The values' plan, or those of the layers."""
        return tuple(p.rule.initializer.planned(p.grid, self.dtype) for p in self.plans)

    @cached_property
    def is_hosted(self) -> bool:
        """Whether the values are computed in NumPy, so that there is no program."""
        return any(map(is_hosted, self.values))

    @cached_property
    def spec(self) -> tuple[FillSpec, tuple[Any, ...]]:
        """What is compiled, and the arguments that are this array's own."""
        leaf = self.plans[0].leaf
        return shared(self.values, self.plans[0].grid, self.dtype, self.sharding, leaf.axis)

    def words(self, root: Any) -> Words:
        """The words of the parameter's key, or vectors of those of the layers' keys."""
        names = [key_name(plan) for plan in self.plans]
        if self.plans[0].leaf.axis is None:
            return BACKEND.words(fold_in(root, names[0]))
        return fold_in_each(root, names)

    def given(self, root: Any) -> Any:
        """The array, where NumPy computes the values."""
        axis = self.plans[0].leaf.axis
        xp = jnp if isinstance(root, jax.core.Tracer) else np
        layers = [_given(plan, root, xp) for plan in self.plans]
        return place(layers[0] if axis is None else xp.stack(layers, axis), self.sharding)


def key_name(plan: LeafPlan) -> str:
    """The name that the root key is folded with for a leaf."""
    return plan.rule.drawn_as or split_name(plan.name)[0]


def _given(plan: LeafPlan, root: Any, xp: Any) -> Any:
    key = fold_in(root, key_name(plan))
    initializer: Initializer = plan.rule.initializer
    return initializer.evaluate(key, plan.grid, plan.leaf.dtype, xp=xp)


def tasks_of(plans: Sequence[LeafPlan], shardings: Sequence[Sharding | None]) -> list[ArrayFill]:
    """The arrays that the plans are for, checked against where they are to lie."""
    found: dict[int, list[LeafPlan]] = {}
    for plan in plans:
        found.setdefault(plan.leaf.position, []).append(plan)
    tasks = [ArrayFill(tuple(parts), shardings[position]) for position, parts in found.items()]
    raise_misfits("every array must have its place", [*_misplaced(tasks)])
    return tasks


def _misplaced(tasks: Sequence[ArrayFill]) -> Iterator[str]:
    for task in tasks:
        if len({plan.grid for plan in task.plans}) > 1:
            yield f"{task.path}: all layers of a stack must have one layout"
        try:
            BACKEND.require_width(task.dtype)
            require_fit(task.shape, task.sharding)
        except (ValueError, TypeError) as error:
            yield f"{task.path} {task.shape}: {error}"


def fill(
    tasks: Sequence[ArrayFill], key: Any, program: Callable[[FillSpec], CompiledFill] | None = None
) -> dict[int, Any]:
    """The arrays by their numbers in the tree, made by programs, or by what is had soonest."""
    root = as_key(key)
    return {
        task.position: task.given(root) if task.is_hosted else _made(task, root, program)
        for task in tasks
    }


def _made(task: ArrayFill, root: Any, program: Callable[[FillSpec], CompiledFill] | None) -> Any:
    words, plan = task.words(root), task.plans[0]
    if program is None and task.sharding is None and plan.leaf.axis is None:
        values = make_on_host(task.values[0], plan.grid, task.dtype, words)
        if values is not None:
            return values
    spec, own = task.spec
    return run(BACKEND, spec, words, own) if program is None else program(spec)(*words, *own)
