"""Where the arrays of a tree are to lie: what is said, or what the tree says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec, Sharding


def placements(
    tree: Any, given: Any = None, own: Sequence[Sharding | None] | None = None
) -> list[Sharding | None]:
    """A sharding for each leaf of a tree, or none for the default device.

    Args:
        tree: arrays or their structs.
        given: a sharding or a spec for all, or a tree of them that is a prefix of ``tree``, as for
            ``jax.jit``'s ``out_shardings``; where it is None the tree itself is asked.
        own: what the tree says; by default what its leaves say.

    Raises:
        ValueError: ``given`` is no prefix of the tree, or a spec stands without a mesh in context.
    """
    if own is None:
        mesh = mesh_in_context()
        own = [sharding_of(leaf, None, mesh) for leaf in jax.tree.leaves(tree)]
    if given is None:
        return [*own]
    stated: list[Any] = []
    jax.tree.map(
        lambda one, part: stated.extend([one] * len(jax.tree.leaves(part))),
        given,
        tree,
        is_leaf=_is_end,
    )
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


def sharding_of(leaf: Any, annotated: NamedSharding | None, mesh: Any) -> Sharding | None:
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
