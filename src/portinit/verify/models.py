"""Cells drawn as the parameters of one model, by the ``initialize`` of a framework's adapter."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import Any

from portinit.arrays.layouts import as_layout
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule
from portinit.verify.cases import LAYOUTS, PARAMETER, ROOT, Cell
from portinit.verify.devices import Device
from portinit.verify.jax_modes import precision


def equinox(device: Device, cells: Sequence[Cell]) -> Iterable[Sequence[Any]]:
    """A pytree with an array for each cell."""
    return _drawn("portinit_equinox", cells, "weight")


def haiku(device: Device, cells: Sequence[Cell]) -> Iterable[Sequence[Any]]:
    """A dict with a module for each cell."""
    return _drawn("portinit_haiku", cells, "w")


def _drawn(adapter: str, cells: Sequence[Cell], word: str) -> list[list[Any]]:
    jax: Any = importlib.import_module("jax")
    initialize: Any = importlib.import_module(adapter).initialize
    rules, names, tree = [], dict[str, Any](), dict[str, Any]()
    for number, cell in enumerate(cells):
        module, layout = f"c{number}", as_layout(LAYOUTS[cell.layout])
        shape = layout.logical_shape(cell.shape)
        rules.append(Rule(f"{module}.weight", cell.initializer, shape=shape, drawn_as=PARAMETER))
        names[f"{module}/{word}"] = f"{module}.weight", layout
        tree[module] = {word: jax.ShapeDtypeStruct(cell.shape, cell.dtype)}
    with precision(cells):
        filled = initialize(tree, Recipe(rules), ROOT, names)
        return [[jax.device_get(filled[f"c{number}"][word])] for number in range(len(cells))]
