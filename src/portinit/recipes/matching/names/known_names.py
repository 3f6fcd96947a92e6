"""The names by which a recipe's parameters are known to a tree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from portinit.arrays.layouts import Shape
from portinit.recipes.matching.names.words import words_of
from portinit.recipes.matching.trees.leaf import Leaf
from portinit.recipes.names import ParameterSlice
from portinit.recipes.packed import may_lack
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule


class KnownNames:
    """What a recipe's names stand for: parameters, a tied one's other names, packed parts.

    ``in_proj_weight`` of PyTorch's attention is three parameters to a tree that has them apart.

    Args:
        recipe: the recipe.
        found: the leaves of the tree.

    Attributes:
        own_rules: the rules of parameters that have one to themselves.
        is_complete: whether every parameter has.
        slices: what each name stands for.
    """

    def __init__(self, recipe: Recipe, found: Sequence[Leaf]) -> None:
        self._recipe = recipe
        names, patterns = recipe.names, recipe.patterns
        self.own_rules = {rule.name: rule for rule in recipe.rules[::-1] if rule.name is not None}
        self.is_complete = bool(names) and not patterns
        self.slices = _slices_of(recipe, found) if names else {}

    def rule(self, name: str) -> Rule | None:
        """The rule of a parameter's own, where it has one."""
        return self.own_rules.get(name)

    def rules(self) -> Iterator[tuple[str, Rule]]:
        """The parameters that have a rule of their own, in the recipe's order."""
        return ((name, self.own_rules[name]) for name in self._recipe.names)

    def shape(self, name: str) -> Shape | None:
        """PyTorch's shape of a parameter by one of its names; None if it is not known."""
        return self.shapes[name]

    @cached_property
    def shapes(self) -> dict[str, Shape | None]:
        """PyTorch's shapes by the names; None where it is not known."""
        wholes = {name: rule.shape for name, rule in self.own_rules.items()}
        shapes: dict[str, Shape | None] = {}
        for name, known in self.slices.items():
            whole = wholes[known.name]
            shapes[name] = whole if whole is None else known.shape_in(whole)
        return shapes

    def meant(self, parameter: ParameterSlice) -> ParameterSlice:
        """The parameter that a name stands for, limited to the part that it is limited to."""
        own = self.slices.get(parameter.name)
        if own is None:
            return parameter
        return own if parameter.is_whole else replace(parameter, name=own.name)

    def reason_against(self, parameter: ParameterSlice) -> str | None:
        """Why a parameter has no such part; None if it has, or if its shape is not known."""
        rule = self.own_rules.get(self.meant(parameter).name)
        if parameter.is_whole or rule is None or rule.shape is None:
            return None
        try:
            parameter.shape_in(rule.shape)
            if parameter.elements is not None:
                parameter.elements.require_within(math.prod(rule.shape))
        except ValueError as error:
            return str(error)
        return None

    def is_other_name(self, name: str) -> bool:
        """Whether a name is a tied parameter's, and not its first."""
        return self.slices[name].rows is None and self.slices[name].name != name

    def needs_an_array(self, name: str) -> bool:
        """Whether a name stands for a parameter that a model must have, whole or this part."""
        known = self.slices[name]
        is_cut = known.rows is None and name in self._packed
        if is_cut or self.is_other_name(name):
            return False
        rule = self.own_rules[known.name]
        return rule.shape is not None and not may_lack(rule)

    @cached_property
    def _packed(self) -> set[str]:
        """The parameters whose parts are known by names of their own."""
        return {known.name for known in self.slices.values() if known.rows is not None}


def _slices_of(recipe: Recipe, found: Sequence[Leaf]) -> dict[str, ParameterSlice]:
    known = {name: ParameterSlice(name) for name in recipe.names}
    for rule in recipe.rules:
        for alias in rule.other_names:
            known.setdefault(alias, ParameterSlice(rule.name or rule.pattern))
    packed = [rule for rule in recipe.rules if ".in_proj_" in (rule.name or "")]
    parts = {part for leaf in found for part in leaf.path} if packed else set()
    words = {word for part in parts for word in words_of(part)}
    if not {"query", "q"} & words or any("in_proj" in part for part in parts):
        return known
    for rule in packed:
        module, _, leaf_name = (rule.name or "").rpartition(".in_proj_")
        if leaf_name in ("weight", "bias") and rule.shape is not None and rule.shape[0] % 3 == 0:
            rows = rule.shape[0] // 3
            for i, part in enumerate(("query", "key", "value")):
                own = ParameterSlice(str(rule.name), range(i * rows, (i + 1) * rows))
                known[f"{module}.{part}.{leaf_name}"] = own
    return known
