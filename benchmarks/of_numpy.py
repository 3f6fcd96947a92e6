"""NumPy's generator, and portinit's draws in NumPy."""

from __future__ import annotations

import numpy as np

import portinit
from benchmarks.measure import Side, Sides, Wall
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout
from portinit.backends.base import Request
from portinit.backends.numpy import NUMPY

LAWS = {"normal": portinit.normal(), "uniform": portinit.uniform()}


def fill(law: str, size: int, memory: str) -> Sides:
    """Float32 draws into a new array, or one that is kept; NumPy's generator has one thread."""
    generator = np.random.default_rng(0)
    theirs = generator.standard_normal if law == "normal" else generator.random
    initializer, key = LAWS[law], portinit.key(0)
    initializer(key, (1 << 20,))  # loads numba, where there is one
    if memory == "new":
        return (
            Side(Wall(lambda: initializer(key, (size,)))),
            Side(Wall(lambda: theirs(size, np.float32))),
        )
    out = np.empty(size, np.float32)
    grid = Grid.whole((size,), Layout())
    request, plan = Request(NUMPY, key.words, grid, "float32"), initializer.plan(grid, "float32")
    return (
        Side(Wall(lambda: NUMPY.execute(plan, request, out))),  # a call has no ``out=``
        Side(Wall(lambda: theirs(dtype=np.float32, out=out))),
    )
