"""Tensors whose elements say which they are, through any conversion that keeps or copies them.

Element ``n`` of all parameters together is given, in one pass after the other, a digit of ``n``;
then two random numbers by which what is read off the digits is checked, the first short, the second
of all the bits that its dtype has. So a conversion may cast to a narrow dtype, and one that
computes is seen: a scale, a sum, an absolute value or a constant gives digits that no element has,
or fails the checks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from portinit.arrays.convert import converted
from portinit.arrays.dtypes import FORMATS
from portinit.arrays.layouts import Shape
from portinit.recipes.elements import Vector

Array = np.ndarray[Any, Any]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

CHECKS = 2
"""Passes of random numbers behind those of digits."""

_BITS = 8
"""Bits of a digit: what bfloat16 holds exactly."""


@dataclass(frozen=True)
class Tags:
    """The numbers of all elements of some parameters.

    Attributes:
        shapes: the parameters' shapes by name; their elements are numbered in this order.
        bits: how many bits each digit has; fewer than 8 for float8.
    """

    shapes: Mapping[str, Shape]
    bits: int = _BITS
    _starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sizes = (math.prod(shape) for shape in self.shapes.values())
        object.__setattr__(self, "_starts", (0, *accumulate(sizes)))

    @property
    def count(self) -> int:
        """The number of all elements."""
        return self._starts[-1]

    @property
    def digits(self) -> int:
        """How many passes tell an element from all others."""
        return max(1, math.ceil((self.count - 1).bit_length() / self.bits))

    @property
    def passes(self) -> int:
        """How many passes there are."""
        return self.digits + CHECKS

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in the order of their elements' numbers."""
        return tuple(self.shapes)

    def start(self, name: str) -> int:
        """The number of a parameter's first element."""
        return self._starts[self.names.index(name)]

    def owners(self, numbers: Vector) -> Vector:
        """The parameters of elements, by their places among the names; -1 where there is none."""
        found = np.searchsorted(self._starts, numbers, side="right") - 1
        return np.where(numbers < 0, -1, found)

    def tensors(self, number: int) -> dict[str, Array]:
        """The tagged tensors of one pass, in float64."""
        return {
            name: self._values(
                np.arange(start, start + math.prod(shape), dtype=np.int64), number
            ).reshape(shape)
            for start, (name, shape) in zip(self._starts, self.shapes.items(), strict=False)
        }

    def _values(self, elements: Vector, number: int) -> Array:
        if number < self.digits:
            return ((elements >> (self.bits * number)) & ((1 << self.bits) - 1)).astype(np.float64)
        words = _mixed(elements, number - self.digits)
        sign = np.where(words & 1, -1.0, 1.0)
        scale = np.exp2(((words >> np.uint64(1)) & np.uint64(3)).astype(np.float64))
        short = number == self.digits
        bits = self.bits - 1 if short else 50
        fraction = (words >> np.uint64(64 - bits)).astype(np.float64) / float(1 << bits)
        return np.asarray(sign * scale * (1 + fraction))

    def read(self, outputs: Sequence[Array], dtypes: Mapping[str, str]) -> TaggedArray:
        """The elements that an array holds, from what it held in each pass.

        Args:
            outputs: the array in each pass.
            dtypes: the parameters' dtypes.
        """
        numbers = np.zeros(outputs[0].shape, np.int64)
        is_digit = np.ones(outputs[0].shape, bool)
        for number, output in enumerate(outputs[: self.digits]):
            values = _real(output)
            with np.errstate(invalid="ignore"):
                digit = np.where(np.isfinite(values), values, -1).astype(np.int64)
            is_digit &= (digit == values) & (digit >= 0) & (digit < 1 << self.bits)
            numbers |= np.where(is_digit, digit, 0) << (self.bits * number)
        is_digit &= numbers < self.count
        is_digit &= outputs[0].dtype.kind not in "biu"
        numbers[~is_digit] = 0
        short, precise = outputs[self.digits :]
        expected = self._expected(numbers, self.digits, short, dtypes)
        is_element = is_digit & _equal(short, expected)
        expected = self._expected(numbers, self.digits + 1, precise, dtypes)
        near = np.abs(_real(precise) - _real(expected)) <= 2.0 ** -(self.bits - 1) * np.abs(
            _real(expected)
        )
        is_element &= near
        same = np.stack([_equal(output, outputs[0]) for output in outputs[1:]]).all(axis=0)
        is_constant = same & ~is_element
        rounded = is_element & ~_equal(precise, expected)
        return TaggedArray(
            np.where(is_element, numbers, -1), is_constant, int(rounded.sum()), outputs[0]
        )

    def _expected(
        self, numbers: Vector, number: int, output: Array, dtypes: Mapping[str, str]
    ) -> Array:
        """What the elements are in a pass, in their parameters' dtypes and then in the array's."""
        values = self._values(numbers.reshape(-1), number)
        owners = self.owners(numbers.reshape(-1))
        for owner in np.unique(owners):
            mine = owners == owner
            values[mine] = through(values[mine], dtypes[self.names[owner]])
        return _cast(values, output.dtype).reshape(numbers.shape)


@dataclass(frozen=True)
class TaggedArray:
    """What an array is known to hold.

    Attributes:
        numbers: the number of each element, or -1.
        is_constant: which of the others are the same whatever the parameters are.
        rounded: how many elements went through a dtype narrower than their own and the array's.
        values: the array in the first pass, with the constants' values.
    """

    numbers: Vector
    is_constant: Bools
    rounded: int
    values: Array

    @property
    def computed(self) -> int:
        """How many elements are neither a parameter's nor constant."""
        return int(((self.numbers < 0) & ~self.is_constant).sum())


def significant_bits(dtype: str) -> int:
    """How many bits a digit may have to pass through a dtype: 8, or what a narrower one holds."""
    return min(_BITS, FORMATS[dtype].precision) if dtype in FORMATS else _BITS


def through(values: Array, dtype: str) -> Array:
    """Numbers rounded to a dtype, in float64 again."""
    return converted(values, dtype).astype(np.float64) if dtype in FORMATS else values


def _cast(values: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        if dtype.name in FORMATS and dtype.kind != "c":
            return converted(values, dtype.name)
        return np.asarray(values.astype(dtype))


def _real(values: Array) -> Array:
    return (values.real if values.dtype.kind == "c" else values).astype(np.float64)


def _equal(one: Array, other: Array) -> Bools:
    with np.errstate(invalid="ignore"):
        return np.asarray(one == other)


def _mixed(elements: Vector, salt: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Words that look random, one for each number: the finaliser of splitmix64."""
    words = elements.astype(np.uint64) + np.uint64((salt + 1) * 0x9E3779B97F4A7C15 & _WORD)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    return words ^ (words >> np.uint64(31))


_WORD = (1 << 64) - 1
