"""Ranks that are simulated one at a time, and the rule of what each holds, in NumPy."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray
from torch.distributed.tensor.debug import _clear_sharding_prop_cache
from torch.testing._internal.distributed.fake_pg import FakeStore

Index = NDArray[np.int64]


@contextmanager
def simulated(rank: int, size: int) -> Iterator[None]:
    """This process as one rank of many, without the others: collectives do nothing."""
    dist.init_process_group("fake", rank=rank, world_size=size, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()
        _clear_sharding_prop_cache()  # it takes equal meshes for one, whosever they are


def held(length: int, axis: int, mesh: Any, placements: Sequence[Any]) -> Index:
    """The coordinates along one axis that this rank of a mesh holds."""
    index = np.arange(length)
    for size, i, placement in zip(mesh.shape, mesh.get_coordinate(), placements, strict=True):
        if getattr(placement, "dim", None) != axis:
            continue
        factor = getattr(placement, "split_factor", 1)
        pieces = [chunk(index, factor, j) for j in range(factor)]
        index = np.concatenate([chunk(piece, size, i) for piece in pieces])
    return index


def chunk(index: Index, count: int, i: int) -> Index:
    """The i-th of ``count`` chunks, each as long as the first but the last, or empty."""
    length = -(-len(index) // count)
    return index[i * length : (i + 1) * length]


def indices(tensor: Any) -> tuple[Index, ...]:
    """What picks this rank's shard of a DTensor out of the whole tensor."""
    return np.ix_(
        *(held(n, i, tensor.device_mesh, tensor.placements) for i, n in enumerate(tensor.shape))
    )
