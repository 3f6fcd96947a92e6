"""How fast a draw could be if its integer operations were all there is."""

from __future__ import annotations

from dataclasses import dataclass

# Of one word, for which what the key alone makes is made once: 20 rounds of an addition, a rotation
# and an exclusive or; 11 additions of key words (of 12, one is of the counter's high word, the same
# for all); the counter's own addition; the exclusive or of the two outputs.
_WORD = 20 * 3 + 11 + 1 + 1

OPERATIONS = {
    "word": _WORD,
    # a shift, an addition, a conversion, a multiplication
    "uniform": _WORD + 4,
    # rank to code 5 (shift, two exclusive ors, or, conversion), code to segment and position 3
    # (shift, subtraction, and), one look-up, knot and rise 2, interpolation 3, sign 2,
    # conversion and multiplication 2
    "normal": _WORD + 18,
}
"""Operations a value, each on 32 bits; a look-up counts as one."""


@dataclass(frozen=True)
class Processor:
    """How many operations on words of 32 bits can begin: lanes in a unit, units, per second."""

    lanes: int
    units: int
    hertz: float

    def nanoseconds(self, draw: str) -> float:
        """The least time a value of a draw takes on the whole processor."""
        return 1e9 * OPERATIONS[draw] / (self.lanes * self.units * self.hertz)


def draw_of(name: str) -> str | None:
    """Which draw a function's name speaks of; none where nothing is drawn alone."""
    if "sparse" in name or "orthogonal" in name:
        return None
    return next((draw for draw in ("normal", "uniform") if draw in name), None)


H200 = Processor(lanes=64, units=132, hertz=1.98e9)
"""64 integer lanes a multiprocessor, 132 of them, at the highest clock of NVIDIA's data sheet."""


def zen5(cores: int, hertz: float) -> Processor:
    """AVX-512: 16 lanes; four units add and exclusive-or, two of which shift and rotate."""
    return Processor(16, 4 * cores, hertz)
