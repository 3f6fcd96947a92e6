"""The questions of the conformance test, and a framework's answers as JSON data."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
from tests.support.frameworks.framework import KEY, NET, Framework

import portinit
from portinit import Layout, Recipe, Rule
from portinit.initializers.base import Random
from portinit.verify.table import CONVOLUTIONS, MATRICES, PLAIN, SCHEMES

HEADS = Layout(axis0=(1, 2), axis1=(0,))
_SHAPES = {"flax": (60, 48), "torch": (48, 60), "rows": (48, 60), "heads": (60, 6, 8)}
_LARGE = (360, 420)
"""More elements than eager backends compute at a time, and than kernels do."""
_LAYOUTS: dict[str, Layout | str] = {"torch": "torch", "rows": "rows", "heads": HEADS}

Draw = tuple[portinit.Initializer, tuple[int, ...], str, Layout | str]
"""An initializer, a shape, a dtype and a layout."""


TABLES: dict[str, tuple[portinit.Initializer, tuple[int, ...], str]] = {
    "hippo": (portinit.hippo(), (48, 48), "torch"),
    "mamba_a_log": (portinit.mamba_a_log(), (48, 60), "torch"),
    "mamba_dt_bias": (portinit.mamba_dt_bias(), (48,), "torch"),
    "sinusoids": (portinit.sinusoids(), (60, 48), "rows"),
    "sinusoids_2d": (portinit.sinusoids_2d(), (64, 48), "rows"),
    "fan_in_uniform": (portinit.layers.fan_in_uniform(48), (60,), "torch"),
    "padded": (portinit.layers.embedding(3), (60, 48), "rows"),
    "prelu": (portinit.layers.prelu(), (1,), "torch"),
}
"""Initializers with shapes or layouts of their own."""

NOT_ELEMENTWISE = {
    "orthogonal": "a factorisation: one machine's last bits",
    "delta_orthogonal": "a factorisation",
    "weight_norm_magnitude": "norms of rows",
    "per_gate": "has no values outside of a recipe, which makes blocks of it",
    "zero_if_last": "has no values outside of a recipe, which makes zeros or ones of it",
    "from_file": "a tensor out of a file, filled as assign's",
    "from_safetensors": "likewise",
    "like_jax": "JAX's own values, which its own samplers compute",
}
"""The public initializers that the conformance test does not ask for, and why."""


def public_initializers() -> set[str]:
    """The classes of all initializers that users can name, or have from a function of no arguments.

    Classes are told by their names; one that is private counts where a public function makes it.
    """
    names = set[str]()
    for module in (portinit, portinit.layers):
        for name, value in vars(module).items():
            if name.startswith("_") or value in (portinit.Initializer, Random):
                continue
            if isinstance(value, type) and issubclass(value, portinit.Initializer):
                names.add(value.__name__)
            elif inspect.isfunction(value) and _makes_one(value):
                names |= classes_in(value())
            elif isinstance(value, portinit.Initializer):
                names |= classes_in(value)
    return names


def _makes_one(function: Callable[..., Any]) -> bool:
    signature = inspect.signature(function)
    makes = str(signature.return_annotation) in ("Initializer", "variance_scaling")
    return makes and all(one.default is not one.empty for one in signature.parameters.values())


def classes_in(value: Any) -> set[str]:
    """The classes of an initializer and of those that it is made of."""
    found = {type(value).__name__} if isinstance(value, portinit.Initializer) else set[str]()
    if is_dataclass(value):
        inner = [getattr(value, field.name) for field in fields(value)]
    else:
        inner = [*value] if isinstance(value, tuple | list) else []
    return found.union(*map(classes_in, inner))


def draws(dtypes: tuple[str, ...]) -> dict[str, Draw]:
    """What is drawn: every elementwise initializer in each dtype, and some in each layout."""
    return dict(_draws(dtypes))


def _draws(dtypes: tuple[str, ...]) -> Iterator[tuple[str, Draw]]:
    for dtype in dtypes:
        for case, initializer in (PLAIN | SCHEMES | MATRICES).items():
            yield f"{case}, {dtype}", (initializer, _SHAPES["flax"], dtype, "flax")
        for case, initializer in CONVOLUTIONS.items():
            yield f"{case}, {dtype}", (initializer, (3, 2, 12, 16), dtype, "flax")
        for case, (initializer, shape, layout) in TABLES.items():
            yield f"{case}, {dtype}", (initializer, shape, dtype, layout)
        for case in ("normal", "sparse", "blocks", "where columns"):
            drawn = (PLAIN | MATRICES)[case], _LARGE, dtype, "flax"
            yield f"{case}, {dtype}, more than a tile", drawn
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
