"""Vectors of 32-bit words in LLVM's code: arithmetic on them writes code instead of computing."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

COUNT = 16
"""Words in a vector: a register of AVX-512, two of AVX2, four of NEON."""


class Lanes:
    """Vectors of signed words, side by side; of a single one, every vector is meant."""

    def __init__(self, builder: Any, parts: list[Any]) -> None:
        self.builder = builder
        self.parts = parts

    def zip_with(self, other: Any, emit: Callable[[Any, Any], Any]) -> Lanes:
        """The code emitted for each pair of vectors; a Python integer fills all lanes."""
        theirs = other.parts if isinstance(other, Lanes) else [constant([other] * COUNT)]
        count = max(len(self.parts), len(theirs))
        pairs = zip(_spread(self.parts, count), _spread(theirs, count), strict=True)
        return Lanes(self.builder, [emit(a, b) for a, b in pairs])

    def map(self, emit: Callable[[Any], Any]) -> Lanes:
        """The code emitted for each vector."""
        return Lanes(self.builder, [emit(part) for part in self.parts])

    def __add__(self, other: Any) -> Lanes:
        return self.zip_with(other, self.builder.add)

    def __sub__(self, other: Any) -> Lanes:
        return self.zip_with(other, self.builder.sub)

    def __mul__(self, other: Any) -> Lanes:
        return self.zip_with(other, self.builder.mul)

    def __xor__(self, other: Any) -> Lanes:
        return self.zip_with(other, self.builder.xor)

    def __or__(self, other: Any) -> Lanes:
        return self.zip_with(other, self.builder.or_)

    def __and__(self, other: Any) -> Lanes:
        return self.zip_with(other, self.builder.and_)

    def __lshift__(self, other: Any) -> Lanes:
        return self.zip_with(other, self.builder.shl)

    def __rshift__(self, other: Any) -> Lanes:
        return self.zip_with(other, self.builder.ashr)


def _spread(parts: list[Any], count: int) -> list[Any]:
    return parts * count if len(parts) == 1 else parts


def ir() -> Any:
    """The module that LLVM's code is written with."""
    return importlib.import_module("llvmlite.ir")


def vector(kind: Any) -> Any:
    """LLVM's type of a vector."""
    return ir().VectorType(kind, COUNT)


def constant(words: list[int]) -> Any:
    """A vector of known words."""
    return ir().Constant(vector(ir().IntType(32)), words)


def splat(builder: Any, value: Any) -> Lanes:
    """One value in all lanes."""
    none = ir().Constant(vector(value.type), ir().Undefined)
    first = builder.insert_element(none, value, ir().Constant(ir().IntType(32), 0))
    return Lanes(builder, [builder.shuffle_vector(first, none, constant([0] * COUNT))])


def load(builder: Any, data: Any, first: int, count: int) -> Lanes:
    """Words from memory, ``count`` vectors from a number on."""
    word = data.type.pointee
    places = (element_ptr(builder, data, first + COUNT * i) for i in range(count))
    casts = (builder.bitcast(at, vector(word).as_pointer()) for at in places)
    return Lanes(builder, [builder.load(at, align=word.width // 8) for at in casts])


def store(lanes: Lanes, data: Any, first: int) -> None:
    """Vectors to memory, from a number on."""
    builder = lanes.builder
    for i, part in enumerate(lanes.parts):
        at = builder.bitcast(element_ptr(builder, data, first + COUNT * i), part.type.as_pointer())
        builder.store(part, at, align=data.type.pointee.width // 8)


def element_ptr(builder: Any, data: Any, number: int) -> Any:
    """Where the element of a number is."""
    return builder.gep(data, [ir().Constant(ir().IntType(64), number)])
