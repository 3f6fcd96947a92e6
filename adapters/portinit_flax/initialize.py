"""Whole Flax models, linen or nnx, filled from recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
from flax import nnx

from portinit import Recipe
from portinit.recipes.matching import plans
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit.recipes.matching.tables.targets import NameTable
from portinit.recipes.matching.uses.uses import TwinUses, Uses
from portinit.recipes.recipe import require_recipe
from portinit.recipes.rule import raise_misfits
from portinit_flax.matching import FlaxTree
from portinit_flax.random_state import fill_random_state, without_values
from portinit_flax.shardings import placements
from portinit_flax.tree import FlatTree, tree_of
from portinit_jax.array_fills import ArrayFill, CompiledFill, array_fills, fill_arrays
from portinit_jax.backend import BACKEND
from portinit_jax.programs import FillSpec, lower

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
    """Fill a Flax model's parameters and batch statistics from a recipe.

    A parameter draws with ``key.fold_in(its name in the recipe)``, in PyTorch's element order: the
    same bits that ``portinit_torch.initialize`` gives the parameter of that name. Everything is
    checked before anything is written.

    On a mesh each device computes its own shard and nothing is sent; ``orthogonal`` and
    ``delta_orthogonal`` compute the whole matrix in float64 on each device.

    Args:
        model: linen variables (``{"params": ..., "batch_stats": ...}``) or a tree of parameters,
            of arrays or of ``jax.eval_shape``'s structs; or an ``nnx.Module``, abstract or not.
        recipe: rules for PyTorch's names.
        key: a :class:`portinit.Key`, or a JAX key of threefry2x32 or rbg.
        names: where automatic matching needs help: a table from paths of the tree joined by ``/``
            to names of the recipe, or to pairs of a name and a :class:`portinit.Layout`.

            - A name may be limited to rows, for an array that holds a part of what PyTorch packs:
              ``{"attn/query/kernel": "attn.in_proj_weight[0:64]", ...}``.
            - The path of a module stands for all in it, and ``*`` for a part of a path:
              ``{"layers/*/attn": "model.layers.*.self_attn"}``. A further ``*`` in the name
              stands for the number of a stack's layer.
            - ``{"stack": ["k.weight", "v.weight"], "axis": 0}`` and ``{"concat": [...], "axis":
              -1}`` are for an array that holds several parameters.
            - An initializer is for an array that PyTorch's model has not:
              ``{"*/key/bias": portinit.zeros}``.
        shardings: where the arrays are to lie: one ``jax.sharding.Sharding`` for all, or a tree of
            them that is a prefix of the model's, as ``jax.jit`` takes for ``out_shardings``. By
            default a struct's or an array's own sharding; or what ``with_partitioning`` noted, on
            the mesh of ``jax.set_mesh``, where the rest is replicated.
        stacked: arrays that hold a parameter of each of several layers (``nn.scan``,
            ``nnx.vmap``): from the path of what is repeated to the axis that the layers lie along.
            ``{"layers": 0}`` makes ``layers/mlp/kernel`` hold ``layers.0.mlp.weight`` and so on,
            each with the values that it has alone. A path whose names are in the recipe but for a
            number needs no entry where the axis is 0.
        ignore: patterns of the recipe's names that the tree need not have: ``"pooler.*"``.
        uses: ``(portinit_torch.uses(module, *inputs), portinit_flax.uses(model, *inputs))`` of the
            same example input: how both forward passes use their parameters. Square kernels then
            lie as they are summed over, and modules that no name tells apart are matched in the
            order in which data reaches them.

    Returns:
        A new tree, or the nnx module itself, filled in place. Random state that ``nnx.eval_shape``
        left without data (of ``nnx.Dropout``) is filled too: ``key.fold_in(its path)``.

    Raises:
        portinit.RecipeError: listing every leaf and every name that does not match, and every
            other array that has a shape and would get no values.

    Warns:
        UserWarning: listing arrays that are matched by a guess: not by their names, or in a layout
            that nothing tells from its transpose.

    Matching: a recipe with a rule for each parameter (one that ``portinit_torch.bind`` or
    ``portinit_torch.trace`` made) is matched by names, ``layers.0.linear1.weight`` with
    ``layers_0/linear1/kernel``, and what names leave over by the structure of both models; see
    :func:`match`. For a recipe of patterns the path is translated. Cells of recurrent layers are
    found by :func:`recurrent_names`.

    >>> import jax
    >>> import portinit, portinit_flax
    >>> tree = {"fc": {"kernel": jax.ShapeDtypeStruct((3, 2), "float32")}}
    >>> recipe = portinit.Recipe([("*.weight", portinit.kaiming_normal())])
    >>> portinit_flax.initialize(tree, recipe, portinit.key(0))["fc"]["kernel"].shape
    (3, 2)
    """
    prepared = PreparedModel.of(
        model, recipe, MatchRequest.of(names, stacked, ignore, uses), shardings
    )
    filled: _Model = prepared.fill(key)
    return filled


@dataclass(frozen=True)
class PreparedModel:
    """A model and what is to be done to it, all checked."""

    model: Any
    tree: FlatTree
    fills: tuple[ArrayFill, ...]

    @classmethod
    def of(cls, model: Any, recipe: Recipe, request: MatchRequest, shardings: Any) -> PreparedModel:
        """A model and its fills, or a RecipeError that lists all that does not fit."""
        require_recipe(recipe)
        tree = tree_of(model)
        flat = FlatTree.of(tree)
        planned = plans.leaf_plans(FlaxTree.of(model, flat), recipe, request)
        filled = {plan.leaf.position for plan in planned}
        raise_misfits("every array must get values", [*without_values(model, flat, filled)])
        places = placements(tree, flat, shardings)
        return cls(model, flat, tuple(array_fills(planned, places)))

    def fill(self, key: Any, program: Callable[[FillSpec], CompiledFill] | None = None) -> Any:
        """The model, filled by programs of the arrays' specs or by what is had soonest."""
        values = [*self.tree.values]
        for position, array in fill_arrays(self.fills, key, program).items():
            values[position] = array
        filled = jax.tree.unflatten(self.tree.structure, values)
        if not isinstance(self.model, nnx.Module):
            return filled
        nnx.update(self.model, filled)
        fill_random_state(self.model, key)
        return self.model


