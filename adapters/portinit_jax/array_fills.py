"""From what each leaf gets to arrays: made by NumPy on the host, or by a program for each spec."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
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
from portinit.backends.plan import Plan, is_hosted, needs_known_words
from portinit.recipes.matching.assembly import assembled, part_values
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.rule import SHOWN, raise_misfits
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

    @property
    def dtype(self) -> str:
        """The name of the array's dtype."""
        return dtype_name(self.plans[0].leaf.dtype)

    @property
    def values(self) -> tuple[Plan, ...]:
        """The values' plan, or those of the layers."""
        return tuple([plan.values for plan in self.plans])

    @property
    def is_joined(self) -> bool:
        """Whether the array is put together from parts that one program does not make.

        Parts that NumPy computes, that lie in different ways, that are viewed in another shape, or
        that are cut out of a parameter.
        """
        first = self.plans[0]
        if first.leaf.extent is not None or first.leaf.places is not None:
            return True
        if first.grid.array_shape != first.leaf.shape:
            return True
        return any(
            plan.is_cut_out or plan.grid != first.grid or is_hosted(plan.values)
            for plan in self.plans
        )

    @property
    def likeness(self) -> Hashable:
        """What fills have in common that differ in their keys only; None if it has several parts.

        It holds while the fills do.
        """
        if len(self.plans) > 1 or self.sharding is not None:
            return None
        plan = self.plans[0]
        leaf, grid = plan.leaf, plan.grid
        is_part = leaf.axis is not None or leaf.places is not None
        if is_part or plan.parameter.elements is not None:
            return None
        return id(plan.values), id(grid), leaf.shape, leaf.dtype

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
    fills, parts = list[ArrayFill](), dict[int, list[LeafPlan]]()
    for plan in plans:
        if plan.leaf.is_whole:
            fills.append(ArrayFill((plan,), shardings[plan.leaf.position]))
        else:
            parts.setdefault(plan.leaf.position, []).append(plan)
    for position, own in parts.items():
        own.sort(key=lambda plan: plan.leaf.layer)
        fills.append(ArrayFill(tuple(own), shardings[position]))
    raise_misfits("every array must have its place", [*_misplaced(fills)])
    return fills


def _misplaced(fills: Sequence[ArrayFill]) -> Iterator[str]:
    known: set[Any] = set()
    for fill in fills:
        dtype = fill.plans[0].leaf.dtype
        if dtype in known and fill.sharding is None:
            continue
        try:
            BACKEND.require_width(fill.dtype)
            if fill.sharding is not None:
                require_fit(fill.shape, fill.sharding)
            known.add(dtype)
        except (ValueError, TypeError) as error:
            yield f"{fill.path} {fill.shape}: {error}"


def fill_arrays(
    fills: Sequence[ArrayFill], key: Any, program: Callable[[FillSpec], CompiledFill] | None = None
) -> dict[int, Any]:
    """The arrays by their numbers in the tree, made by programs, or by what is had soonest."""
    root, made = as_key(key), dict[int, Any]()
    if not isinstance(root, Key):
        _require_traceable(fills)
    for own in _alike(fills):
        if own[0].is_joined:
            made |= {fill.position: fill.joined(root) for fill in own}
        elif program is not None:
            made |= {fill.position: _compiled(fill, root, program) for fill in own}
        else:
            made |= _made_on_host(own, root) or _run(own, root)
    return made


def _require_traceable(fills: Sequence[ArrayFill]) -> None:
    """Raise a TypeError that lists the parameters whose values NumPy computes from the key."""
    plans = [plan for fill in fills for plan in fill.plans if needs_known_words(plan.values)]
    if plans:
        lines = [f"{'/'.join(plan.leaf.path)}: {plan.initializer}" for plan in plans]
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        head = (
            "what is computed in NumPy needs a key whose words are known, got a traced key; "
            "call it outside of jax.jit, or with a portinit.Key:"
        )
        raise TypeError("\n  ".join([head, *lines[:SHOWN], *more]))


def _alike(fills: Sequence[ArrayFill]) -> Iterable[list[ArrayFill]]:
    """The fills, those together that differ in their keys only."""
    alike: dict[Hashable, list[ArrayFill]] = {}
    for fill in fills:
        likeness = fill.likeness
        alike.setdefault(id(fill) if likeness is None else likeness, []).append(fill)
    return alike.values()


def _run(fills: Sequence[ArrayFill], root: Any) -> dict[int, Any]:
    """Arrays made by their programs, which are compiled where they are asked for first."""
    made = {}
    for fill in fills:
        spec, own = fill.spec
        made[fill.position] = run(BACKEND, spec, fill.words(root), own)
    return made


def _compiled(fill: ArrayFill, root: Any, program: Callable[[FillSpec], CompiledFill]) -> Any:
    spec, own = fill.spec
    return program(spec)(*fill.words(root), *own)


def _made_on_host(fills: Sequence[ArrayFill], root: Any) -> dict[int, Any]:
    """Arrays that differ in their keys only, made by NumPy if that is sooner than a program."""
    first = fills[0]
    if first.likeness is None or not isinstance(root, Key):
        return {}
    plan = first.plans[0]
    words = fold_in_each(root, [fill.plans[0].key_name for fill in fills])
    arrays = make_each_on_host(plan.values, plan.grid, first.dtype, words)
    return dict(zip([fill.position for fill in fills], arrays or (), strict=False))
