"""Initializers that are equal, so that the parameters of a large model share a few plans."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from portinit.initializers.assigned import Given
from portinit.initializers.base import Initializer
from portinit.initializers.jax_schemes import variance_scaling
from portinit.initializers.like_jax import like_jax


class Same(NamedTuple):
    """What is known of an initializer and of all that are equal to it.

    Attributes:
        first: the first of them.
        names_axes: whether it computes fans on axes that are named; not in JAX's own order.
        knows_names: whether what the model fills in may depend on a parameter's name: it, or a
            part of it, is of a class that is not portinit's.
    """

    first: Initializer
    names_axes: bool
    knows_names: bool


class EqualInitializers:
    """Initializers by those that they are equal to, down to the signs of zeros.

    A recipe binds an initializer anew for each parameter, and a large model has thousands of
    parameters of a few forms. It is kept while one model is planned.
    """

    def __init__(self) -> None:
        self._first: dict[Hashable, Same] = {}
        self._known: dict[int, Same] = {}
        self._kept: list[Initializer] = []  # so that their ids stay their own

    def same(self, initializer: Initializer) -> Same:
        """What is known of an initializer and of those equal to it."""
        known = self._known.get(id(initializer))
        if known is None:
            self._kept.append(initializer)
            likeness = _likeness(initializer)
            known = self._first.get(likeness)
            if known is None:
                facts = _names_axes(initializer), knows_names(initializer)
                known = self._first[likeness] = Same(initializer, *facts)
            self._known[id(initializer)] = known
        return known


def _likeness(initializer: Initializer) -> Hashable:
    """What equal initializers have in common; of one that is long to compare, its id."""
    if isinstance(initializer, Given):
        return id(initializer)
    try:
        hash(initializer)
    except TypeError:  # an argument that cannot be hashed, in a class of the user's
        return id(initializer)
    return repr(initializer), initializer


def _names_axes(initializer: Initializer) -> bool:
    if isinstance(initializer, variance_scaling):
        return initializer.names_axes
    return not isinstance(initializer, like_jax) and any(map(_names_axes, initializer.parts()))


def knows_names(initializer: Initializer) -> bool:
    """Whether it, or a part of it, has a ``bound`` of its own that is not portinit's."""
    own = type(initializer)
    if own.bound is not Initializer.bound and own.__module__.partition(".")[0] != "portinit":
        return True
    return any(map(knows_names, initializer.parts()))
