"""Weights of networks with sine activations, and of networks scaled by spectral norms."""

from __future__ import annotations

import math
from dataclasses import dataclass

from portinit.arrays.grids import Grid
from portinit.initializers.base import Random
from portinit.initializers.fans import check_non_empty, torch_fans
from portinit.initializers.numbers import as_bool, set_floats
from portinit.sampling.distributions import Distribution, Normal, Uniform


@dataclass(frozen=True)
class siren(Random):
    """The weights of a SIREN layer, sin(omega * (W x + b)).

    U(-b, b) with b = sqrt(6 / fan_in) / omega; in the first layer, b = 1 / fan_in. FINER's layers
    have the same weights, and the bias of its first layer is ``portinit.uniform(-k, k)``.

    Args:
        omega: the frequency by which the layer multiplies its input to the sine, above 0.
        first: whether it is the network's first layer.

    Raises:
        ValueError: an omega that is not finite or not above 0; a shape of under 2 axes or with a 0.

    Source: Sitzmann et al., "Implicit neural representations with periodic activation functions",
    NeurIPS 2020, section 3.2; Liu et al., "FINER", CVPR 2024, section 3.3.

    >>> import portinit
    >>> layer = portinit.siren(omega=30.0).distribution_of((64, 6))
    >>> round(layer.b * 30, 6) == round((6 / 64) ** 0.5, 6)
    True
    """

    omega: float = 30.0
    first: bool = False

    def __post_init__(self) -> None:
        set_floats(self, "omega")
        object.__setattr__(self, "first", as_bool("first", self.first))
        if not (math.isfinite(self.omega) and self.omega > 0):
            raise ValueError(f"omega must be a finite number above 0, got {self.omega}")

    def element_distribution(self, grid: Grid) -> Distribution:
        fan_in, _ = torch_fans(grid.shape)
        check_non_empty(grid.shape)
        bound = 1 / fan_in if self.first else math.sqrt(6 / fan_in) / self.omega
        return Uniform(-bound, bound)


@dataclass(frozen=True)
class spectral(Random):
    """Normal weights whose spectral norm is about scale * sqrt(fan_out / fan_in) at any width.

    N(0, std^2) with std = scale / sqrt(fan_in) * min(1, sqrt(fan_out / fan_in)). Features keep
    their size in every layer as networks become wider, which learning rates need to transfer.

    Args:
        scale: multiplies the standard deviation; 0 or more.

    Raises:
        ValueError: a scale that is negative or not finite; a shape of under 2 axes or with a 0.

    Source: Yang, Simon, Bernstein, "A spectral condition for feature learning", 2023,
    parametrization 1.

    >>> import portinit
    >>> portinit.spectral().distribution_of((256, 64)).std  # (in, out)
    0.03125
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        set_floats(self, "scale")
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise ValueError(f"scale must be a finite number, 0 or more; got {self.scale}")

    def element_distribution(self, grid: Grid) -> Distribution:
        fan_in, fan_out = torch_fans(grid.shape)
        check_non_empty(grid.shape)
        return Normal(0.0, self.scale / math.sqrt(fan_in) * min(1.0, math.sqrt(fan_out / fan_in)))
