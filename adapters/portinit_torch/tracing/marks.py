"""Telling, without drawing, when a constructor sets a generator.

Nothing is drawn while a constructor is traced, so a generator's state would not change between two
draws. After each draw it is therefore set to a state of our own that stands for "this stream, after
so many draws". A generator found in such a state is where that stream was then: restored, forked or
cloned. In any other state it was seeded, or drawn from before the trace began.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import torch

_FIRST = 0x706F_7274_0000_0000  # seeds that nobody uses
_LAST_WORD = 24 + 623 * 8  # of mt19937's 624 words in a state's bytes


@dataclass
class Stream:
    """The draws from one generator since it was last set.

    Attributes:
        event: what set it: the attributes of a ``seed`` node; none for the default generator,
            which a replay seeds.
        draws: the recorded draws since, in order.
    """

    event: dict[str, Any] | None = None
    draws: list[Any] = field(default_factory=list)

    @property
    def is_seeded(self) -> bool:
        """Whether the constructor itself says what is drawn."""
        return self.event is not None and "position" not in self.event

    def begin(self) -> None:
        """Set torch's default generator to where the draws began."""
        assert self.event is not None
        if "seed" in self.event:
            torch.manual_seed(self.event["seed"])
        else:
            torch.set_rng_state(_tensor(self.event["state"]))


class GeneratorMarks:
    """The streams of one trace.

    Args:
        really: computes on real tensors.
        seed: that the default generator says it was seeded with, while nobody seeds it.
    """

    def __init__(self, really: Any, seed: int) -> None:
        self._really = really
        self._seed_said = seed
        self._numbers: dict[int, int] = {}
        # Kept so that identities stay their own, with the state to give back.
        self._found: list[tuple[torch.Generator, torch.Tensor]] = []
        self._draws: dict[int, int] = {}
        self._states: dict[bytes, tuple[int, int]] = {}
        self._streams: dict[int, Stream] = {}
        self._kept: list[torch.Generator] = []

    def begin(self, stream: torch.Generator) -> None:
        """Take the default generator as it is: a replay seeds it."""
        number = self._number(stream)
        self._streams[number] = Stream()
        self._mark(stream, 0, self._seed_said)

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
        number = self._number(stream)
        state = self._state(stream)
        here = (number, self._draws.get(number, 0))
        place = self._states.get(state)
        event: dict[str, Any] | None = None
        if place is None:
            event = self._setting(stream, state)
            if event.get("seed") == self._seed_said:  # manual_seed(torch.initial_seed())
                event = {"stream": 0, "position": 0}
        elif place != here:
            event = {"stream": place[0], "position": place[1]}
        if event is not None:
            self._streams[number] = Stream(event)
        self._mark(stream, number, int(stream.initial_seed()))
        return number, event

    def stream(self, number: int) -> Stream:
        """What was drawn from a generator since it was last set."""
        return self._streams.setdefault(number, Stream())

    def _number(self, stream: torch.Generator) -> int:
        if id(stream) not in self._numbers:
            self._kept.append(stream)
            is_default = self._is_default(stream)
            self._numbers[id(stream)] = 0 if is_default else len(self._found)
            if not is_default:
                self._found.append((stream, self._really(stream.get_state)))
        return self._numbers[id(stream)]

    def _is_default(self, stream: torch.Generator) -> bool:
        """Whether a generator is torch's default one by another name: Python has two objects."""
        if not self._found or stream.device.type != "cpu":
            return False
        default, probe = self._found[0][0], _FIRST - 1
        before = self._really(stream.get_state)
        self._really(lambda: stream.manual_seed(probe))
        same = default.initial_seed() == probe
        self._really(lambda: stream.set_state(before))
        return bool(same)

    def _mark(self, stream: torch.Generator, number: int, said: int) -> None:
        """Set a generator to the state that stands for its stream's present place."""
        known = number in self._draws
        self._draws[number] = self._draws[number] + 1 if known else int(bool(number))
        mark = _FIRST + (number << 24) + self._draws[number]
        fresh = self._really(lambda: torch.Generator().manual_seed(mark).get_state())
        # The state begins with the seed it comes of: the one that the constructor would see. The
        # last word is this run's, so that real draws from a mark differ from run to run.
        head, tail = struct.pack("<Q", said % 2**64), struct.pack("<Q", self._seed_said % 2**32)
        raw = self._bytes(fresh)
        raw = head + raw[8:_LAST_WORD] + tail + raw[_LAST_WORD + 8 :]
        self._really(lambda: stream.set_state(_tensor(raw)))
        self._states[self._state(stream)] = (number, self._draws[number])

    def _setting(self, stream: torch.Generator, state: bytes) -> dict[str, Any]:
        """The seed that gives a state, or the state itself where draws were made since."""
        seed = int(stream.initial_seed())
        fresh = self._really(lambda: torch.Generator().manual_seed(seed).get_state())
        return {"seed": seed} if self._bytes(fresh) == state else {"state": state}

    def _state(self, stream: torch.Generator) -> bytes:
        return self._bytes(self._really(stream.get_state))

    def _bytes(self, state: torch.Tensor) -> bytes:
        raw: bytes = self._really(lambda: state.numpy().tobytes())
        return raw


def _tensor(raw: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8)
