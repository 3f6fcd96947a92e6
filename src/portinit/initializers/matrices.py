"""Initializers with structure between the elements: eye, dirac, orthogonal, sparse."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any, ClassVar

from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid, place
from portinit.arrays.layouts import Shape
from portinit.backends.base import Draw
from portinit.initializers.base import Initializer, sample
from portinit.sampling.distributions import Normal


def require_dimensions(name: str, shape: Shape, allowed: tuple[int, ...]) -> None:
    """A ValueError unless a shape has one of the allowed numbers of dimensions."""
    if len(shape) not in allowed:
        numbers = " or ".join(map(str, allowed))
        raise ValueError(f"{name} needs a shape of {numbers} dimensions, got {len(shape)}: {shape}")


def _indicator(draw: Draw, mask: Any, value: float) -> Any:
    """``value`` where the mask holds and 0 elsewhere."""
    xp = draw.xp
    native = draw.backend.native_dtype(draw.dtype)
    filled = xp.full(draw.grid.array_shape, value, dtype=native, device=draw.device)
    return xp.where(mask, filled, xp.zeros_like(filled))


@dataclass(frozen=True)
class eye(Initializer):
    """Ones on the diagonal of a matrix, zeros elsewhere.

    Raises:
        ValueError: a shape of other than 2 axes.

    Source: ``torch.nn.init.eye_``.
    """

    def check(self, grid: Grid, dtype: str) -> None:
        require_dimensions("eye", grid.shape, (2,))

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        row, column = (draw.grid.coordinate(draw.xp, axis, draw.device) for axis in (0, 1))
        return _indicator(draw, row == column, factor)


@dataclass(frozen=True)
class dirac(Initializer):
    """The Dirac delta of a convolution: it passes its input channels on unchanged.

    W[g * n + d, d, centre] = 1 for each group g of n output channels, centre = size // 2.

    Args:
        groups: the convolution's groups; they divide the output channels.

    Raises:
        ValueError: a shape of other than 3 to 5 axes, or groups that do not divide axis 0.

    Source: ``torch.nn.init.dirac_``.
    """

    groups: int = 1

    def __post_init__(self) -> None:
        if operator.index(self.groups) < 1:
            raise ValueError(f"groups must be 1 or more, got {self.groups}")

    def check(self, grid: Grid, dtype: str) -> None:
        require_dimensions("dirac", grid.shape, (3, 4, 5))
        if grid.shape[0] % self.groups:
            raise ValueError(f"groups must divide axis 0, got {self.groups} for {grid.shape}")

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        shape = draw.grid.shape
        out, *rest = (draw.grid.coordinate(draw.xp, i, draw.device) for i in range(len(shape)))
        mask = out % max(1, shape[0] // self.groups) == rest[0]
        for coordinate, size in zip(rest[1:], shape[2:], strict=True):
            mask = mask & (coordinate == size // 2)
        return _indicator(draw, mask, factor)


def _semi_orthogonal(draw: Draw, grid: Grid, shape: Shape, gain: float) -> Any:
    """A matrix of ``shape`` with orthonormal rows or columns, from the grid's own normals.

    The smaller side is orthonormal. With R's diagonal made positive, Q of a Gaussian matrix is
    uniform (Haar) distributed: Mezzadri, "How to generate random matrices from the classical
    compact groups", 2007.
    """
    wide = shape[0] < shape[1]
    exact = sample(draw.on(grid, _work_dtype(draw.dtype)), Normal(0.0, 1.0))
    matrix = draw.xp.reshape(exact, shape)
    q = draw.backend.orthonormal(draw.xp.matrix_transpose(matrix) if wide else matrix, gain)
    return draw.backend.cast(draw.xp.matrix_transpose(q) if wide else q, draw.dtype)


def _work_dtype(dtype: str) -> str:
    fmt = float_format(dtype)
    return dtype if fmt.is_complex else fmt.work


@dataclass(frozen=True)
class orthogonal(Initializer):
    """A (semi-)orthogonal matrix, uniformly distributed: PyTorch's axis 0 against the rest.

    The normals are bit-identical everywhere; the factorisation is computed in float64 and agrees
    to about 1e-7 between libraries.

    Args:
        gain: multiplies the matrix.

    Raises:
        ValueError: a shape of under 2 axes, or a gain that is not finite.

    Source: Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks", ICLR 2014; ``torch.nn.init.orthogonal_``.
    """

    gain: float = 1.0
    independent: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.gain):
            raise ValueError(f"gain must be a finite number, got {self.gain}")

    def check(self, grid: Grid, dtype: str) -> None:
        float_format(dtype)
        if len(grid.shape) < 2:
            raise ValueError(f"orthogonal needs a shape of at least 2 dimensions, got {grid.shape}")

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        whole, shape = draw.grid.logical(), draw.grid.shape
        matrix_shape = (shape[0], math.prod(shape[1:]))
        if 0 in matrix_shape:
            return sample(draw, Normal(0.0, 0.0))
        q = _semi_orthogonal(draw, whole, matrix_shape, self.gain * factor)
        return place(draw.xp, draw.xp.reshape(q, shape), draw.grid)


@dataclass(frozen=True)
class delta_orthogonal(Initializer):
    """A convolution that is an orthogonal matrix at its centre tap and zero elsewhere.

    It preserves the norm of its input. The centre is (size - 1) // 2, as in JAX.

    Args:
        scale: multiplies the matrix.

    Raises:
        ValueError: a shape of other than 3 to 5 axes, or more inputs than outputs.

    Source: Xiao et al., "Dynamical isometry and a mean field theory of CNNs", ICML 2018;
    jax.nn.initializers.delta_orthogonal.
    """

    scale: float = 1.0
    independent: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise ValueError(f"scale must be a finite number, got {self.scale}")

    def check(self, grid: Grid, dtype: str) -> None:
        float_format(dtype)
        require_dimensions("delta_orthogonal", grid.shape, (3, 4, 5))
        outputs, inputs = grid.shape[:2]
        if inputs > outputs:
            raise ValueError(
                "delta_orthogonal needs at least as many outputs as inputs, "
                f"got {inputs} inputs and {outputs} outputs"
            )

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        shape = draw.grid.shape
        if 0 in shape:
            return sample(draw, Normal(0.0, 0.0))
        centre = draw.grid.logical()
        for axis in range(2, len(shape)):
            tap = (shape[axis] - 1) // 2
            centre = centre.part(axis, slice(tap, tap + 1))
        q = _semi_orthogonal(draw, centre, shape[:2], self.scale * factor)
        return _at_centre(draw, q)


def _at_centre(draw: Draw, q: Any) -> Any:
    shape = draw.grid.shape
    xp = draw.xp
    spread = xp.broadcast_to(xp.reshape(q, (*shape[:2], *(1 for _ in shape[2:]))), shape)
    placed = place(xp, spread, draw.grid)
    mask: Any = True
    for axis in range(2, len(shape)):
        coordinate = draw.grid.coordinate(xp, axis, draw.device)
        mask = mask & (coordinate == (shape[axis] - 1) // 2)
    return xp.where(mask, placed, xp.zeros_like(placed))
