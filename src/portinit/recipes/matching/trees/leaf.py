"""The arrays of a tree, and the parts of them that hold a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from portinit.arrays.layouts import Shape
from portinit.recipes.elements import Elements

Path = tuple[str, ...]


@dataclass(frozen=True)
class Leaf:
    """One array of a tree, or a part of it that holds a parameter: a layer of a stack, a slice.

    Attributes:
        position: the array's number in the tree.
        path: its path without collection; behind what is repeated, a layer's has its number.
        shape: the array's shape, or the part's.
        dtype: its dtype.
        array: the array's own path.
        axis: which of the array's axes the parts lie along; None if it is whole.
        layer: the part's number.
        extent: how much of the axis a slice has; None of a layer, which has no such axis.
        start: where on the axis a slice begins.
        places: the elements of the array that a part of any other form is; None of a slice.
        whole: the array's shape, of what the user's table says is a part of one.
    """

    position: int
    path: Path
    shape: Shape
    dtype: Any
    array: Path = ()
    axis: int | None = None
    layer: int = 0
    extent: int | None = None
    start: int = 0
    places: Elements | None = None
    whole: Shape | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its array."""
        return self.axis is None and self.places is None

    @property
    def label(self) -> str:
        """Its path as tables and messages write it."""
        return "/".join(self.path)

    def part_of(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """What the leaf is of the whole array, in NumPy."""
        if self.places is not None:
            return np.asarray(array.reshape(-1)[self.places.numbers].reshape(self.shape))
        if self.axis is None:
            return array
        if self.extent is None:
            return np.asarray(np.take(array, self.layer, self.axis))
        return np.take(array, range(self.start, self.start + self.extent), self.axis)
