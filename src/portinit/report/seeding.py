"""The generators that frameworks draw from by themselves, at a seed for a while."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators of PyTorch, Keras and MLX, and leave them as they were afterwards.

    Frameworks that are not loaded are left alone. Keras draws the seeds of its initializers from
    Python's own generator.
    """
    torch, mlx = sys.modules.get("torch"), sys.modules.get("mlx.core")
    python = random.getstate()
    words = None if mlx is None else np.asarray(mlx.random.state[0]).tolist()
    try:
        random.seed(seed)
        if mlx is not None:
            mlx.random.seed(seed)
        with _of_torch(torch, seed):
            yield
    finally:
        random.setstate(python)
        if mlx is not None and words is not None:
            mlx.random.seed(words[0] << 32 | words[1])


@contextmanager
def _of_torch(torch: Any, seed: int) -> Iterator[None]:
    if torch is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
