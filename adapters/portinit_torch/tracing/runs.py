"""Running a constructor more than once, to see what each of its values depends on.

Once tells what a constructor did with the numbers that it happened to see. A second run, with other
random numbers everywhere (torch's, NumPy's and Python's), tells what it would do in any case: the
parameters that come out alike depend on nothing but torch's draws, which the program has. Where a
constructor asks a question of a random value, a further run gives the other answer.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from portinit import Parameter
from portinit_torch.modules import describe
from portinit_torch.naming import plain_name
from portinit_torch.tracing.comparison import fingerprints
from portinit_torch.tracing.leftovers import clear_away
from portinit_torch.tracing.lowering import lower
from portinit_torch.tracing.modes import TraceError, on_real_tensors
from portinit_torch.tracing.nodes import RecordedNode
from portinit_torch.tracing.recorder import Reading, Recorder

_SEEDS = (0x2B5C_3A79_6E21_0B43, 0x51A7_94D0_C3B8_6F15)  # that nobody else would take
_MOST_QUESTIONS = 32
"""Places of a constructor whose questions of random values are answered both ways."""

Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class HeldTensor:
    """One of a model's parameters or buffers, after a run.

    Attributes:
        node: what it holds.
        described: what a recipe is told of it.
        is_buffer: whether it is no parameter.
        is_meta: whether it lies on the meta device.
    """

    node: RecordedNode
    described: Parameter
    is_buffer: bool
    is_meta: bool


@dataclass
class ConstructorRun:
    """One run of a constructor; the model is let go.

    Attributes:
        recorder: what the constructor did.
        held: the model's parameters and buffers, by name.
        moved: the generators outside of torch that it drew from, in words.
    """

    recorder: Recorder
    held: dict[str, HeldTensor]
    moved: list[str] = field(default_factory=list)

    @property
    def shapes(self) -> list[tuple[Any, ...]]:
        """The shapes and dtypes of the tensors, in order."""
        return [(tuple(held.node.shape), held.node.dtype) for held in self.held.values()]

    def fingerprints(self) -> dict[str, str]:
        """How each tensor's value was computed."""
        texts = fingerprints(self.recorder, [held.node for held in self.held.values()])
        return dict(zip(self.held, texts, strict=True))


def run(build: Build) -> tuple[ConstructorRun, dict[str, str]]:
    """Run a constructor as often as it takes.

    Returns:
        The first run, and for each name that depends on what a program cannot say, why it does.

    Raises:
        TraceError: the constructor builds another model for other random numbers.
    """
    with _generators_as_found():
        first = _once(build, Recorder(lower, _SEEDS[0]))
        expected = first.fingerprints()
        why: dict[str, str] = {}
        for other, reason in _other_runs(build, first):
            if other is None:
                continue
            if other.shapes != first.shapes:
                raise TraceError(f"{reason}; the model that it builds depends on them")
            found = other.fingerprints().values()
            for name, text in zip(expected, found, strict=True):
                if text != expected[name]:
                    why.setdefault(name, reason)
        return first, why


def _other_runs(build: Build, first: ConstructorRun) -> Iterator[tuple[ConstructorRun | None, str]]:
    """Further runs with other random numbers, and what a difference would say."""
    readings = first.recorder.readings
    with _other_numbers():
        yield _again(build, first, Recorder(lower, _SEEDS[1])), _reason(first)
    counts: dict[str, list[Reading]] = {}
    for reading in readings:
        if not _is_number(reading.value):
            counts.setdefault(reading.place, []).append(reading)
    if len(counts) > _MOST_QUESTIONS:
        raise TraceError(f"{_asked(readings)}, in {len(counts)} places, which are too many to try")
    for place, asked in counts.items():
        contrary = Recorder(lower, _SEEDS[0], place, len(asked))
        with contextlib.suppress(Exception):  # it asserts: no model has the other answer
            yield _once(build, contrary), _asked(asked)


def _is_number(value: Any) -> bool:
    """Whether two seeds are sure to give two answers."""
    if isinstance(value, Tensor):
        return value.is_floating_point() or value.is_complex()
    return isinstance(value, float | complex)


def _once(build: Build, recorder: Recorder) -> ConstructorRun:
    before = _outside()
    held = _built(build, recorder)
    clear_away(recorder)
    after = _outside()
    moved = [name for name, state in before.items() if after[name] != state]
    return ConstructorRun(recorder, held, moved)


def _built(build: Build, recorder: Recorder) -> dict[str, HeldTensor]:
    """What the model holds that a constructor returns."""
    module = recorder.run(build)
    if not isinstance(module, nn.Module):
        raise TypeError(f"build must return a torch.nn.Module, got {type(module).__name__}")
    held: dict[str, HeldTensor] = {}
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(plain_name(module, name))
    with recorder.mode:
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            lazy = is_lazy(tensor)
            held[name] = HeldTensor(
                recorder.add("lazy", (), ((), "")) if lazy else recorder.read(tensor),
                replace(
                    describe(module, name, tensor),
                    other_names=tuple(names.get(id(tensor), [])[1:]),
                ),
                not isinstance(tensor, nn.Parameter),
                not lazy and tensor.is_meta,
            )
    return held


def _again(build: Build, first: ConstructorRun, recorder: Recorder) -> ConstructorRun | None:
    """A second run; none if the constructor can be run only once, and nothing tells against it."""
    try:
        return _once(build, recorder)
    except Exception as error:
        if not first.recorder.readings and not first.moved:
            return None
        raise TraceError(f"{_reason(first)}, and with other numbers it failed: {error}") from error


def _reason(run: ConstructorRun) -> str:
    """What made a second run come out otherwise."""
    if run.recorder.readings:
        return _asked(run.recorder.readings)
    if run.moved:
        return f"the constructor draws from {' and '.join(run.moved)}, which a recipe cannot replay"
    return (
        "two runs of the constructor gave two values: it takes something from outside of torch "
        "that changes, or torch's seed (random numbers, a clock, a count)"
    )


def _asked(readings: list[Reading]) -> str:
    what, line = readings[0].what, readings[0].line
    more = len({reading.line for reading in readings}) - 1
    lines = line + (f" and {more} other lines" if more else "")
    return f"the constructor reads {what} at {lines}; what it does then cannot be known without it"


def _outside() -> dict[str, Any]:
    """The states of the random number generators outside of torch."""
    kind, words, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "NumPy's random numbers": (kind, words.tobytes(), *rest),  # type: ignore[union-attr]
        "Python's random numbers": random.getstate(),
    }


@contextlib.contextmanager
def _generators_as_found() -> Iterator[None]:
    """NumPy's and Python's generators, and torch's, are left as they were."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    torch_state = on_real_tensors(torch.get_rng_state)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
        on_real_tensors(lambda: torch.set_rng_state(torch_state))


@contextlib.contextmanager
def _other_numbers() -> Iterator[None]:
    with _generators_as_found():
        np.random.seed(_SEEDS[1] % 2**32)  # noqa: NPY002
        random.seed(_SEEDS[1])
        yield
