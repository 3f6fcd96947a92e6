"""One plan for all parameters of a model whose initializers, shapes and dtypes are equal."""

from __future__ import annotations

from typing import Any

from portinit.arrays.grids import Grid
from portinit.backends.plan import Plan
from portinit.initializers.assigned import Given
from portinit.initializers.base import Initializer
from portinit.initializers.jax_schemes import variance_scaling
from portinit.initializers.like_jax import like_jax


class EqualPlans:
    """The plans of initializers, one for those that are equal down to the signs of zeros.

    A recipe binds an initializer anew for each parameter, and a large model has thousands of
    parameters of a few forms. It is kept while one model is planned.
    """

    def __init__(self) -> None:
        self._first: dict[Any, Initializer] = {}
        self._known: dict[int, tuple[Initializer, Initializer, bool]] = {}
        self._plans: dict[tuple[int, Grid, str], Plan] = {}

    def plan(self, initializer: Initializer, grid: Grid, dtype: str) -> Plan:
        """The plan of an initializer's values.

        Raises:
            TypeError, ValueError: the initializer is not defined for the shape or the dtype.
        """
        first = self._same(initializer)[1]
        form = id(first), grid, dtype
        if form not in self._plans:
            self._plans[form] = first.planned(grid, dtype)
        return self._plans[form]

    def names_axes(self, initializer: Initializer) -> bool:
        """Whether an initializer computes fans on axes that are named; not in JAX's own order."""
        return self._same(initializer)[2]

    def _same(self, initializer: Initializer) -> tuple[Initializer, Initializer, bool]:
        """An initializer, which keeps its id its own; the first equal to it; a fact of both."""
        known = self._known.get(id(initializer))
        if known is None:
            first = self._first_like(initializer)
            fact = _names_axes(first) if first is initializer else self._known[id(first)][2]
            known = self._known[id(initializer)] = initializer, first, fact
        return known

    def _first_like(self, initializer: Initializer) -> Initializer:
        if isinstance(initializer, Given):  # whose values are long to compare
            return initializer
        try:
            return self._first.setdefault((repr(initializer), initializer), initializer)
        except TypeError:  # an argument that cannot be hashed, in a class of the user's
            return initializer


def _names_axes(initializer: Initializer) -> bool:
    if isinstance(initializer, variance_scaling):
        return initializer.names_axes
    return not isinstance(initializer, like_jax) and any(map(_names_axes, initializer.parts()))
