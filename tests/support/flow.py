"""Floats on their way through a StableHLO module: what each value has been through."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support import inexact
from tests.support.inexact import Finding

_MIN_EXPONENT = {"f64": -1022, "f16": -14}  # bfloat16's is float32's


@dataclass(frozen=True)
class Trail:
    """What a value has been through.

    Attributes:
        products: the most multiplications that rounded, on any way to it.
        bare: whether it is a product that has only been moved since.
        narrowed: whether it was rounded to a narrower float, and the compiler can see that.
        number: the constant that it is, if one.
        of_words: whether it is made of integers and constants alone, and of no float given.
        summed: whether it is a sum that has only been moved since.
    """

    products: int = 0
    bare: bool = False
    narrowed: bool = False
    number: float | None = None
    of_words: bool = True
    summed: bool = False


_FRESH = Trail()


def joined(trails: Iterable[Trail]) -> Trail:
    """The trail of a value made of others, moved or chosen from."""
    all_of = [*trails]
    numbers = {trail.number for trail in all_of}
    return Trail(
        max((trail.products for trail in all_of), default=0),
        any(trail.bare for trail in all_of),
        any(trail.narrowed for trail in all_of),
        numbers.pop() if len(numbers) == 1 else None,
        all(trail.of_words for trail in all_of),
        any(trail.summed for trail in all_of),
    )


@dataclass
class Walk:
    """A walk through a module's functions, each as often as it is called."""

    module: Any
    dtype: str
    found: list[Finding] = field(default_factory=list)
    trails: dict[Any, Trail] = field(default_factory=dict)

    def run(self, name: str, arguments: Iterable[Trail] = ()) -> list[Trail]:
        """Walk through a function; the trails of its results."""
        function = next(op for op in self.module.body.operations if _name_of(op) == name)
        return self._region(function.operation.regions[0], [*arguments])

    def _region(
        self, region: Any, arguments: list[Trail], otherwise: Trail = _FRESH
    ) -> list[Trail]:
        results: list[Trail] = []
        for block in region.blocks:
            for i, argument in enumerate(block.arguments):
                given = replace(otherwise, of_words=otherwise.of_words and not _is_float(argument))
                self.trails[argument] = arguments[i] if i < len(arguments) else given
            for op in block.operations:
                results = self._step(op.operation)
        return results

    def _step(self, op: Any) -> list[Trail]:
        """Take one operation; the trails of what it returns, or passes on if it ends a block."""
        operands = [self.trails.get(value, _FRESH) for value in op.operands]
        self.found.extend(_always(op, self.dtype))
        if op.name == "func.call":
            results = self.run(str(op.attributes["callee"].value), operands)
        elif len(op.regions):
            results = self._nested(op, operands)
        else:
            results = [self._plain(op, operands)] * len(op.results)
        self.trails.update(zip(op.results, results, strict=True))
        return results or operands

    def _nested(self, op: Any, operands: list[Trail]) -> list[Trail]:
        through = joined(operands)
        if _has_floats(op) and op.name != "stablehlo.case":
            looped = op.name == "stablehlo.while"
            self._report(op, inexact.LOOP if looped else inexact.reason(op.name))
        ends = [end for region in op.regions for end in self._region(region, [], through)]
        return [joined([through, *ends])] * len(op.results)

    def _plain(self, op: Any, operands: list[Trail]) -> Trail:
        through = joined(operands)
        if op.name == "stablehlo.constant":
            return Trail(number=_number(op))
        if op.name == "stablehlo.compare":
            return _FRESH
        if op.name == "stablehlo.bitcast_convert":
            return replace(through, narrowed=False, number=None)
        if not _has_floats(op):
            return self._on_integers(op, operands, through)
        return self._on_floats(op, operands, through)

    def _on_integers(self, op: Any, operands: list[Trail], through: Trail) -> Trail:
        """An integer, perhaps of a product's bits."""
        if op.name in inexact.MOVES:
            return through
        if op.name == "stablehlo.and" and any(map(_is_even, operands)):
            # Without its last bit it is neither the product nor the sum that it was: nothing can
            # be fused with it or folded into it.
            return Trail(of_words=through.of_words)
        return replace(through, number=None)

    def _on_floats(self, op: Any, operands: list[Trail], through: Trail) -> Trail:
        if op.name in inexact.MOVES:
            return through
        if op.name == "stablehlo.convert":
            return self._convert(op, through)
        if any(map(_is_denormal, operands, _element_types(op))):
            self._report(op, inexact.DENORMAL)
        if op.name == "stablehlo.multiply":
            return self._multiply(op, operands, through)
        if op.name in inexact.SUMS:
            return self._sum(op, through)
        if op.name not in inexact.COMPARISONS:
            self._report(op, inexact.reason(op.name))
        return replace(through, bare=False, number=None)

    def _sum(self, op: Any, through: Trail) -> Trail:
        if through.bare:
            self._report(op, inexact.FUSED)
        elif through.products or through.summed or not through.of_words:
            self._report(op, inexact.SUM)
        return replace(through, products=0, bare=False, number=None, summed=True)

    def _multiply(self, op: Any, operands: list[Trail], through: Trail) -> Trail:
        if _element_types(op)[-1].startswith("complex"):
            self._report(op, inexact.COMPLEX)
        rounds = not any(map(_is_power_of_two, operands))
        if rounds and through.products and any(trail.number is not None for trail in operands):
            self._report(op, inexact.FOLDED)
        return Trail(through.products + rounds, bare=True, of_words=through.of_words)

    def _convert(self, op: Any, through: Trail) -> Trail:
        source, target = _element_types(op)
        if is_float(source) and is_float(target):
            if through.narrowed and _width(target) > _width(source):
                self._report(op, inexact.WIDENED)
            narrows = _width(target) < _width(source)
            return replace(through, narrowed=through.narrowed or narrows)
        if is_float(source):
            if not through.of_words:  # words are tested: each of them has its value in range
                self._report(op, inexact.TO_INTEGER)
            return Trail(of_words=through.of_words)
        if source != "i1" and _width(target) < 32:
            self._report(op, inexact.TO_NARROW)
        return replace(through, number=None)

    def _report(self, op: Any, why: str) -> None:
        self.found.append(Finding(op.name, why))


