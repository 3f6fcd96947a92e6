"""Tables of names that a user states, parsed once: single paths, patterns and prefixes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from portinit.arrays.layouts import Layout, as_layout
from portinit.initializers.base import Initializer
from portinit.recipes.matching.elements import Elements
from portinit.recipes.names import ParameterSlice
from portinit.recipes.rule import RecipeError
from portinit.recipes.serialization import (
    initializer_from_data,
    initializer_to_data,
    layout_from_data,
    layout_to_data,
)

NameTable = Mapping[str, Any]
"""From paths of a tree joined by ``/``, or patterns of them, to what :class:`Target` reads."""


@dataclass(frozen=True)
class Target:
    """What a table says that an array, or a part of one, holds.

    One of: a parameter, or a pattern of the layers of a stack; several targets joined; an
    initializer, for an array that PyTorch's model has not.

    Attributes:
        parameter: the parameter or the part of it.
        layout: how the array's axes are PyTorch's, where that is stated.
        parts: what is joined, each a target of its own.
        axis: the axis that the parts are joined along.
        is_stack: whether the parts are stacked along a new axis, or else set side by side.
        is_series: whether the one part stands for the layers of a stack, its last ``*`` for their
            numbers.
        places: instead of an axis, the elements of the array that each part is.
        initializer: what an array gets that is no parameter of PyTorch's.
    """

    parameter: ParameterSlice | None = None
    layout: Layout | None = None
    parts: tuple[Target, ...] = ()
    axis: int = 0
    is_stack: bool = False
    is_series: bool = False
    places: tuple[Elements, ...] = ()
    initializer: Initializer | None = None

    @classmethod
    def read(cls, value: Any) -> Target:
        """A target as a table writes it.

        A name, which may be limited to rows or a box; a pair of a name and a layout; an
        initializer, or its JSON; or an object:

        - ``{"stack": [...], "axis": 0}`` and ``{"concat": [...], "axis": -1}`` of any of these;
        - ``{"stack": "layers.*.mlp.weight", "axis": 1}``, all layers of a list;
        - ``{"of": name, "elements": ...}``, elements by their numbers; and
          ``{"pieces": [...]}`` of these, each with its elements of the array as ``"to"``.

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
        if isinstance(value, Mapping):
            return _read_object(dict(value))
        if isinstance(value, Sequence) and len(value) == 2 and isinstance(value[0], str):
            return cls(ParameterSlice.parse(value[0]), _layout(value[1]))
        raise _unreadable(value)

    def to_data(self) -> Any:
        """The target as a table writes it in JSON."""
        if self.initializer is not None:
            return initializer_to_data(self.initializer)
        if self.parameter is not None:
            return _parameter_to_data(self.parameter, self.layout)
        if self.places:
            pieces = zip(self.parts, self.places, strict=True)
            return {"pieces": [{**_piece(part), "to": to.to_data()} for part, to in pieces]}
        kind = "stack" if self.is_stack else "concat"
        if not self.is_series:
            return {kind: [part.to_data() for part in self.parts], "axis": self.axis}
        (part,) = self.parts
        layout = {} if part.layout is None else {"layout": layout_to_data(part.layout)}
        return {kind: str(part.parameter), "axis": self.axis, **layout}

    def with_stars(self, filled: Sequence[str]) -> Target:
        """The target with the first ``*`` s of its names filled in."""
        parts = tuple(part.with_stars(filled) for part in self.parts)
        if self.parameter is None:
            return replace(self, parts=parts)
        name = self.parameter.name
        for text in filled:
            name = name.replace("*", text, 1)
        return replace(self, parameter=replace(self.parameter, name=name), parts=parts)

    def with_layers(self, count: int) -> Target:
        """The target of a stack of ``count`` layers, each of a series' a part of its own."""
        if not self.is_series:
            return self
        (part,) = self.parts
        layers = tuple(part.with_stars([str(layer)]) for layer in range(count))
        return replace(self, parts=layers, is_series=False)

    @property
    def stars(self) -> int:
        """The number of ``*`` in its name."""
        return 0 if self.parameter is None else self.parameter.name.count("*")

    @property
    def parameters(self) -> tuple[ParameterSlice, ...]:
        """The parameters and parts of them that it has."""
        own = () if self.parameter is None else (self.parameter,)
        return (*own, *(one for part in self.parts for one in part.parameters))


