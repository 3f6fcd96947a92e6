"""Recurrent cells of a tree, and what of PyTorch's packed parameters each of their arrays holds.

Another framework's cells may hold each gate by itself, and one bias where PyTorch has two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from portinit.initializers.base import Parameter
from portinit.recipes.matching.trees.leaf import Path
from portinit.recipes.names import torch_name
from portinit.recipes.packed import Packed, is_zero, packed_layers
from portinit.recipes.recipe import Recipe


@dataclass(frozen=True)
class CellArray:
    """One array of a cell.

    Attributes:
        path: its path.
        side: ``"ih"`` or ``"hh"``, PyTorch's word for what it multiplies.
        gate: the gate's number in PyTorch's order; None if it holds all.
        is_bias: whether it is a bias.
    """

    path: Path
    side: str
    gate: int | None
    is_bias: bool

    @property
    def label(self) -> str:
        """The path as a table of names has it."""
        return "/".join(self.path)


@dataclass(frozen=True)
class RecurrentCell:
    """A recurrent cell of a tree.

    Attributes:
        path: of the cell.
        sizes: the number of gates (4 of an LSTM, 3 of a GRU, 1 of a plain RNN), inputs, state.
        parts: its arrays.
    """

    path: Path
    sizes: tuple[int, int, int]
    parts: tuple[CellArray, ...]

    def rows(self, part: CellArray) -> range:
        """The rows of PyTorch's packed parameter that an array holds."""
        gates, _, hidden = self.sizes
        if part.gate is None:
            return range(gates * hidden)
        return range(part.gate * hidden, (part.gate + 1) * hidden)

    def described(self) -> Iterator[Parameter]:
        """Its parameters as a cell of PyTorch's would have them, named by its path."""
        gates, inputs, hidden = self.sizes
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (gates * hidden, inputs),
            "weight_hh": (gates * hidden, hidden),
            "bias_ih": (gates * hidden,),
            "bias_hh": (gates * hidden,),
        }
        for leaf, shape in shapes.items():
            yield Parameter(torch_name((*self.path, leaf)), shape, "recurrent", hidden)


def names_of_cells(
    found: Iterable[RecurrentCell],
    recipe: Recipe,
    known: Mapping[str, Any],
    modules: Mapping[str, str] | None = None,
) -> tuple[dict[str, str], list[str]]:
    """The table for the cells of which no array is in ``known``, and a line for each misfit.

    Args:
        found: the cells of a tree.
        recipe: a recipe bound to the PyTorch model.
        known: labels of arrays whose parameters are known.
        modules: as for :func:`portinit_flax.recurrent_names`.

    Returns:
        From labels to names that may be limited to rows; and the misfits.
    """
    layers = packed_layers(recipe)
    names = list(dict.fromkeys(layer.module for layer in layers))
    table: dict[str, str] = {}
    misfits: list[str] = []
    held: dict[str, list[RecurrentCell]] = {}
    for cell in found if layers else ():
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
            yield f"{'/'.join(cell.path)}: a cell has no projection, as {layer.label} has"


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


_NEW = 2  # a GRU's gate that multiplies its bias_hh with the reset gate


def _bias(cell: RecurrentCell, layer: Packed, part: CellArray) -> tuple[str, list[str]]:
    """Which of PyTorch's two bias vectors an array holds rows of, and why it cannot."""
    label = "/".join(cell.path)
    if not {"bias_ih", "bias_hh"} <= set(layer.rules):
        return "bias_ih", [f"{label}: it has biases, and the layer of {layer.label} none"]
    others = [p for p in cell.parts if p.is_bias and p.side != part.side]
    if any(p.gate in (part.gate, None) for p in others):
        return f"bias_{part.side}", []  # of a GRU's new gate: both are there
    first, second = (is_zero(layer.rules[leaf], cell.rows(part)) for leaf in ("bias_ih", "bias_hh"))
    two = (
        f"{label}: it has one bias, and the layer of {layer.label} two that are not zero; "
        "portinit.sum_biases(recipe, key) makes one of them"
    )
    if cell.sizes[0] == 3 and part.gate is None:
        apart = next((p for p in cell.parts if p.is_bias and p.gate == _NEW), None)
        if apart is not None:  # the new gate's bias_hh is there, and the others' must be zero
            rest = range(cell.rows(apart).start)
            return "bias_ih", [] if is_zero(layer.rules["bias_hh"], rest) else [two]
        line = f"{label}: nnx's GRUCell has no bias_hh, and that of {layer.label} is not zero"
        return "bias_ih", [] if second else [f"{line}; linen's GRUCell has one"]
    return "bias_ih" if second else "bias_hh", [] if first or second else [two]
