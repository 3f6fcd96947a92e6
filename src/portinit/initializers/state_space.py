"""Parameters of state space models: HiPPO's matrix, and the parameters of S4D and Mamba."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import LAYOUTS, Shape
from portinit.backends.base import Request
from portinit.backends.numpy import NUMPY
from portinit.backends.plan import Hosted, Plan, independent_draws
from portinit.initializers.assigned import times
from portinit.initializers.base import Initializer, made_first
from portinit.initializers.matrices import require_dimensions
from portinit.initializers.numbers import as_bool, set_floats
from portinit.sampling.distributions import Uniform

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class hippo(Initializer):
    """The HiPPO-LegS matrix, which keeps a signal's history in Legendre polynomials.

    A[n, k] = -sqrt((2n + 1) (2k + 1)) for n > k, -(n + 1) for n = k, and 0 for n < k, where n is
    PyTorch's axis 0.

    Raises:
        ValueError: a shape that is not square.

    Source: Gu et al., "HiPPO: recurrent memory with optimal polynomial projections", NeurIPS 2020;
    Gu, Goel, Ré, "Efficiently modeling long sequences with structured state spaces", ICLR 2022,
    eq. 2.

    >>> import portinit
    >>> portinit.hippo()(portinit.key(0), (2, 2), layout="torch").tolist()
    [[-1.0, 0.0], [-1.7320507764816284, -2.0]]
    """

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        float_format(dtype)
        require_dimensions("hippo", grid.shape, (2,))
        if grid.shape[0] != grid.shape[1]:
            raise ValueError(f"hippo needs a square shape, got {grid.shape}")
        return Hosted(_legendre, (grid.shape[0], factor))


def _legendre(size: int, factor: float) -> Array:
    root = np.sqrt(2 * np.arange(size) + 1.0)
    below = np.tril(np.outer(root, root), -1)
    return times(0.0 - below - np.diag(np.arange(size) + 1.0), factor)


@dataclass(frozen=True)
class progression(Initializer):
    """An arithmetic progression along PyTorch's last axis, the same in every row, or its logarithm.

    first, first + step, first + 2 step, and so on.

    Args:
        first: the first number.
        step: the distance between neighbours.
        log: whether to take the natural logarithm; the numbers must be above 0 then.

    Raises:
        ValueError: numbers that are not finite, or logarithms of numbers that are not above 0.

    Source: the imaginary part of S4D-Lin's A is ``progression(0, pi)``: Gu et al., "On the
    parameterization and initialization of diagonal state space models", NeurIPS 2022, eq. 9.

    >>> import portinit
    >>> portinit.progression(1, 2)(portinit.key(0), (2, 3), layout="torch").tolist()
    [[1.0, 3.0, 5.0], [1.0, 3.0, 5.0]]
    """

    first: float = 0.0
    step: float = 1.0
    log: bool = False

    def __post_init__(self) -> None:
        set_floats(self, "first", "step")
        object.__setattr__(self, "log", as_bool("log", self.log))
        if not (math.isfinite(self.first) and math.isfinite(self.step)):
            raise ValueError(f"first and step must be finite, got {self.first} and {self.step}")

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        float_format(dtype)
        if not grid.shape:
            raise ValueError("a progression needs a shape of at least 1 dimension, got ()")
        last = self.first + self.step * max(0, grid.shape[-1] - 1)
        if self.log and min(self.first, last) <= 0:
            raise ValueError(f"logarithms need numbers above 0, got {self.first} to {last}")
        return Hosted(_progression, (grid.shape, self.first, self.step, self.log, factor))


def _progression(shape: Shape, first: float, step: float, log: bool, factor: float) -> Array:
    row = first + step * np.arange(shape[-1], dtype=np.float64)
    return times(np.broadcast_to(np.log(row) if log else row, shape), factor)


@made_first
def mamba_a_log() -> Initializer:
    """Return Mamba's ``A_log``: log(1), log(2), ..., log(d_state) in every channel's row.

    Returns:
        An initializer of shapes (channels, d_state).

    Source: Gu and Dao, "Mamba", 2023, section 3.6 (S4D-Real); ``D`` starts as ones.

    >>> import portinit
    >>> portinit.mamba_a_log()(portinit.key(0), (1, 2), layout="torch").tolist()
    [[0.0, 0.6931471824645996]]
    """
    return progression(1.0, 1.0, log=True)


@dataclass(frozen=True)
class mamba_dt_bias(Initializer):
    """The bias of Mamba's dt projection, whose softplus is log-uniform between two step sizes.

    dt = max(exp(U(log dt_min, log dt_max)), floor), and the bias is log(exp(dt) - 1). It is
    computed in NumPy in float64 and rounded once, so it needs a key whose words are known: call it
    outside of ``jax.jit``.

    Args:
        dt_min: the smallest step, above 0.
        dt_max: the largest step, at least ``dt_min``.
        floor: steps below it become it, above 0.

    Raises:
        ValueError: steps that are not finite, not above 0 or in the wrong order.

    Source: Gu and Dao, "Mamba", 2023, section 3.6, and the authors' ``dt_init_floor``.

    >>> import numpy as np, portinit
    >>> bias = portinit.mamba_dt_bias()(portinit.key(0), (64,), dtype="float64")
    >>> step = np.log1p(np.exp(bias))
    >>> bool((step > 0.000999).all() and (step < 0.1001).all())
    True
    """

    dt_min: float = 0.001
    dt_max: float = 0.1
    floor: float = 1e-4

    def __post_init__(self) -> None:
        set_floats(self, "dt_min", "dt_max", "floor")
        if not 0 < self.dt_min <= self.dt_max < math.inf or not 0 < self.floor < math.inf:
            raise ValueError(
                "0 < dt_min <= dt_max and 0 < floor are needed, got "
                f"dt_min={self.dt_min}, dt_max={self.dt_max}, floor={self.floor}"
            )

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        float_format(dtype)
        steps = math.log(self.dt_min), math.log(self.dt_max), self.floor
        return Hosted(_inverse_softplus, (grid.shape, *steps, factor), keyed=True)


def _inverse_softplus(
    words: tuple[int, int], shape: Shape, low: float, high: float, floor: float, factor: float
) -> Array:
    drawn = NUMPY.execute(
        independent_draws(Uniform(low, high), "float64"),
        Request(NUMPY, words, Grid.whole(shape, LAYOUTS["torch"]), "float64"),
    )
    dt = np.maximum(np.exp(drawn), floor)
    return times(dt + np.log(-np.expm1(-dt)), factor)