def _unreadable(value: Any) -> ValueError:
    return ValueError(
        "a name, a pair of a name and a layout, {'stack': [names], 'axis': 0}, "
        "{'concat': [names], 'axis': 0}, {'of': name, 'elements': ...}, {'pieces': [...]} or an "
        f"initializer is needed, got {value!r:.200}"
    )


def _read_object(value: dict[str, Any]) -> Target:
    if "init" in value:
        return Target(initializer=initializer_from_data(value))
    kinds = {"stack", "concat", "of", "pieces"} & set(value)
    if len(kinds) != 1:
        raise _unreadable(value)
    return _READERS[kinds.pop()](value)


def _read_joined(value: dict[str, Any]) -> Target:
    kind = "stack" if "stack" in value else "concat"
    joined, axis = value[kind], value.get("axis", 0)
    is_series = kind == "stack" and isinstance(joined, str)
    extra = set(value) - {kind, "axis", *(["layout"] if is_series else [])}
    if extra or isinstance(axis, bool) or not isinstance(axis, int):
        raise ValueError(f"{kind} must come with a list of names and an axis, got {value!r:.200}")
    if is_series:
        layout = None if "layout" not in value else _layout(value["layout"])
        part = Target(ParameterSlice.parse(joined), layout)
        if not part.stars:
            raise ValueError(f"a stack of one name needs a * for the layers' numbers, got {joined}")
        return Target(parts=(part,), axis=axis, is_stack=True, is_series=True)
    if isinstance(joined, str) or not isinstance(joined, Sequence) or not joined:
        raise ValueError(f"{kind} must join a list of names, got {joined!r:.200}")
    parts = tuple(map(Target.read, joined))
    if not any(part.parameters for part in parts):
        raise ValueError(f"{kind} must join parameters, got {joined!r:.200}")
    return Target(parts=parts, axis=axis, is_stack=kind == "stack")


def _read_elements(value: dict[str, Any]) -> Target:
    if set(value) != {"of", "elements"} or not isinstance(value["of"], str):
        raise ValueError(f"elements must come with the name that they are of, got {value!r:.200}")
    elements = value["elements"]
    if not isinstance(elements, Elements):
        elements = Elements.from_data(elements)
    return Target(*some_elements(value["of"], elements))


def some_elements(name: str, elements: Elements) -> tuple[ParameterSlice, Layout]:
    """Elements of a parameter, and the layout of an array of any shape that holds them in order."""
    return ParameterSlice(name, elements=elements), Layout(view=(len(elements),))


def _read_pieces(value: dict[str, Any]) -> Target:
    pieces = value["pieces"]
    if set(value) != {"pieces"} or not isinstance(pieces, Sequence) or not pieces:
        raise ValueError(f"pieces must be a list of objects, got {value!r:.200}")
    parts, places = [], []
    for piece in pieces:
        if not isinstance(piece, Mapping) or "to" not in piece:
            raise ValueError(f'a piece must say where it goes by "to", got {piece!r:.200}')
        rest = {key: one for key, one in piece.items() if key != "to"}
        parts.append(Target.read(rest))
        to = piece["to"]
        places.append(to if isinstance(to, Elements) else Elements.from_data(to))
    if any(part.parts for part in parts):
        raise ValueError(f"a piece must be of one parameter or an initializer, got {value!r:.200}")
    return Target(parts=tuple(parts), places=tuple(places))


_READERS: dict[str, Callable[[dict[str, Any]], Target]] = {
    "stack": _read_joined,
    "concat": _read_joined,
    "of": _read_elements,
    "pieces": _read_pieces,
}


def _parameter_to_data(parameter: ParameterSlice, layout: Layout | None) -> Any:
    if parameter.elements is not None:
        return {"of": parameter.name, "elements": parameter.elements.to_data()}
    return str(parameter) if layout is None else [str(parameter), layout_to_data(layout)]


def _piece(part: Target) -> dict[str, Any]:
    data = part.to_data()
    return data if isinstance(data, dict) else {"of": data}


