"""Where a checkpoint's values come from: a key, or PyTorch's stream replayed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from portinit.checkpoints.tensors import Array, TensorSpec
from portinit.random.keys import Key
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import RecipeError, raise_misfits
from portinit.replay.program import node_to_data

Progress = Callable[[int], None]
"""Told of bytes when they are done."""


class Values(Protocol):
    """A source of tensors, one at a time."""

    def identity(self) -> dict[str, Any]:
        """The data that sets these values apart from others, for JSON."""

    def in_order(self, specs: Iterable[TensorSpec]) -> list[TensorSpec]:
        """The specs in the order in which their values come."""

    def begin(self, specs: Iterable[TensorSpec]) -> None:
        """Get ready to give some specs' values, in the order of :meth:`in_order`."""

    def take(self, spec: TensorSpec) -> Array:
        """The values of the next spec."""


@dataclass(frozen=True)
class KeyValues:
    """The values that a key gives: each tensor by itself, in any order."""

    key: Key

    def identity(self) -> dict[str, Any]:
        return {"key": self.key.words}

    def in_order(self, specs: Iterable[TensorSpec]) -> list[TensorSpec]:
        return list(specs)

    def begin(self, specs: Iterable[TensorSpec]) -> None:
        pass

    def take(self, spec: TensorSpec) -> Array:
        return spec.draw(self.key)


@dataclass
class Replay:
    """The values that ``torch.manual_seed(seed)`` and a traced constructor give, for a key's.

    PyTorch's generator is one stream, so the tensors come in the order of the constructor, and a
    checkpoint that goes on where it was passes over the draws before.

    Args:
        recipe: a traced recipe.
        seed: as for ``torch.manual_seed``.
        torch_version: whose samplers to replay, such as ``"2.13"``: by default the traced one's.
    """

    recipe: Recipe
    seed: int
    torch_version: str | None = None
    _stream: Iterator[tuple[int, Array]] = field(init=False, repr=False)
    _last: tuple[int, Array] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.begin(())  # raises if the recipe has no replay

    def identity(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        program = self.recipe.program
        for node in program.nodes if program else ():
            digest.update(json.dumps(node_to_data(node)).encode())
        version = self.torch_version or (program.torch if program else "")
        return {"replay": self.seed, "torch": version, "program": digest.hexdigest()}

    def in_order(self, specs: Iterable[TensorSpec]) -> list[TensorSpec]:
        numbers = {spec: spec.value for spec in specs}
        absent = [
            f"{spec.name}: of stacked layers, or not traced"
            for spec in numbers
            if numbers[spec] is None
        ]
        raise_misfits("a replay gives one traced parameter at a time", absent)
        return sorted(numbers, key=lambda spec: numbers[spec] or 0)

    def begin(self, specs: Iterable[TensorSpec]) -> None:
        wanted = {spec.value for spec in specs if spec.value is not None}
        self._stream = self.recipe.iter_replay(self.seed, self.torch_version, wanted)
        self._last = None

    def take(self, spec: TensorSpec) -> Array:
        while self._last is None or self._last[0] != spec.value:
            self._last = None  # before the next is computed: one value at a time
            self._last = next(self._stream, None)
            if self._last is None:
                raise RecipeError(f"the replay must give {spec.name}; it has ended before")
        return spec.place(self._last[1])
