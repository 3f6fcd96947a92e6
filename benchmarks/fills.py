"""A process's first normals in NumPy."""

from __future__ import annotations

import numpy as np

import portinit
from benchmarks.fresh import Task


def ours(size: int) -> Task:
    """portinit's, which loads numba if there are enough."""
    return lambda: portinit.normal()(portinit.key(0), (size,)).nbytes


def theirs(size: int) -> Task:
    """NumPy's."""
    return lambda: np.random.default_rng(0).standard_normal(size, np.float32).nbytes
