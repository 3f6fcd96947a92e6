"""ZerO: weights of zeros and ones, up to a Hadamard transform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid
from portinit.backends.base import Request
from portinit.backends.plan import Computed, Full, Plan, Select
from portinit.initializers.base import Initializer
from portinit.initializers.matrices import AtCentre, OnDiagonal, require_dimensions


@dataclass(frozen=True)
class hadamard(Initializer):
    """ZerO: no random numbers at all, and full rank in every layer.

    W is the (partial) identity where there are at most as many outputs as inputs. Otherwise, with
    m = ceil(log2(outputs)), W[i, j] = 2^(-m / 2) (-1)^popcount(i & j), the first rows and columns
    of the normalised Hadamard matrix of size 2^m. A convolution has W at its centre tap, size // 2,
    and zeros elsewhere.

    Raises:
        ValueError: a shape of other than 2 to 5 axes.

    Source: Zhao, Schäfer, Anandkumar, "ZerO initialization: initializing neural networks with only
    zeros and ones", TMLR 2022, algorithms 1 and 2, with the scale of the authors' code.

    >>> import portinit
    >>> portinit.hadamard()(portinit.key(0), (4, 2), layout="torch").tolist()
    [[0.5, 0.5], [0.5, -0.5], [0.5, 0.5], [0.5, -0.5]]
    """

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        float_format(dtype)
        shape = grid.shape
        require_dimensions("hadamard", shape, (2, 3, 4, 5))
        tap = tuple(size // 2 for size in shape[2:])
        if shape[0] <= shape[1]:
            mask = AtCentre(shape[1], tap) if tap else OnDiagonal()
            return Select(mask, Full(factor), Full(0.0))
        scale = factor * 2.0 ** (-(shape[0] - 1).bit_length() / 2)
        signs = Computed(_signs, (scale,), divisible=True)
        return Select(AtCentre(None, tap), signs, Full(0.0)) if tap else signs


def _signs(request: Request, scale: float) -> Any:
    xp, grid = request.xp, request.grid
    bits = grid.coordinate(xp, 0, request.device) & grid.coordinate(xp, 1, request.device)
    for shift in (16, 8, 4, 2, 1):  # the parity of the number of bits
        bits = bits ^ (bits >> shift)
    native = request.backend.native_dtype(request.dtype)
    plus, minus = (
        xp.full((), value, dtype=native, device=request.device) for value in (scale, -scale)
    )
    values = xp.where((bits & 1) == 0, plus, minus)
    return values if len(grid.shape) == 2 else xp.broadcast_to(values, grid.array_shape)
