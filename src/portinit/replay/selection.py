"""Operations that move elements: indexing, sorting, scattering, padding. None of them rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Attributes = Mapping[str, Any]


def _indices(a: Attributes, ndim: int, indices: tuple[Array, ...]) -> tuple[Any, ...]:
    """The index that has ``indices`` on the axes named, and everything on the others."""
    if len(indices) != len(a["axes"]):
        raise ValueError(f"an index needs one array per axis of {a['axes']}, got {len(indices)}")
    index: list[Any] = [slice(None)] * ndim
    for axis, array in zip(a["axes"], indices, strict=True):
        index[axis] = array
    return tuple(index)


def _index(a: Attributes, x: Array, *indices: Array) -> Array:
    return np.asarray(x[_indices(a, x.ndim, indices)])


def _index_put(a: Attributes, x: Array, *rest: Array) -> Array:
    if "axes" not in a:  # the older form: one axis, and perhaps a number
        value: Any = rest[1] if len(rest) > 1 else a["value"]
        indices: Any = rest[0]
    else:
        *arrays, value = rest
        indices = _indices(a, x.ndim, tuple(arrays))
    x = x.copy()
    if a.get("accumulate"):
        np.add.at(x, indices, value)
    else:
        x[indices] = value
    return x


def _masked_scatter(a: Attributes, x: Array, mask: Array, values: Array) -> Array:
    """The values in order where the mask is set; those left over are not used."""
    x = x.copy()
    x[mask] = values.reshape(-1, *x.shape[mask.ndim :])[: np.count_nonzero(mask)]
    return x


_INTO: dict[str, np.ufunc] = {
    "add": np.add,
    "multiply": np.multiply,
    "amax": np.maximum,
    "amin": np.minimum,
}


def _scatter_along(a: Attributes, x: Array, index: Array, value: Array | None = None) -> Array:
    x, axis = x.copy(), a["axis"]
    # The index may be smaller than the array, and the values larger than the index.
    window = tuple(slice(n) for n in index.shape)
    grids: list[Any] = list(np.indices(index.shape, sparse=True))
    grids[axis] = index
    values = a["value"] if value is None else value[window]
    if "reduce" in a:  # one after another, in the order of the index
        _INTO[a["reduce"]].at(x, tuple(grids), values)
    else:
        x[tuple(grids)] = values
    return x


def _gather(a: Attributes, x: Array, index: Array) -> Array:
    grids: list[Any] = list(np.indices(index.shape, sparse=True))
    grids[a["axis"]] = index
    return np.asarray(x[tuple(grids)])


def _order(a: Attributes, x: Array) -> Array:
    """The places of the elements in order; equal elements keep theirs."""
    axis = a["axis"]
    if not x.ndim:
        return np.zeros((), np.int64)
    if not a.get("descending"):
        return np.argsort(x, axis=axis, kind="stable")
    reversed_order = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return np.flip(x.shape[axis] - 1 - reversed_order, axis)


def _sorted(a: Attributes, x: Array) -> Array:
    return x if not x.ndim else np.take_along_axis(x, _order(a, x), a["axis"])


def _first(a: Attributes, x: Array) -> Array:
    """The first elements along an axis."""
    return x if not x.ndim else np.take(x, range(a["count"]), a["axis"])


def _extreme_place(function: Any) -> Callable[..., Array]:
    def apply(a: Attributes, x: Array) -> Array:
        if a.get("axis") is None:
            return np.asarray(function(x))
        return np.asarray(function(x, axis=a["axis"], keepdims=a.get("keepdims", False)))

    return apply


def _diag_embed(a: Attributes, x: Array) -> Array:
    offset = a.get("offset", 0)
    side = x.shape[-1] + abs(offset)
    made = np.zeros((*x.shape[:-1], side, side), x.dtype)
    rows = np.arange(x.shape[-1]) + max(0, -offset)
    made[..., rows, rows + offset] = x
    first, second = a.get("axes", (-2, -1))
    return np.moveaxis(made, (-2, -1), (first, second))


def _pad(a: Attributes, x: Array) -> Array:
    widths = list(zip(a["before"], a["after"], strict=True))
    cut = tuple(
        slice(max(0, -b), n - max(0, -e)) for (b, e), n in zip(widths, x.shape, strict=True)
    )
    grown = [(max(0, b), max(0, e)) for b, e in widths]
    return np.pad(x[cut], grown, constant_values=a.get("value", 0))


def _searchsorted(a: Attributes, ordered: Array, x: Array) -> Array:
    return np.asarray(np.searchsorted(ordered, x, "right" if a.get("right") else "left"))


def _running(function: np.ufunc) -> Callable[..., Array]:
    def apply(a: Attributes, x: Array) -> Array:
        return np.asarray(function.accumulate(x, axis=a["axis"]) if x.ndim else x)

    return apply


def _chosen(a: Attributes, weights: Array, uniform: Array) -> Array:
    """Places drawn with replacement: where a number falls among the sums of the weights."""
    rows = weights.reshape(-1, weights.shape[-1])
    sums = np.cumsum(rows, axis=1)  # one after another, in the weights' dtype, as PyTorch
    sums /= sums[:, -1:]
    sums[:, -1] = 1
    numbers = uniform.reshape(len(rows), -1)
    found = [
        np.searchsorted(row.astype(np.float64), x) for row, x in zip(sums, numbers, strict=True)
    ]
    return np.asarray(found).reshape(uniform.shape)


SELECTION: dict[str, Callable[..., Array]] = {
    "index": _index,
    "index_put": _index_put,
    "gather": _gather,
    "masked_scatter": _masked_scatter,
    "searchsorted": _searchsorted,
    "cummax": _running(np.maximum),
    "cummin": _running(np.minimum),
    "scatter_along": _scatter_along,
    "argsort": _order,
    "sort": _sorted,
    "first": _first,
    "chosen": _chosen,
    "argmax": _extreme_place(np.argmax),
    "argmin": _extreme_place(np.argmin),
    "roll": lambda a, x: np.roll(x, a["shifts"], tuple(a["axes"])),
    "repeat_along": lambda a, x, counts: np.repeat(x, counts, a["axis"]),
    "diag_embed": _diag_embed,
    "pad": _pad,
    "any": lambda a, x: np.asarray(np.any(x, axis=_axes(a), keepdims=a.get("keepdims", False))),
    "all": lambda a, x: np.asarray(np.all(x, axis=_axes(a), keepdims=a.get("keepdims", False))),
    "logical_and": lambda a, x, y: np.asarray(np.logical_and(x, y)),
    "logical_or": lambda a, x, y: np.asarray(np.logical_or(x, y)),
    "logical_xor": lambda a, x, y: np.asarray(np.logical_xor(x, y)),
    "logical_not": lambda a, x: np.asarray(np.logical_not(x)),
}
"""Functions of an operation's attributes and inputs."""


def _axes(a: Attributes) -> tuple[int, ...] | None:
    return None if a.get("axes") is None else tuple(a["axes"])
