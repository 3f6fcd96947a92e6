"""Targets: what a table of names says that an array, or a part of one, holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from portinit.arrays.layouts import Layout, as_layout
from portinit.initializers.base import Initializer
from portinit.recipes.elements import Elements
from portinit.recipes.names import ParameterSlice
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
