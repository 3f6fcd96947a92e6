"""Recipes as code: the initializers that a Flax module takes, to paste."""

from __future__ import annotations

import re

import portinit
from portinit import Recipe, Rule
from portinit.arrays.layouts import LAYOUTS

_NAMES = re.compile(r"\b([a-z_0-9]+)\(")


def as_code(recipe: Recipe) -> str:
    """A line for each parameter: ``kernel_init=portinit.xavier_uniform(),  # fc.weight``."""
    return "\n".join(_line(rule) for rule in recipe.rules if not rule.buffer)


def _line(rule: Rule) -> str:
    name = rule.name or rule.pattern
    return f"{_argument(rule)}={call(str(rule.initializer))},  # {name}"


def _argument(rule: Rule) -> str:
    leaf = (rule.name or rule.pattern).rpartition(".")[2]
    if rule.layout == LAYOUTS["rows"]:
        return "embedding_init"
    if "bias" in leaf:
        return "bias_init"
    one_axis = rule.kind == "norm" or (rule.shape is not None and len(rule.shape) < 2)
    return "scale_init" if one_axis else "kernel_init"


def call(text: str) -> str:
    """An initializer's text with its names found in portinit or portinit.layers."""

    def qualified(match: re.Match[str]) -> str:
        if hasattr(portinit, match[1]):
            return f"portinit.{match[0]}"
        return f"portinit.layers.{match[0]}" if hasattr(portinit.layers, match[1]) else match[0]

    return _NAMES.sub(qualified, text)
