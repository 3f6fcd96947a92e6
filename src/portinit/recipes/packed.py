"""Recurrent layers as a bound recipe holds them: PyTorch's packed parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from portinit.random.keys import Key
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import RecipeError, Rule

_LEAF = re.compile(
    r"(?:(?P<module>.+)\.)?(?P<leaf>weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)"
    r"(?P<suffix>(?:_l(?P<layer>\d+)(?P<reverse>_reverse)?)?)"
)
_GRU = 3


@dataclass(frozen=True)
class Packed:
    """One direction of one layer of a recurrent module, or a cell.

    Attributes:
        module: the module's name.
        place: the layer's number, and whether it reads backwards.
        rules: of its parameters, by ``weight_ih``, ``weight_hh``, ``weight_hr``, ``bias_ih``,
            ``bias_hh``, as far as it has them.
    """

    module: str
    place: tuple[int, bool]
    rules: dict[str, Rule]

    @property
    def inputs(self) -> int:
        """The size of the input."""
        return self._shape("weight_ih")[1]

    @property
    def hidden(self) -> int:
        """The size of the state, before a projection."""
        return self._shape("weight_hr" if "weight_hr" in self.rules else "weight_hh")[1]

    @property
    def gates(self) -> int:
        """4 of an LSTM, 3 of a GRU, 1 of a plain RNN."""
        return self._shape("weight_ih")[0] // self.hidden

    @property
    def label(self) -> str:
        """A name for messages."""
        return str(self.rules["weight_ih"].name)

    def _shape(self, leaf: str) -> tuple[int, ...]:
        shape = self.rules[leaf].shape
        return shape if shape is not None and len(shape) == 2 else (0, 1)


def packed_layers(recipe: Recipe) -> list[Packed]:
    """The recurrent layers of a bound recipe, in PyTorch's order; none of one of patterns."""
    found: dict[tuple[str, str], Packed] = {}
    for rule in recipe.rules:
        parts = _LEAF.fullmatch(rule.name or "")
        if parts is None or rule.shape is None:
            continue
        module, suffix = parts["module"] or "", parts["suffix"]
        place = int(parts["layer"] or 0), bool(parts["reverse"])
        layer = found.setdefault((module, suffix), Packed(module, place, {}))
        layer.rules.setdefault(parts["leaf"], rule)
    whole = [layer for layer in found.values() if {"weight_ih", "weight_hh"} <= set(layer.rules)]
    modules = list(dict.fromkeys(layer.module for layer in whole))
    return sorted(whole, key=lambda layer: (modules.index(layer.module), layer.place))


def is_zero(rule: Rule, rows: Iterable[int] | None = None) -> bool:
    """Whether a bias of a recipe is zero, in some rows or in all, whatever the key."""
    try:
        values = _values(rule, Key(0, 0))
    except ValueError:  # of a trace that could not carry it: using it says so
        return False
    return not np.any(values if rows is None else values[[*rows]])


def may_lack(rule: Rule, rows: Iterable[int] | None = None) -> bool:
    """Whether a model may do without a parameter, or rows of it: a recurrent layer's zero bias.

    PyTorch's layers have two bias vectors and Flax's cells one.
    """
    return is_recurrent_bias(rule.name or "") and is_zero(rule, rows)


def is_packed(name: str) -> bool:
    """Whether a name is that of a recurrent layer's parameter."""
    return _LEAF.fullmatch(name) is not None


def is_recurrent_bias(name: str) -> bool:
    """Whether a name is that of a recurrent layer's bias vector."""
    parts = _LEAF.fullmatch(name)
    return parts is not None and parts["leaf"].startswith("bias")


def _values(rule: Rule, key: Key, dtype: str = "float32") -> np.ndarray[Any, Any]:
    values = rule.initializer(key, rule.shape or (), dtype, xp=np, layout="torch")
    return np.asarray(values)


def sum_biases(recipe: Recipe, key: Key, dtype: str = "float32") -> Recipe:
    """A recipe whose recurrent layers have one bias vector, the sum of the two that they had.

    The sum, rounded once, takes the place of ``bias_ih``, and ``bias_hh`` becomes zero. A GRU's
    new gate multiplies its ``bias_hh`` with the reset gate, so there both stay. The layers compute
    the same up to rounding, and Flax's cells can hold them.

    Args:
        recipe: a bound recipe, such as a trace, or one with the values of a replay.
        key: what the models will be initialised with.
        dtype: in which the vectors are drawn and added.

    Returns:
        A recipe with values in the place of the biases.

    Raises:
        RecipeError: the recipe holds no recurrent layer with two biases.

    >>> import portinit
    >>> layer = [("weight_ih", (8, 3)), ("weight_hh", (8, 8)), ("bias_ih", (8,)), ("bias_hh", (8,))]
    >>> recipe = portinit.recipes.torch_defaults().bind(
    ...     portinit.Parameter(name, shape, "recurrent", fan_in=8) for name, shape in layer
    ... )
    >>> print(sum_biases(recipe, portinit.key(0)).rules[2].initializer)
    assigned(8 float32)
    """
    values: dict[str, Any] = {}
    for layer in packed_layers(recipe):
        if {"bias_ih", "bias_hh"} <= set(layer.rules):
            pair = layer.rules["bias_ih"], layer.rules["bias_hh"]
            a, b = (_values(rule, key.fold_in(rule.key_name), dtype) for rule in pair)
            apart = np.arange(len(a)) >= 2 * layer.hidden if layer.gates == _GRU else np.False_
            values[str(pair[0].name)] = np.where(apart, a, a + b)
            values[str(pair[1].name)] = np.where(apart, b, np.zeros_like(b))
    if not values:
        raise RecipeError("a bound recipe with two biases of a recurrent layer is needed; got none")
    return recipe.with_values(values)
