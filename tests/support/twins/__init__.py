"""Small twins of every kind that people port: square wherever shapes could tell a mistake."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TwinCase:
    """A PyTorch model, its twin, and an example input of each.

    Attributes:
        torch_model: makes the PyTorch module.
        flax_model: makes its twin.
        torch_input: PyTorch's example input.
        flax_input: the twin's; by default the same.
        names: a table where one is needed.
        stacked: paths of stacked layers, where they have to be stated.
        invisible: words of parameters that no output depends on, such as the biases of keys.
    """

    torch_model: Callable[[], Any]
    flax_model: Callable[[], Any]
    torch_input: Any
    flax_input: Any = None
    names: Mapping[str, Any] = field(default_factory=dict)
    stacked: Mapping[str, int] = field(default_factory=dict)
    invisible: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[Any, Any]:
        """Both example inputs."""
        return self.torch_input, self.torch_input if self.flax_input is None else self.flax_input


def floats(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tokens(*shape: int, below: int = 12) -> np.ndarray[Any, Any]:
    """Tokens, every one of them."""
    return np.random.default_rng(0).permutation(np.arange(np.prod(shape)) % below).reshape(shape)


def last(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Channels last."""
    return np.moveaxis(images, 1, -1)
