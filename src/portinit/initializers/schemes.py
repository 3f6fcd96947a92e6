"""Schemes: from fans and a gain to a distribution. Each named scheme is one expression here."""

from __future__ import annotations

import math
from collections.abc import Callable

from portinit.sampling.distributions import Distribution, Normal, Uniform
from portinit.sampling.truncated_normal import TruncatedNormal

TRUNCATION_STD = 0.87962566103423978
"""The standard deviation of N(0, 1) truncated to [-2, 2]."""


def uniform_with_std(std: float) -> Uniform:
    """U(-sqrt(3) std, sqrt(3) std)."""
    bound = math.sqrt(3.0) * std
    return Uniform(-bound, bound)


def normal_with_std(std: float) -> Normal:
    """N(0, std^2)."""
    return Normal(0.0, std)


def truncated_with_std(std: float) -> TruncatedNormal:
    """A normal cut at two of its standard deviations, scaled so that ``std`` is left."""
    scale = std / TRUNCATION_STD
    return TruncatedNormal(0.0, scale, -2.0 * scale, 2.0 * scale)


DISTRIBUTIONS: dict[str, Callable[[float], Distribution]] = {
    "truncated_normal": truncated_with_std,
    "normal": normal_with_std,
    "uniform": uniform_with_std,
}

FAN_MODES: dict[str, Callable[[float, float], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
    "fan_geo_avg": lambda fan_in, fan_out: math.sqrt(fan_in * fan_out),
}


def xavier_std(fan_in: float, fan_out: float, gain: float) -> float:
    """Gain * sqrt(2 / (fan_in + fan_out)): Glorot and Bengio, 2010, eq. 16, with a gain."""
    return gain * math.sqrt(2.0 / float(fan_in + fan_out))


def kaiming_std(fan: float, gain: float) -> float:
    """Gain / sqrt(fan): He et al., 2015, eq. 10 and 14."""
    return gain / math.sqrt(fan)


def variance_scaling_std(fan: float, scale: float) -> float:
    """sqrt(scale / fan)."""
    return math.sqrt(scale / fan)
