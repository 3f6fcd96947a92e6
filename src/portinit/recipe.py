"""Recipes: which initializer each parameter of a model gets, as data."""

from __future__ import annotations

import fnmatch
import glob
import json
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from portinit.base import Initializer, Parameter
from portinit.layouts import LAYOUTS, Layout, Shape, as_layout
from portinit.serial import (
    initializer_from_data,
    initializer_to_data,
    layout_from_data,
    layout_to_data,
)

SCHEMA = 1
"""The version of the JSON form that this library writes, and the newest it reads."""

_LAYOUT_OF_KIND = {
    "embedding": LAYOUTS["rows"],
    "conv_transpose": LAYOUTS["flax_conv_transpose"],
}


class RecipeError(ValueError):
    """A recipe and a model, or a recipe and its data, do not fit; every misfit is listed."""


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
    """

    pattern: str
    initializer: Initializer
    layout: Layout | None = None
    kind: str | None = None
    shape: Shape | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str) or not isinstance(self.initializer, Initializer):
            raise TypeError(
                "a rule must be a name pattern and a portinit initializer, "
                f"got {self.pattern!r} and {self.initializer!r}"
            )
        if isinstance(self.layout, str):
            object.__setattr__(self, "layout", as_layout(self.layout))

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
        usual = _LAYOUT_OF_KIND.get(parameter.kind or "") if len(parameter.shape) > 1 else None
        return Rule(
            glob.escape(parameter.name),
            self.initializer.bound(parameter),
            self.layout or usual,
            shape=parameter.shape if self.shape is None else self.shape,
        )


def _unescape(pattern: str) -> str:
    for special in "*?[":
        pattern = pattern.replace(f"[{special}]", special)
    return pattern


@dataclass(frozen=True)
class Recipe:
    """An ordered list of rules; the first that matches a parameter decides.

    Args:
        rules: :class:`Rule` s, or tuples of a pattern, an initializer and perhaps a layout.

    >>> import portinit
    >>> recipe = Recipe([("*.bias", portinit.zeros), ("*", portinit.normal(std=0.02))])
    >>> Recipe.from_json(recipe.to_json()) == recipe
    True
    """

    rules: tuple[Rule, ...]

    def __init__(self, rules: Iterable[Rule | tuple[Any, ...]]) -> None:
        made = tuple(rule if isinstance(rule, Rule) else Rule(*rule) for rule in rules)
        object.__setattr__(self, "rules", made)

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
            except ValueError as error:
                misfits.append(str(error))
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

    def to_json(self) -> str:
        """The recipe as JSON text, a rule a line."""
        lines = ",\n".join("  " + json.dumps(_rule_to_data(r), allow_nan=False) for r in self.rules)
        return f'{{"portinit": {SCHEMA}, "rules": [\n{lines}\n]}}\n'

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
        if data.get("portinit") != SCHEMA:
            raise RecipeError(
                f"a recipe must be of schema {SCHEMA}, got {data.get('portinit')!r}; "
                "a newer portinit may read it"
            )
        return cls(_rule_from_data(number, rule) for number, rule in enumerate(data["rules"]))


def raise_misfits(wanted: str, misfits: list[str]) -> None:
    """Raise a RecipeError that lists the misfits, if there are any."""
    if misfits:
        raise RecipeError("\n  ".join([f"{wanted}; {len(misfits)} do not fit:", *misfits]))


def _rule_to_data(rule: Rule) -> dict[str, Any]:
    data: dict[str, Any] = {"name": rule.pattern}
    if rule.kind is not None:
        data["kind"] = rule.kind
    if rule.shape is not None:
        data["shape"] = list(rule.shape)
    if rule.layout is not None:
        data["layout"] = layout_to_data(rule.layout)
    return data | {"initializer": initializer_to_data(rule.initializer)}


def _rule_from_data(number: int, data: Any) -> Rule:
    allowed = {"name", "kind", "shape", "layout", "initializer"}
    try:
        if (
            not isinstance(data, dict)
            or set(data) - allowed
            or not {"name", "initializer"} <= set(data)
        ):
            raise ValueError(f"a rule must have {sorted(allowed)}, got {data!r}")
        layout, shape = data.get("layout"), data.get("shape")
        return Rule(
            data["name"],
            initializer_from_data(data["initializer"]),
            None if layout is None else layout_from_data(layout),
            data.get("kind"),
            None if shape is None else tuple(map(operator.index, shape)),
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise RecipeError(f"rule {number}: {error}") from error
