"""Recipes: which initializer each parameter of a model gets, as data."""

from __future__ import annotations

import fnmatch
import glob
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from portinit.base import Initializer, Parameter
from portinit.dtypes import numpy_dtype
from portinit.given import assign, assigned
from portinit.layouts import LAYOUTS, Layout, Shape, as_layout, as_shape
from portinit.program import Node, Program, node_to_data, nodes_from_data
from portinit.replay import parse_version, replay
from portinit.serial import (
    initializer_from_data,
    initializer_to_data,
    layout_from_data,
    layout_to_data,
)

SCHEMA = 1
"""The version of the JSON form that this library writes, and the newest it reads."""


class RecipeError(ValueError):
    """A recipe and a model, or a recipe and its data, do not fit.

    Attributes:
        misfits: a line for each of them.
    """

    def __init__(self, message: str, misfits: Sequence[str] = ()) -> None:
        super().__init__("\n  ".join([message, *misfits]))
        self.misfits = tuple(misfits)


@dataclass(frozen=True)
class Rule:
    """One line of a recipe.

    Attributes:
        pattern: a parameter's name, or a pattern with ``*``, ``?`` and ``[...]`` for all of it;
            ``*`` crosses dots.
        initializer: what the parameters it matches get.
        layout: how Flax holds them, where that is not what their names and shapes tell.
        kind: match only parameters of this kind of layer; see :class:`Parameter`.
        shape: PyTorch's shape, in the recipe of one model.
        buffer: whether it is no parameter but a buffer, which a Flax tree may lack.
        source: the line that last wrote it, in a traced recipe.
        value: the node of the program that gives it, in a traced recipe.
    """

    pattern: str
    initializer: Initializer
    layout: Layout | None = None
    kind: str | None = None
    shape: Shape | None = None
    buffer: bool = False
    source: str | None = None
    value: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str) or not isinstance(self.initializer, Initializer):
            raise TypeError(
                "a rule must be a name pattern and a portinit initializer, "
                f"got {self.pattern!r} and {self.initializer!r}"
            )
        if isinstance(self.layout, str):
            object.__setattr__(self, "layout", as_layout(self.layout))
        if not isinstance(self.kind, str | None) or not isinstance(self.source, str | None):
            raise TypeError(f"kind and source must be text, got {self.kind!r}, {self.source!r}")

    @cached_property
    def name(self) -> str | None:
        """The one name the pattern stands for; none if it is a pattern indeed."""
        plain = _unescape(self.pattern)
        return plain if glob.escape(plain) == self.pattern else None

    def matches(self, parameter: Parameter) -> bool:
        """Whether the rule applies to a parameter."""
        if self.kind is not None and self.kind != parameter.kind:
            return False
        if self.name is not None:
            return self.name == parameter.name
        return fnmatch.fnmatchcase(parameter.name, self.pattern)

    def bound(self, parameter: Parameter) -> Rule:
        """The rule for one parameter, with all that the model tells filled in."""
        return replace(
            self,
            pattern=glob.escape(parameter.name),
            initializer=self.initializer.bound(parameter),
            layout=self.layout or usual_layout(parameter),
            kind=None,
            shape=parameter.shape if self.shape is None else self.shape,
        )


def usual_layout(parameter: Parameter) -> Layout | None:
    """How Flax holds a parameter of its kind, where its name and shape do not tell."""
    if len(parameter.shape) < 2:
        return None
    return {
        "embedding": LAYOUTS["rows"],
        "conv_transpose": LAYOUTS["flax_conv_transpose"],
    }.get(parameter.kind or "")


def _unescape(pattern: str) -> str:
    for special in "*?[":
        pattern = pattern.replace(f"[{special}]", special)
    return pattern


