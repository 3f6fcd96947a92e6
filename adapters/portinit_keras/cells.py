"""Keras's recurrent cells: which gates their variables hold, in PyTorch's packed parameters.

An LSTM's gates stand in PyTorch's order: i, f, g (Keras's c), o. A GRU's do not: Keras has z, r, h
where PyTorch has r, z, n. Its bias has a row for the inputs and one for the state, as cuDNN has
them; a GRU with ``reset_after=False`` computes another function than PyTorch's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from portinit import Recipe
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.tables.table import Table
from portinit.recipes.matching.trees.cells import CellArray, RecurrentCell, names_of_cells
from portinit.recipes.matching.trees.class_tree import ClassTree
from portinit.recipes.matching.trees.leaf import Path

GATES = {"LSTMCell": 4, "GRUCell": 3, "SimpleRNNCell": 1}
"""How many gates each of Keras's cells has."""

RESET_BEFORE = "GRUCell, reset before"
"""The class of a GRU's cell with ``reset_after=False``."""

_GRU = ("z", "r", "h")
"""The gates of a GRU's variable, in Keras's order."""

_PYTORCHS = {"r": 0, "z": 1, "h": 2}

_SIDES = {"kernel": ("ih",), "recurrent_kernel": ("hh",)}


def cells_of(tree: ClassTree, *kinds: str) -> Iterator[RecurrentCell]:
    """The cells of some classes; a GRU's arrays are its gates, ``kernel#z`` and so on."""
    for path, leaf in tree.leaves.items():
        kind = tree.class_of(path)
        if path[-1] != "kernel" or kind not in kinds:
            continue
        gates = GATES[kind]
        sizes = gates, leaf.shape[0], leaf.shape[-1] // gates
        words = [word for word in (*_SIDES, "bias") if tree.sibling(path, word)]
        parts = [part for word in words for part in _parts(kind, path[:-1], word)]
        yield RecurrentCell(path[:-1], sizes, tuple(parts))


def _parts(kind: str, module: Path, word: str) -> Iterator[CellArray]:
    is_bias = word == "bias"
    if kind != "GRUCell":
        yield CellArray((*module, word), *_SIDES.get(word, ("ih",)), None, is_bias)
        return
    for side in _SIDES.get(word, ("ih", "hh")):
        for gate in _GRU:
            path = (*module, f"{word}#{gate}")
            yield CellArray(path if not is_bias else (*module, f"{word}#{side}{gate}"), side,
                            _PYTORCHS[gate], is_bias)  # fmt: skip


def with_gates(tree: ClassTree, recipe: Recipe, request: MatchRequest) -> MatchRequest:
    """The request with a table of what GRUs' variables join, where the user states nothing."""
    stated = Table(request.names)
    cells = [
        cell
        for cell in cells_of(tree, "GRUCell")
        if not any(stated.target("/".join((*cell.path, word))) for word in (*_SIDES, "bias"))
    ]
    found, _ = names_of_cells(cells, recipe, {})  # misfits are listed where leaves have no partner
    table: dict[str, Any] = {}
    for label, name in found.items():
        array = label.partition("#")[0]
        table.setdefault(array, {"concat": [], "axis": -1})["concat"].append(name)
    return replace(request, names={**table, **request.names})