def _layout(value: Any) -> Layout:
    return layout_from_data(value) if isinstance(value, dict) else as_layout(value)


def path_pattern(key: str) -> re.Pattern[str]:
    """What an entry of a table fits: its path, and all below it; a ``*`` is any part of a word."""
    escaped = re.escape(key).replace(r"\*", r"([^/]*)")
    return re.compile(f"{escaped}(?:/(?P<rest>.+))?")


@dataclass(frozen=True, repr=False)
class Names(Mapping[str, Any]):
    """A table of names with what goes with it, as files have it.

    Attributes:
        entries: from paths of a tree, or patterns, to what :class:`Target` reads.
        ignore: patterns of PyTorch's names that the tree need not have, or not all of.
        stacked: from the path of what is repeated to the axis that its layers lie along.

    >>> names = Names.from_json('{"names": {"Dense_0": "fc"}, "ignore": ["pooler.*"]}')
    >>> names["Dense_0"], names.ignore
    ('fc', ('pooler.*',))
    """

    entries: Mapping[str, Any] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    stacked: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, path: str) -> Any:
        return self.entries[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} lines>"

    @classmethod
    def from_json(cls, text: str) -> Names:
        """The table of a JSON text: an object from paths to names, or one with ``"names"``.

        Raises:
            portinit.RecipeError: the text is no such table; it lists the lines that are not.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecipeError(
                f"a table of names must be JSON, got what is no JSON: {error}"
            ) from error
        if not isinstance(data, dict):
            kind = "a list" if isinstance(data, list) else f"{data!r:.40}"
            raise RecipeError(f"a table of names must be {NAMES_FORM}, got {kind}")
        if not _has_more(data):
            return cls(data).require_readable()
        ignore, stacked = data.get("ignore", []), data.get("stacked", {})
        if not isinstance(ignore, list) or not all(isinstance(one, str) for one in ignore):
            raise RecipeError(f'"ignore" must be a list of patterns of names, got {ignore!r:.80}')
        axes = stacked.values() if isinstance(stacked, dict) else [None]
        if any(isinstance(axis, bool) or not isinstance(axis, int) for axis in axes):
            raise RecipeError(
                f'"stacked" must be an object from paths to axes, got {stacked!r:.80}'
            )
        return cls(data["names"], tuple(ignore), stacked).require_readable()

    def with_more(self, ignore: Sequence[str], stacked: Mapping[str, int] | None) -> Names:
        """The table with more patterns to ignore, and more stacked paths."""
        return Names(self.entries, (*self.ignore, *ignore), {**self.stacked, **(stacked or {})})

    def require_readable(self) -> Names:
        """This table, or a RecipeError that lists the lines that cannot be read."""
        Table(self.entries)
        return self

    def to_json(self) -> str:
        """The table as JSON text, a line an entry."""
        if not (self.ignore or self.stacked):
            return _json_object(self.entries) + "\n"
        parts = [f'"names": {_json_object(self.entries)}']
        if self.ignore:
            parts.append(f'"ignore": {_json_list(self.ignore)}')
        if self.stacked:
            parts.append(f'"stacked": {json.dumps(dict(self.stacked))}')
        return "{" + ",\n".join(parts) + "}\n"


NAMES_FORM = 'a JSON object from Flax paths to PyTorch names, {"Dense_0/kernel": "fc.weight"}'
"""The form of a table of names, as messages say it."""


def _has_more(data: dict[str, Any]) -> bool:
    """Whether JSON data has a table and what goes with it, and not a table alone."""
    if set(data) - {"names", "ignore", "stacked"} or not isinstance(data.get("names"), dict):
        return False
    return not {"init", "stack", "concat", "of", "pieces"} & set(data["names"])


def _json_object(entries: Mapping[str, Any]) -> str:
    lines = [
        f"  {json.dumps(path)}: {json.dumps(Target.read(value).to_data(), allow_nan=False)}"
        for path, value in entries.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}" if lines else "{}"


def _json_list(values: Sequence[str]) -> str:
    return "[\n  " + ",\n  ".join(map(json.dumps, values)) + "\n]"


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
