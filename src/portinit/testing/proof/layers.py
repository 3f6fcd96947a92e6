"""Layers' outputs of two models: which of PyTorch's some layer of the twin gives too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from portinit.arrays.convert import to_numpy

Call = tuple[str, str, Any]
"""The name, the class and the output of a call of a module."""

_CLOSE = 3e-5
"""Roundings move a mean over a layer by less; another order of a matrix moves it by more."""


@dataclass(frozen=True)
class LayerOutput:
    """The output of a layer, seen through numbers that no order of its elements changes.

    So it is found again with its channels last, its heads split or its batch second.

    Attributes:
        name: the layer's.
        kind: the name of its class.
        shape: the output's shape.
        print: its scale, and means, extremes and other statistics of the scaled output.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    print: tuple[float, ...]

    @property
    def size(self) -> int:
        """The number of the output's elements."""
        return math.prod(self.shape)

    @property
    def mean(self) -> float:
        """The mean of the output's elements."""
        return self.print[0] * self.print[1]

    @property
    def std(self) -> float:
        """Their standard deviation."""
        return self.print[0] * math.sqrt(max(0.0, 1 - self.print[1] ** 2))

    @classmethod
    def of(cls, call: Call) -> LayerOutput:
        """The output of a call."""
        name, kind, array = call
        x = to_numpy(array)
        return cls(name, kind, tuple(x.shape), _print(x.astype(np.float64).reshape(-1)))

    def is_like(self, other: LayerOutput) -> bool:
        """Whether two layers give the same numbers, in any order."""
        if self.size != other.size:
            return False
        (scale, *a), (twin, *b) = self.print, other.print
        with np.errstate(invalid="ignore"):
            near = abs(scale - twin) <= _CLOSE * max(scale, twin)
            return bool(near and np.abs(np.subtract(a, b)).max() <= _CLOSE)


def _print(x: np.ndarray[Any, Any]) -> tuple[float, ...]:
    scale = float(np.sqrt(np.mean(x * x))) if x.size else 0.0
    if not scale or not np.isfinite(scale):
        return (scale, *[0.0] * 7)
    u = x / scale
    means = (u, np.abs(u), np.sin(2 * u), np.cos(3 * u), np.tanh(u * u))
    extremes = float(u.max()) / 10, float(u.min()) / 10
    return (scale, *(float(y.mean()) for y in means), *extremes)


def layer_outputs(calls: Iterable[Call]) -> list[LayerOutput]:
    """The outputs of calls, in their order."""
    return [LayerOutput.of(call) for call in calls]


def found_again(ours: Sequence[LayerOutput], theirs: Sequence[LayerOutput]) -> list[bool]:
    """Of each of PyTorch's layers, whether some layer of the twin gives its output."""
    by_size: dict[int, list[LayerOutput]] = {}
    for layer in theirs:
        by_size.setdefault(layer.size, []).append(layer)
    return [any(layer.is_like(twin) for twin in by_size.get(layer.size, ())) for layer in ours]
