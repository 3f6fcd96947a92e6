"""What a probe found, layer by layer and parameter by parameter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from portinit.arrays.layouts import Shape
from portinit.probes.moments import Histogram, Moments, finite
from portinit.probes.table import as_text
from portinit.probes.verdicts import LIMIT, Problem, departs, first_turns, judge, reference_of
from portinit.sampling.distributions import Distribution


@dataclass(frozen=True)
class ProbedLayer:
    """One call of a layer.

    Attributes:
        name: the module's name, or path in Flax; ``#2`` for its second call.
        kind: the module's class; in Flax with the method, where it is not ``__call__``.
        shape: the shape of its output; of several outputs, of the first.
        output: the moments of its output.
        gradient: the moments of the loss's gradient with respect to that output. Where the output
            has no way to the loss it is none in PyTorch, and 0 in Flax.
    """

    name: str
    kind: str
    shape: Shape
    output: Moments
    gradient: Moments | None

    @property
    def std(self) -> float:
        """The std of the output."""
        return self.output.std

    @property
    def gradient_std(self) -> float | None:
        """The std of the gradient at the output; none if there is none."""
        return _std(self.gradient)


@dataclass(frozen=True)
class ProbedParameter:
    """One parameter.

    Attributes:
        name: its name, or path in Flax.
        shape: its shape, as its framework holds it.
        values: the moments of its values.
        gradient: the moments of the loss's gradient; none as a layer's.
        histogram: of its values; none if they are all equal.
        initializer: what a recipe says it is drawn from; none without one.
        law: the distribution of each element; none if the initializer has no common one.
    """

    name: str
    shape: Shape
    values: Moments
    gradient: Moments | None = None
    histogram: Histogram | None = None
    initializer: str | None = None
    law: Distribution | None = None

    @property
    def std(self) -> float:
        """The std of the values."""
        return self.values.std

    @property
    def gradient_std(self) -> float | None:
        """The std of the gradient; none if there is none."""
        return _std(self.gradient)

    @property
    def expected_std(self) -> float | None:
        """The std that the initializer gives; None if no initializer is known."""
        return None if self.law is None else self.law.std

    @property
    def verdict(self) -> str:
        """``"nan"``, ``"inf"``, ``"off"`` if the values depart from their law, or ``""``."""
        if self.values.nan or self.values.inf:
            return "nan" if self.values.nan else "inf"
        return "off" if self.law is not None and departs(self.values, self.law) else ""


@dataclass(frozen=True, repr=False)
class Probe:
    """What :func:`portinit.probe` found; prints as a table.

    Attributes:
        framework: ``"torch"`` or ``"flax"``.
        layers: the calls of layers, in their order.
        parameters: the parameters, in the order of the layers.
        unseen: layers that were called inside a transformation (``scan``, ``remat``, ``jit``),
            where a probe does not reach; what they are part of is seen.
        limit: how many times a signal may grow or shrink before it is a problem.
    """

    framework: str
    layers: tuple[ProbedLayer, ...]
    parameters: tuple[ProbedParameter, ...]
    unseen: tuple[str, ...] = ()
    limit: float = LIMIT

    @cached_property
    def verdicts(self) -> tuple[tuple[str, str], ...]:
        """For each layer the verdicts on its activations and on its gradients; "" if none.

        Activations are measured against the first layer's std, gradients against the last's.
        """
        forward = reference_of(layer.output for layer in self.layers)
        backward = reference_of(layer.gradient for layer in reversed(self.layers))
        return tuple(
            (judge(x.output, forward, self.limit), judge(x.gradient, backward, self.limit))
            for x in self.layers
        )

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """Where activations, then gradients, first turn bad; then parameters."""
        judged = [*enumerate(self._judged(), 1)]
        rows = [(place, x.name, verdict, x.std) for place, (x, (verdict, _)) in judged]
        back = [(place, x.name, verdict, x.gradient_std) for place, (x, (_, verdict)) in judged]
        turns = first_turns("activations", rows) + first_turns("gradients", back[::-1])
        return (*turns, *self._parameter_problems())

    def _judged(self) -> Iterator[tuple[ProbedLayer, tuple[str, str]]]:
        return zip(self.layers, self.verdicts, strict=True)

    def _parameter_problems(self) -> Iterator[Problem]:
        for parameter in self.parameters:
            if not parameter.verdict:
                continue
            text = {"nan": "holds NaN", "inf": "holds infinities"}.get(parameter.verdict, "")
            if parameter.law is not None and not text:
                text = (
                    f"has mean {parameter.values.mean:.3g} and std {parameter.values.std:.3g}, "
                    f"expected are {parameter.law.mean:.3g} and {parameter.law.std:.3g}"
                )
            name = parameter.name
            yield Problem("parameter", parameter.verdict, name, 0, 1, f"{name} {text}")

    def to_data(self) -> dict[str, Any]:
        """As JSON holds it: what :meth:`to_json` writes."""
        return {
            "framework": self.framework,
            "limit": self.limit,
            "problems": [asdict(problem) for problem in self.problems],
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "shape": list(layer.shape),
                    "output": layer.output.to_data(),
                    "gradient": layer.gradient.to_data() if layer.gradient else None,
                    "verdicts": list(verdicts),
                }
                for layer, verdicts in self._judged()
            ],
            "parameters": [_parameter_data(parameter) for parameter in self.parameters],
            "unseen": list(self.unseen),
        }

    def to_json(self) -> str:
        """The result as JSON text; what is not finite is null, beside its counts."""
        return json.dumps(self.to_data(), indent=1, allow_nan=False)

    def __repr__(self) -> str:
        sizes = f"{len(self.layers)} layers, {len(self.parameters)} parameters"
        return f"<Probe of {sizes}, {len(self.problems)} problems>"

    def __str__(self) -> str:

        return as_text(self)


def _std(moments: Moments | None) -> float | None:
    return None if moments is None else moments.std


def _parameter_data(parameter: ProbedParameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "shape": list(parameter.shape),
        "initializer": parameter.initializer,
        "expected_std": finite(parameter.expected_std),
        "values": parameter.values.to_data(),
        "gradient": parameter.gradient.to_data() if parameter.gradient else None,
        "histogram": asdict(parameter.histogram) if parameter.histogram else None,
        "verdict": parameter.verdict,
    }
