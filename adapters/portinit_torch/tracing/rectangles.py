"""Rectangles: the slices of a tensor that a constructor writes, one after another."""

from __future__ import annotations

import math

import numpy as np

from portinit_torch.tracing.recorder import RecordedNode

Rectangle = tuple[tuple[int, int], ...]
"""For each axis, where the slice starts and stops."""


def writes_of(node: RecordedNode) -> tuple[list[tuple[Rectangle, RecordedNode]], RecordedNode]:
    """The rectangles written into a base, the last one first, and the base."""
    writes: list[tuple[Rectangle, RecordedNode]] = []
    while node.op == "scatter" and (rectangle := rectangle_of(node)) is not None:
        writes.append((rectangle, node.inputs[1]))
        node = node.inputs[0]
    return writes, node


def is_overwritten(node: RecordedNode) -> bool:
    """Whether rectangles were written over every element of the base."""
    writes, _ = writes_of(node)
    cuts = [
        sorted({0, n, *(edge for r, _ in writes for edge in r[axis])})
        for axis, n in enumerate(node.shape)
    ]
    if math.prod(len(c) - 1 for c in cuts) > 1 << 16:
        return False
    cells = np.zeros([len(c) - 1 for c in cuts], dtype=bool)
    for rectangle, _ in writes:
        cells[tuple(slice(c.index(a), c.index(b)) for c, (a, b) in zip(cuts, rectangle))] = True  # noqa: B905
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
