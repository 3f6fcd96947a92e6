"""Flax's recurrent cells, linen and nnx, told by the names and shapes of their kernels.

linen's cells have a kernel for each gate; nnx's pack them in PyTorch's order, but for its LSTMCell.
"""

from __future__ import annotations

from collections.abc import Iterator

from portinit.recipes.matching.trees.cells import CellArray, RecurrentCell
from portinit.recipes.matching.trees.leaf import Path
from portinit.recipes.matching.trees.tree import Tree

_LETTERS = {4: ("i", "f", "g", "o"), 3: ("r", "z", "n"), 1: ("",)}
_APART = {
    frozenset(side + letter for side in "ih" for letter in letters): letters
    for letters in _LETTERS.values()
}
_WHOLE = frozenset({"dense_i", "dense_h"})


def cells_of(tree: Tree) -> list[RecurrentCell]:
    """The recurrent cells of a tree."""
    owned: dict[Path, list[Path]] = {}
    for path in tree.leaves:
        if len(path) > 1 and path[-1] in ("kernel", "bias"):
            owned.setdefault(path[:-2], []).append(path)
    return [cell for path, paths in owned.items() for cell in _cell(tree, path, paths)]


def _cell(tree: Tree, path: Path, paths: list[Path]) -> Iterator[RecurrentCell]:
    """The cell whose arrays these are, if they are a cell's."""
    kernels = {_owner(p): tree.leaves[p].shape for p in paths if p[-1] == "kernel"}
    letters = _APART.get(frozenset(kernels))
    if (letters is None and kernels.keys() != _WHOLE) or any(len(k) != 2 for k in kernels.values()):
        return
    sides = {_side(owner): shape for owner, shape in kernels.items()}
    hidden, width = sides["hh"]
    gates = len(letters) if letters else width // max(1, hidden)
    columns = hidden if letters else hidden * gates
    if gates in _LETTERS and all(shape[1] == columns for shape in kernels.values()):
        parts = tuple(
            CellArray(p, _side(_owner(p)), _gate(p, letters), p[-1] == "bias") for p in paths
        )
        yield RecurrentCell(path, (gates, sides["ih"][0], hidden), parts)


def _owner(path: Path) -> str:
    return path[-2].rstrip("_")  # "if_" in nnx, as "if" is a word of Python's


def _side(owner: str) -> str:
    return "ih" if owner.removeprefix("dense_").startswith("i") else "hh"


def _gate(path: Path, letters: tuple[str, ...] | None) -> int | None:
    return letters.index(_owner(path)[1:]) if letters and len(letters) > 1 else None
