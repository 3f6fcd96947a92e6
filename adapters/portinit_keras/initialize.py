"""Whole Keras models filled from recipes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from portinit import Recipe
from portinit.backends.numpy import NUMPY
from portinit.backends.registry import words_of
from portinit.random.keys import Key
from portinit.recipes.matching import plans
from portinit.recipes.matching.assembly import host_arrays
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit.recipes.matching.tables.targets import NameTable
from portinit.recipes.matching.uses.uses import TwinUses, Uses
from portinit.recipes.recipe import require_recipe
from portinit_keras.cells import with_gates
from portinit_keras.drawing import draw_grid, to_tensor
from portinit_keras.tree import Variables

_Model = TypeVar("_Model")


def initialize(
    model: _Model,
    recipe: Recipe,
    key: Any,
    names: NameTable | None = None,
    *,
    ignore: str | Iterable[str] = (),
    uses: TwinUses | tuple[Uses, Uses] | None = None,
) -> _Model:
    """Fill a Keras model's variables from a recipe, in place.

    A variable draws with ``key.fold_in(its name in the recipe)``, in PyTorch's element order: the
    same bits that ``portinit_torch.initialize`` gives the parameter of that name, on every backend
    of Keras. Everything is checked before anything is written.

    Args:
        model: a built ``keras.Model`` or ``keras.Layer``.
        recipe: rules for PyTorch's names.
        key: a :class:`portinit.Key`, or a JAX key of threefry2x32 or rbg.
        names: where automatic matching needs help: a table from paths of variables, as
            :func:`match` lists them, to names of the recipe, or to pairs of a name and a
            :class:`portinit.Layout`; as for ``portinit_flax.initialize``.
        ignore: patterns of the recipe's names that the model need not have.
        uses: ``(portinit_torch.uses(module, *inputs), portinit_keras.uses(model, *inputs))``:
            how both forward passes use their parameters, as for :func:`portinit_flax.initialize`.

    Returns:
        The model.

    Raises:
        TypeError: the model is not Keras's or not built; no recipe; no key.
        portinit.RecipeError: listing every variable and every name that does not match.

    Warns:
        UserWarning: listing variables that are matched by a guess.

    >>> import keras
    >>> import portinit, portinit_keras
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> recipe = portinit.Recipe([("*.weight", portinit.kaiming_normal()), ("*", portinit.zeros)])
    >>> filled = portinit_keras.initialize(model, recipe, portinit.key(0))
    >>> filled is model
    True
    """
    return fill(model, recipe, key, MatchRequest.of(names, None, ignore, uses))


def fill(model: _Model, recipe: Recipe, key: Any, request: MatchRequest) -> _Model:
    """Like :func:`initialize`, with what the user states read already."""
    require_recipe(recipe)
    root = Key(*words_of(key, NUMPY))
    held = Variables.of(model)
    parts: dict[int, list[LeafPlan]] = {}
    for plan in leaf_plans(held, recipe, request):
        parts.setdefault(plan.leaf.position, []).append(plan)
    for position, own in parts.items():
        variable = held.variables[position]
        variable.assign(_values(own, root, tuple(variable.shape)))
    return model


def match(
    model: Any,
    recipe: Recipe,
    names: NameTable | None = None,
    *,
    ignore: str | Iterable[str] = (),
    uses: TwinUses | tuple[Uses, Uses] | None = None,
    strict: bool = True,
) -> Matching:
    """Find the recipe's name and the layout for each variable of a Keras model; compute nothing.

    A variable's path is made of attributes (``blocks/0/attn/query/kernel``) in classes of your own,
    and of names in Keras's: ``dense/kernel``, ``dense_1/kernel`` in a model of layers without
    names, whatever other layers the process has made.

    Args:
        model: as for :func:`initialize`.
        recipe: as for :func:`initialize`.
        names: as for :func:`initialize`.
        ignore: as for :func:`initialize`.
        uses: as for :func:`initialize`.
        strict: whether what does not fit is an error, or else only listed in the result.

    Returns:
        A mapping from each path, joined by ``/``, to PyTorch's name and the layout, with the
        evidence for each pair and what is left over, as from :func:`portinit_flax.match`.

    Raises:
        portinit.RecipeError: listing all that does not match, if ``strict``.

    >>> import keras
    >>> import portinit, portinit_keras
    >>> recipe = portinit.Recipe([portinit.Rule("fc.weight", portinit.normal(), shape=(2, 3))])
    >>> layer = keras.layers.Dense(2, use_bias=False, name="fc")
    >>> print(portinit_keras.match(keras.Sequential([keras.Input((3,)), layer]), recipe))
    fc/kernel = fc.weight (name; layout by class)
    """
    require_recipe(recipe)
    tree = Variables.of(model).tree
    request = with_gates(tree, recipe, MatchRequest.of(names, None, ignore, uses))
    return plans.match(tree, recipe, request, strict=strict)


def leaf_plans(held: Variables, recipe: Recipe, request: MatchRequest) -> list[LeafPlan]:
    """A plan for each variable, or for each part of one that holds several parameters.

    Raises:
        portinit.RecipeError: listing all that does not fit.
    """
    return plans.leaf_plans(held.tree, recipe, with_gates(held.tree, recipe, request))


def _values(own: list[LeafPlan], root: Key, shape: tuple[int, ...]) -> Any:
    """A variable's values: drawn by its backend, or put together from parts in NumPy."""
    first = own[0]
    drawn_whole = first.leaf.is_whole and not first.is_cut_out
    if drawn_whole and first.grid.array_shape == shape:
        key, dtype = root.fold_in(first.key_name), first.leaf.dtype
        return draw_grid(first.initializer, key, first.grid, dtype)
    ((_, values),) = host_arrays(own, root)
    return to_tensor(values.reshape(shape), first.leaf.dtype)