@dataclass(frozen=True)
class CompiledProgram:
    """One program of :func:`precompile`.

    Attributes:
        paths: the arrays that it makes, a stack by its first layer.
        compiled: the program, a ``jax.stages.Compiled``: ``compiled.memory_analysis()`` tells its
            memory on a device, ``compiled.as_text()`` the code.
    """

    paths: tuple[str, ...]
    compiled: Any


@dataclass(frozen=True)
class Compiled:
    """A model's initialisation, compiled: call it with a key.

    Attributes:
        programs: one for each spec of an array that the model has.
    """

    programs: tuple[CompiledProgram, ...]
    _prepared: PreparedModel
    _by_spec: Mapping[FillSpec, Any]

    def __call__(self, key: Any) -> Any:
        """The model filled, as :func:`initialize` gives it."""
        return self._prepared.fill(key, self._by_spec.__getitem__)


def precompile(
    model: Any,
    recipe: Recipe,
    names: NameTable | None = None,
    *,
    shardings: Any = None,
    stacked: Mapping[str, int] | None = None,
    ignore: str | Iterable[str] = (),
    uses: TwinUses | tuple[Uses, Uses] | None = None,
) -> Compiled:
    """Compile what :func:`initialize` would run, and compute nothing.

    So what it takes is known beforehand: one program serves all arrays of a shape, a dtype, a
    layout, a sharding and an initializer. Values given by :func:`portinit.assign` and the like
    need none.

    Args:
        model: as for :func:`initialize`.
        recipe: rules for PyTorch's names.
        names: as for :func:`initialize`.
        shardings: as for :func:`initialize`.
        stacked: as for :func:`initialize`.
        ignore: as for :func:`initialize`.
        uses: as for :func:`initialize`.

    Returns:
        The programs as a :class:`Compiled`, which is called with a key.

    Raises:
        portinit.RecipeError: as for :func:`initialize`.

    >>> import jax, jax.numpy as jnp
    >>> import portinit
    >>> shape = jax.ShapeDtypeStruct((4, 8), jnp.float32)
    >>> tree = {f"layers_{i}": {"kernel": shape} for i in range(3)}
    >>> compiled = precompile(tree, portinit.Recipe([("*", portinit.normal())]))
    >>> [program.paths for program in compiled.programs]
    [('layers_0/kernel', 'layers_1/kernel', 'layers_2/kernel')]
    >>> compiled.programs[0].compiled.memory_analysis().output_size_in_bytes
    128
    >>> filled = compiled(portinit.key(0))
    """
    prepared = PreparedModel.of(
        model, recipe, MatchRequest.of(names, stacked, ignore, uses), shardings
    )
    paths: dict[FillSpec, list[str]] = {}
    for fill in prepared.fills:
        if not fill.is_joined:
            paths.setdefault(fill.spec[0], []).append(fill.path)
    by_spec = {spec: lower(BACKEND, spec).compile() for spec in paths}
    programs = [CompiledProgram(tuple(paths[spec]), by_spec[spec]) for spec in paths]
    return Compiled(tuple(programs), prepared, by_spec)


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
    """Find the recipe's name and the layout for each array of a Flax model; compute nothing.

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
        evidence for each pair and what is left over: :class:`Matching`. The layers of a stack are
        listed one by one, with their numbers in their paths.

    Raises:
        portinit.RecipeError: listing every leaf and every name that does not match, if ``strict``.

    >>> import jax, jax.numpy as jnp
    >>> import portinit
    >>> recipe = portinit.Recipe([portinit.Rule("fc.weight", portinit.normal(), shape=(8, 4))])
    >>> result = match({"Dense_0": {"kernel": jax.ShapeDtypeStruct((4, 8), jnp.float32)}}, recipe)
    >>> print(result)
    Dense_0/kernel = fc.weight (rewritten; layout by class)
    """
    request = MatchRequest.of(names, stacked, ignore, uses)
    return plans.match(FlaxTree.of(model), recipe, request, strict=strict)
