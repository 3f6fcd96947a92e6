"""The parameters as the page shows them: groups of histograms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from portinit.probes.measured import ProbedParameter
from portinit.probes.result import Probe
from portinit.recipes.display import in_shape, rounded
from portinit.report.figures import histogram
from portinit.report.words import number, span


@dataclass(frozen=True)
class Picture:
    """One parameter: its picture, or what there is to say in its place."""

    parameter: ProbedParameter
    shape: str
    expected: str
    measured: str
    svg: str
    text: str


@dataclass(frozen=True)
class Group:
    """Parameters whose names differ in the numbers of layers only."""

    name: str
    initializer: str
    shape: str
    expected: str
    measured: str
    verdict: str
    pictures: tuple[Picture, ...]

    @property
    def shown(self) -> Picture:
        """The picture that stands for the group: the first one that is odd, or the first."""
        odd = (p for p in self.pictures if p.parameter.verdict)
        return next(odd, next((p for p in self.pictures if p.svg), self.pictures[0]))

    @property
    def constant(self) -> str:
        """The one number that all their values equal; "" if there is none."""
        texts = {picture.text for picture in self.pictures}
        return texts.pop() if len(texts) == 1 else ""


_INDEX = re.compile(r"(?:(?<=[./_])|^)\d+(?=[./]|$)")  # layers.0, layers_0, but not linear1


def groups(found: Probe) -> Iterator[Group]:
    """The parameters of a probe, in the order of the layers."""
    members: dict[str, list[ProbedParameter]] = {}
    for parameter in found.parameters:
        members.setdefault(_INDEX.sub("*", parameter.name), []).append(parameter)
    for name, group in members.items():
        yield Group(
            name if len(group) > 1 else group[0].name,
            _common([rounded(p.initializer or "") for p in group], "various initializers"),
            _common([in_shape(p.shape) for p in group], "various shapes"),
            span([p.expected_std for p in group]),
            span([p.values.std for p in group]),
            next((p.verdict for p in group if p.verdict), ""),
            tuple(map(_picture, group)),
        )


def _common(texts: list[str], otherwise: str) -> str:
    return texts[0] if len({*texts}) == 1 else otherwise


def _picture(parameter: ProbedParameter) -> Picture:
    values, name = parameter.values, parameter.name
    expected, measured = number(parameter.expected_std), number(values.std)
    svg = text = ""
    if values.nan or values.inf:
        text = f"{values.nan:,} NaN and {values.inf:,} infinite of {values.size:,}"
    elif parameter.histogram is None:
        text = f"all {values.mean:.4g}"
    else:
        said = "nothing expected" if parameter.law is None else f"expected std {expected}"
        label = f"Histogram of {name}: {values.size} values, std {measured}, {said}"
        svg = histogram(parameter, label)
    return Picture(parameter, in_shape(parameter.shape), expected, measured, svg, text)
