"""The weights of a PyTorch module and of its Flax twin, compared in PyTorch's order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from portinit.arrays.layouts import Layout
from portinit.recipes.matching.matcher import Matcher
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.tables.targets import NameTable
from portinit.recipes.matching.trees.leaf import Leaf
from portinit.recipes.names import ParameterSlice, times_held
from portinit.recipes.packed import is_recurrent_bias
from portinit.testing.arrays import Array, described, differing, has_values, to_numpy
from portinit.testing.sides import Held, recipe_of, torch_side


def assert_same_weights(
    torch_module: Any,
    flax_tree: Any,
    names: NameTable | None = None,
    *,
    tolerance: float = 0.0,
    stacked: Mapping[str, int] | None = None,
    ignore: str | Iterable[str] = (),
) -> None:
    """Assert that a PyTorch module and a Flax model hold the same weights.

    Names, layouts and stacked layers are found as by ``portinit_flax.initialize``. Buffers
    (running statistics) are compared where both sides have them. Tied weights count once.

    Args:
        torch_module: an ``nn.Module``, or a mapping from its names to tensors or arrays, such as a
            ``state_dict`` or what ``Recipe.replay`` gives. A mapping does not tell a transposed
            convolution from another: state the layout of its kernel in ``names``.
        flax_tree: linen variables, a tree of parameters, or an ``nnx.Module``.
        names: where matching needs help, as for ``portinit_flax.initialize``.
        tolerance: the largest absolute difference allowed; 0 compares every bit, and dtypes.
        stacked: as for ``portinit_flax.initialize``.
        ignore: patterns of PyTorch's names that the Flax model need not have.

    Raises:
        AssertionError: listing every difference: what one side lacks, shapes, dtypes, and for
            values how many differ, by how much, and the first of them by its index in PyTorch.

    >>> import numpy as np
    >>> weight = np.arange(6.0).reshape(2, 3)
    >>> assert_same_weights({"head.weight": weight}, {"head": {"kernel": weight.T}})
    """
    from portinit_flax.matching import FlaxTree
    from portinit_flax.tree import leaves, tree_of

    held = torch_side(torch_module)
    request = MatchRequest.of(names, stacked, ignore)
    matcher = Matcher(FlaxTree.of(flax_tree), recipe_of(held), request)
    arrays = leaves(tree_of(flax_tree))[1]
    lines = [
        line.replace("the recipe has", "the torch module has") for line in matcher.misfits_of_names
    ]
    statistics = _statistics(flax_tree)
    lines += [
        f"{leaf.label}: the torch module has no such name"
        for leaf in (matcher.unmatched if held else matcher.tree.leaves.values())
        if leaf.position not in statistics
    ]
    lines += [f"{name}: the flax tree has no such parameter" for name in matcher.unclaimed]
    found = [(one, matcher.layouts[one.leaf.path].layout) for one in matcher.found_leaves]
    lines += _uncovered(held, found, matcher.request)
    lines += _compared(held, arrays, found, tolerance)
    if lines:
        counted = "1 difference" if len(lines) == 1 else f"{len(lines)} differences"
        head = f"PyTorch and Flax must hold the same weights, got {counted}:"
        raise AssertionError("\n  ".join([head, *lines]))


def _statistics(model: Any) -> set[int]:
    """The positions of the batch statistics among a model's leaves."""
    from flax import nnx

    from portinit_flax.tree import leaves, paths_of, tree_of

    if isinstance(model, nnx.Module):
        known = set(paths_of(nnx.state(model, nnx.BatchStat)))
        return {leaf.position for leaf in leaves(tree_of(model))[0] if leaf.path in known}
    return {i for i, path in enumerate(paths_of(model)) if path[:1] == ("batch_stats",)}


def _uncovered(held: Mapping[str, Held], found: Sequence[Any], request: Any) -> Iterator[str]:
    """Tensors of which some elements are in no array, or in two."""
    parts: dict[str, list[ParameterSlice]] = {}
    for one, _ in found:
        name = one.parameter.name
        if not one.parameter.is_whole and name in held and not request.ignores(name):
            parts.setdefault(name, []).append(one.parameter)
    for name, pieces in parts.items():
        shape = tuple(held[name].values.shape)
        uses = times_held(pieces, shape).reshape(shape[0], -1)
        absent = np.flatnonzero((uses == 0).any(axis=1)).tolist()
        if (uses > 1).any() or (absent and not _may_lack(name, held[name], absent)):
            rows = [piece.rows or str(piece) for piece in pieces]
            yield f"{name}: each of its {shape[0]} rows must be in one array, got {rows}"


def _may_lack(name: str, one: Held, rows: Any) -> bool:
    """Whether Flax may do without rows of a tensor: zeros of a recurrent layer's two biases."""
    if not (is_recurrent_bias(name) and has_values(one.values)):
        return False
    return not to_numpy(one.values)[rows].any()


def _compared(
    held: Mapping[str, Held], arrays: Sequence[Any], found: Sequence[Any], tolerance: float
) -> Iterator[str]:
    """A line for each array that differs from its tensor, in PyTorch's order."""
    places = {name: place for place, name in enumerate(held)}
    known = [(one, layout) for one, layout in found if one.parameter.name in held]
    for one, layout in sorted(known, key=lambda pair: places[pair[0].parameter.name]):
        tensor, array = held[one.parameter.name].values, arrays[one.leaf.position]
        line = _difference(one.parameter, tensor, array, one.leaf, layout, tolerance)
        if line is not None:
            yield f"{one.parameter} ({one.leaf.label}): {line}"


def _difference(
    parameter: ParameterSlice, tensor: Any, array: Any, leaf: Leaf, layout: Layout, tolerance: float
) -> str | None:
    for side, values in (("PyTorch", tensor), ("Flax", array)):
        if not has_values(values):
            return f"{side} has a shape and no values"
    try:
        ours, theirs = in_torchs_order(parameter, tensor, leaf.part_of(to_numpy(array)), layout)
    except ValueError as error:
        return str(error)
    if ours.shape != theirs.shape:
        shapes = f"shape {ours.shape} in PyTorch, {theirs.shape} in Flax"
        return shapes + _hint(ours, theirs, tolerance)
    where = differing(ours, theirs, tolerance)
    if not where.any():
        return None
    if not tolerance and ours.dtype != theirs.dtype:
        return f"dtype {ours.dtype} in PyTorch, {theirs.dtype} in Flax"
    return described(ours, theirs, where) + _hint(ours, theirs, tolerance)


def in_torchs_order(
    parameter: ParameterSlice, tensor: Any, array: Any, layout: Layout
) -> tuple[Array, Array]:
    """A tensor, or the rows of it that are meant, and a Flax array in its order."""
    return parameter.of(to_numpy(tensor)), layout.to_torch(to_numpy(array))


def _hint(ours: Array, theirs: Array, tolerance: float) -> str:
    """The mistake in the layout that explains a difference, if one does."""
    space = tuple(range(2, theirs.ndim))
    swapped = theirs.swapaxes(0, 1) if theirs.ndim > 1 else theirs
    for what, array in (
        ("axes 0 and 1 swapped", swapped),
        ("space reversed", np.flip(theirs, space)),
        ("axes 0 and 1 swapped and space reversed", np.flip(swapped, space)),
    ):
        if array.shape == ours.shape and not differing(ours, array, tolerance).any():
            return f"; equal with {what}: state the layout"
    return ""
