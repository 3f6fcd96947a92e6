"""Recipes as code: the initializers that a Flax module takes, to paste."""

from __future__ import annotations

import re

import portinit
from portinit import Recipe, Rule
from portinit.arrays.layouts import LAYOUTS, Shape
from portinit.initializers.base import Initializer
from portinit.sampling.distributions import Distribution, Normal, Uniform
from portinit.sampling.truncated_normal import TruncatedNormal

_NAMES = re.compile(r"\b([a-z_0-9]+)\(")


def as_code(recipe: Recipe) -> str:
    """A line for each parameter: ``kernel_init=portinit.xavier_uniform(),  # fc.weight``."""
    return "\n".join(_line(rule) for rule in recipe.rules if not rule.buffer)


def _line(rule: Rule) -> str:
    initializer = _without_fans(rule) or rule.initializer
    return f"{_argument(rule)}={call(str(initializer))},  # {rule.name or rule.pattern}"


def _argument(rule: Rule) -> str:
    """The argument of Flax's layer that takes the initializer; ``init`` if there is no such layer.

    A recipe of patterns knows names only; that of a model knows the layers too.
    """
    leaf = (rule.name or rule.pattern).rpartition(".")[2]
    layer = rule.kind or rule.layer
    if layer == "embedding" or rule.layout == LAYOUTS["rows"]:
        return "embedding_init"
    if layer is None and rule.shape is not None:
        return "init"
    if "bias" in leaf:
        return "bias_init"
    if layer == "norm":
        return "scale_init"
    return "negative_slope_init" if layer == "prelu" else "kernel_init"


def _without_fans(rule: Rule) -> Initializer | None:
    """An initializer of the same distribution that takes no fans, where Flax's would differ."""
    if rule.shape is None or len(rule.shape) < 2:
        return None
    try:
        law = rule.initializer.distribution_of(rule.shape, layout=rule.torch_layout)
        in_flax = rule.initializer.distribution_of(_shape_in_flax(rule))
    except (ValueError, TypeError):  # applying the recipe says so
        return None
    return None if law is None or law == in_flax else _of(law)


def _shape_in_flax(rule: Rule) -> Shape:
    """The shape that Flax's layer calls its initializer with; one with other fans if unknown."""
    first, second, *space = rule.shape or ()
    if rule.layer in ("linear", "conv", "recurrent"):
        return (*space, second, first)
    if rule.layer in ("conv_transpose", "transposed_linear", "embedding"):
        return (*space, first, second)
    return (*space, 2 * first + second, first + 3 * second)


def _of(law: Distribution) -> Initializer | None:
    if isinstance(law, Uniform):
        return portinit.uniform(law.a, law.b)
    if isinstance(law, Normal):
        return portinit.normal(law.mean, law.std)
    if isinstance(law, TruncatedNormal):
        return portinit.trunc_normal(law.loc, law.scale, law.a, law.b)
    return None


def call(text: str) -> str:
    """An initializer's text with its names found in portinit or portinit.layers."""

    def qualified(match: re.Match[str]) -> str:
        if hasattr(portinit, match[1]):
            return f"portinit.{match[0]}"
        return f"portinit.layers.{match[0]}" if hasattr(portinit.layers, match[1]) else match[0]

    return _NAMES.sub(qualified, text)
