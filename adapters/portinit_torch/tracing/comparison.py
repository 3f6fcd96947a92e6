"""Whether two runs of one constructor computed the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from portinit_torch.tracing.modes import on_real_tensors
from portinit_torch.tracing.nodes import RecordedNode
from portinit_torch.tracing.recorder import Recorder
from portinit_torch.tracing.storage import raw_bytes

_FREE = {"uniform": ("a", "b"), "normal": ("mean", "std"), "randint": ()}
"""Draws take as much of a stream whatever these attributes are."""


def fingerprints(recorder: Recorder, wanted: Iterable[RecordedNode]) -> list[str]:
    """A text for each node that tells how it was computed, down to draws and known values.

    Two nodes of different runs with one text have one value for each seed.
    """
    wanted = list(wanted)
    needed = _needed(wanted)
    texts: dict[int, str] = {}
    streams: dict[Any, str] = {}
    for node in recorder.nodes:
        if node.random:
            texts[id(node)] = _of_draw(node, streams)
        elif id(node) in needed:
            texts[id(node)] = _of_node(node, texts)
    return [texts[id(node)] for node in wanted]


def _needed(wanted: Iterable[RecordedNode]) -> set[int]:
    needed: set[int] = set()
    stack = list(wanted)
    while stack:
        node = stack.pop()
        if id(node) not in needed:
            needed.add(id(node))
            stack += [] if node.is_known else node.inputs
    return needed


def _digest(*parts: Any) -> str:
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(part if isinstance(part, bytes) else repr(part).encode())
        state.update(b"|")
    return state.hexdigest()


def _of_node(node: RecordedNode, texts: dict[int, str]) -> str:
    if node.op == "full":
        return _digest("full", node.shape, node.dtype, node.attributes["value"])
    if node.concrete is not None:
        return _digest(node.shape, node.dtype, _bytes(node.concrete))
    inputs = [texts[id(part)] for part in node.inputs]
    return _digest(node.op, node.shape, node.dtype, sorted(node.attributes.items()), inputs)


def _bytes(value: Tensor) -> bytes:
    return on_real_tensors(lambda: raw_bytes(value))


def _of_draw(node: RecordedNode, streams: dict[Any, str]) -> str:
    """A draw is known by what it draws and by all that was drawn from its stream before it."""
    place = node.device, node.attributes.get("generator", 0)
    before = streams.get(place, "")
    attributes = sorted(node.attributes.items())
    if node.op == "seed":
        streams[place] = _digest("seed", attributes)
        return streams[place]
    free = _FREE.get(node.op, ())
    taken = [(name, value) for name, value in attributes if name not in free]
    streams[place] = _digest(before, node.op, node.shape, node.dtype, taken)
    return _digest(streams[place], attributes)
