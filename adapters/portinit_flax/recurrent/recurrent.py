"""The parts of PyTorch's packed recurrent parameters that the arrays of Flax's cells hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portinit import Parameter, Recipe
from portinit.recipes.matching.trees.cells import names_of_cells
from portinit.recipes.matching.trees.tree import Tree
from portinit.recipes.rule import raise_misfits
from portinit_flax.recurrent.cells import cells_of
from portinit_flax.tree import leaves, tree_of


def recurrent_parameters(model: Any) -> list[Parameter]:
    """The recurrent cells of a Flax model, described as PyTorch describes cells of its own.

    A recipe bound to them has rules for packed parameters, with no PyTorch model at hand.

    Args:
        model: as for :func:`portinit_flax.initialize`.

    Returns:
        For each cell ``weight_ih``, ``weight_hh``, ``bias_ih`` and ``bias_hh``, named by its path.

    >>> import portinit
    >>> from flax import nnx
    >>> cell = nnx.GRUCell(3, 8, rngs=nnx.Rngs(0))
    >>> recipe = portinit.recipes.gru(t_max=100).bind(recurrent_parameters(cell))
    >>> recipe.names
    ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh')
    """
    return [parameter for cell in cells_of(_tree(model)) for parameter in cell.described()]


def _tree(model: Any) -> Tree:
    return Tree(leaves(tree_of(model))[0])


def recurrent_names(
    model: Any, recipe: Recipe, modules: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The rows of PyTorch's packed parameters that each array of Flax's cells holds.

    :func:`portinit_flax.initialize` finds this table by itself. Call it to look at the table, to
    change it, or where modules must be told apart.

    Args:
        model: as for :func:`portinit_flax.initialize`.
        recipe: a recipe bound to the PyTorch model.
        modules: the module that the cells under a path belong to: ``{"encoder": "enc.lstm"}``. If
            not given, a single recurrent module has all cells, and of several each has the cells
            under a path of its own name.

    The cells of a module are its layers in the order of the numbers in their paths, forward before
    backward: ``lstm_0/forward_rnn/cell``. A bias that Flax has once is the one of PyTorch's two
    that is not zero; :func:`portinit.sum_biases` makes one of two.

    Returns:
        A table for the ``names`` of :func:`portinit_flax.initialize`.

    Raises:
        portinit.RecipeError: listing every cell that does not fit.

    >>> import jax
    >>> import portinit, portinit_flax
    >>> from flax import linen as nn
    >>> shapes = {"weight_ih": (32, 3), "weight_hh": (32, 8), "bias_ih": (32,), "bias_hh": (32,)}
    >>> recipe = portinit.recipes.lstm().bind(
    ...     portinit.Parameter(f"lstm.{name}_l0", shape, "recurrent", fan_in=8)
    ...     for name, shape in shapes.items()
    ... )
    >>> model, inputs = nn.RNN(nn.OptimizedLSTMCell(8)), jax.numpy.zeros((1, 2, 3))
    >>> tree = jax.eval_shape(model.init, jax.random.key(0), inputs)
    >>> portinit_flax.recurrent_names(tree, recipe)["cell/hf/kernel"]
    'lstm.weight_hh_l0[8:16]'
    """
    table, misfits = names_of_cells(cells_of(_tree(model)), recipe, {}, modules)
    raise_misfits("cells and recurrent layers must fit", misfits)
    return table
