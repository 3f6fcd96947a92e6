"""Schemes by PyTorch's names: fans of PyTorch's shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

from portinit.arrays.grids import Grid
from portinit.initializers.base import Random
from portinit.initializers.fans import check_non_empty, torch_fans
from portinit.initializers.gains import calculate_gain
from portinit.initializers.numbers import set_floats
from portinit.initializers.schemes import (
    FAN_MODES,
    kaiming_std,
    normal_with_std,
    uniform_with_std,
    xavier_std,
)
from portinit.initializers.signatures import Mode, Nonlinearity
from portinit.sampling.distributions import Distribution


def _check_gain(gain: float) -> None:
    if not (math.isfinite(gain) and gain >= 0):
        raise ValueError(f"gain must be a finite number, 0 or more; got {gain}")


@dataclass(frozen=True)
class _Xavier(Random):
    gain: float = 1.0

    def __post_init__(self) -> None:
        set_floats(self, "gain")
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

    >>> import portinit
    >>> values = portinit.xavier_uniform()(portinit.key(0), (3, 3))
    >>> bool((abs(values) <= 1).all())  # sqrt(6 / 6)
    True
    """

    def element_distribution(self, grid: Grid) -> Distribution:
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

    >>> import portinit
    >>> values = portinit.xavier_normal()(portinit.key(0), (200, 200))
    >>> round(float(values.std()), 2)  # sqrt(2 / 400)
    0.07
    """

    def element_distribution(self, grid: Grid) -> Distribution:
        return normal_with_std(self._std(grid))


@dataclass(frozen=True)
class _Kaiming(Random):
    a: float = 0.0
    mode: Mode = "fan_in"
    nonlinearity: Nonlinearity = "leaky_relu"

    def __post_init__(self) -> None:
        if not isinstance(self.mode, str) or self.mode.lower() not in ("fan_in", "fan_out"):
            raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {self.mode!r}")
        object.__setattr__(self, "mode", self.mode.lower())
        set_floats(self, "a")
        if callable(self.nonlinearity):
            # Kept as its gain: a number prints, compares and travels, a function does not.
            object.__setattr__(self, "nonlinearity", calculate_gain(self.nonlinearity))
        elif not isinstance(self.nonlinearity, str):
            set_floats(self, "nonlinearity")
        _check_gain(self._gain())

    def _gain(self) -> float:
        if isinstance(self.nonlinearity, float):
            return self.nonlinearity
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

    >>> import portinit
    >>> values = portinit.kaiming_uniform()(portinit.key(0), (6, 8))
    >>> bool((abs(values) <= 1).all())  # sqrt(2) * sqrt(3 / 6)
    True
    """

    def element_distribution(self, grid: Grid) -> Distribution:
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

    >>> import portinit
    >>> values = portinit.kaiming_normal()(portinit.key(0), (200, 100))
    >>> round(float(values.std()), 2)  # sqrt(2 / 200)
    0.1
    """

    def element_distribution(self, grid: Grid) -> Distribution:
        return normal_with_std(self._std(grid))
