"""Recipes: which initializer each parameter of a model gets, as data."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from numpy.typing import NDArray

from portinit.arrays.layouts import Layout, as_layout
from portinit.initializers.assigned import assign
from portinit.initializers.base import Initializer, Parameter
from portinit.recipes.display import SHOWN, as_html, as_text
from portinit.recipes.rule import RecipeError, Rule, RuleIndex, raise_misfits
from portinit.recipes.schemes import Schemes, schemes_of, warn_of_missed
from portinit.recipes.serialization import from_text, to_text
from portinit.replay.program import Program, parse_version, unreplayable

_NOT_TRACED = (
    "a replay needs a traced recipe, which portinit_torch.trace(build) or portinit trace FACTORY "
    "--out FILE gives; this one has rules only"
)


@dataclass(frozen=True, repr=False)
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
        if isinstance(rules, Mapping):
            raise TypeError(
                "a recipe must be a list of rules, of which the first that matches decides; got a "
                "mapping: portinit.Recipe(list(rules.items())) makes one of it"
            )
        made = tuple(rule if isinstance(rule, Rule) else Rule(*rule) for rule in rules)
        object.__setattr__(self, "rules", made)
        object.__setattr__(self, "program", program)

    def __add__(self, other: Recipe) -> Recipe:
        """This recipe's rules first, then the other's."""
        programs = [recipe.program for recipe in (self, other) if recipe.program is not None]
        return Recipe(self.rules + other.rules, programs[0] if len(programs) == 1 else None)

    def __repr__(self) -> str:
        traced = ", traced" if self.program else ""
        return f"Recipe of {len(self.rules)} rules{traced}\n{as_text(self.rules, SHOWN)}".rstrip()

    def __str__(self) -> str:
        return as_text(self.rules)

    def _repr_html_(self) -> str:
        return as_html(self.rules)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parameters that have a rule to themselves."""
        return self._index.names

    @cached_property
    def _index(self) -> RuleIndex:
        return RuleIndex(self.rules)

    @cached_property
    def memory(self) -> dict[str, Any]:
        """What users of this recipe keep with it; no part of its value."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return without_caches(self)

    @property
    def patterns(self) -> tuple[Rule, ...]:
        """The rules that stand for more than one name."""
        return tuple(rule for _, rule in self._index.patterns)

    @cached_property
    def schemes(self) -> Schemes:
        """The rules that must not miss a model in silence, by the names of their schemes."""
        return schemes_of(self.rules)

    def matching_rule(self, parameter: Parameter) -> Rule | None:
        """The first rule that matches a parameter, unbound; None if none does."""
        return self._index.first(parameter)

    def find(self, parameter: Parameter) -> Rule | None:
        """The first rule that matches, bound to the parameter; None if none does."""
        rule = self.matching_rule(parameter)
        return None if rule is None else rule.bound(parameter)

    def rule_for(self, parameter: Parameter) -> Rule:
        """The rule of one parameter, with all that the model tells filled in.

        Raises:
            RecipeError: no rule matches it, or its rule cannot be filled in or has another shape.
        """
        rule, initializer = self.rule_and_initializer(parameter)
        return rule.filled_in(parameter, initializer)

    def rule_and_initializer(self, parameter: Parameter) -> tuple[Rule, Initializer]:
        """The rule of one parameter, as it is, and its initializer with the model's part filled in.

        Raises:
            RecipeError: as for :meth:`rule_for`.
        """
        rule = self.matching_rule(parameter)
        if rule is None:
            raise _misfit(f"{parameter.name} {parameter.shape}: {_unmatched(parameter)}")
        try:
            initializer = rule.initializer.bound(parameter)
        except (ValueError, OverflowError) as error:
            raise _misfit(f"{parameter.name} {parameter.shape}: {error}") from error
        if rule.shape not in (None, parameter.shape):
            raise _misfit(f"{parameter.name}: the recipe has {rule.shape}, got {parameter.shape}")
        return rule, initializer

    def bind(self, parameters: Iterable[Parameter]) -> Recipe:
        """The recipe of one model: a rule of its own for each of its parameters.

        Raises:
            RecipeError: listing every parameter that no rule matches, or whose rule cannot be
                filled in or has another shape.

        Warns:
            UserWarning: a scheme of which no rule matches a parameter; see :attr:`Rule.scheme`.
        """
        rules, misfits, parameters = [], list[str](), [*parameters]
        for parameter in parameters:
            try:
                rules.append(self.rule_for(parameter))
            except RecipeError as error:
                misfits += error.misfits
        raise_misfits("every parameter must have a rule", misfits)
        warn_of_missed(self.schemes, parameters)
        return Recipe(rules, self.program)

    def unmatched_rules(self, parameters: Iterable[Parameter]) -> tuple[Rule, ...]:
        """The rules that match no parameter of a model, by any of its names.

        Many a recipe has such rules, for layers that a model lacks; a rule of your own among them
        may have a name that is misspelt.

        >>> import portinit
        >>> recipe = portinit.Recipe([("*.wieght", portinit.zeros), ("*", portinit.normal())])
        >>> parameters = [portinit.Parameter("0.weight", (2, 2))]
        >>> [rule.pattern for rule in recipe.unmatched_rules(parameters)]
        ['*.wieght']
        """
        known = [*parameters]
        return tuple(rule for rule in self.rules if not any(map(rule.matches, known)))

    def independent(self) -> Recipe:
        """The recipe with every parameter drawn by itself.

        A trace has parameters that the constructor made from one draw (copies of a layer, weight
        norm's magnitudes) draw with one key, so that they are related as in PyTorch. Here each
        draws with the key of its own name.
        """
        return Recipe([replace(rule, drawn_as=None) for rule in self.rules], self.program)

    def with_layouts(self, layouts: Mapping[str, Layout | str]) -> Recipe:
        """The recipe with some parameters' layouts stated, by name or pattern of the rule."""
        stated = {name: as_layout(layout) for name, layout in layouts.items()}
        labels = [rule.name or rule.pattern for rule in self.rules]
        unknown = [
            f"{name}: no rule has this name or pattern" for name in stated.keys() - set(labels)
        ]
        raise_misfits("every layout must belong to a rule", sorted(unknown))
        pairs = zip(self.rules, labels, strict=True)
        rules = [replace(rule, layout=stated.get(label, rule.layout)) for rule, label in pairs]
        return Recipe(rules, self.program)

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
        names = self._index.by_name
        unknown = [f"{name}: no rule has this name" for name in values if name not in names]
        raise_misfits("every value must belong to a rule", unknown)
        rules = [
            replace(rule, initializer=assign(values[rule.name]))
            if rule.name is not None and rule.name in values
            else rule
            for rule in self.rules
        ]
        return Recipe(rules, self.program)

    def replay(
        self, seed: int, torch_version: str | None = None, *, strict: bool = True
    ) -> dict[str, NDArray[Any]]:
        """The values of ``torch.manual_seed(seed)`` and the traced constructor on a CPU, in NumPy.

        Args:
            seed: as for ``torch.manual_seed``.
            torch_version: whose samplers to replay, such as ``"2.13"``; by default those of the
                version that was traced.
            strict: whether it is an error that some values cannot be replayed. If it is not,
                a warning names them, and the result has the others; see :meth:`unreplayable`.

        Returns:
            NumPy arrays by the names of the recipe, in PyTorch's shapes; bfloat16 by ml_dtypes.

        Raises:
            RecipeError: the recipe was not traced, or, if strict, lists what cannot be replayed.
        """
        lost = {} if strict else self.unreplayable()
        names: dict[int, list[str]] = {}
        for rule in self.rules:
            if (name := rule.name or rule.pattern) not in lost:
                names.setdefault(rule.value or 0, []).append(name)
        values: dict[str, Any] = {}
        for number, value in self.iter_replay(seed, torch_version, names, strict=strict):
            values |= dict.fromkeys(names[number], value)
        if lost:
            lines = [f"{len(lost)} values cannot be replayed:", *_lines(lost)]
            warnings.warn("\n  ".join(lines), stacklevel=2)
        order = [rule.name or rule.pattern for rule in self.rules]
        return {name: values[name] for name in order if name in values}

    def unreplayable(self) -> dict[str, str]:
        """The parameters that a replay cannot give, by name, and why for each.

        They are what a trace could not carry, and what was drawn on another device, by a sampler
        that is not known, or after one.
        """
        reasons = {} if self.program is None else unreplayable(self.program.nodes)
        found: dict[str, str] = {}
        for rule in self.rules:
            name = rule.name or rule.pattern
            if rule.value is None:
                found.setdefault(
                    name, str(getattr(rule.initializer, "reason", "it was not traced"))
                )
            elif rule.value in reasons:
                found.setdefault(name, reasons[rule.value])
        return found

    def iter_replay(
        self,
        seed: int,
        torch_version: str | None,
        numbers: Iterable[int],
        *,
        strict: bool = True,
    ) -> Iterator[tuple[int, Any]]:
        """Like :meth:`replay`, one value at a time and only those asked for.

        Yields pairs of a rule's ``value`` and a NumPy array, in the constructor's order. A misfit
        is raised by the call, before any value.
        """
        if self.program is None:
            raise RecipeError(_NOT_TRACED)
        if strict:
            raise_misfits("every value must have been carried", _lines(self.unreplayable()))
        from portinit.replay.replay import replay  # PyTorch's generator, for those who replay

        try:
            return _as_recipe_errors(replay(self.program, numbers, seed, torch_version))
        except ValueError as error:
            raise RecipeError(str(error)) from error

    def inexact(self, torch_version: str | None = None) -> dict[str, tuple[str, ...]]:
        """The parameters whose last bits a replay may miss on this machine, and why.

        PyTorch's ``exp``, ``log`` and ``erfinv`` of float32, its QR factorisations and its matrix
        products are Intel MKL's. They are bit for bit PyTorch's where a copy of the version that
        it was built with is at hand: the package of the extra ``mkl``, or the one inside an
        installed PyTorch.

        Args:
            torch_version: as for :meth:`replay`.

        Returns:
            The names, each with the operations whose last bits may differ. Parameters that are
            not named are bit for bit what PyTorch gives.

        Raises:
            RecipeError: the recipe was not traced.
        """
        if self.program is None:
            raise RecipeError(_NOT_TRACED)
        from portinit.replay.digits import inexact_operations

        version = parse_version(torch_version or self.program.torch)
        inexact = inexact_operations(self.program.nodes, version)
        return {
            rule.name or rule.pattern: tuple(sorted(inexact[rule.value]))
            for rule in self.rules
            if rule.value is not None and inexact[rule.value]
        }

    def to_json(self) -> str:
        """The recipe as JSON text, a rule a line and a node a line."""
        return to_text(self.rules, self.program)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote. Nothing in the text is executed.

        Raises:
            RecipeError: not a recipe, or one of a newer schema.
        """
        return cls(*from_text(text))


def _misfit(line: str) -> RecipeError:
    return RecipeError("every parameter must have a rule; 1 do not fit:", [line])


def _unmatched(parameter: Parameter) -> str:
    if parameter.kind != "parametrized":
        return "no rule matches it"
    return (
        "no rule names it, and a parametrization stores it in a weight's place, which patterns for "
        "weights say nothing of; trace the model, or name it in a rule"
    )


def _lines(reasons: Mapping[str, str]) -> list[str]:
    return [f"{name}: {why}" for name, why in reasons.items()]


def _as_recipe_errors(values: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """Yield the same values; raise a ValueError on the way as a RecipeError."""
    try:
        yield from values
    except ValueError as error:
        raise RecipeError(str(error)) from error


def without_caches(instance: object) -> dict[str, Any]:
    """An object's attributes but for the values of its cached properties."""
    cls = type(instance)
    return {
        name: value
        for name, value in vars(instance).items()
        if not isinstance(getattr(cls, name, None), cached_property)
    }


def require_recipe(recipe: Any) -> None:
    """Raise a TypeError that says how to make a recipe of something that is none."""
    if isinstance(recipe, Recipe):
        return
    kind, cure = type(recipe).__name__, 'portinit.Recipe([("*", portinit.normal(std=0.02))])'
    if isinstance(recipe, Mapping):
        cure = "portinit.Recipe(list(recipe.items()))"
    elif isinstance(recipe, Initializer):
        kind, cure = f"the initializer {recipe}", f'portinit.Recipe([("*", portinit.{recipe})])'
    elif callable(recipe) and hasattr(recipe, "__name__"):
        kind, cure = f"the function {recipe.__name__}", f"what it returns, {recipe.__name__}()"
    elif isinstance(recipe, list | tuple):
        cure = "portinit.Recipe(rules)"
    raise TypeError(f"a recipe must be a portinit.Recipe, got {kind}; give {cure}")
