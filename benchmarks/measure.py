"""Medians of interleaved runs: ours, theirs, ours, theirs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Clock = Callable[[], float]
"""Runs once, or as often as it takes to be timed, and returns the seconds of one run."""

_ENOUGH = 2e-3  # seconds a sample: a clock's own call takes 5e-8
_SETTLING = 0.05  # seconds


@dataclass
class Side:
    """One of the two that are compared, and what is known of it beside its time."""

    clock: Clock
    facts: dict[str, float] = field(default_factory=dict)


Sides = tuple[Side, Side]
"""Ours and theirs."""


class Wall:
    """A clock of a function on this machine's processor."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._loops = 0

    def __call__(self) -> float:
        if not self._loops:
            self._calibrate()
        return self._sample() / self._loops

    def _calibrate(self) -> None:
        """Double the calls a sample until it takes long enough; the first ones warm up."""
        self._function()
        self._loops = 1
        while self._sample() < _ENOUGH:
            self._loops *= 2

    def _sample(self) -> float:
        function, made = self._function, None
        begin = time.perf_counter()
        for _ in range(self._loops):
            made = function()
        seconds = time.perf_counter() - begin
        del made  # an array is kept, and so the time to free it is nobody's
        return seconds


def measure(sides: Sides, rounds: int, warm_up: bool = True) -> dict[str, Any]:
    """The two sides' times, and theirs over ours round by round; a first is dropped as warm-up."""
    ours, theirs = sides
    pairs = [(_alone(ours), _alone(theirs)) for _ in range(rounds + warm_up)][warm_up:]
    times = [[pair[0] for pair in pairs], [pair[1] for pair in pairs]]
    return {
        "ours": {"seconds": spread(times[0]), **ours.facts},
        "theirs": {"seconds": spread(times[1]), **theirs.facts},
        "ratio": spread([other / own for own, other in pairs]),
    }


def _alone(side: Side) -> float:
    """A sample, once what the other side left to its threads is done: memory to free, waiting."""
    time.sleep(_SETTLING)
    return side.clock()


def spread(values: list[float]) -> dict[str, float]:
    """The median and the quartiles, ends included; of one value, thrice that value."""
    if len(values) == 1:
        return dict.fromkeys(("lower", "median", "upper"), values[0])
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return {"lower": lower, "median": median, "upper": upper}
