"""The parameters of a probed model: their values, gradients, and what a recipe says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from portinit.arrays.convert import to_numpy
from portinit.probes.measured import ProbedLayer, ProbedParameter
from portinit.probes.moments import Histogram, Moments
from portinit.probes.probing import law_of
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.matching.trees.leaf import Leaf
from portinit.sampling.distributions import Distribution

_STATISTICS = ("running_mean", "running_var", "moving_mean", "moving_variance")


def probed_parameters(
    leaves: Iterable[Leaf],
    values: Mapping[int, Any],
    gradients: Mapping[int, Any],
    plans: Iterable[LeafPlan],
    layers: tuple[ProbedLayer, ...],
) -> tuple[ProbedParameter, ...]:
    """The parameters measured, in the order of their layers; running statistics are none.

    Args:
        leaves: the arrays of a tree.
        values: by the leaves' positions.
        gradients: of the loss, likewise; what has no entry has none.
        plans: what a recipe gives the leaves, or parts of them.
        layers: the calls of layers.
    """
    laws = _laws(plans)
    found = [
        _probed(leaf, to_numpy(values[leaf.position]), gradients.get(leaf.position), laws)
        for leaf in leaves
        if leaf.path[-1] not in _STATISTICS
    ]
    kept = [parameter for parameter in found if parameter is not None]
    return tuple(sorted(kept, key=lambda parameter: _place(parameter.name, layers)))


_Law = tuple[str | None, Distribution | None]


def _probed(
    leaf: Leaf, values: Any, gradient: Any, laws: Mapping[int, _Law]
) -> ProbedParameter | None:
    if values.dtype.kind not in "fV" or not values.size:  # V: bfloat16 and narrower
        return None
    return ProbedParameter(
        leaf.label,
        leaf.shape,
        Moments.of(values),
        None if gradient is None else Moments.of(to_numpy(gradient)),
        Histogram.of(values),
        *laws.get(leaf.position, (None, None)),
    )


def _laws(plans: Iterable[LeafPlan]) -> dict[int, _Law]:
    """The distribution of each array, in words and as an object; none where its parts differ."""
    parts: dict[int, dict[_Law, None]] = {}
    for plan in plans:
        initializer = plan.initializer
        law = law_of(initializer, plan.grid, plan.leaf.dtype)
        parts.setdefault(plan.leaf.position, {})[str(initializer), law] = None
    return {position: next(iter(own)) for position, own in parts.items() if len(own) == 1}


def _place(name: str, layers: tuple[ProbedLayer, ...]) -> tuple[int, str]:
    """Where a parameter's layer is among the calls."""
    owners: Iterator[int] = (
        i for i, layer in enumerate(layers) if _holds(layer.name.partition("#")[0], name)
    )
    return next(owners, len(layers)), name


def _holds(layer: str, parameter: str) -> bool:
    return not layer or parameter.startswith(f"{layer}/")
