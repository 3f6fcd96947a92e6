"""Sharded tensors (DTensor): what of a parameter lies on this rank, as memory and as grids.

The elements of a shard keep the counters that they have in the whole parameter. So a rank fills
what it holds by itself: nothing is sent, and no tensor is made that is larger than the shard.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from portinit.arrays.grids import Grid


def parts(tensor: Tensor, grid: Grid) -> Iterator[tuple[Tensor, Grid]]:
    """The memory that this rank has of a tensor, in rectangles, and the elements in each.

    One rectangle is the rule. A lone ``_StridedShard`` has one for each of its chunks; an empty
    shard, or a rank outside the mesh, has none. A tensor that is not sharded is one.

    Args:
        tensor: of any device.
        grid: the elements of the whole tensor.

    Raises:
        ValueError: a DTensor with a ``Partial`` placement.
    """
    mine = local(tensor)
    if mine is tensor:
        yield tensor, grid
    elif mine.numel():
        for runs in itertools.product(*_runs_of(tensor, mine)):
            place, part = mine, grid
            for axis, (start, run) in enumerate(runs):
                place = place.narrow(axis, start, len(run))
                part = part.part(axis, slice(run.start, run.stop))
            yield place, part


def local(tensor: Tensor) -> Tensor:
    """This rank's shard, sharing memory, outside autograd; the tensor itself if not sharded.

    Raises:
        ValueError: a DTensor with a ``Partial`` placement.
    """
    if not is_sharded(tensor):
        return tensor
    require_placements(tensor)
    with torch.no_grad():
        mine: Tensor = tensor.to_local().detach()  # type: ignore[attr-defined]
        return mine


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor."""
    loaded = sys.modules.get("torch.distributed.tensor")  # without it there is none
    return loaded is not None and isinstance(tensor, loaded.DTensor)


def require_placements(tensor: Tensor) -> None:
    """Refuse a DTensor whose elements are sums over ranks; no rank holds their values."""
    placements = getattr(tensor, "placements", ())
    if is_sharded(tensor) and any(placement.is_partial() for placement in placements):
        raise ValueError(
            "a DTensor's placements must be Shard or Replicate, for values to be written; "
            f"got {', '.join(map(str, placements))}"
        )


Run = tuple[int, range]
"""Where consecutive coordinates begin in a shard, and which they are."""


def _runs_of(tensor: Any, mine: Tensor) -> list[tuple[Run, ...]]:
    """For each axis, the coordinates that this rank has."""
    mesh = tensor.device_mesh
    where = tuple(mesh.get_coordinate())  # equal meshes are of one layout, not of one rank
    runs = [
        _runs(n, mesh, where, tuple(_along(axis, p) for p in tensor.placements))
        for axis, n in enumerate(tensor.shape)
    ]
    held = tuple(sum(len(run) for _, run in along) for along in runs)
    if held != tuple(mine.shape):
        raise ValueError(
            f"a shard of {tuple(tensor.shape)} as {tensor.placements} must be of shape {held} "
            f"here, got {tuple(mine.shape)}"
        )
    return runs


def _along(axis: int, placement: Any) -> Any:
    """Apply a placement of the tensor to a vector of one axis's coordinates."""
    if getattr(placement, "dim", None) != axis:
        return sys.modules["torch.distributed.tensor"].Replicate()
    factor = getattr(placement, "split_factor", None)  # of a _StridedShard
    return type(placement)(0) if factor is None else type(placement)(0, split_factor=factor)


@lru_cache(maxsize=4096)
def _runs(length: int, mesh: Any, where: Any, placements: tuple[Any, ...]) -> tuple[Run, ...]:
    """The coordinates below ``length`` that the rank at ``where`` of the mesh has, in runs."""
    if all(placement.is_replicate() for placement in placements):
        return ((0, range(length)),)
    tensors = sys.modules["torch.distributed.tensor"]
    whole = torch.arange(length, device=mesh.device_type)
    with torch.no_grad():  # with no source rank each takes its own part, and nothing is sent
        mine = tensors.distribute_tensor(whole, mesh, placements, src_data_rank=None).to_local()
    coordinates = mine.cpu().numpy()
    breaks = np.flatnonzero(np.diff(coordinates) != 1) + 1
    starts = [0, *breaks.tolist()]
    pieces = np.split(coordinates, breaks)
    return tuple(
        (start, range(int(piece[0]), int(piece[-1]) + 1))
        for start, piece in zip(starts, pieces, strict=True)
        if piece.size
    )
