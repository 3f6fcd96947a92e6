"""Draws of a backend, tested for goodness of fit."""

from __future__ import annotations

import importlib
from typing import Any

import portinit
from portinit.arrays.layouts import Shape
from portinit.initializers.base import Initializer
from portinit.testing.goodness import goodness
from portinit.verify.arrays import to_numpy
from portinit.verify.cases import key
from portinit.verify.devices import Device, installed
from portinit.verify.jax_modes import raw_key

LEAST_P = 1e-6
"""Keys are fixed, so a p-value is the same in every run: a smaller one is no accident."""

_TESTED = (
    portinit.uniform(-0.3, 1.7),
    portinit.normal(0.5, 0.3),
    portinit.trunc_normal(0.1, 0.7, -0.3, 1.9),
    portinit.he_normal(),
)
_SHAPES = {False: (256, 256), True: (2048, 2048)}


def worst_p(device: Device, full: bool) -> tuple[str, float] | None:
    """The smallest p-value of a few initializers' draws, and whose; none without SciPy."""
    if not installed("scipy"):
        return None
    shape = _SHAPES[full]
    found = []
    for initializer in _TESTED:
        law = initializer.distribution_of(shape, "float32")
        assert law is not None
        values = to_numpy(_drawn(initializer, shape, device))
        tests = goodness(values.reshape(-1), law)
        found += [(p, f"{initializer}, {test}") for test, p in tests.items()]
    p, name = min(found)
    return name, p


def _drawn(initializer: Initializer, shape: Shape, device: Device) -> Any:
    if device.framework == "jax":
        return initializer(raw_key(device), shape, "float32")
    xp = importlib.import_module(device.framework)
    return initializer(key(), shape, "float32", xp=xp, device=device.native)
