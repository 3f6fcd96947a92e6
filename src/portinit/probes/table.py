"""A probe as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from portinit.probes.measured import ProbedLayer, ProbedParameter
from portinit.probes.verdicts import Problem
from portinit.recipes.display import in_shape


def as_text(
    judged: Sequence[tuple[ProbedLayer, tuple[str, str]]],
    measured: Sequence[ProbedParameter],
    problems: Sequence[Problem],
    unseen: Sequence[str],
) -> str:
    """Two aligned tables, of layers with their verdicts and of parameters; then the problems."""
    layers = [
        (
            str(place),
            layer.name,
            layer.kind,
            in_shape(layer.shape),
            number(layer.std),
            number(layer.gradient_std),
            " ".join(filter(None, dict.fromkeys(verdicts))),
        )
        for place, (layer, verdicts) in enumerate(judged, 1)
    ]
    parameters = [
        (
            parameter.name,
            in_shape(parameter.shape),
            number(parameter.expected_std),
            number(parameter.std),
            number(parameter.gradient_std),
            parameter.verdict,
        )
        for parameter in measured
    ]
    outcome = [str(problem) for problem in problems] or ["no problems"]
    rest = [f"not seen: {', '.join(unseen)}"] if unseen else []
    return "\n".join(
        [
            *_aligned(("", "layer", "of", "shape", "std", "gradient", ""), layers),
            "",
            *_aligned(("parameter", "shape", "expected std", "std", "gradient", ""), parameters),
            "",
            *outcome,
            *rest,
        ]
    )


def number(value: float | None) -> str:
    """Three digits; a dash for none."""
    return "-" if value is None else f"{value:.3g}"


def _aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        cells = zip(row, widths, strict=True)
        yield "  ".join(cell.ljust(width) for cell, width in cells).rstrip()
