"""Where the arrays of a Flax tree are to lie: what is said, or what the tree says."""

from __future__ import annotations

from typing import Any

from flax import linen, nnx
from flax.linen import spmd
from jax.sharding import NamedSharding, Sharding

from portinit_flax.tree import FlatTree
from portinit_jax import placements as jax_placements
from portinit_jax.placements import mesh_in_context, sharding_of


def placements(tree: Any, flat: FlatTree, given: Any = None) -> list[Sharding | None]:
    """A sharding for each leaf of a tree, or none for the default device.

    Args:
        tree: arrays or their structs, in boxes or not.
        flat: the tree's leaves.
        given: as for :func:`portinit_jax.placements.placements`.

    Raises:
        ValueError: ``given`` is no prefix of the tree, or a spec stands without a mesh in context.
    """
    mesh = mesh_in_context()
    own = [
        sharding_of(leaf, None if box is None else _annotation(box, mesh), mesh)
        for leaf, box in zip(flat.values, flat.boxes, strict=True)
    ]
    return jax_placements.placements(tree, given, own)


def _annotation(box: Any, mesh: Any) -> NamedSharding | None:
    """The metadata that ``with_partitioning`` and similar functions keep beside a parameter."""
    spec = own = None
    if isinstance(box, linen.LogicallyPartitioned):
        spec, own = spmd.logical_to_mesh_axes(box.names, box.rules), box.mesh
    elif isinstance(box, linen.Partitioned):
        spec, own = box.get_partition_spec(), box.mesh
    elif isinstance(box, nnx.Variable) and box.get_metadata().get("out_sharding"):
        spec = nnx.get_partition_spec(box).get_value()
        own = box.get_metadata().get("mesh")
    mesh = own or mesh
    return None if spec is None or mesh is None else NamedSharding(mesh, spec)
