"""Tables of names that a user states, parsed once: single paths, patterns and prefixes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from portinit.arrays.layouts import Layout, as_layout
from portinit.initializers.base import Initializer
from portinit.recipes.names import ParameterSlice
from portinit.recipes.rule import RecipeError
from portinit.recipes.serialization import initializer_from_data, layout_from_data

NameTable = Mapping[str, Any]
"""From paths of a tree joined by ``/``, or patterns of them, to what :class:`Target` reads."""


@dataclass(frozen=True)
class Target:
    """What a table says that an array holds.

    One of: a parameter, or a pattern of the layers of a stack; several of them, joined along an
    axis; an initializer, for an array that PyTorch's model has not.

    Attributes:
        parameter: the parameter or the rows of it.
        layout: how the array's axes are PyTorch's, where that is stated.
        parts: what is joined, each a target of its own.
        axis: the axis that the parts are joined along.
        is_stack: whether the parts are stacked along a new axis, or else set side by side.
        initializer: what an array gets that is no parameter of PyTorch's.
    """

    parameter: ParameterSlice | None = None
    layout: Layout | None = None
    parts: tuple[Target, ...] = ()
    axis: int = 0
    is_stack: bool = False
    initializer: Initializer | None = None

    @classmethod
    def read(cls, value: Any) -> Target:
        """A target as a table writes it.

        A name, which may be limited to rows; a pair of a name and a layout; ``{"stack": [...],
        "axis": 0}`` or ``{"concat": [...], "axis": -1}`` of these; an initializer, or its JSON.

        Raises:
            ValueError: it is none of these.
        """
        if isinstance(value, Target):
            return value
        if isinstance(value, ParameterSlice):
            return cls(value)
        if isinstance(value, str):
            return cls(ParameterSlice.parse(value))
        if isinstance(value, Initializer):
            return cls(initializer=value)
        if isinstance(value, Mapping) and "init" in value:
            return cls(initializer=initializer_from_data(dict(value)))
        if isinstance(value, Mapping) and len({"stack", "concat"} & set(value)) == 1:
            return _joined(value)
        if isinstance(value, Sequence) and len(value) == 2 and isinstance(value[0], str):
            return cls(ParameterSlice.parse(value[0]), _layout(value[1]))
        raise ValueError(
            "a name, a pair of a name and a layout, {'stack': [names], 'axis': 0}, "
            "{'concat': [names], 'axis': 0} or an initializer is needed, "
            f"got {value!r}"
        )

    def with_stars(self, filled: Sequence[str]) -> Target:
        """The target with the first ``*`` s of its names filled in."""
        parts = tuple(part.with_stars(filled) for part in self.parts)
        if self.parameter is None:
            return replace(self, parts=parts)
        name = self.parameter.name
        for text in filled:
            name = name.replace("*", text, 1)
        return replace(self, parameter=replace(self.parameter, name=name), parts=parts)

    @property
    def stars(self) -> int:
        """The number of ``*`` in its name."""
        return 0 if self.parameter is None else self.parameter.name.count("*")


def _joined(value: Mapping[str, Any]) -> Target:
    kind = "stack" if "stack" in value else "concat"
    extra, axis = set(value) - {kind, "axis"}, value.get("axis", 0)
    if extra or not isinstance(value[kind], Sequence) or not isinstance(axis, int):
        raise ValueError(f"{kind} must come with a list of names and an axis, got {dict(value)!r}")
    parts = tuple(map(Target.read, value[kind]))
    if any(part.parameter is None for part in parts) or not parts:
        raise ValueError(f"{kind} must join parameters, got {value[kind]!r}")
    return Target(parts=parts, axis=axis, is_stack=kind == "stack")


def _layout(value: Any) -> Layout:
    return layout_from_data(value) if isinstance(value, dict) else as_layout(value)


@dataclass(frozen=True)
class _Pattern:
    """One entry of a table that is no array's whole path."""

    key: str
    target: Target
    regex: re.Pattern[str]

    @classmethod
    def of(cls, key: str, target: Target) -> _Pattern:
        escaped = re.escape(key).replace(r"\*", r"([^/]*)")
        return cls(key, target, re.compile(f"{escaped}(?:/(?P<rest>.+))?"))


class Table:
    """A table of names, asked by paths.

    An entry for a path goes before patterns and prefixes; of these the longest goes first.

    Args:
        names: from paths to targets. A ``*`` in a path stands for any part of it, and the ``*`` s
            of the name for the same; a path of a module stands for all below it. A further ``*``
            in the name stands for the numbers of a stack's layers.

    Raises:
        RecipeError: listing the entries that cannot be read.
    """

    def __init__(self, names: NameTable | None) -> None:
        self._entries: dict[str, Target] = {}
        misfits = []
        for key, value in (names or {}).items():
            try:
                self._entries[key] = Target.read(value)
            except (ValueError, TypeError) as error:
                misfits.append(f"{key}: {error}")
        if misfits:
            raise RecipeError("the table of names must be readable:", misfits)
        self._patterns: list[_Pattern] | None = None
        self._asked: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def unused(self) -> list[str]:
        """The entries that fit none of the paths that were asked for."""
        patterns = (_Pattern.of(key, target) for key, target in self._entries.items())
        asked = set(self._asked)
        return sorted(
            pattern.key
            for pattern in patterns
            if pattern.key not in asked
            and not any(pattern.regex.fullmatch(path) for path in self._asked)
        )

    def target(self, path: str) -> tuple[Target, tuple[str, ...]] | None:
        """What the table says of a path: a target, and what of the path lies below it."""
        self._asked.append(path)
        if path in self._entries:
            return self._entries[path], ()
        if self._patterns is None:
            patterns = [_Pattern.of(key, target) for key, target in self._entries.items()]
            self._patterns = sorted(patterns, key=_specificity, reverse=True)
        return next(self._matches(path, self._patterns), None)

    def _matches(
        self, path: str, patterns: list[_Pattern]
    ) -> Iterator[tuple[Target, tuple[str, ...]]]:
        for pattern in patterns:
            match = pattern.regex.fullmatch(path)
            if match is None:
                continue
            rest = tuple((match["rest"] or "").split("/")) if match["rest"] else ()
            if rest and pattern.target.parameter is None:
                continue  # what is joined, or drawn, is an array and no module
            stars = list(match.groups()[: pattern.key.count("*")])
            yield pattern.target.with_stars(stars), rest


def _specificity(pattern: _Pattern) -> tuple[int, int]:
    return pattern.key.count("/"), -pattern.key.count("*")
