"""Count the calls that small draws make, and how often they move from one file to another.

    python tools/count_calls.py

A call counts if its code is portinit's; the cipher's own are left out, for their number is the
algorithm's. A move is a call into another of portinit's files than that of the call before. Each
draw runs once before it is counted, so that what is kept for later calls is there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import torch

import portinit
import portinit_flax
import portinit_torch

ROOT = Path(__file__).parents[1]
CIPHER = {("threefry.py", None), ("words.py", None), ("shifts.py", None), ("keys.py", "_wrap32")}
"""The cipher's functions, by file and name; all of a file where there is no name."""

SHAPE = (32, 64)


class Count(NamedTuple):
    """How many calls there were, and how many of them moved to another file."""

    calls: int
    moves: int


def numpy_draw() -> Callable[[], Any]:
    """A call of an initializer."""
    initializer, key = portinit.normal(std=0.02), portinit.key(0)
    return lambda: initializer(key, SHAPE)


def torch_face() -> Callable[[], Any]:
    """A function of torch.nn.init's, which fills a tensor."""
    tensor, key = torch.empty(SHAPE), portinit.key(0)
    return lambda: portinit_torch.normal_(tensor, 0.0, 0.02, key=key)


def flax_model() -> Callable[[], Any]:
    """A Flax tree of two leaves, filled from a recipe of patterns."""
    leaf = jax.ShapeDtypeStruct
    dense = {"kernel": leaf(SHAPE, jnp.float32), "bias": leaf(SHAPE[1:], jnp.float32)}
    rules = [("*bias", portinit.zeros), ("*", portinit.normal(std=0.02))]
    recipe, key = portinit.Recipe(rules), portinit.key(0)
    return lambda: portinit_flax.initialize({"layers_0": dense}, recipe, key)


DRAWS = {"NumPy": numpy_draw, "torch's face": torch_face, "Flax's model": flax_model}


def count(action: Callable[[], Any]) -> Count:
    """The calls and the moves of an action, run a second time."""
    action()
    files = [file for file, _ in trail(action)]
    return Count(len(files), sum(a != b for a, b in pairwise(files)))


def trail(action: Callable[[], Any]) -> list[tuple[str, str]]:
    """The file and the name of each function that an action calls, in order."""
    found: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        name, path = frame.f_code.co_name, Path(frame.f_code.co_filename)
        if event != "call" or not {(path.name, None), (path.name, name)}.isdisjoint(CIPHER):
            return
        if any(path.is_relative_to(ROOT / folder) for folder in ("src", "adapters")):
            found.append((str(path.relative_to(ROOT)), name))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
    return found


if __name__ == "__main__":
    for draw, make in DRAWS.items():
        calls, moves = count(make())
        print(f"{draw:14} {calls:4} calls {moves:4} moves")
