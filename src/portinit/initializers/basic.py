"""The named random initializers and constants.

PyTorch's names mean what they mean in torch.nn.init, JAX's own names what they mean in
jax.nn.initializers. The class names are lower case because an initializer is written, printed and
pasted as a call: ``kaiming_normal(a=0.0, mode='fan_in', nonlinearity='relu')``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

from portinit.arrays.dtypes import REAL_FORMATS, float_format
from portinit.arrays.grids import Grid
from portinit.backends.base import Draw
from portinit.initializers.base import Initializer, Random
from portinit.initializers.fans import Axes, as_axes, check_non_empty, jax_fans, torch_fans
from portinit.initializers.gains import calculate_gain
from portinit.initializers.schemes import (
    DISTRIBUTIONS,
    FAN_MODES,
    kaiming_std,
    normal_with_std,
    uniform_with_std,
    variance_scaling_std,
    xavier_std,
)
from portinit.sampling.distributions import Constant, Distribution, Normal, Uniform
from portinit.sampling.truncated_normal import TruncatedNormal

# Plain distributions


@dataclass(frozen=True)
class uniform(Random):
    """U[a, b).

    Args:
        a: lower bound, included.
        b: upper bound, excluded whatever the dtype rounds to; a <= b.

    Raises:
        ValueError: a > b, or a bound that is not finite.

    Source: ``torch.nn.init.uniform_``.

    >>> import portinit
    >>> portinit.uniform(-1, 1)(portinit.key(0), (2,))
    array([-0.10466588, -0.04284024], dtype=float32)
    """

    a: float = 0.0
    b: float = 1.0

    def __post_init__(self) -> None:
        Uniform(self.a, self.b)

    def law(self, grid: Grid) -> Uniform:
        return Uniform(self.a, self.b)


@dataclass(frozen=True)
class normal(Random):
    """N(mean, std^2).

    Args:
        mean: the mean.
        std: the standard deviation, 0 or more.

    Raises:
        ValueError: a negative std, or an argument that is not finite.

    Source: ``torch.nn.init.normal_``.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        Normal(self.mean, self.std)

    def law(self, grid: Grid) -> Normal:
        return Normal(self.mean, self.std)


@dataclass(frozen=True)
class trunc_normal(Random):
    """N(mean, std^2) conditioned on [a, b], whose bounds are absolute, not in units of std.

    With std 0.02 the default bounds cut nothing: truncation at two standard deviations is
    ``trunc_normal(std=0.02, a=-0.04, b=0.04)``, or :class:`truncated_normal`.

    Args:
        mean: the mean before truncation.
        std: the standard deviation before truncation, above 0.
        a: lower bound; may be -inf.
        b: upper bound, a <= b; may be inf.

    Raises:
        ValueError: std not above 0, or a > b.

    Source: ``torch.nn.init.trunc_normal_``.
    """

    mean: float = 0.0
    std: float = 1.0
    a: float = -2.0
    b: float = 2.0

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise ValueError(f"std must be above 0, got {self.std}")
        TruncatedNormal(self.mean, self.std, self.a, self.b)

    def law(self, grid: Grid) -> TruncatedNormal:
        return TruncatedNormal(self.mean, self.std, self.a, self.b)


@dataclass(frozen=True)
class truncated_normal(Random):
    """stddev * N(0, 1) conditioned on [lower, upper], whose bounds are in units of stddev.

    The standard deviation that is left is smaller than stddev (0.8796 of it at the default
    bounds); :class:`variance_scaling` corrects for that, this does not.

    Args:
        stddev: the standard deviation before truncation, 0 or more.
        lower: lower bound in units of stddev.
        upper: upper bound in units of stddev.

    Raises:
        ValueError: a negative stddev, or lower > upper.

    Source: jax.nn.initializers.truncated_normal.
    """

    stddev: float = 1e-2
    lower: float = -2.0
    upper: float = 2.0

    def __post_init__(self) -> None:
        self._law()

    def _law(self) -> TruncatedNormal:
        s = self.stddev
        return TruncatedNormal(0.0, s, self.lower * s, self.upper * s)

    def law(self, grid: Grid) -> TruncatedNormal:
        return self._law()


