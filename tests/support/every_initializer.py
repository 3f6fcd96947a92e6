"""A recipe with a parameter for every elementwise initializer, and what NumPy draws for each."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

import portinit
from portinit import Recipe, Rule
from portinit.verify.table import MATRICES, PLAIN, SCHEMES

KEY = portinit.key(0xC0FFEE)
SHAPE = (48, 60)
"""Of each parameter in PyTorch."""

CASES = {f"c{i}": init for i, init in enumerate((PLAIN | SCHEMES | MATRICES).values())}
"""The initializers by the names of the layers that they are for."""


def drawn_in(dtype: str) -> dict[str, NDArray[Any]]:
    """NumPy's values by the layers' names, of those that are defined in a dtype."""
    values = {}
    for name, initializer in CASES.items():
        key = KEY.fold_in(f"{name}.weight")
        try:
            values[name] = initializer(key, SHAPE, dtype, layout="torch")
        except (ValueError, TypeError):  # bounds or moments that the dtype has no room for
            continue
    return values


def recipe_for(names: Any) -> Recipe:
    """A rule for the weight of each layer."""
    return Recipe([Rule(f"{name}.weight", CASES[name], shape=SHAPE) for name in names])
