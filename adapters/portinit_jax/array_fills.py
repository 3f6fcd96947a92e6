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

from portinit import Key
from portinit.arrays.dtypes import dtype_name
from portinit.arrays.layouts import Shape
from portinit.backends.base import Words
from portinit.backends.plan import Plan, is_hosted
from portinit.recipes.matching.assembly import assembled, part_values
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.rule import raise_misfits
from portinit_jax.backend import BACKEND
from portinit_jax.host import make_each_on_host
from portinit_jax.keys import as_key, fold_in, fold_in_each
from portinit_jax.programs import FillSpec, place, require_fit, run, shared

CompiledFill = Callable[..., Any]
"""From the words of a key, or of several layers' keys, and an array's own constants to it."""


@dataclass(frozen=True)
class ArrayFill:
    """One array to make: a parameter, the layers of a stack, or parameters side by side."""

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
        if leaf.whole is not None:
            return leaf.whole
        if leaf.axis is None:
            return leaf.shape
        if leaf.extent is None:
            return (*leaf.shape[: leaf.axis], len(self.plans), *leaf.shape[leaf.axis :])
        extents = sum(plan.leaf.extent or 0 for plan in self.plans)
        return (*leaf.shape[: leaf.axis], extents, *leaf.shape[leaf.axis + 1 :])

    @cached_property
    def dtype(self) -> str:
        """The name of the array's dtype."""
        return dtype_name(self.plans[0].leaf.dtype)

    @cached_property
    def values(self) -> tuple[Plan, ...]:
        """The values' plan, or those of the layers."""
        return tuple([plan.values for plan in self.plans])

    @cached_property
    def is_joined(self) -> bool:
        """Whether the array is put together from parts that one program does not make.

        Parts that NumPy computes, that lie in different ways, that are viewed in another shape, or
        that are cut out of a parameter.
        """
        first = self.plans[0]
        return (
            first.leaf.extent is not None
            or first.leaf.places is not None
            or any(plan.is_cut_out for plan in self.plans)
            or first.grid.array_shape != first.leaf.shape
            or any(map(is_hosted, self.values))
            or any(plan.grid != first.grid for plan in self.plans)
        )

    @cached_property
    def spec(self) -> tuple[FillSpec, tuple[Any, ...]]:
        """The compiled function, and the arguments that belong to this array."""
        leaf = self.plans[0].leaf
        return shared(self.values, self.plans[0].grid, self.dtype, self.sharding, leaf.axis)

    def words(self, root: Any) -> Words:
        """The words of the parameter's key, or vectors of those of the layers' keys."""
        names = [plan.key_name for plan in self.plans]
        if self.plans[0].leaf.axis is None:
            return BACKEND.words(fold_in(root, names[0]))
        return fold_in_each(root, names)

    def joined(self, root: Any) -> Any:
        """The array, put together from its parts."""
        xp = jnp if isinstance(root, jax.core.Tracer) else np
        parts = [part_values(plan, fold_in(root, plan.key_name), xp) for plan in self.plans]
        return place(assembled(self.plans, parts, xp), self.sharding)


def array_fills(plans: Sequence[LeafPlan], shardings: Sequence[Sharding | None]) -> list[ArrayFill]:
    """The arrays that the plans are for, checked against where they are to lie."""
    parts: dict[int, list[LeafPlan]] = {}
    for plan in plans:
        parts.setdefault(plan.leaf.position, []).append(plan)
    fills = [
        ArrayFill(tuple(sorted(own, key=lambda plan: plan.leaf.layer)), shardings[position])
        for position, own in parts.items()
    ]
    raise_misfits("every array must have its place", [*_misplaced(fills)])
    return fills


def _misplaced(fills: Sequence[ArrayFill]) -> Iterator[str]:
    for fill in fills:
        try:
            BACKEND.require_width(fill.dtype)
            if fill.sharding is not None:
                require_fit(fill.shape, fill.sharding)
        except (ValueError, TypeError) as error:
            yield f"{fill.path} {fill.shape}: {error}"


def fill_arrays(
    fills: Sequence[ArrayFill], key: Any, program: Callable[[FillSpec], CompiledFill] | None = None
) -> dict[int, Any]:
    """The arrays by their numbers in the tree, made by programs, or by what is had soonest."""
    root = as_key(key)
    joined = {one.position: one.joined(root) for one in fills if one.is_joined}
    whole = [one for one in fills if one.position not in joined]
    if program is not None:
        return joined | {one.position: _compiled(one, root, program) for one in whole}
    made = joined | _made_on_host(whole, root)
    for one in whole:
        if one.position not in made:
            spec, own = one.spec
            made[one.position] = run(BACKEND, spec, one.words(root), own)
    return made


def _compiled(fill: ArrayFill, root: Any, program: Callable[[FillSpec], CompiledFill]) -> Any:
    spec, own = fill.spec
    return program(spec)(*fill.words(root), *own)


def _made_on_host(fills: Sequence[ArrayFill], root: Any) -> dict[int, Any]:
    """The arrays that NumPy makes sooner than a program, alike ones in one pass."""
    plain = [one for one in fills if one.sharding is None and one.plans[0].leaf.axis is None]
    if not (plain and isinstance(root, Key)):
        return {}
    high, low = fold_in_each(root, [one.plans[0].key_name for one in plain])
    alike: dict[Any, list[int]] = {}
    for number, one in enumerate(plain):
        alike.setdefault((id(one.values[0]), one.plans[0].grid, one.dtype), []).append(number)
    made: dict[int, Any] = {}
    for numbers in alike.values():
        first = plain[numbers[0]]
        words = high[numbers], low[numbers]
        arrays = make_each_on_host(first.values[0], first.plans[0].grid, first.dtype, words)
        for number, array in zip(numbers, arrays or (), strict=False):
            made[plain[number].position] = array
    return made
