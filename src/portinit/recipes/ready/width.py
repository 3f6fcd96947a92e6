"""The maximal update parametrization: a recipe from a narrower model's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from portinit.arrays.layouts import Shape
from portinit.initializers.combinators import scaled
from portinit.recipes.ready.patterns import Patterns
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import RecipeError, Rule


def mup(recipe: Recipe, base: Recipe, inputs: Patterns = ()) -> Recipe:
    """Return a model's recipe in the maximal update parametrization (muP), from its base model's.

    An axis is wide where the model and its base differ. Parameters have the standard deviation of
    the base model's, times

    - sqrt(base fan_in / fan_in) where both axes are wide (hidden layers),
    - base fan_in / fan_in where only the inputs' is (output layers),
    - 1 otherwise: inputs, embeddings, biases and normalisations.

    Args:
        recipe: of the model: traced, or bound to it.
        base: of the base model, with the same names and narrower shapes.
        inputs: patterns of further parameters that are like inputs, such as tables of positions
            that belong to no layer: of these it is not known which axis the inputs lie along.

    Returns:
        The model's recipe with scaled initializers.

    Raises:
        portinit.RecipeError: rules without names or shapes, other names or numbers of axes,
            parameters of no known layer with a single wide axis, and initializers of wide
            parameters whose standard deviation is not known.

    Source: Yang et al., "Tensor programs V: tuning large neural networks via zero-shot
    hyperparameter transfer", 2022, table 3.

    >>> import portinit, portinit_torch, torch
    >>> wide, narrow = (portinit_torch.trace(lambda n=n: torch.nn.Linear(n, 2)) for n in (64, 16))
    >>> weight = portinit.recipes.mup(wide, narrow).rules[0].initializer
    >>> std = weight.distribution_of((2, 64), layout="torch").std
    >>> round(std * 64, 6) == round(16 * (1 / 3 / 16) ** 0.5, 6)
    True
    """
    theirs = {rule.name: rule for rule in base.rules}
    alike = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    rules, amiss = [], []
    for rule in recipe.rules:
        try:
            rules.append(_widened(rule, theirs, alike))
        except ValueError as error:
            amiss.append(f"{rule.name or rule.pattern}: {error}")
    if amiss:
        lines = "\n  ".join(amiss)
        raise RecipeError(f"muP needs a base model of the same parameters:\n  {lines}")
    return Recipe(rules)


def _widened(rule: Rule, base: Mapping[str | None, Rule], inputs: tuple[str, ...]) -> Rule:
    own = base.get(rule.name)
    if rule.name is None or rule.shape is None:
        raise ValueError("the rule has no name or no shape; bind the recipe to the model")
    if own is None or own.shape is None or len(own.shape) != len(rule.shape):
        got = "nothing of this name" if own is None else f"the shape {own.shape}"
        raise ValueError(f"a base parameter is needed for the shape {rule.shape}, got {got}")
    plain = replace(rule, value=None, source=None, drawn_as=None)
    if own.shape == rule.shape and str(own.initializer) == str(rule.initializer):
        return plain
    here, there = _std(rule), _std(own)
    if here == there == 0:
        return plain
    if here == 0:
        raise ValueError("it is constant in the model, and drawn in the base model")
    is_input = any(fnmatchcase(rule.name, pattern) for pattern in inputs)
    ratio = there * (1.0 if is_input else _width_factor(rule, own.shape)) / here
    return plain if ratio == 1 else replace(plain, initializer=scaled(rule.initializer, ratio))


def _std(rule: Rule) -> float:
    assert rule.shape is not None
    distribution = rule.initializer.distribution_of(rule.shape, layout="torch")
    if distribution is None:
        raise ValueError(f"the standard deviation of {rule.initializer} is not known")
    return distribution.std


_FAN_IN_AXES = {"transposed_linear": 0, "conv_transpose": 0, "linear": 1, "conv": 1}


def _width_factor(rule: Rule, base: Shape) -> float:
    """The standard deviation over the base model's: table 3 of Yang et al."""
    shape = rule.shape or ()
    growths = {axis: n / m for axis, (n, m) in enumerate(zip(shape, base, strict=True)) if n != m}
    if len(shape) < 2 or rule.layer == "embedding" or not growths:
        return 1.0
    axis = _FAN_IN_AXES.get(rule.layer or "")
    if axis is None:
        if len(growths) != 2 or len({*growths.values()}) != 1:
            raise ValueError(
                f"no known layer tells which axis of {shape} the inputs lie along; "
                'name it in inputs="..." if it is like an embedding'
            )
        return math.sqrt(1 / growths.popitem()[1])
    if axis not in growths:
        return 1.0
    return math.sqrt(1 / growths[axis]) if 1 - axis in growths else 1 / growths[axis]
