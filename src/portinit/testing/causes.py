"""Likely causes of a mismatch: the distributions that common mistakes give."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from portinit.arrays.grids import Grid
from portinit.arrays.layouts import LAYOUTS
from portinit.initializers.base import Initializer, distribution
from portinit.initializers.basic import normal, truncated_normal, uniform
from portinit.initializers.jax_schemes import (
    glorot_normal,
    he_normal,
    lecun_normal,
    lecun_uniform,
    variance_scaling,
)
from portinit.initializers.schemes import normal_with_std, truncated_with_std, uniform_with_std
from portinit.initializers.torch_schemes import (
    kaiming_normal,
    kaiming_uniform,
    xavier_normal,
    xavier_uniform,
)
from portinit.sampling.distributions import Distribution, Normal, Uniform
from portinit.sampling.truncated_normal import TruncatedNormal
from portinit.testing.fits import in_words, p_values
from portinit.testing.parts import Part

_FITS = 1e-4  # the chance that the right cause is passed over

_SCHEMES: tuple[Initializer, ...] = (
    kaiming_normal(),
    kaiming_normal(mode="fan_out"),
    kaiming_uniform(),
    kaiming_uniform(mode="fan_out"),
    kaiming_uniform(a=math.sqrt(5)),
    he_normal(),
    variance_scaling(2.0, "fan_out", "truncated_normal"),
    lecun_normal(),
    lecun_uniform(),
    *(
        variance_scaling(1.0, mode, distribution)
        for distribution in ("normal", "truncated_normal", "uniform")
        for mode in ("fan_in", "fan_out")
    ),
    xavier_normal(),
    xavier_uniform(),
    glorot_normal(),
    normal(),
    normal(std=0.02),
    truncated_normal(0.02),
    uniform(),
    uniform(-1.0, 1.0),
)


def likely_cause(part: Part, law: Distribution) -> str | None:
    """The two candidates that best fit values which do not fit their distribution, in words."""
    values = part.flat
    if values.dtype.kind == "c" or not np.isfinite(values.astype(np.float64)).all():
        return None
    mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    fitting = []
    for words, (other, names) in _alternatives(part, law).items():
        if _near(mean, std, other, values.size):
            tests = p_values(values, other).values()
            if min(tests) >= _FITS / len(tests):
                fitting.append((min(tests), f"{words}: {' or '.join(names[:2])}"))
    if fitting:
        return "the values fit " + "; or ".join(text for _, text in sorted(fitting)[:-3:-1])
    return f"their std is {std / law.std:.4g} times what is expected"


def _alternatives(part: Part, law: Distribution) -> dict[str, tuple[Distribution, list[str]]]:
    """Other distributions, and what gives them, by their numbers to four digits."""
    found: dict[str, tuple[Distribution, list[str]]] = {}
    for name, other in _candidates(part, law):
        words = in_words(other)
        if other.std and words != in_words(law):
            found.setdefault(words, (other, []))[1].append(name)
    return found


def _near(mean: float, std: float, law: Distribution, n: int) -> bool:
    """Whether the moments can be the law's, by far: most candidates go here."""
    error = 8 / math.sqrt(n)
    return abs(mean - law.mean) <= error * law.std and abs(std / law.std - 1) <= error


def _candidates(part: Part, law: Distribution) -> Iterator[tuple[str, Distribution]]:
    for name in ("torch", "flax"):
        grid = Grid.whole(part.grid.array_shape, LAYOUTS[name])
        if other := _law(part.initializer, grid, part):
            yield f"{part.initializer} in the layout {name!r}", other
    yield from _relatives(law)
    for scheme in _SCHEMES:
        if other := _law(scheme, part.grid, part):
            yield str(scheme), other


def _law(initializer: Initializer, grid: Grid, part: Part) -> Distribution | None:
    try:
        return distribution(initializer, grid, part.dtype, part.factor)
    except (ValueError, TypeError):  # as a bias has no fans
        return None


def _relatives(law: Distribution) -> Iterator[tuple[str, Distribution]]:
    """The same law but for one mistake."""
    mean, std = law.mean, law.std
    if isinstance(law, TruncatedNormal):
        yield "the normal before it is truncated", Normal(law.loc, law.scale)
    yield "a normal of the same std, not truncated", Normal(mean, std)
    if not mean:
        cut = TruncatedNormal(0.0, std, -2 * std, 2 * std)
        yield "a truncated normal of the same std", truncated_with_std(std)
        yield "a normal truncated at two stds, and not corrected for it", cut
        yield "a uniform of the same std", uniform_with_std(std)
        yield "a uniform whose bound is the std", Uniform(-std, std)
        yield "a normal whose std is the bound", normal_with_std(math.sqrt(3) * std)
        yield "a uniform from 0", Uniform(0.0, math.sqrt(3) * std)
    yield "a normal whose std is the variance", Normal(mean, std**2)
    yield "a normal whose std is the root of the std", Normal(mean, math.sqrt(std))
    yield "the opposite sign of the mean", law.scaled(-1.0)