# Schemes by PyTorch's names: fans of PyTorch's shape


def _check_gain(gain: float) -> None:
    if not (math.isfinite(gain) and gain >= 0):
        raise ValueError(f"gain must be a finite number, 0 or more; got {gain}")


@dataclass(frozen=True)
class _Xavier(Random):
    gain: float = 1.0

    def __post_init__(self) -> None:
        _check_gain(self.gain)

    def _std(self, grid: Grid) -> float:
        fans = torch_fans(grid.shape)
        check_non_empty(grid.shape)
        return xavier_std(*fans, self.gain)


@dataclass(frozen=True)
class xavier_uniform(_Xavier):
    """U(-b, b) with b = gain * sqrt(6 / (fan_in + fan_out)), on PyTorch's shape.

    Args:
        gain: from :func:`calculate_gain`; 0 or more.

    Raises:
        ValueError: a gain that is negative or not finite; a shape of under 2 axes or with a 0.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010, eq. 16; ``torch.nn.init.xavier_uniform_``.
    """

    def law(self, grid: Grid) -> Distribution:
        return uniform_with_std(self._std(grid))


@dataclass(frozen=True)
class xavier_normal(_Xavier):
    """N(0, std^2) with std = gain * sqrt(2 / (fan_in + fan_out)), on PyTorch's shape.

    Not truncated, unlike JAX's initializer of this name: that is :func:`glorot_normal`.

    Args:
        gain: from :func:`calculate_gain`; 0 or more.

    Raises:
        ValueError: a gain that is negative or not finite; a shape of under 2 axes or with a 0.

    Source: Glorot and Bengio, 2010, eq. 16; ``torch.nn.init.xavier_normal_``.
    """

    def law(self, grid: Grid) -> Distribution:
        return normal_with_std(self._std(grid))


@dataclass(frozen=True)
class _Kaiming(Random):
    a: float = 0.0
    mode: str = "fan_in"
    nonlinearity: str | float | Callable[[Any], Any] = "leaky_relu"

    def __post_init__(self) -> None:
        if not isinstance(self.mode, str) or self.mode.lower() not in ("fan_in", "fan_out"):
            raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {self.mode!r}")
        object.__setattr__(self, "mode", self.mode.lower())
        if callable(self.nonlinearity):
            # Kept as its gain: a number prints, compares and travels, a function does not.
            object.__setattr__(self, "nonlinearity", calculate_gain(self.nonlinearity))
        _check_gain(self._gain())

    def _gain(self) -> float:
        if isinstance(self.nonlinearity, int | float):
            return float(self.nonlinearity)
        return calculate_gain(self.nonlinearity, self.a)

    def _std(self, grid: Grid) -> float:
        fans = torch_fans(grid.shape)
        check_non_empty(grid.shape)
        return kaiming_std(FAN_MODES[self.mode](*fans), self._gain())


@dataclass(frozen=True)
class kaiming_uniform(_Kaiming):
    """U(-b, b) with b = gain * sqrt(3 / fan), on PyTorch's shape.

    ``kaiming_uniform(a=math.sqrt(5))`` is what PyTorch's Linear and convolutions start from:
    U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    Args:
        a: the negative slope after this layer, for ``leaky_relu`` only.
        mode: ``"fan_in"`` or ``"fan_out"``.
        nonlinearity: a name known to :func:`calculate_gain`, a function, or the gain itself.

    Raises:
        ValueError: an unknown mode or nonlinearity; a shape of under 2 axes or with a 0.

    Source: He et al., "Delving deep into rectifiers", ICCV 2015, eq. 10 and 14;
    ``torch.nn.init.kaiming_uniform_``.
    """

    def law(self, grid: Grid) -> Distribution:
        return uniform_with_std(self._std(grid))


