"""When a signal has exploded or vanished, and where it began to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from portinit.probes.moments import Moments
from portinit.sampling.distributions import Distribution

LIMIT = 1e6
"""How many times a signal may grow or shrink against where it starts.

Three reasons meet near this number. float16 ends there: from 1, a million is above its largest
number (65,504), and a millionth is below its least normal one (6.1e-5), with four bits left. Under
plain gradient descent with steps of at most a tenth, a layer whose gradient is a millionth of
another's moves by less than float32's rounding (2^-24 = 6e-8) while the other moves by its own
size. And chance alone does not lead there: in a ReLU network whose weights keep the mean square,
the logarithm of the std wanders by sqrt(5 L / (4 n)) over L layers of width n, a factor of 2 in a
hundred layers of width 256, and the sizes of embeddings, normalised and residual streams differ by
some hundreds.
"""

SIGNIFICANT = 6.0
"""Standard errors between a promised and a measured moment: by chance 2e-9 of a normal one."""


@dataclass(frozen=True)
class Problem:
    """Where a signal first turns bad, on its way.

    Attributes:
        signal: ``"activations"``, which run from the first layer to the last; ``"gradients"``,
            which run back; or ``"parameter"``.
        verdict: ``"nan"``, ``"inf"``, ``"exploding"``, ``"vanishing"`` or ``"zero"``; of a
            parameter also ``"off"``: its mean or std is not what its initializer promises.
        name: the layer or parameter.
        place: the layer's number in the order of calls, from 1; 0 for a parameter.
        count: how many layers have this verdict.
        text: all of it in a sentence.
    """

    signal: str
    verdict: str
    name: str
    place: int
    count: int
    text: str

    def __str__(self) -> str:
        return self.text


_TURN = {
    "nan": "turn NaN",
    "inf": "overflow to infinity",
    "exploding": "explode",
    "vanishing": "vanish",
    "zero": "are all exactly 0",
}


def judge(moments: Moments | None, reference: float, limit: float) -> str:
    """The verdict on one array of a signal whose std began as ``reference``; "" if none."""
    if moments is None:
        return ""
    if moments.nan or moments.inf:
        return "nan" if moments.nan else "inf"
    if moments.zeros == 1:
        return "zero"
    if moments.std > limit * reference:
        return "exploding"
    # A constant that is not 0, as a bias alone gives, has no std and is no vanished signal.
    return "vanishing" if max(moments.std, abs(moments.mean)) * limit < reference else ""


def reference_of(signal: Iterable[Moments | None]) -> float:
    """The std of a signal where it starts; 1 where there is none to speak of."""
    first = next((moments for moments in signal if moments is not None), None)
    usable = first is not None and math.isfinite(first.std) and first.std > 0
    return first.std if first is not None and usable else 1.0


def first_turns(signal: str, layers: Sequence[tuple[int, str, str, float | None]]) -> list[Problem]:
    """A problem for each verdict of layers (place, name, verdict, std) in the signal's order."""
    found: dict[str, Problem] = {}
    for place, name, verdict, std in layers:
        if verdict and verdict not in found:
            count = sum(other == verdict for _, _, other, _ in layers)
            where = f"layer {name}" if name else "the model"
            text = f"{signal} {_TURN[verdict]} at {where}"
            text += f", with a std of {std:.2g}" if std and math.isfinite(std) else ""
            text += f", and in {count - 1} more" if count > 1 else ""
            found[verdict] = Problem(signal, verdict, name, place, count, text)
    return list(found.values())


FADES = 1e3
"""How many times a signal may shrink or grow from one end to the other without a word.

The sizes of embeddings, normalised and residual streams differ by some hundreds.
"""


def drift(signal: Sequence[float | None]) -> str:
    """``"fading"`` or ``"growing"``: what happens to a signal's std from its start to its end.

    The end is the median of the last three values, so that a small last layer is no drift.
    """
    stds = [std for std in signal if std and math.isfinite(std)]
    if len(stds) < _END + 1:
        return ""
    start, end = stds[0], sorted(stds[-_END:])[_END // 2]
    if end * FADES < start:
        return "fading"
    return "growing" if end > FADES * start else ""


_END = 3


def departs(moments: Moments, law: Distribution) -> str:
    """The moments of an array that a distribution cannot give by chance; "" if none."""
    if not law.std:  # a constant, rounded to the array's dtype
        near = abs(moments.mean - law.mean) <= 1e-2 * abs(law.mean)
        return "" if near and moments.std <= 1e-6 * abs(law.mean) else "values"
    error = SIGNIFICANT / math.sqrt(moments.size)
    if not abs(moments.std / law.std - 1) <= error / math.sqrt(2):
        return "std"
    return "" if abs(moments.mean - law.mean) <= error * law.std else "mean"
