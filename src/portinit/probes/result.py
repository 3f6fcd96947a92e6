"""The result of a probe, by layer and by parameter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from portinit.probes.measured import ProbedLayer, ProbedParameter
from portinit.probes.moments import finite
from portinit.probes.table import as_text
from portinit.probes.verdicts import LIMIT, Problem, first_turns, judge, reference_of


@dataclass(frozen=True, repr=False)
class Probe:
    """The result of :func:`portinit.probe`; prints as a table.

    Attributes:
        framework: ``"torch"``, ``"flax"``, ``"keras"``, ``"equinox"``, ``"haiku"`` or ``"mlx"``.
        layers: the calls of layers, in their order.
        parameters: the parameters, in the order of the layers.
        unseen: layers that were called inside a transformation (``scan``, ``vmap``, ``jit``),
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
        """The probe as JSON-compatible data, which :meth:`to_json` writes."""
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
        return as_text([*self._judged()], self.parameters, self.problems, self.unseen)


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