def _always(op: Any, dtype: str) -> Iterator[Finding]:
    """What is refused whatever an operation computes with."""
    if op.name in inexact.ALWAYS:
        yield Finding(op.name, inexact.ALWAYS[op.name])
    if dtype not in ("float64", "complex128") and any("f64" in kind for kind in _element_types(op)):
        yield Finding("f64", inexact.WIDE.format(dtype=dtype))
    if op.name == "stablehlo.sort" and not op.attributes["is_stable"].value:
        yield Finding(op.name, inexact.UNSTABLE)


def is_float(kind: str) -> bool:
    """Whether an element type is real or complex: ``f32``, ``bf16``, ``complex<f32>``."""
    return kind.startswith(("f", "bf", "complex"))


def _is_float(value: Any) -> bool:
    return is_float(str(getattr(value.type, "element_type", value.type)))


def _has_floats(op: Any) -> bool:
    return any(map(is_float, _element_types(op)))


def _element_types(op: Any) -> list[str]:
    types = [value.type for value in (*op.operands, *op.results)]
    return [str(getattr(kind, "element_type", kind)) for kind in types]


def _width(kind: str) -> int:
    digits = re.search(r"\d+", kind)
    return int(digits[0]) if digits else 0


def _name_of(function: Any) -> str:
    return str(function.attributes["sym_name"].value)


def _number(constant: Any) -> float | None:
    try:
        values = constant.attributes["value"]
        return float(values.get_splat_value().value) if values.is_splat else None
    except TypeError:  # a complex number
        return None


def _is_power_of_two(trail: Trail) -> bool:
    return trail.number is not None and abs(math.frexp(trail.number)[0]) == 0.5


def _is_even(trail: Trail) -> bool:
    return trail.number is not None and trail.number % 2 == 0


def _is_denormal(trail: Trail, kind: str) -> bool:
    smallest = math.ldexp(1.0, _MIN_EXPONENT.get(kind, -126))
    return trail.number is not None and 0 < abs(trail.number) < smallest
