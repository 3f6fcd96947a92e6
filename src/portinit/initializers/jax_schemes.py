"""Schemes by JAX's names: fans on named axes of the kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from portinit.arrays.grids import Grid
from portinit.backends.plan import Plan
from portinit.initializers.base import Random, require_arguments
from portinit.initializers.fans import Axes, as_axes, jax_fans
from portinit.initializers.numbers import set_floats
from portinit.initializers.schemes import DISTRIBUTIONS, FAN_MODES, variance_scaling_std
from portinit.initializers.signatures import DistributionName, FanMode
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
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.

    Axes are those of the array that is filled: of JAX's kernel, or of PyTorch's tensor in a recipe
    and with ``layout="torch"``. Left as they are, they are the inputs and outputs of a kernel,
    (..., in, out), however the array lies. Packed experts of shape (E, out, in) take ``in_axis=2,
    out_axis=1, batch_axis=0``.

    Raises:
        ValueError: an unknown mode or distribution, a negative scale, axes the shape lacks, or
            a 0 in the shape.

    Source: He et al., 2015; jax.nn.initializers.variance_scaling.

    >>> import portinit
    >>> values = portinit.variance_scaling(2.0, "fan_in", "normal")(portinit.key(0), (200, 100))
    >>> round(float(values.std()), 2)  # sqrt(2 / 200)
    0.1
    """

    scale: float
    mode: FanMode
    distribution: DistributionName
    in_axis: Axes = -2
    out_axis: Axes = -1
    batch_axis: Axes = ()

    def __post_init__(self) -> None:
        set_floats(self, "scale")
        made = self.scale, self.mode, self.distribution
        require_arguments(_NAMES.get(made, "variance_scaling"), self.in_axis)
        _one_of("mode", self.mode, tuple(FAN_MODES))
        _one_of("distribution", self.distribution, tuple(DISTRIBUTIONS))
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise ValueError(f"scale must be a finite number, 0 or more; got {self.scale}")
        for name in ("in_axis", "out_axis", "batch_axis"):
            object.__setattr__(self, name, as_axes(getattr(self, name)))

    @property
    def names_axes(self) -> bool:
        """Whether the axes are named, and not those of every kernel."""
        return (self.in_axis, self.out_axis, self.batch_axis) != (-2, -1, ())

    def element_distribution(self, grid: Grid) -> Distribution:
        own = self.names_axes and grid.layout.is_torchs
        shape = grid.shape if own else grid.kernel_shape
        fans = jax_fans(shape, self.in_axis, self.out_axis, self.batch_axis)
        std = variance_scaling_std(FAN_MODES[self.mode](*fans), self.scale)
        return DISTRIBUTIONS[self.distribution](std)

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        halved = self.distribution == "uniform" and dtype.startswith("complex")
        return super().plan(grid, dtype, factor * math.sqrt(0.5) if halved else factor)


_NAMES = {  # of the functions below, which hand on what they are called with
    (1.0, "fan_avg", "uniform"): "glorot_uniform",
    (1.0, "fan_avg", "truncated_normal"): "glorot_normal",
    (1.0, "fan_in", "uniform"): "lecun_uniform",
    (1.0, "fan_in", "truncated_normal"): "lecun_normal",
    (2.0, "fan_in", "uniform"): "he_uniform",
    (2.0, "fan_in", "truncated_normal"): "he_normal",
}


def glorot_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> variance_scaling:
    """Draw from U(-b, b) with b = sqrt(6 / (fan_in + fan_out)), on a kernel's named axes.

    Args:
        in_axis: axis or axes of the inputs, named on the kernel as Flax holds it.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.

    Returns:
        ``variance_scaling(1.0, "fan_avg", "uniform", ...)``; see :class:`variance_scaling`.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010, eq. 16;
    ``jax.nn.initializers.glorot_uniform``.

    >>> import portinit
    >>> portinit.glorot_uniform()(portinit.key(0), (32, 64)).shape
    (32, 64)
    """
    return variance_scaling(1.0, "fan_avg", "uniform", in_axis, out_axis, batch_axis)


