"""Whole models filled from recipes, in place."""

from __future__ import annotations

from typing import Any, TypeVar

import toynn

from portinit import Key, Recipe
from portinit.backends.numpy import NUMPY
from portinit.backends.registry import words_of
from portinit.recipes.matching import plans
from portinit.recipes.matching.assembly import host_arrays
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit.recipes.recipe import require_recipe
from portinit_toynn.tree import ToyTree, arrays_of, put

_Model = TypeVar("_Model", bound=toynn.Module)


def initialize(model: _Model, recipe: Recipe, key: Any, names: Any = None) -> _Model:
    """Fill a model in place; everything is checked before anything is written."""
    return fill(model, recipe, key, MatchRequest.of(names))


def fill(model: _Model, recipe: Recipe, key: Any, request: MatchRequest) -> _Model:
    """Like :func:`initialize`, for a request as a matching takes it."""
    require_recipe(recipe)
    root = Key(*words_of(key, NUMPY))
    planned = plans.leaf_plans(ToyTree.of(model), recipe, request)
    paths = [*arrays_of(model)]
    for position, array in host_arrays(planned, root):
        put(model, paths[position], array)
    return model


def match(model: Any, recipe: Recipe, names: Any = None, *, strict: bool = True) -> Matching:
    """The recipe's name and the layout for each array."""
    return plans.match(ToyTree.of(model), recipe, MatchRequest.of(names), strict=strict)
