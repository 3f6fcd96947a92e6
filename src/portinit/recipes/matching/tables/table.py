"""Tables of names that a user states, parsed once: single paths, patterns and prefixes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from portinit.recipes.matching.tables.targets import NameTable, Target
from portinit.recipes.rule import RecipeError


@dataclass(frozen=True)
class _Pattern:
    """One entry of a table that is no array's whole path."""

    key: str
    target: Target
    regex: re.Pattern[str]

    @classmethod
    def of(cls, key: str, target: Target) -> _Pattern:
        return cls(key, target, path_pattern(key))


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
        if not self._entries:
            return None
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


def path_pattern(key: str) -> re.Pattern[str]:
    """What an entry of a table fits: its path, and all below it; a ``*`` is any part of a word."""
    escaped = re.escape(key).replace(r"\*", r"([^/]*)")
    return re.compile(f"{escaped}(?:/(?P<rest>.+))?")
