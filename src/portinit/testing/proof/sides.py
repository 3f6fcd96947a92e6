"""The two models of a proof, each as a function of its weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol

import numpy as np

from portinit.recipes.matching.result import Pair
from portinit.testing.proof.layers import Call

Array = np.ndarray[Any, Any]
Weights = Mapping[str, Array]
"""PyTorch's parameters and buffers by name."""


class Reference(Protocol):
    """PyTorch's model, which keeps its own weights outside of ``held()``."""

    note: str

    def held(self) -> AbstractContextManager[None]:
        """Keep the weights as they are for when this ends."""

    def tensors(self) -> dict[str, Array]:
        """The values of parameters and buffers by all their names."""

    def fill(self, values: Weights) -> None:
        """Take these values."""

    def outputs(self) -> dict[str, Any]:
        """The leaves of the output."""

    def layers(self) -> list[Call]:
        """The output of each call of a module that calls no other."""

    def gradients(self, weights: Weights) -> dict[str, Array]:
        """The gradients of the weighted sum of some outputs; {} if there are none."""


class Twin(Protocol):
    """The other framework's model as a function of its arrays."""

    framework: ClassVar[str]
    """What messages call its framework: ``"Flax"``."""
    arrays: list[Any]

    def outputs(self, arrays: Sequence[Any]) -> dict[str, Any]:
        """The leaves of the output."""

    def layers(self, arrays: Sequence[Any]) -> list[Call]:
        """The output of each call of a module that calls no other."""


def part_of(pair: Pair, weights: Weights) -> Array:
    """The parameter of a pair, or the part of it that the pair is of."""
    return pair.parameter.of(weights[pair.parameter.name])


def put_part(pair: Pair, weights: dict[str, Array], values: Array) -> None:
    """Take these values for the parameter of a pair, or for the part of it."""
    name, parameter = pair.parameter.name, pair.parameter
    if parameter.is_whole:
        weights[name] = values
        return
    whole = np.array(weights[name], values.dtype)
    numbers = parameter.of(np.arange(whole.size).reshape(whole.shape))
    whole.reshape(-1)[numbers] = values
    weights[name] = whole


def twin_arrays(arrays: Sequence[Any], pairs: Iterable[Pair], weights: Weights) -> list[Any]:
    """The arrays of the other model with PyTorch's weights in their places."""
    filled = [*arrays]
    begun: set[int] = set()
    for pair in pairs:
        leaf, position = pair.leaf, pair.leaf.position
        values = pair.layout.from_torch(part_of(pair, weights), leaf.shape)
        if leaf.is_whole:
            filled[position] = values
            continue
        if position not in begun:  # a copy, with what no pair is for
            begun.add(position)
            filled[position] = np.array(arrays[position], values.dtype)
        whole = filled[position]
        numbers = leaf.part_of(np.arange(whole.size).reshape(whole.shape))
        whole.reshape(-1)[numbers] = values
    return filled
