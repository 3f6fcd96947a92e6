"""Whole Equinox models filled from recipes: a new pytree of modules each time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from portinit import Recipe
from portinit.recipes.matching import plans
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit.recipes.matching.tables.targets import NameTable
from portinit.recipes.matching.uses.uses import TwinUses, Uses
from portinit.recipes.recipe import require_recipe
from portinit.recipes.rule import raise_misfits
from portinit_equinox.tree import EquinoxArrays
from portinit_jax.array_fills import array_fills, fill_arrays
from portinit_jax.placements import placements

_Model = TypeVar("_Model")


def initialize(
    model: _Model,
    recipe: Recipe,
    key: Any,
    names: NameTable | None = None,
    *,
    shardings: Any = None,
    stacked: Mapping[str, int] | None = None,
    ignore: str | Iterable[str] = (),
    uses: TwinUses | tuple[Uses, Uses] | None = None,
) -> _Model:
    """Fill an Equinox model's parameters and running statistics from a recipe.

    A parameter draws with ``key.fold_in(its name in the recipe)``, in PyTorch's element order: the
    same bits that ``portinit_torch.initialize`` gives the parameter of that name. Everything is
    checked before anything is drawn. The function may be called under ``eqx.filter_jit``.

    Args:
        model: a pytree of modules, of arrays or of the structs that ``eqx.filter_eval_shape``
            gives; or a pair of one and its ``eqx.nn.State``, as ``eqx.nn.make_with_state`` gives.
        recipe: rules for PyTorch's names.
        key: a :class:`portinit.Key`, or a JAX key of threefry2x32 or rbg.
        names: where automatic matching needs help, as for :func:`portinit_flax.initialize`: a table
            from paths joined by ``/``, such as ``layers/0/weight``, to names of the recipe.
        shardings: where the arrays are to lie, as for :func:`portinit_flax.initialize`.
        stacked: layers that ``eqx.filter_vmap`` has made: from the path of what is repeated to the
            axis that they lie along, ``{"layers": 0}``.
        ignore: patterns of the recipe's names that the model need not have.
        uses: ``(portinit_torch.uses(module, *inputs), portinit_equinox.uses(model, *inputs))``:
            how both forward passes use their parameters, as for :func:`portinit_flax.initialize`.

    Returns:
        A new pytree. Leaves that are no arrays of floating numbers are those of ``model``, and so
        are the functions and settings of the modules.

    Raises:
        portinit.RecipeError: listing every array and every name that does not match.
        TypeError: a module of PyTorch.

    Warns:
        UserWarning: listing arrays that are matched by a guess.

    >>> import equinox as eqx, jax
    >>> import portinit, portinit_equinox
    >>> model = eqx.filter_eval_shape(eqx.nn.Linear, 3, 4, key=jax.random.key(0))
    >>> recipe = portinit.Recipe([("bias", portinit.zeros), ("*", portinit.kaiming_normal())])
    >>> portinit_equinox.initialize(model, recipe, portinit.key(0)).weight.shape
    (4, 3)
    """
    return fill(model, recipe, key, MatchRequest.of(names, stacked, ignore, uses), shardings)


def fill(
    model: _Model, recipe: Recipe, key: Any, request: MatchRequest, shardings: Any = None
) -> _Model:
    """Like :func:`initialize`, for a request as a matching takes it."""
    require_recipe(recipe)
    arrays = EquinoxArrays.of(model)
    planned = plans.leaf_plans(arrays.tree, recipe, request)
    raise_misfits("every array must get values", [*arrays.without_values(planned)])
    fills = array_fills(planned, placements(model, shardings))
    filled: _Model = arrays.filled(fill_arrays(fills, key))
    return filled


def match(
    model: Any,
    recipe: Recipe,
    names: NameTable | None = None,
    *,
    stacked: Mapping[str, int] | None = None,
    ignore: str | Iterable[str] = (),
    uses: TwinUses | tuple[Uses, Uses] | None = None,
    strict: bool = True,
) -> Matching:
    """Find the recipe's name and the layout for each array of an Equinox model; compute nothing.

    Args:
        model: as for :func:`initialize`.
        recipe: as for :func:`initialize`.
        names: as for :func:`initialize`.
        stacked: as for :func:`initialize`.
        ignore: as for :func:`initialize`.
        uses: as for :func:`initialize`.
        strict: whether what does not fit is an error, or else only listed in the result.

    Returns:
        A mapping from each path, joined by ``/``, to PyTorch's name and the layout, with the
        evidence for each pair and what is left over, as from :func:`portinit_flax.match`.

    Raises:
        portinit.RecipeError: listing every array and every name that does not match, if ``strict``.

    >>> import equinox as eqx, jax
    >>> import portinit
    >>> model = eqx.nn.Conv2d(3, 8, 5, use_bias=False, key=jax.random.key(0))
    >>> recipe = portinit.Recipe([portinit.Rule("weight", portinit.normal(), shape=(8, 3, 5, 5))])
    >>> print(match(model, recipe))
    weight = weight (name; layout by class)
    """
    request = MatchRequest.of(names, stacked, ignore, uses)
    return plans.match(EquinoxArrays.of(model).tree, recipe, request, strict=strict)
