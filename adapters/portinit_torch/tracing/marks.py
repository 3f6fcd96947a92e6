"""Telling, without drawing, when a constructor sets a generator.

Nothing is drawn while a constructor is traced, so a generator's state would not change between two
draws. After each draw it is therefore set to a state of our own that stands for "this stream, after
so many draws". A generator found in such a state is where that stream was then: restored, forked or
cloned. In any other state it was seeded, or drawn from before the trace began.
"""

from __future__ import annotations

from typing import Any

import torch

_FIRST = 0x706F_7274_0000_0000  # seeds that nobody uses


class GeneratorMarks:
    """The streams of one trace."""

    def __init__(self, on_real_tensors: Any) -> None:
        self._really = on_real_tensors
        self._numbers: dict[int, int] = {}
        # Kept so that identities stay their own, with the state to give back.
        self._found: list[tuple[torch.Generator, torch.Tensor]] = []
        self._draws: dict[int, int] = {}
        self._states: dict[bytes, tuple[int, int]] = {}

    def begin(self, stream: torch.Generator) -> None:
        """Take the default generator as it is: a replay seeds it."""
        self._number(stream)
        self._mark(stream, 0)

    def restore(self) -> None:
        """Give every generator the state it was found in."""
        for stream, state in self._found:
            stream.set_state(state)

    def observe(self, stream: torch.Generator) -> tuple[int, dict[str, Any] | None]:
        """A draw is made from a generator.

        Returns:
            The stream's number, and what set it since its last draw, if anything did: the
            attributes of a ``seed`` node.
        """
        state = self._state(stream)
        number = self._number(stream)
        here = (number, self._draws.get(number, 0))
        place = self._states.get(state)
        event: dict[str, Any] | None = None
        if place is None:
            event = self._seed(stream, state)
        elif place != here:
            event = {"stream": place[0], "position": place[1]}
        self._mark(stream, number)
        return number, event

    def _number(self, stream: torch.Generator) -> int:
        if id(stream) not in self._numbers:
            self._numbers[id(stream)] = len(self._numbers)
            self._found.append((stream, self._really(stream.get_state)))
        return self._numbers[id(stream)]

    def _mark(self, stream: torch.Generator, number: int) -> None:
        """Set a generator to the state that stands for its stream's present place."""
        known = number in self._draws
        self._draws[number] = self._draws[number] + 1 if known else int(bool(number))
        seed = _FIRST + (number << 24) + self._draws[number]
        self._really(lambda: stream.manual_seed(seed))
        self._states[self._state(stream)] = (number, self._draws[number])

    def _seed(self, stream: torch.Generator, state: bytes) -> dict[str, Any]:
        """The seed that gives a state, or the state itself where draws were made since."""
        seed = int(stream.initial_seed())
        fresh = self._really(lambda: torch.Generator().manual_seed(seed).get_state())
        known = self._really(lambda: fresh.numpy().tobytes()) == state
        return {"seed": seed} if known else {"state": state}

    def _state(self, stream: torch.Generator) -> bytes:
        state: bytes = self._really(lambda: stream.get_state().numpy().tobytes())
        return state
