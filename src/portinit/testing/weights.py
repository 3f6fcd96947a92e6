"""The weights of a PyTorch module and of its Flax twin, compared in PyTorch's order."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from portinit.arrays.layouts import Layout
from portinit.initializers.assigned import assign
from portinit.recipes.names import match_names, split_name
from portinit.recipes.packed import is_packed, is_recurrent_bias
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule
from portinit.testing.arrays import Array, described, differing, has_values, to_numpy
from portinit.testing.sides import FlaxSide, Held, Names, Path, flax_side, split_table, torch_side


def assert_same_weights(
    torch_module: Any, flax_tree: Any, names: Names | None = None, *, tolerance: float = 0.0
) -> None:
    """Assert that a PyTorch module and a Flax model hold the same weights.

    Names and layouts are found as by ``portinit_flax.initialize``, recurrent cells too. Buffers
    (running statistics) are compared where both sides have them. Tied weights count once.

    Args:
        torch_module: an ``nn.Module``, or a mapping from its names to tensors or arrays, such as a
            ``state_dict`` or what ``Recipe.replay`` gives. A mapping does not tell a transposed
            convolution from another: state the layout of its kernel in ``names``.
        flax_tree: linen variables, a tree of parameters, or an ``nnx.Module``.
        names: where matching needs help: a table from Flax paths to PyTorch names, or to pairs of
            a name and a layout. A name may be limited to rows: ``"attn.in_proj_weight[0:64]"``.
        tolerance: the largest absolute difference allowed; 0 compares every bit, and dtypes.

    Raises:
        AssertionError: listing every difference: what one side lacks, shapes, dtypes, and for
            values how many differ, by how much, and the first of them by its index in PyTorch.

    >>> import numpy as np
    >>> weight = np.arange(6.0).reshape(2, 3)
    >>> assert_same_weights({"head.weight": weight}, {"head": {"kernel": weight.T}})
    """
    held, flax = torch_side(torch_module), flax_side(flax_tree)
    table, stated = split_table(names)
    cells, lines = _cells(held, flax, table)
    found, unmatched = _match(held, flax, cells | table)
    lines += unmatched
    lines += [*_missing(held, found), *_uncovered(held, found)]
    lines += _compared(held, flax, found, stated, tolerance)
    if lines:
        counted = "1 difference" if len(lines) == 1 else f"{len(lines)} differences"
        head = f"PyTorch and Flax must hold the same weights, got {counted}:"
        raise AssertionError("\n  ".join([head, *lines]))


def _cells(
    held: Mapping[str, Held], flax: FlaxSide, table: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """The rows of packed parameters that Flax's recurrent cells hold, and what does not fit."""
    from portinit_flax.recurrent import names_of_cells

    rules = [
        Rule(glob.escape(name), assign(to_numpy(one.values)), shape=tuple(one.values.shape))
        for name, one in held.items()
        if is_packed(name) and has_values(one.values)
    ]
    return names_of_cells(flax.tree, Recipe(rules), table)


def _match(
    held: Mapping[str, Held], flax: FlaxSide, table: dict[str, str]
) -> tuple[dict[Path, str], list[str]]:
    """PyTorch's name for each Flax path, and a line for each that has none."""
    owner = "the torch module"
    if not held:
        return {}, [f"{'/'.join(path)}: {owner} has no such name" for path in flax.arrays]
    found, _ = match_names(flax.arrays, held, table, owner=owner)
    compared = [path for path in flax.arrays if path in found or path not in flax.statistics]
    found, lines = match_names(compared, held, table, owner=owner)
    return {path: label for path, label in found.items() if split_name(label)[0] in held}, lines


def _missing(held: Mapping[str, Held], found: Mapping[Path, str]) -> Iterator[str]:
    claimed = {split_name(label)[0] for label in found.values()}
    memory = {held[name].memory for name in claimed}
    for name, one in held.items():
        if _may_lack(name, one, slice(None)):
            continue
        if not one.buffer and name not in claimed and one.memory not in memory:
            yield f"{name}: the flax tree has no such parameter"


def _uncovered(held: Mapping[str, Held], found: Mapping[Path, str]) -> Iterator[str]:
    """Tensors of which some rows are in no array, or in two."""
    parts: dict[str, list[range]] = {}
    for label in found.values():
        name, rows = split_name(label)
        if rows is not None:
            parts.setdefault(name, []).append(rows)
    for name, pieces in parts.items():
        pieces.sort(key=lambda rows: rows.start)
        size = held[name].values.shape[0]
        covered = [row for piece in pieces for row in piece]
        absent = sorted({*range(size)} - {*covered})
        once = len(covered) + len(absent) == size
        if not once or (absent and not _may_lack(name, held[name], absent)):
            yield f"{name}: each of its {size} rows must be in one array, got {pieces}"


def _may_lack(name: str, one: Held, rows: Any) -> bool:
    """Whether Flax may do without rows of a tensor: zeros of a recurrent layer's two biases."""
    if not (is_recurrent_bias(name) and has_values(one.values)):
        return False
    return not to_numpy(one.values)[rows].any()


def _compared(
    held: Mapping[str, Held],
    flax: FlaxSide,
    found: Mapping[Path, str],
    stated: Mapping[str, Layout],
    tolerance: float,
) -> Iterator[str]:
    """A line for each array that differs from its tensor, in PyTorch's order."""
    places = {name: place for place, name in enumerate(held)}
    for path in sorted(found, key=lambda path: places[split_name(found[path])[0]]):
        label, joined = found[path], "/".join(path)
        name, rows = split_name(label)
        one, wanted = held[name], tuple(held[name].values.shape)
        wanted = wanted if rows is None else (rows.stop - rows.start, *wanted[1:])
        layout = stated.get(joined) or one.layout or flax.tree.layout(path, wanted)
        line = _difference(label, one.values, flax.arrays[path], layout, tolerance)
        if line is not None:
            yield f"{label} ({joined}): {line}"


def _difference(
    label: str, tensor: Any, array: Any, layout: Layout, tolerance: float
) -> str | None:
    for side, values in (("PyTorch", tensor), ("Flax", array)):
        if not has_values(values):
            return f"{side} has a shape and no values"
    try:
        ours, theirs = in_torchs_order(label, tensor, array, layout)
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


def in_torchs_order(label: str, tensor: Any, array: Any, layout: Layout) -> tuple[Array, Array]:
    """A tensor, or the rows of it that a label is limited to, and a Flax array in its order."""
    rows = split_name(label)[1]
    ours, theirs = to_numpy(tensor), layout.to_torch(to_numpy(array))
    ours = ours if rows is None else ours[rows.start : rows.stop]
    slope = {ours.shape, theirs.shape} == {(), (1,)}  # PReLU's: (1,) in PyTorch, () in Flax
    return ours, theirs.reshape(ours.shape) if slope else theirs


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
