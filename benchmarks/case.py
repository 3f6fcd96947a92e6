"""A comparison as data, and what a run is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

SIZES = tuple(10**power for power in range(3, 9))


@dataclass(frozen=True)
class Options:
    """What a run is asked for.

    Attributes:
        side: rows and columns of the arrays of most cases.
        sizes: elements of the arrays of the sweeps.
        rounds: how often each side runs; a third as often where it is a process of its own.
        device: ``"cpu"`` or ``"cuda"``.
        quick: smallest models.
    """

    side: int = 4096
    sizes: tuple[int, ...] = SIZES
    rounds: int = 9
    device: str = "cpu"
    quick: bool = False


@dataclass(frozen=True)
class Case:
    """Two functions that do the same.

    Attributes:
        name: group/function/variant.
        make: the function that makes the two sides, ``module:name`` below ``benchmarks``.
        arguments: its keyword arguments.
        elements: how many values a run gives; 0 where that is not the point.
        itemsize: bytes a value.
    """

    name: str
    make: str
    elements: int
    arguments: dict[str, Any] = field(default_factory=dict)
    itemsize: int = 4

    @property
    def group(self) -> str:
        """What runs in one process."""
        return self.name.partition("/")[0]

    def is_wanted(self, pattern: str) -> bool:
        """Whether a pattern of the shell's, or a part of the name, asks for it."""
        return pattern in self.name or fnmatchcase(self.name, pattern)