@dataclass(frozen=True)
class kaiming_normal(_Kaiming):
    """N(0, std^2) with std = gain / sqrt(fan), on PyTorch's shape.

    Not truncated, unlike JAX's initializer of this name: that is :func:`he_normal`.

    Args:
        a: the negative slope after this layer, for ``leaky_relu`` only.
        mode: ``"fan_in"`` or ``"fan_out"``.
        nonlinearity: a name known to :func:`calculate_gain`, a function, or the gain itself.

    Raises:
        ValueError: an unknown mode or nonlinearity; a shape of under 2 axes or with a 0.

    Source: He et al., 2015, eq. 10 and 14; ``torch.nn.init.kaiming_normal_``.
    """

    def law(self, grid: Grid) -> Distribution:
        return normal_with_std(self._std(grid))


# Schemes by JAX's names: fans on named axes of the kernel


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
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise ValueError(f"scale must be a finite number, 0 or more; got {self.scale}")
        for name in ("in_axis", "out_axis", "batch_axis"):
            object.__setattr__(self, name, as_axes(getattr(self, name)))

    def law(self, grid: Grid) -> Distribution:
        fans = jax_fans(grid.kernel_shape, self.in_axis, self.out_axis, self.batch_axis)
        std = variance_scaling_std(FAN_MODES[self.mode](*fans), self.scale)
        return DISTRIBUTIONS[self.distribution](std)

    def element_law(self, grid: Grid, dtype: str, factor: float = 1.0) -> Distribution:
        halved = self.distribution == "uniform" and dtype.startswith("complex")
        return super().element_law(grid, dtype, factor * math.sqrt(0.5) if halved else factor)


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


# Constants

_LARGEST = float_format("float64").largest


@dataclass(frozen=True)
class constant(Initializer):
    """Every element ``val``, in any dtype.

    Source: ``torch.nn.init.constant_``, jax.nn.initializers.constant.
    """

    val: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.val, int) and abs(self.val) > _LARGEST:
            raise ValueError(f"val must be within {_LARGEST:g}, got a larger integer")

    def check(self, grid: Grid, dtype: str) -> None:
        if dtype in REAL_FORMATS and math.isfinite(self.val):
            largest = float_format(dtype).largest
            if abs(self.val) > largest:
                raise ValueError(f"val must be within {largest:g} for {dtype}, got {self.val}")

    def element_law(self, grid: Grid, dtype: str, factor: float = 1.0) -> Constant:
        return Constant(self.val * factor)

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        native = draw.backend.native_dtype(draw.dtype)
        val = self.val if factor == 1 else self.val * factor
        if draw.dtype in REAL_FORMATS:
            val = float_format(draw.dtype).nearest(val)  # frameworks round twice, or once
        return draw.xp.full(draw.grid.array_shape, val, dtype=native, device=draw.device)


@dataclass(frozen=True)
class _Fixed(constant):
    """A constant that also serves uncalled, as in JAX: ``bias_init=portinit.zeros``."""

    @overload
    def __call__(self) -> _Fixed: ...
    @overload
    def __call__(
        self,
        key: Any,
        shape: Sequence[int],
        dtype: Any = ...,
        out_sharding: Any = ...,
        **where: Any,
    ) -> Any: ...
    def __call__(self, *arguments: Any, **where: Any) -> Any:
        """Itself when called with nothing, as in PyTorch and Flax; else the values."""
        return super().__call__(*arguments, **where) if arguments or where else self

    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        return {0.0: "zeros()", 1.0: "ones()"}.get(self.val, f"constant(val={self.val})")


zeros = _Fixed(0.0)
ones = _Fixed(1.0)


def zeros_init() -> Initializer:
    """Flax's name for :data:`zeros`."""
    return zeros


def ones_init() -> Initializer:
    """Flax's name for :data:`ones`."""
    return ones
