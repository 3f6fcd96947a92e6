"""Rectangles: the slices of a tensor that a constructor writes, one after another."""

from __future__ import annotations

import math

import numpy as np

from portinit_torch.tracing.nodes import RecordedNode

Rectangle = tuple[tuple[int, int], ...]
"""For each axis, where the slice starts and stops."""


def writes_of(node: RecordedNode) -> tuple[list[tuple[Rectangle, RecordedNode]], RecordedNode]:
    """The rectangles written into a base, the last one first, and the base."""
    writes: list[tuple[Rectangle, RecordedNode]] = []
    while node.op == "scatter" and (rectangle := rectangle_of(node)) is not None:
        writes.append((rectangle, node.inputs[1]))
        node = node.inputs[0]
    return writes, node


def all_writes_of(node: RecordedNode) -> tuple[list[RecordedNode], RecordedNode]:
    """The nodes that were written into a base, rectangles or not, and the base."""
    writes = []
    while node.op == "scatter":
        writes.append(node)
        node = node.inputs[0]
    return writes, node


def first_base(node: RecordedNode) -> RecordedNode:
    """What a tensor held before any of the writes into parts of it."""
    passed = []
    while node.op == "scatter":
        passed.append(node)
        node = node.inputs[0] if node.first_base is None else node.first_base
    for write in passed:
        write.first_base = node
    return node


def is_overwritten(node: RecordedNode) -> bool:
    """Whether every element of the base was written over."""
    rectangles, base = writes_of(node)
    if base.op != "scatter":
        return _is_covered(node.shape, [rectangle for rectangle, _ in rectangles])
    size = math.prod(node.shape)
    if size > _LARGEST:
        return False
    written = np.zeros(size, dtype=bool)  # rows with a step between them, and the like
    for write in all_writes_of(node)[0]:
        a = write.attributes
        window = np.lib.stride_tricks.as_strided(written[a["offset"] :], a["size"], a["stride"])
        window[...] = True
    return bool(written.all())


_LARGEST = 1 << 24


def _is_covered(shape: tuple[int, ...], rectangles: list[Rectangle]) -> bool:
    cuts = [
        sorted({0, n, *(edge for rectangle in rectangles for edge in rectangle[axis])})
        for axis, n in enumerate(shape)
    ]
    if math.prod(len(c) - 1 for c in cuts) > 1 << 16:
        return False
    cells = np.zeros([len(c) - 1 for c in cuts], dtype=bool)
    places = [{edge: place for place, edge in enumerate(c)} for c in cuts]
    for rectangle in rectangles:
        bounds = zip(places, rectangle, strict=True)
        cells[tuple(slice(place[a], place[b]) for place, (a, b) in bounds)] = True
    return bool(cells.all())


def as_index(rectangle: Rectangle, shape: tuple[int, ...]) -> tuple[int | tuple[int, int], ...]:
    """A rectangle as an index: whole axes at the end left out, single rows as numbers."""
    bounds = list(zip(rectangle, shape, strict=True))
    while bounds and bounds[-1][0] == (0, bounds[-1][1]):
        bounds.pop()
    return tuple(r[0] if r[1] - r[0] == 1 else r for r, _ in bounds)


def rectangle_of(node: RecordedNode) -> Rectangle | None:
    """The slice of a row-major tensor that a scatter writes; none if it is no rectangle."""
    shape, a = node.shape, node.attributes
    if "order" in a:
        return None
    bounds: list[tuple[int, int]] = []
    dims, offset = list(zip(a["stride"], a["size"], strict=True)), a["offset"]
    for axis, size in enumerate(shape):
        unit = math.prod(shape[axis + 1 :])
        start, offset = divmod(offset, unit)
        length = next((n for stride, n in dims if stride == unit and n > 1), 1)
        dims = [d for d in dims if d[0] != unit or d[1] == 1]
        if start + length > size:
            return None
        bounds.append((start, start + length))
    return None if offset or any(n > 1 for _, n in dims) else tuple(bounds)
