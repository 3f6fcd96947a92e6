"""Where the arrays of a Flax tree are to lie: what is said, or what the tree says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
from flax import linen, nnx
from flax.core.meta import AxisMetadata
from flax.linen import spmd
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec, Sharding


def placements(tree: Any, given: Any = None) -> list[Sharding | None]:
    """A sharding for each leaf of a tree, or none for the default device.

    Args:
        tree: arrays or their structs, in boxes or not.
        given: a sharding or a spec for all, or a tree of them that is a prefix of ``tree``, as for
            ``jax.jit``'s ``out_shardings``; where it is None the tree itself is asked.

    Raises:
        ValueError: ``given`` is no prefix of the tree, or a spec stands without a mesh in context.
    """
    own = list(_own(tree))
    if given is None:
        return own
    spread = jax.tree.map(
        lambda stated, part: jax.tree.map(lambda _: stated, part), given, tree, is_leaf=_is_end
    )
    stated = jax.tree.leaves(spread, is_leaf=_is_end)
    return [_named(s) or o for s, o in zip(stated, own, strict=True)]


def _is_end(x: Any) -> bool:
    return x is None or isinstance(x, Sharding | PartitionSpec)


def _named(stated: Any) -> Sharding | None:
    if not isinstance(stated, PartitionSpec):
        if not isinstance(stated, Sharding | None):
            raise TypeError(f"shardings must be of jax.sharding's, got {stated!r}")
        return stated
    mesh = mesh_in_context()
    if mesh is None:
        raise ValueError(f"a PartitionSpec needs a mesh in context (jax.set_mesh), got {stated}")
    return NamedSharding(mesh, stated)


def mesh_in_context() -> Any:
    """The mesh of ``jax.set_mesh``, abstract inside ``jax.jit``; none inside ``shard_map``."""
    abstract = jax.sharding.get_abstract_mesh()
    if abstract.empty or AxisType.Manual in abstract.axis_types:
        return None
    try:
        return jax.sharding.get_mesh()
    except ValueError:  # while something is traced
        return abstract


def _own(tree: Any) -> Iterator[Sharding | None]:
    mesh = mesh_in_context()
    for box in jax.tree.leaves(tree, is_leaf=_is_box):
        leaves = jax.tree.leaves(box)
        annotated = _annotation(box, mesh) if len(leaves) == 1 else None
        for leaf in leaves:
            yield _of_leaf(leaf, annotated, mesh)


def _is_box(x: Any) -> bool:
    return isinstance(x, AxisMetadata | nnx.Variable)


def _annotation(box: Any, mesh: Any) -> NamedSharding | None:
    """What ``with_partitioning`` and its kin have noted beside a parameter."""
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


def _of_leaf(leaf: Any, annotated: NamedSharding | None, mesh: Any) -> Sharding | None:
    """A struct's or a committed array's own place; its annotation; or all of the mesh."""
    known = isinstance(leaf, jax.ShapeDtypeStruct) or (
        isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.committed
    )
    own: Sharding | None = leaf.sharding if known else None
    abstract = own if isinstance(getattr(own, "mesh", None), AbstractMesh) else None
    if own is not abstract:
        return own
    if annotated is not None or mesh is None:
        return annotated
    spec = PartitionSpec()  # type: ignore[no-untyped-call]
    return NamedSharding(mesh, getattr(abstract, "spec", spec))
