"""Alternatives to a model's own initialisation."""

from __future__ import annotations

import math

from portinit.initializers.base import Initializer
from portinit.initializers.basic import normal, zeros
from portinit.initializers.jax_schemes import lecun_normal
from portinit.initializers.matrices import orthogonal
from portinit.initializers.torch_schemes import kaiming_normal, xavier_normal
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule

SCHEMES: dict[str, Initializer] = {
    "kaiming": kaiming_normal(nonlinearity="relu"),
    "xavier": xavier_normal(),
    "xavier-tanh": xavier_normal(gain=5 / 3),
    "lecun": lecun_normal(),
    "orthogonal": orthogonal(gain=math.sqrt(2)),
    "unit": normal(),
}
"""By name, what every kernel is drawn from."""

_KERNELS = (
    "linear",
    "transposed_linear",
    "bilinear",
    "conv",
    "conv_transpose",
    "attention",
    "recurrent",
)


def scheme_recipe(name: str, base: Recipe) -> Recipe:
    """Every kernel by one scheme and every bias zero; all else as in another recipe."""
    kernels = [Rule("*weight*", SCHEMES[name], kind=kind) for kind in _KERNELS]
    biases = [Rule("*bias*", zeros, kind=kind) for kind in _KERNELS]
    return Recipe([*kernels, *biases]) + base
