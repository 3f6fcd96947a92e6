"""Rules that several ready recipes share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portinit import layers
from portinit.initializers.base import Initializer
from portinit.initializers.basic import normal, ones, zeros
from portinit.initializers.numbers import as_int
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule

Patterns = str | Iterable[str]


def rules_for(patterns: Patterns, initializer: Initializer) -> list[Rule]:
    """A rule for each pattern, or for the one."""
    names = (patterns,) if isinstance(patterns, str) else patterns
    return [Rule(name, initializer) for name in names]


def at_least(name: str, value: Any, least: int = 1) -> int:
    """A number of layers or a width as a Python int.

    Raises:
        TypeError: no integer; bools are none.
        ValueError: an integer that is too small.
    """
    number = as_int(name, value)
    if number < least:
        raise ValueError(f"{name} must be {least} or more, got {number}")
    return number


def normal_weights(std: float, *first: Rule) -> Recipe:
    """All weights and embeddings N(0, std^2), padding rows and biases 0, normalisations 1."""
    return Recipe(
        [
            *first,
            Rule("*norm*weight", ones),
            Rule("*Norm*weight", ones),
            Rule("*weight", ones, kind="norm"),
            Rule("*bias*", zeros),
            Rule("*", layers.padded(normal(std=std)), kind="embedding"),
            Rule("*weight", normal(std=std)),
        ]
    )