@dataclass(frozen=True)
class Recipe:
    """An ordered list of rules; the first that matches a parameter decides.

    Args:
        rules: :class:`Rule` s, or tuples of a pattern, an initializer and perhaps a layout.
        program: what a traced constructor computed, for :meth:`replay`.

    >>> import portinit
    >>> recipe = Recipe([("*.bias", portinit.zeros), ("*", portinit.normal(std=0.02))])
    >>> Recipe.from_json(recipe.to_json()) == recipe
    True
    """

    rules: tuple[Rule, ...]
    program: Program | None = None

    def __init__(
        self, rules: Iterable[Rule | tuple[Any, ...]], program: Program | None = None
    ) -> None:
        made = tuple(rule if isinstance(rule, Rule) else Rule(*rule) for rule in rules)
        object.__setattr__(self, "rules", made)
        object.__setattr__(self, "program", program)

    def __add__(self, other: Recipe) -> Recipe:
        """This recipe's rules first, then the other's."""
        return Recipe(self.rules + other.rules)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parameters that have a rule to themselves."""
        return tuple(rule.name for rule in self.rules if rule.name is not None)

    def find(self, parameter: Parameter) -> Rule | None:
        """The first rule that matches, bound to the parameter; none if none does."""
        for rule in self.rules:
            if rule.matches(parameter):
                return rule.bound(parameter)
        return None

    def bind(self, parameters: Iterable[Parameter]) -> Recipe:
        """The recipe of one model: a rule of its own for each of its parameters.

        Raises:
            RecipeError: listing every parameter that no rule matches, or whose rule cannot be
                filled in or has another shape.
        """
        rules, misfits = [], []
        for parameter in parameters:
            try:
                rule = self.find(parameter)
            except (ValueError, OverflowError) as error:
                misfits.append(f"{parameter.name} {parameter.shape}: {error}")
                continue
            if rule is None:
                misfits.append(f"{parameter.name} {parameter.shape}: no rule matches it")
            elif rule.shape != parameter.shape:
                misfits.append(
                    f"{parameter.name}: the recipe has {rule.shape}, got {parameter.shape}"
                )
            else:
                rules.append(rule)
        raise_misfits("every parameter must have a rule", misfits)
        return Recipe(rules)

    def with_layouts(self, layouts: Mapping[str, Layout | str]) -> Recipe:
        """The recipe with some parameters' layouts stated, by name or pattern of the rule."""
        stated = {name: as_layout(layout) for name, layout in layouts.items()}
        labels = [rule.name or rule.pattern for rule in self.rules]
        unknown = [
            f"{name}: no rule has this name or pattern" for name in set(stated) - set(labels)
        ]
        raise_misfits("every layout must belong to a rule", sorted(unknown))
        return Recipe(
            replace(rule, layout=stated.get(label, rule.layout))
            for rule, label in zip(self.rules, labels, strict=True)
        )

    def with_values(self, values: Mapping[str, Any]) -> Recipe:
        """The recipe with given values in the place of some parameters' initializers.

        Args:
            values: arrays in PyTorch's shapes, by the rules' names: a replay's, or a checkpoint's.

        >>> import numpy as np
        >>> import portinit
        >>> recipe = portinit.Recipe([("head.bias", portinit.zeros)])
        >>> print(recipe.with_values({"head.bias": np.ones(3)}).rules[0].initializer)
        assigned(3 float64)
        """
        unknown = [f"{name}: no rule has this name" for name in values if name not in self.names]
        raise_misfits("every value must belong to a rule", unknown)
        return Recipe(
            replace(rule, initializer=assign(values[rule.name]))
            if rule.name is not None and rule.name in values
            else rule
            for rule in self.rules
        )

    def replay(self, seed: int, torch_version: str | None = None) -> dict[str, Any]:
        """What ``torch.manual_seed(seed)`` and the traced constructor give on a CPU, in NumPy.

        Args:
            seed: as for ``torch.manual_seed``.
            torch_version: whose samplers to replay, such as ``"2.13"``; by default those of the
                version that was traced.

        Returns:
            NumPy arrays by the names of the recipe, in PyTorch's shapes; bfloat16 by ml_dtypes.

        Raises:
            RecipeError: the recipe was not traced, or lists what could not be carried.
        """
        if self.program is None:
            raise RecipeError("a replay needs a traced recipe; this one has rules only")
        lost = [f"{rule.name}: {rule.initializer}" for rule in self.rules if rule.value is None]
        raise_misfits("every value must have been carried", lost)
        names: dict[int, list[str]] = {}
        for rule in self.rules:
            names.setdefault(rule.value or 0, []).append(rule.name or rule.pattern)
        values: dict[str, Any] = {}
        try:
            for number, value in replay(self.program, names, seed, torch_version):
                values |= dict.fromkeys(names[number], value)
        except ValueError as error:
            raise RecipeError(str(error)) from error
        return {name: values[name] for rule in self.rules if (name := rule.name or rule.pattern)}

    def to_json(self) -> str:
        """The recipe as JSON text, a rule a line and a node a line."""
        rules = _lines(_rule_to_data(rule, self.program) for rule in self.rules)
        text = f'{{"portinit": {SCHEMA}, "rules": [\n{rules}\n]'
        if self.program is not None:
            nodes = _lines(map(node_to_data, self.program.nodes))
            text += f',\n"torch": {json.dumps(self.program.torch)}, "program": [\n{nodes}\n]'
        return text + "}\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote. Nothing in the text is executed.

        Raises:
            RecipeError: not a recipe, or one of a newer schema.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"a recipe must be JSON text: {error}") from error
        if not isinstance(data, dict) or not isinstance(data.get("rules"), list):
            raise RecipeError('a recipe must be an object with "portinit" and a list of "rules"')
        if data.get("portinit") != SCHEMA or isinstance(data["portinit"], bool):
            raise RecipeError(
                f"a recipe must be of schema {SCHEMA}, got {data.get('portinit')!r}; "
                "a newer portinit may read it"
            )
        program = _program_from_data(data)
        rules = [_rule_from_data(i, rule, program) for i, rule in enumerate(data["rules"])]
        return cls(rules, program)


