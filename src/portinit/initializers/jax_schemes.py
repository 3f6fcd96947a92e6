"""Schemes by JAX's names: fans on named axes of the kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from portinit.arrays.grids import Grid
from portinit.backends.plan import Plan
from portinit.initializers.base import Random
from portinit.initializers.fans import Axes, as_axes, jax_fans
from portinit.initializers.numbers import set_floats
from portinit.initializers.schemes import DISTRIBUTIONS, FAN_MODES, variance_scaling_std
from portinit.sampling.distributions import Distribution


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


@dataclass(frozen=True)
class variance_scaling(Random):
    """A distribution around 0 of variance scale / n, n a fan or a mean of both fans.

    A truncated normal is cut at two of its standard deviations and corrected, so that the
    variance is the same for all three distributions. Complex values have that variance in all:
    real and imaginary part are independent draws with half of it each.

    Args:
        scale: 0 or more; above 0 for the truncated normal.
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``.
        distribution: ``"truncated_normal"``, ``"normal"`` or ``"uniform"``.
        in_axis: axis or axes of the inputs, named on the kernel as Flax holds it.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.

    Raises:
        ValueError: an unknown mode or distribution, a negative scale, axes the shape lacks, or
            a 0 in the shape.

    Source: He et al., 2015; jax.nn.initializers.variance_scaling.
    """

    scale: float
    mode: str
    distribution: str
    in_axis: Axes = -2
    out_axis: Axes = -1
    batch_axis: Axes = ()

    def __post_init__(self) -> None:
        _one_of("mode", self.mode, tuple(FAN_MODES))
        _one_of("distribution", self.distribution, tuple(DISTRIBUTIONS))
        set_floats(self, "scale")
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise ValueError(f"scale must be a finite number, 0 or more; got {self.scale}")
        for name in ("in_axis", "out_axis", "batch_axis"):
            object.__setattr__(self, name, as_axes(getattr(self, name)))

    def element_distribution(self, grid: Grid) -> Distribution:
        fans = jax_fans(grid.kernel_shape, self.in_axis, self.out_axis, self.batch_axis)
        std = variance_scaling_std(FAN_MODES[self.mode](*fans), self.scale)
        return DISTRIBUTIONS[self.distribution](std)

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        halved = self.distribution == "uniform" and dtype.startswith("complex")
        return super().plan(grid, dtype, factor * math.sqrt(0.5) if halved else factor)


def glorot_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> variance_scaling:
    """``variance_scaling(1, "fan_avg", "uniform")``: Glorot and Bengio, 2010."""
    return variance_scaling(1.0, "fan_avg", "uniform", in_axis, out_axis, batch_axis)


def glorot_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> variance_scaling:
    """``variance_scaling(1, "fan_avg", "truncated_normal")``: Glorot and Bengio, 2010."""
    return variance_scaling(1.0, "fan_avg", "truncated_normal", in_axis, out_axis, batch_axis)


def lecun_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> variance_scaling:
    """``variance_scaling(1, "fan_in", "uniform")``: LeCun et al., "Efficient backprop", 1998."""
    return variance_scaling(1.0, "fan_in", "uniform", in_axis, out_axis, batch_axis)


def lecun_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> variance_scaling:
    """``variance_scaling(1, "fan_in", "truncated_normal")``: LeCun et al., 1998."""
    return variance_scaling(1.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis)


def he_uniform(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()) -> variance_scaling:
    """``variance_scaling(2, "fan_in", "uniform")``: He et al., 2015."""
    return variance_scaling(2.0, "fan_in", "uniform", in_axis, out_axis, batch_axis)


def he_normal(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()) -> variance_scaling:
    """``variance_scaling(2, "fan_in", "truncated_normal")``: He et al., 2015."""
    return variance_scaling(2.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis)
