"""Sets of elements by their numbers, in few words: strides where they have some, else a list."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Vector = np.ndarray[Any, np.dtype[np.int64]]

Stride = int | tuple[int, ...]
"""The distance between neighbours along an axis, or how far each of them is from the first."""


@dataclass(frozen=True)
class Elements:
    """The numbers of elements of an array in row-major order, in some order of their own.

    Element ``(i, j, ...)`` of the sequence is ``start + i * strides[0] + j * strides[1] + ...``,
    where a list in the place of a stride is looked up: ``start + strides[0][i] + ...``.

    Attributes:
        start: the number of the first element.
        sizes: how many steps each axis has, slowest first.
        strides: the axes' strides.

    >>> Elements.of(np.arange(12).reshape(3, 4).T)
    Elements(start=0, sizes=(4, 3), strides=(1, 4))
    >>> Elements.of(np.array([2, 0, 1]))
    Elements(start=2, sizes=(3,), strides=((0, -2, -1),))
    """

    start: int = 0
    sizes: tuple[int, ...] = ()
    strides: tuple[Stride, ...] = ()

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.strides):
            raise ValueError(
                f"elements must have a stride for each size, got {self.sizes} and {self.strides}"
            )
        for size, stride in zip(self.sizes, self.strides, strict=True):
            if size < 0 or (isinstance(stride, tuple) and len(stride) != size):
                raise ValueError(f"an axis of {size} steps must have as many, got {stride}")

    @classmethod
    def of(cls, numbers: Vector) -> Elements:
        """The description of an array of numbers, read in row-major order."""
        if not numbers.size:
            return cls(0, (0,), (1,))
        axes = along_axes(numbers)
        if axes is None:
            numbers = numbers.reshape(-1)
            axes = [numbers - numbers[0]]
        factors: list[tuple[int, Stride]] = []
        for axis in axes:
            split = mixed_radix(axis)
            factors += [(len(axis), tuple(axis.tolist()))] if split is None else split
        sizes, strides = zip(*_merged(factors), strict=True) if factors else ((), ())
        return cls(int(numbers.flat[0]), sizes, strides)

    @classmethod
    def from_data(cls, data: Any) -> Elements:
        """The elements of JSON data; a ValueError says what is wrong with the data."""
        allowed = {"start", "sizes", "strides"}
        if not isinstance(data, dict) or set(data) - allowed:
            raise ValueError(f"elements must be an object with {sorted(allowed)}, got {data!r}")
        start, sizes, strides = data.get("start", 0), data.get("sizes", []), data.get("strides", [])
        if not (isinstance(sizes, list) and isinstance(strides, list)):
            raise ValueError(f"elements must have lists of sizes and strides, got {data!r:.200}")
        inner = [one if isinstance(one, list) else [one] for one in strides]
        numbers = [start, *sizes, *(number for one in inner for number in one)]
        if any(isinstance(number, bool) or not isinstance(number, int) for number in numbers):
            raise ValueError(f"elements must be described by integers, got {data!r:.200}")
        return cls(
            start, tuple(sizes), tuple(tuple(s) if isinstance(s, list) else s for s in strides)
        )

    def to_data(self) -> dict[str, Any]:
        """The elements as JSON data."""
        strides = [list(s) if isinstance(s, tuple) else s for s in self.strides]
        return {"start": self.start, "sizes": list(self.sizes), "strides": strides}

    def __len__(self) -> int:
        return math.prod(self.sizes)

    @cached_property
    def numbers(self) -> Vector:
        """The elements' numbers, one after the other."""
        total = np.full((1,) * len(self.sizes), self.start, np.int64)
        for axis, (size, stride) in enumerate(zip(self.sizes, self.strides, strict=True)):
            steps = (
                np.asarray(stride, np.int64)
                if isinstance(stride, tuple)
                else stride * np.arange(size, dtype=np.int64)
            )
            total = total + steps.reshape([-1 if i == axis else 1 for i in range(len(self.sizes))])
        return np.broadcast_to(total, self.sizes).reshape(-1)

    def require_within(self, size: int) -> None:
        """Raise a ValueError unless an array of ``size`` elements has all of them."""
        numbers = self.numbers
        if numbers.size and not (numbers.min() >= 0 and numbers.max() < size):
            raise ValueError(
                f"elements must be among {size}, got {numbers.min()} to {numbers.max()}"
            )


def along_axes(numbers: Vector) -> list[Vector] | None:
    """How far the numbers along each axis are from the first, if their sums are all the numbers."""
    first = numbers.flat[0]
    axes, total = [], np.full((1,) * numbers.ndim, first, np.int64)
    for axis in range(numbers.ndim):
        line = np.moveaxis(numbers, axis, -1).reshape(-1, numbers.shape[axis])[0] - first
        axes.append(line)
        total = total + line.reshape([-1 if i == axis else 1 for i in range(numbers.ndim)])
    return axes if np.array_equal(total, numbers) else None


def mixed_radix(line: Vector) -> list[tuple[int, int]] | None:
    """Sizes and strides, slowest first, of numbers that begin with 0; None if they have none.

    >>> mixed_radix(np.array([0, 2, 4, 1, 3, 5]))
    [(2, 1), (3, 2)]
    """
    count = len(line)
    if count == 1:
        return []
    stride = int(line[1])
    straight = line == stride * np.arange(count)
    longest = count if straight.all() else int(straight.argmin())
    for size in range(longest, 1, -1):
        if count % size:
            continue
        rows = line.reshape(-1, size)
        if not np.array_equal(rows - rows[:, :1], np.broadcast_to(rows[0], rows.shape)):
            continue
        slower = mixed_radix(rows[:, 0])
        if slower is not None:
            return [*slower, (size, stride)]
    return None


def _merged(factors: Sequence[tuple[int, Stride]]) -> list[tuple[int, Stride]]:
    """The same numbers with axes that follow on each other as one."""
    merged: list[tuple[int, Stride]] = []
    for size, stride in factors:
        if merged and isinstance(stride, int) and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return merged
