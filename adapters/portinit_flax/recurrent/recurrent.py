"""What of PyTorch's packed recurrent parameters each array of Flax's cells holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from portinit import Parameter, Recipe
from portinit.recipes.matching.tree import Tree
from portinit.recipes.packed import Packed, is_zero, packed_layers
from portinit.recipes.rule import raise_misfits
from portinit_flax.recurrent.cells import CellArray, RecurrentCell, cells_of
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
    table, misfits = names_of_cells(_tree(model), recipe, {}, modules)
    raise_misfits("cells and recurrent layers must fit", misfits)
    return table


def names_of_cells(
    tree: Tree,
    recipe: Recipe,
    known: Mapping[str, Any],
    modules: Mapping[str, str] | None = None,
) -> tuple[dict[str, str], list[str]]:
    """The table for the cells of which no array is in ``known``, and a line for each misfit."""
    layers = packed_layers(recipe)
    names = list(dict.fromkeys(layer.module for layer in layers))
    table: dict[str, str] = {}
    misfits: list[str] = []
    held: dict[str, list[RecurrentCell]] = {}
    for cell in cells_of(tree) if layers else ():
        module = _module_of(cell, names, modules)
        if module is not None and not any(part.label in known for part in cell.parts):
            held.setdefault(module, []).append(cell)
    for module, cells in held.items():
        mine = [layer for layer in layers if layer.module == module]
        wrong = [*_misfits(module, cells, mine)]
        for cell, layer in zip(sorted(cells, key=_order), [] if wrong else mine, strict=False):
            table |= _names(cell, layer, misfits)
        misfits += wrong
    return table, misfits


def _module_of(
    cell: RecurrentCell, names: list[str], modules: Mapping[str, str] | None
) -> str | None:
    """The recurrent module that a cell is a layer of."""
    if modules is None and len(names) == 1:
        return names[0]
    words = _words(cell)
    pairs = {name: name for name in names} if modules is None else modules
    under = [path for path in pairs if words[: len(_split(path))] == _split(path)]
    return pairs[max(under, key=lambda path: len(_split(path)))] if under else None


def _split(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+|\d+", text)


def _words(cell: RecurrentCell) -> list[str]:
    return _split("/".join(cell.path))


_DIRECTIONS = {"forward": 0, "fwd": 0, "backward": 1, "bwd": 1, "reverse": 1}


def _order(cell: RecurrentCell) -> tuple[list[int], list[int]]:
    """Where a cell stands among a module's layers: the numbers in its path, then its direction."""
    words = _words(cell)
    return [int(w) for w in words if w.isdigit()], [
        _DIRECTIONS[w] for w in words if w in _DIRECTIONS
    ]


def _misfits(module: str, cells: list[RecurrentCell], layers: list[Packed]) -> Iterator[str]:
    """Why the cells cannot be the layers of a module, if they cannot."""
    label = module or "the recurrent layer"
    paths = ", ".join("/".join(cell.path) for cell in cells)
    if len(cells) != len(layers):
        yield f"{label}: {len(layers)} layers and directions need as many cells, got {paths}"
        return
    plain = {tuple(w for w in _words(c) if not (w.isdigit() or w in _DIRECTIONS)) for c in cells}
    if len(plain) > 1 or len({str(_order(cell)) for cell in cells}) < len(cells):
        yield f"{label}: numbers, forward and backward must tell its cells apart, got {paths}"
        return
    for cell, layer in zip(sorted(cells, key=_order), layers, strict=True):
        wanted = layer.gates, layer.inputs, layer.hidden
        if cell.sizes != wanted:
            yield (
                f"{'/'.join(cell.path)}: {layer.label} has {wanted} gates, inputs and units, "
                f"got {cell.sizes}"
            )
        elif "weight_hr" in layer.rules:
            yield f"{'/'.join(cell.path)}: Flax's cells have no projection, as {layer.label} has"


def _names(cell: RecurrentCell, layer: Packed, misfits: list[str]) -> dict[str, str]:
    """The table of one cell; what does not fit joins the misfits."""
    names: dict[str, str] = {}
    for part in cell.parts:
        leaf = f"weight_{part.side}"
        if part.is_bias:
            leaf, wrong = _bias(cell, layer, part)
            misfits += [line for line in wrong if line not in misfits]
        if leaf not in layer.rules:
            continue
        rows = cell.rows(part)
        limit = "" if part.gate is None else f"[{rows.start}:{rows.stop}]"
        names[part.label] = f"{layer.rules[leaf].name}{limit}"
    return names


def _bias(cell: RecurrentCell, layer: Packed, part: CellArray) -> tuple[str, list[str]]:
    """Which of PyTorch's two bias vectors an array holds rows of, and why it cannot."""
    label = "/".join(cell.path)
    if not {"bias_ih", "bias_hh"} <= set(layer.rules):
        return "bias_ih", [f"{label}: it has biases, and the layer of {layer.label} none"]
    if any(p.is_bias and p.gate == part.gate and p.side != part.side for p in cell.parts):
        return f"bias_{part.side}", []  # of the new gate of linen's GRU: both are there
    first, second = (is_zero(layer.rules[leaf], cell.rows(part)) for leaf in ("bias_ih", "bias_hh"))
    if cell.sizes[0] == 3 and part.gate is None:
        line = f"{label}: nnx's GRUCell has no bias_hh, and that of {layer.label} is not zero"
        return "bias_ih", [] if second else [f"{line}; linen's GRUCell has one"]
    if not (first or second):
        return "bias_ih", [
            f"{label}: it has one bias, and the layer of {layer.label} two that are not zero; "
            "portinit.sum_biases(recipe, key) makes one of them"
        ]
    return "bias_ih" if second else "bias_hh", []