def glorot_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> variance_scaling:
    """Draw from truncated N(0, std^2) with std = sqrt(2 / (fan_in + fan_out)).

    Fans are counted on a kernel's named axes. The normal is cut at two standard deviations and
    corrected, so that std is what is left.

    Args:
        in_axis: axis or axes of the inputs, named on the kernel as Flax holds it.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.

    Returns:
        ``variance_scaling(1.0, "fan_avg", "truncated_normal", ...)``; see
        :class:`variance_scaling`.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010, eq. 16;
    ``jax.nn.initializers.glorot_normal``.

    >>> import portinit
    >>> portinit.glorot_normal()(portinit.key(0), (32, 64)).shape
    (32, 64)
    """
    return variance_scaling(1.0, "fan_avg", "truncated_normal", in_axis, out_axis, batch_axis)


def lecun_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> variance_scaling:
    """Draw from U(-b, b) with b = sqrt(3 / fan_in), on a kernel's named axes.

    Args:
        in_axis: axis or axes of the inputs, named on the kernel as Flax holds it.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.

    Returns:
        ``variance_scaling(1.0, "fan_in", "uniform", ...)``; see :class:`variance_scaling`.

    Source: LeCun, Bottou, Orr and Müller, "Efficient backprop", 1998, eq. 16;
    ``jax.nn.initializers.lecun_uniform``.

    >>> import portinit
    >>> portinit.lecun_uniform()(portinit.key(0), (32, 64)).shape
    (32, 64)
    """
    return variance_scaling(1.0, "fan_in", "uniform", in_axis, out_axis, batch_axis)


def lecun_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> variance_scaling:
    """Draw from truncated N(0, std^2) with std = sqrt(1 / fan_in), on a kernel's named axes.

    The normal is cut at two standard deviations and corrected, so that std is what is left.

    Args:
        in_axis: axis or axes of the inputs, named on the kernel as Flax holds it.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.

    Returns:
        ``variance_scaling(1.0, "fan_in", "truncated_normal", ...)``; see :class:`variance_scaling`.

    Source: LeCun, Bottou, Orr and Müller, "Efficient backprop", 1998, eq. 16;
    ``jax.nn.initializers.lecun_normal``.

    >>> import portinit
    >>> portinit.lecun_normal()(portinit.key(0), (32, 64)).shape
    (32, 64)
    """
    return variance_scaling(1.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis)


def he_uniform(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()) -> variance_scaling:
    """Draw from U(-b, b) with b = sqrt(6 / fan_in), on a kernel's named axes.

    Args:
        in_axis: axis or axes of the inputs, named on the kernel as Flax holds it.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.

    Returns:
        ``variance_scaling(2.0, "fan_in", "uniform", ...)``; see :class:`variance_scaling`.

    Source: He et al., "Delving deep into rectifiers", ICCV 2015, eq. 10;
    ``jax.nn.initializers.he_uniform``.

    >>> import portinit
    >>> portinit.he_uniform()(portinit.key(0), (32, 64)).shape
    (32, 64)
    """
    return variance_scaling(2.0, "fan_in", "uniform", in_axis, out_axis, batch_axis)


def he_normal(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()) -> variance_scaling:
    """Draw from truncated N(0, std^2) with std = sqrt(2 / fan_in), on a kernel's named axes.

    The normal is cut at two standard deviations and corrected, so that std is what is left.

    Args:
        in_axis: axis or axes of the inputs, named on the kernel as Flax holds it.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes that count in neither fan.

    Returns:
        ``variance_scaling(2.0, "fan_in", "truncated_normal", ...)``; see :class:`variance_scaling`.

    Source: He et al., "Delving deep into rectifiers", ICCV 2015, eq. 10;
    ``jax.nn.initializers.he_normal``.

    >>> import portinit
    >>> portinit.he_normal()(portinit.key(0), (32, 64)).shape
    (32, 64)
    """
    return variance_scaling(2.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis)