def raise_misfits(wanted: str, misfits: list[str]) -> None:
    """Raise a RecipeError that lists the misfits, if there are any."""
    if misfits:
        raise RecipeError(f"{wanted}; {len(misfits)} do not fit:", misfits)


def _lines(items: Iterable[dict[str, Any]]) -> str:
    return ",\n".join("  " + json.dumps(item, allow_nan=False) for item in items)


def _program_from_data(data: dict[str, Any]) -> Program | None:
    if "program" not in data:
        return None
    try:
        program = Program(nodes_from_data(data["program"]), str(data.get("torch")))
        parse_version(program.torch)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"the program: {error}") from error
    return program


_SHARED = {"init": "program's data"}
"""In the place of an initializer whose data the program has."""


def _is_shared(rule: Rule, program: Program | None) -> bool:
    if program is None or rule.value is None or not isinstance(rule.initializer, assigned):
        return False
    return rule.initializer == _shared(program.nodes[rule.value])


def _shared(node: Node) -> Initializer | None:
    if node.op != "data":
        return None
    return assigned(numpy_dtype(node.dtype).name, node.shape, node.attributes["bytes"])


def _rule_to_data(rule: Rule, program: Program | None) -> dict[str, Any]:
    data: dict[str, Any] = {"name": rule.pattern}
    if rule.kind is not None:
        data["kind"] = rule.kind
    if rule.shape is not None:
        data["shape"] = list(rule.shape)
    if rule.layout is not None:
        data["layout"] = layout_to_data(rule.layout)
    if rule.buffer:
        data["buffer"] = True
    traced = {"source": rule.source, "value": rule.value}
    data |= {key: value for key, value in traced.items() if value is not None}
    shared = _is_shared(rule, program)
    return data | {"initializer": _SHARED if shared else initializer_to_data(rule.initializer)}


def _rule_from_data(number: int, data: Any, program: Program | None) -> Rule:
    allowed = {"name", "kind", "shape", "layout", "buffer", "source", "value", "initializer"}
    try:
        known = isinstance(data, dict) and {"name", "initializer"} <= set(data) <= allowed
        if not known:
            raise ValueError(f"a rule must have {sorted(allowed)}, got {data!r}")
        layout, shape = data.get("layout"), data.get("shape")
        return Rule(
            data["name"],
            _rule_initializer(data, program),
            None if layout is None else layout_from_data(layout),
            data.get("kind"),
            None if shape is None else as_shape(list(shape)),
            bool(data.get("buffer", False)),
            data.get("source"),
            None if data.get("value") is None else _value_of(data["value"], program),
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise RecipeError(f"rule {number}: {error}") from error


def _value_of(value: Any, program: Program | None) -> int:
    number = operator.index(value)
    if program is None or not 0 <= number < len(program.nodes):
        raise ValueError(f"a value must be a node of the program, got {number}")
    return number


def _rule_initializer(data: dict[str, Any], program: Program | None) -> Initializer:
    if data["initializer"] != _SHARED:
        return initializer_from_data(data["initializer"])
    node = None if program is None else program.nodes[_value_of(data.get("value"), program)]
    initializer = None if node is None else _shared(node)
    if initializer is None:
        raise ValueError("the program must have this rule's data, got none")
    return initializer
