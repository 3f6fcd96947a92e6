"""Whole MLX modules filled from recipes, in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import mlx.core as mx

from portinit import Key, Recipe
from portinit.backends.numpy import NUMPY
from portinit.backends.registry import words_of
from portinit.recipes.matching import plans
from portinit.recipes.matching.assembly import host_arrays
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit.recipes.matching.tables.targets import NameTable
from portinit.recipes.recipe import require_recipe
from portinit_mlx.backend import from_numpy
from portinit_mlx.tree import MlxTree, flat_arrays

_Model = TypeVar("_Model")


def initialize(
    model: _Model,
    recipe: Recipe,
    key: Any,
    names: NameTable | None = None,
    *,
    stacked: Mapping[str, int] | None = None,
    ignore: str | Iterable[str] = (),
) -> _Model:
    """Fill an MLX module's parameters and running statistics from a recipe, in place.

    A parameter draws with ``key.fold_in(its name in the recipe)``, in PyTorch's element order: the
    same bits that ``portinit_torch.initialize`` gives the parameter of that name. Everything is
    checked before anything is written, and what the module held is never computed.

    Args:
        model: an ``mlx.nn.Module``.
        recipe: rules for PyTorch's names.
        key: a :class:`portinit.Key`, or a key of ``mx.random.key``.
        names: where automatic matching needs help, as for :func:`portinit_flax.initialize`: a table
            from paths joined by ``/``, such as ``layers/0/weight``, to names of the recipe.
        stacked: arrays that hold a parameter of each of several layers: from the path of what is
            repeated to the axis that the layers lie along.
        ignore: patterns of the recipe's names that the module need not have.

    Returns:
        The module.

    Raises:
        portinit.RecipeError: listing every array and every name that does not match.
        TypeError: no module of MLX, or a key that is none.

    Warns:
        UserWarning: listing arrays that are matched by a guess.

    >>> import mlx.nn as nn
    >>> import portinit, portinit_mlx
    >>> recipe = portinit.Recipe([("bias", portinit.zeros), ("*", portinit.kaiming_normal())])
    >>> layer = portinit_mlx.initialize(nn.Linear(3, 4), recipe, portinit.key(0))
    >>> layer.weight.shape
    (4, 3)
    """
    return fill(model, recipe, key, MatchRequest.of(names, stacked, ignore))


def fill(model: _Model, recipe: Recipe, key: Any, request: MatchRequest) -> _Model:
    """Like :func:`initialize`, for a request as a matching takes it."""
    require_recipe(recipe)
    tree, root = MlxTree.of(model), Key(*words_of(key, NUMPY))
    planned = plans.leaf_plans(tree, recipe, request)
    flat = flat_arrays(model)
    for position, array in host_arrays(planned, root):
        name, held = flat[position]
        _put(model, name.split("."), from_numpy(array, held.dtype))
    return model


def _put(model: Any, path: Sequence[str], array: mx.array) -> None:
    """Put an array in the place of one of a module's, as ``Module.update`` does.

    That takes lists as wholes, which would be made anew for each array.
    """
    *above, last = path
    holder = model
    for word in above:
        holder = holder[int(word) if isinstance(holder, list) else word]
    holder[int(last) if isinstance(holder, list) else last] = array


def match(
    model: Any,
    recipe: Recipe,
    names: NameTable | None = None,
    *,
    stacked: Mapping[str, int] | None = None,
    ignore: str | Iterable[str] = (),
    strict: bool = True,
) -> Matching:
    """Find the recipe's name and the layout for each array of an MLX module; compute nothing.

    Args:
        model: as for :func:`initialize`.
        recipe: as for :func:`initialize`.
        names: as for :func:`initialize`.
        stacked: as for :func:`initialize`.
        ignore: as for :func:`initialize`.
        strict: whether what does not fit is an error, or else only listed in the result.

    Returns:
        A mapping from each path, joined by ``/``, to PyTorch's name and the layout, with the
        evidence for each pair and what is left over, as from :func:`portinit_flax.match`.

    Raises:
        portinit.RecipeError: listing every array and every name that does not match, if ``strict``.

    >>> import mlx.nn as nn
    >>> import portinit
    >>> model = nn.Conv2d(3, 8, 5, bias=False)
    >>> recipe = portinit.Recipe([portinit.Rule("weight", portinit.normal(), shape=(8, 3, 5, 5))])
    >>> print(match(model, recipe))
    weight = weight (name; layout by class)
    """
    request = MatchRequest.of(names, stacked, ignore)
    return plans.match(MlxTree.of(model), recipe, request, strict=strict)
