"""Flax's recurrent cells, linen and nnx, told by the names and shapes of their kernels.

linen's cells have a kernel for each gate; nnx's pack them in PyTorch's order, but for its LSTMCell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from portinit import Parameter
from portinit.recipes.matching.leaf import Path
from portinit.recipes.matching.tree import Tree
from portinit.recipes.names import torch_name

_LETTERS = {4: ("i", "f", "g", "o"), 3: ("r", "z", "n"), 1: ("",)}
_APART = {
    frozenset(side + letter for side in "ih" for letter in letters): letters
    for letters in _LETTERS.values()
}
_WHOLE = frozenset({"dense_i", "dense_h"})


@dataclass(frozen=True)
class CellArray:
    """One array of a cell: its path, its side (``"ih"`` or ``"hh"``), its gate if it has one."""

    path: Path
    side: str
    gate: int | None

    @property
    def label(self) -> str:
        """The path as a table of names has it."""
        return "/".join(self.path)

    @property
    def is_bias(self) -> bool:
        """Whether it is a bias."""
        return self.path[-1] == "bias"


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
        parts = tuple(CellArray(p, _side(_owner(p)), _gate(p, letters)) for p in paths)
        yield RecurrentCell(path, (gates, sides["ih"][0], hidden), parts)


def _owner(path: Path) -> str:
    return path[-2].rstrip("_")  # "if_" in nnx, as "if" is a word of Python's


def _side(owner: str) -> str:
    return "ih" if owner.removeprefix("dense_").startswith("i") else "hh"


def _gate(path: Path, letters: tuple[str, ...] | None) -> int | None:
    return letters.index(_owner(path)[1:]) if letters and len(letters) > 1 else None
