"""Whole dicts of Haiku's parameters and state, filled from recipes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from portinit import Recipe
from portinit.recipes.matching import plans
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit.recipes.matching.tables.targets import NameTable
from portinit.recipes.matching.uses.uses import TwinUses, Uses
from portinit.recipes.recipe import require_recipe
from portinit.recipes.rule import raise_misfits
from portinit_haiku.tree import HaikuArrays
from portinit_jax.array_fills import array_fills, fill_arrays
from portinit_jax.placements import placements

_Params = TypeVar("_Params")


def initialize(
    params: _Params,
    recipe: Recipe,
    key: Any,
    names: NameTable | None = None,
    *,
    shardings: Any = None,
    stacked: Mapping[str, int] | None = None,
    ignore: str | Iterable[str] = (),
    uses: TwinUses | tuple[Uses, Uses] | None = None,
) -> _Params:
    """Fill Haiku's parameters, and the running statistics in its state, from a recipe.

    A parameter draws with ``key.fold_in(its name in the recipe)``, in PyTorch's element order: the
    same bits that ``portinit_torch.initialize`` gives the parameter of that name. Everything is
    checked before anything is drawn. The function may be called under ``jax.jit``.

    Args:
        params: a dict from modules to dicts of arrays, as ``init`` gives, or of structs, as
            ``jax.eval_shape`` gives; or the pair of params and state of
            ``hk.transform_with_state``.
        recipe: rules for PyTorch's names.
        key: a :class:`portinit.Key`, or a JAX key of threefry2x32 or rbg.
        names: where automatic matching needs help, as for :func:`portinit_flax.initialize`: a table
            from paths joined by ``/``, ``mlp/linear_0/w`` or ``mlp/~/linear_0/w``, to names of the
            recipe.
        shardings: where the arrays are to lie, as for :func:`portinit_flax.initialize`.
        stacked: layers that ``hk.experimental.layer_stack`` has made: from the path of what is
            repeated to the axis that they lie along.
        ignore: patterns of the recipe's names that the dicts need not have.
        uses: ``(portinit_torch.uses(module, *inputs), portinit_haiku.uses(net, *inputs))``:
            how both forward passes use their parameters, as for :func:`portinit_flax.initialize`.

    Returns:
        New dicts, or a pair of them. State that is no running statistic is that of ``params``; the
        counters of structs start at 0.

    Raises:
        portinit.RecipeError: listing every array and every name that does not match.
        TypeError: not what Haiku's ``init`` gives.

    Warns:
        UserWarning: listing arrays that are matched by a guess.

    >>> import haiku as hk, jax
    >>> import portinit, portinit_haiku
    >>> net = hk.transform(lambda x: hk.nets.MLP([8, 2], name="mlp")(x))
    >>> shapes = jax.eval_shape(net.init, jax.random.key(0), jax.numpy.ones((1, 3)))
    >>> recipe = portinit.Recipe([("*.bias", portinit.zeros), ("*", portinit.kaiming_normal())])
    >>> params = portinit_haiku.initialize(shapes, recipe, portinit.key(0))
    >>> params["mlp/~/linear_0"]["w"].shape
    (3, 8)
    """
    return fill(params, recipe, key, match_request(names, stacked, ignore, uses), shardings)


def fill(
    params: _Params, recipe: Recipe, key: Any, request: MatchRequest, shardings: Any = None
) -> _Params:
    """Like :func:`initialize`, for a request as a matching takes it."""
    require_recipe(recipe)
    arrays = HaikuArrays.of(params)
    planned = plans.leaf_plans(arrays.tree, recipe, request)
    raise_misfits("every array must get values", [*arrays.without_values(planned)])
    fills = array_fills(planned, placements(params, shardings))
    filled: _Params = arrays.filled(fill_arrays(fills, key))
    return filled


def match(
    params: Any,
    recipe: Recipe,
    names: NameTable | None = None,
    *,
    stacked: Mapping[str, int] | None = None,
    ignore: str | Iterable[str] = (),
    uses: TwinUses | tuple[Uses, Uses] | None = None,
    strict: bool = True,
) -> Matching:
    """Find the recipe's name and the layout for each array of Haiku's dicts; compute nothing.

    Args:
        params: as for :func:`initialize`.
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

    >>> import jax
    >>> import portinit
    >>> params = {"fc": {"w": jax.ShapeDtypeStruct((4, 8), "float32")}}
    >>> recipe = portinit.Recipe([portinit.Rule("fc.weight", portinit.normal(), shape=(8, 4))])
    >>> print(match(params, recipe))
    fc/w = fc.weight (name; layout by shape)
    """
    request = match_request(names, stacked, ignore, uses)
    return plans.match(HaikuArrays.of(params).tree, recipe, request, strict=strict)


def match_request(
    names: NameTable | None,
    stacked: Mapping[str, int] | None = None,
    ignore: str | Iterable[str] = (),
    uses: TwinUses | tuple[Uses, Uses] | None = None,
) -> MatchRequest:
    """A request as callers write it, in paths without Haiku's mark of constructors."""
    return without_marks(MatchRequest.of(names, stacked, ignore, uses))


def without_marks(request: MatchRequest) -> MatchRequest:
    """A request in paths without Haiku's mark of constructors, ``~``."""
    table, axes = (
        {path.replace("~/", ""): said for path, said in given.items()}
        for given in (request.names, request.stacked)
    )
    return replace(request, names=table, stacked=axes)
