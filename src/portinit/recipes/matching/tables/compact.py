"""Tables in fewer lines: entries that differ in numbers only are one with a ``*``."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from portinit.recipes.matching.tables.table import path_pattern
from portinit.recipes.matching.tables.targets import Target
from portinit.recipes.names import ParameterSlice

_NUMBER = re.compile(r"\d+")


def compact(table: Mapping[str, Target], others: Collection[str] = ()) -> dict[str, Target]:
    """A table that says the same of the same paths, in fewer lines where it can.

    Args:
        table: from whole paths to targets.
        others: paths of which the table must go on to say nothing.

    >>> rows = {f"layers_{i}/kernel": Target.read(f"model.layers.{i}.weight") for i in range(9)}
    >>> {path: str(target.parameter) for path, target in compact(rows).items()}
    {'layers_*/kernel': 'model.layers.*.weight'}
    """
    groups: dict[Hashable, list[str]] = {}
    for path, target in table.items():
        template = _with_names(target, lambda name: _NUMBER.sub("#", name))
        groups.setdefault((_NUMBER.sub("#", path), template), []).append(path)
    taken: dict[str, _Line] = {}
    literal = set(others)
    for paths in sorted(groups.values(), key=len, reverse=True):
        pattern = _pattern(paths, table) if len(paths) > 1 and not literal & {*paths} else None
        if pattern is None:
            continue
        strangers = {p for p in (*table, *others) if pattern.matches(p)} - {*paths}
        if strangers & ({*taken} | {*others}):
            continue
        taken |= dict.fromkeys(paths, pattern)
        literal |= strangers
    lines: dict[str, Target] = {}
    for path, target in table.items():
        line = taken.get(path)
        key, value = (path, target) if line is None else (line.path, line.target)
        lines[key] = value
    return lines


def series(target: Target) -> Target:
    """A stack whose parts are the layers of a list, said in one name."""
    first = target.parts[0]
    if not target.is_stack or first.parameter is None or not first.parameter.is_whole:
        return target
    for pattern in _with_one_star(first.parameter.name):
        series = replace(
            target, parts=(Target(ParameterSlice(pattern), first.layout),), is_series=True
        )
        if series.with_layers(len(target.parts)) == replace(target, is_series=False):
            return series
    return target


def _with_one_star(name: str) -> Iterator[str]:
    """A name with a ``*`` in the place of one of its words that are 0."""
    words = name.split(".")
    for i, word in enumerate(words):
        if word == "0":
            yield ".".join([*words[:i], "*", *words[i + 1 :]])


@dataclass(frozen=True)
class _Line:
    """A line for several paths."""

    path: str
    target: Target

    def matches(self, path: str) -> bool:
        return path_pattern(self.path).fullmatch(path) is not None


def _pattern(paths: Sequence[str], table: Mapping[str, Target]) -> _Line | None:
    """The line for paths that differ in numbers which the names have in the same order."""
    numbers = [_NUMBER.findall(path) for path in paths]
    varying = [i for i, ones in enumerate(zip(*numbers, strict=True)) if len(set(ones)) > 1]
    filled = [[one[i] for i in varying] for one in numbers]
    first = table[paths[0]]
    starred: list[str] = []
    names = zip(*(list(_names(table[path])) for path in paths), strict=True)
    for alike in names:
        found = [_NUMBER.findall(name) for name in alike]
        places = [i for i, ones in enumerate(zip(*found, strict=True)) if len(set(ones)) > 1]
        if [[one[i] for i in places] for one in found] != filled:
            return None
        starred.append(_starred(alike[0], places))
        if _is_behind_a_star(alike[0], places):
            return None
    rest = iter(starred)
    return _Line(_starred(paths[0], varying), _with_names(first, lambda _: next(rest)))


def _is_behind_a_star(name: str, places: Sequence[int]) -> bool:
    """Whether one of the numbers stands behind a ``*`` that the layers of a stack fill."""
    starts = [found.start() for found in _NUMBER.finditer(name)]
    return "*" in name and bool(places) and starts[places[-1]] > name.index("*")


def _starred(text: str, places: Sequence[int]) -> str:
    """A text with a ``*`` in the place of some of its numbers."""
    count = iter(range(len(text)))
    return _NUMBER.sub(lambda found: "*" if next(count) in places else found[0], text)


def _names(target: Target) -> Iterator[str]:
    return (parameter.name for parameter in target.parameters)


def _with_names(target: Target, change: Callable[[str], str]) -> Target:
    """A target with other names, which are asked for in order."""
    parameter = target.parameter
    if parameter is not None:
        parameter = replace(parameter, name=change(parameter.name))
    parts = tuple(_with_names(part, change) for part in target.parts)
    return replace(target, parameter=parameter, parts=parts)
