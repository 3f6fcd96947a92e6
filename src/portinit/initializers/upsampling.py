"""Convolutions that enlarge images: without checkerboards, or as bilinear interpolation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid, place
from portinit.arrays.layouts import LAYOUTS, Shape
from portinit.backends.base import Request
from portinit.backends.plan import Computed, Hosted, Plan
from portinit.initializers.assigned import times
from portinit.initializers.base import Initializer
from portinit.initializers.matrices import require_dimensions
from portinit.initializers.numbers import as_int


@dataclass(frozen=True)
class icnr(Initializer):
    """A convolution before a pixel shuffle that starts as nearest-neighbour upsampling.

    The scale^d outputs (d is the number of spatial axes) that the shuffle puts into one block of
    pixels share their weights, so that no checkerboard appears. PyTorch's ``PixelShuffle`` has them
    next to one another along axis 0.

    Args:
        initializer: for the weights of one output of each block, of axis 0 divided by scale^d.
        scale: the factor by which images grow, 1 or more.

    Raises:
        ValueError: a shape of other than 3 to 5 axes, or an axis 0 that scale^d does not divide.

    Source: Aitken et al., "Checkerboard artifact free sub-pixel convolution", 2017, section 3.

    >>> import portinit
    >>> init = portinit.icnr(portinit.kaiming_normal(), scale=2)
    >>> weight = init(portinit.key(0), (8, 3, 3, 3), layout="torch")
    >>> bool((weight[0] == weight[3]).all() and (weight[3] != weight[4]).all())
    True
    """

    initializer: Initializer
    scale: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", as_int("scale", self.scale))
        if not isinstance(self.initializer, Initializer):
            got = type(self.initializer).__name__
            raise TypeError(f"icnr needs a portinit initializer, got {got}")
        if self.scale < 1:
            raise ValueError(f"scale must be 1 or more, got {self.scale}")

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        require_dimensions("icnr", grid.shape, (3, 4, 5))
        copies = self.scale ** (len(grid.shape) - 2)
        if grid.shape[0] % copies:
            raise ValueError(f"{copies} must divide axis 0, got a shape of {grid.shape}")
        if copies == 1:
            return self.initializer.planned(grid, dtype, factor)
        one = Grid.whole((grid.shape[0] // copies, *grid.shape[1:]), LAYOUTS["torch"])
        one = one.moved(grid.offset)
        return Computed(_repeated, (self.initializer.planned(one, dtype, factor), one))


def _repeated(request: Request, plan: Plan, one: Grid) -> Any:
    xp, grid = request.xp, request.grid
    values = request.backend.values(plan, request.on(one))
    copies = grid.shape[0] // one.shape[0] if one.shape[0] else 1
    shape = one.shape[0], copies, *one.shape[1:]
    spread = xp.broadcast_to(xp.reshape(values, (shape[0], 1, *shape[2:])), shape)
    return place(xp, xp.reshape(spread, grid.shape), grid)


@dataclass(frozen=True)
class bilinear_upsampling(Initializer):
    """A transposed convolution that interpolates linearly along each spatial axis.

    Along an axis of size k, with f = ceil(k / 2) and c = (2f - 1 - f % 2) / (2f), tap i has the
    weight 1 - abs(i / f - c), and a kernel's weights are the products of its axes'. Input channel c
    meets output channel c; with one output channel a group, each channel is enlarged by itself.

    Raises:
        ValueError: a shape of other than 3 to 5 axes.

    Source: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation",
    CVPR 2015, section 3.3; Caffe's ``BilinearFiller``.

    >>> import portinit
    >>> portinit.bilinear_upsampling()(portinit.key(0), (1, 1, 4), layout="torch").tolist()
    [[[0.25, 0.75, 0.75, 0.25]]]
    """

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        float_format(dtype)
        require_dimensions("bilinear_upsampling", grid.shape, (3, 4, 5))
        return Hosted(_bilinear, (grid.shape, factor))


def _bilinear(shape: Shape, factor: float) -> np.ndarray[Any, Any]:
    kernel = np.ones(())
    for size in shape[2:]:
        f = math.ceil(size / 2)
        centre = (2 * f - 1 - f % 2) / (2.0 * f) if f else 0.0
        kernel = np.multiply.outer(kernel, 1 - abs(np.arange(size) / max(f, 1) - centre))
    channels = np.ones(shape[:2]) if shape[1] == 1 else np.eye(shape[0], shape[1])
    return times(np.multiply.outer(channels, kernel), factor)
