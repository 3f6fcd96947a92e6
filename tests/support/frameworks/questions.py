"""The questions of the conformance test, and a framework's answers as JSON data."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from tests.support.frameworks.framework import KEY, NET, Framework

import portinit
from portinit import Layout, Recipe, Rule
from portinit.verify.table import CONVOLUTIONS, MATRICES, PLAIN, SCHEMES

HEADS = Layout(axis0=(1, 2), axis1=(0,))
_SHAPES = {"flax": (60, 48), "torch": (48, 60), "rows": (48, 60), "heads": (60, 6, 8)}
_LAYOUTS: dict[str, Layout | str] = {"torch": "torch", "rows": "rows", "heads": HEADS}

Draw = tuple[portinit.Initializer, tuple[int, ...], str, Layout | str]
"""An initializer, a shape, a dtype and a layout."""


def draws(dtypes: tuple[str, ...]) -> dict[str, Draw]:
    """What is drawn: every elementwise initializer in each dtype, and some in each layout."""
    return dict(_draws(dtypes))


def _draws(dtypes: tuple[str, ...]) -> Iterator[tuple[str, Draw]]:
    for dtype in dtypes:
        for case, initializer in (PLAIN | SCHEMES | MATRICES).items():
            yield f"{case}, {dtype}", (initializer, _SHAPES["flax"], dtype, "flax")
        for case, initializer in CONVOLUTIONS.items():
            yield f"{case}, {dtype}", (initializer, (3, 2, 12, 16), dtype, "flax")
        for name, layout in _LAYOUTS.items():
            for case in ("normal", "lecun_uniform", "sparse"):
                drawn = (PLAIN | SCHEMES | MATRICES)[case], _SHAPES[name], dtype, layout
                yield f"{case}, {dtype}, {name}", drawn


def digest(array: Any) -> str:
    """The dtype, the shape and the SHA-256 of the bytes, as text."""
    values = np.ascontiguousarray(array)
    return f"{values.dtype} {values.shape} {hashlib.sha256(values.tobytes()).hexdigest()}"


def answers(row: Framework) -> dict[str, str]:
    """A framework's answer to each question: a digest, or what was raised."""
    found = {f"draw {question}": drawn(row, draw) for question, draw in draws(row.dtypes).items()}
    for key in WRONG_KEYS:
        draw = portinit.normal(), (2,), "float32", "torch"
        found[f"draw with {key!r}"] = drawn(row, draw, key)
    if row.models:
        for dtype in row.dtypes:
            found |= _filled(row, dtype)
        for name, (recipe, key) in MISFITS.items():
            found[f"model, {name}"], found[f"model after {name}"] = _refused(row, recipe, key)
    return found


def drawn(row: Framework, draw: Draw, key: Any = KEY) -> str:
    """The digest of what is drawn, or why it is refused."""
    initializer, shape, dtype, layout = draw
    return _said(lambda: digest(row.to_numpy(row.draw(initializer, key, shape, dtype, layout))))


def _said(ask: Callable[[], Any]) -> str:
    try:
        return str(ask())
    except Exception as error:  # an answer, which the test judges
        return f"{type(error).__name__}: {error}"


def _filled(row: Framework, dtype: str) -> dict[str, str]:
    model = row.model(dtype)
    before = _state(row, model) if row.in_place else {}
    filled = row.initialize(model, NET, KEY)
    found = {f"model {name}, {dtype}": text for name, text in _state(row, filled).items()}
    found[f"model is filled in place, {dtype}"] = str(
        filled is model and before != _state(row, model)
    )
    return found


def _refused(row: Framework, recipe: Recipe, key: Any) -> tuple[str, str]:
    """What is said of a model that does not fit, and whether it is left as it was."""
    model = row.model("float32")
    before = _state(row, model) if row.in_place else None
    said = _said(lambda: row.initialize(model, recipe, key))
    return said, str(before == (_state(row, model) if row.in_place else None))


def _state(row: Framework, model: Any) -> dict[str, str]:
    return {name: digest(values) for name, values in row.state(model).items()}


WRONG_KEYS = (1.5, "a name")

_OTHER_SHAPE = tuple(
    replace(rule, shape=(9, 4)) if rule.name == "fc.weight" else rule for rule in NET.rules
)
MISFITS: dict[str, tuple[Recipe, Any]] = {
    "no key": (NET, 0),
    "a name missing": (Recipe([rule for rule in NET.rules if rule.name != "fc.bias"]), KEY),
    "a name too many": (
        Recipe([*NET.rules, Rule("head.weight", portinit.zeros, shape=(2, 2))]),
        KEY,
    ),
    "another shape": (Recipe(_OTHER_SHAPE), KEY),
    "no recipe": (portinit.normal(std=math.e), KEY),  # type: ignore[dict-item]
}
"""Recipes and keys that do not fit the model, by what is wrong with them."""
