"""Initializers with structure between the elements: eye, dirac, orthogonal, delta_orthogonal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from portinit.arrays.dtypes import FORMATS, float_format
from portinit.arrays.grids import Grid, place
from portinit.arrays.layouts import Shape
from portinit.backends.base import Request
from portinit.backends.linalg import orthonormal
from portinit.backends.plan import Computed, Full, Mask, Plan, Select, independent_draws
from portinit.initializers.base import Initializer
from portinit.initializers.numbers import as_int, set_floats
from portinit.sampling.distributions import Normal


def require_dimensions(name: str, shape: Shape, allowed: tuple[int, ...]) -> None:
    """A ValueError unless a shape has one of the allowed numbers of dimensions."""
    if len(shape) not in allowed:
        numbers = " or ".join(map(str, allowed))
        raise ValueError(f"{name} needs a shape of {numbers} dimensions, got {len(shape)}: {shape}")


def _indicator(mask: Mask, value: float, dtype: str) -> Select:
    """``value`` where the mask holds and 0 elsewhere."""
    fmt = FORMATS.get(dtype)
    number = value if fmt is None or fmt.is_complex else fmt.saturated(value)
    return Select(mask, Full(number), Full(0.0))


@dataclass(frozen=True)
class OnDiagonal(Mask):
    """The elements of a matrix whose row is their column."""

    def at(self, request: Request) -> Any:
        grid, xp, device = request.grid, request.xp, request.device
        return grid.coordinate(xp, 0, device) == grid.coordinate(xp, 1, device)


@dataclass(frozen=True)
class AtCentre(Mask):
    """A convolution's elements at a tap where output d of each group meets input d.

    Attributes:
        outputs: in a group; None for all outputs and inputs.
        tap: the kernel's coordinates.
    """

    outputs: int | None
    tap: tuple[int, ...]

    def at(self, request: Request) -> Any:
        axes = range(len(self.tap) + 2)
        out, into, *space = (request.grid.coordinate(request.xp, i, request.device) for i in axes)
        mask: Any = True if self.outputs is None else out % self.outputs == into
        for coordinate, centre in zip(space, self.tap, strict=True):
            mask = mask & (coordinate == centre)
        return mask


@dataclass(frozen=True)
class eye(Initializer):
    """Ones on the diagonal of a matrix, zeros elsewhere.

    Raises:
        ValueError: a shape of other than 2 axes.

    Source: ``torch.nn.init.eye_``.

    >>> import portinit
    >>> portinit.eye()(portinit.key(0), (2, 3))
    array([[1., 0., 0.],
           [0., 1., 0.]], dtype=float32)
    """

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Select:
        require_dimensions("eye", grid.shape, (2,))
        return _indicator(OnDiagonal(), factor, dtype)


@dataclass(frozen=True)
class dirac(Initializer):
    """The Dirac delta of a convolution: it passes its input channels on unchanged.

    W[g * n + d, d, centre] = 1 for each group g of n output channels, centre = size // 2.

    Args:
        groups: the convolution's groups; they divide the output channels.

    Raises:
        ValueError: a shape of other than 3 to 5 axes, or groups that do not divide axis 0.

    Source: ``torch.nn.init.dirac_``.

    >>> import portinit
    >>> portinit.dirac()(portinit.key(0), (2, 2, 3), layout="torch")[0]
    array([[0., 1., 0.],
           [0., 0., 0.]], dtype=float32)
    """

    groups: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", as_int("groups", self.groups))
        if self.groups < 1:
            raise ValueError(f"groups must be 1 or more, got {self.groups}")

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Select:
        shape = grid.shape
        require_dimensions("dirac", shape, (3, 4, 5))
        if shape[0] % self.groups:
            raise ValueError(f"groups must divide axis 0, got {self.groups} for {shape}")
        centre = AtCentre(max(1, shape[0] // self.groups), tuple(n // 2 for n in shape[2:]))
        return _indicator(centre, factor, dtype)


def _semi_orthogonal(request: Request, shape: Shape, gain: float) -> Any:
    """A matrix of ``shape`` with orthonormal rows or columns, from the request's own normals.

    The smaller side is orthonormal. With R's diagonal made positive, Q of a Gaussian matrix is
    uniform (Haar) distributed: Mezzadri, "How to generate random matrices from the classical
    compact groups", 2007.
    """
    xp, backend, fmt = request.xp, request.backend, float_format(request.dtype)
    exact = request.dtype if fmt.is_complex else fmt.work
    normals = request.on(request.grid, exact)
    matrix = backend.execute(independent_draws(Normal(0.0, 1.0), exact), normals)
    matrix, wide = xp.reshape(matrix, shape), shape[0] < shape[1]
    q = orthonormal(backend, xp.matrix_transpose(matrix) if wide else matrix, gain, fmt)
    return backend.cast(xp.matrix_transpose(q) if wide else q, request.dtype)


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

    >>> import portinit
    >>> values = portinit.orthogonal()(portinit.key(0), (4, 4))
    >>> bool(abs(values @ values.T - portinit.eye()(portinit.key(0), (4, 4))).max() < 1e-6)
    True
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        set_floats(self, "gain")
        if not math.isfinite(self.gain):
            raise ValueError(f"gain must be a finite number, got {self.gain}")

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        float_format(dtype)
        if len(grid.shape) < 2:
            raise ValueError(f"orthogonal needs a shape of at least 2 dimensions, got {grid.shape}")
        if 0 in grid.shape:
            return Full(0.0)
        return Computed(_orthogonal, (self.gain * factor,))


def _orthogonal(request: Request, gain: float) -> Any:
    grid, xp = request.grid, request.xp
    matrix = grid.shape[0], math.prod(grid.shape[1:])
    q = _semi_orthogonal(request.on(grid.logical()), matrix, gain)
    return place(xp, xp.reshape(q, grid.shape), grid)


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

    >>> import portinit
    >>> values = portinit.delta_orthogonal()(portinit.key(0), (3, 3, 4, 8))
    >>> bool((values[0] == 0).all())
    True
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        set_floats(self, "scale")
        if not math.isfinite(self.scale):
            raise ValueError(f"scale must be a finite number, got {self.scale}")

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        float_format(dtype)
        require_dimensions("delta_orthogonal", grid.shape, (3, 4, 5))
        outputs, inputs = grid.shape[:2]
        if inputs > outputs:
            raise ValueError(
                "delta_orthogonal needs at least as many outputs as inputs, "
                f"got {inputs} inputs and {outputs} outputs"
            )
        if 0 in grid.shape:
            return Full(0.0)
        tap = tuple((size - 1) // 2 for size in grid.shape[2:])
        spread = Computed(_at_every_tap, (tap, self.scale * factor))
        return Select(AtCentre(None, tap), spread, Full(0.0))


def _at_every_tap(request: Request, tap: tuple[int, ...], gain: float) -> Any:
    """The orthogonal matrix that the normals at a tap give, at all taps."""
    grid, xp, shape = request.grid, request.xp, request.grid.shape
    centre = grid.logical()
    for axis, position in enumerate(tap, 2):
        centre = centre.part(axis, slice(position, position + 1))
    q = _semi_orthogonal(request.on(centre), shape[:2], gain)
    spread = xp.broadcast_to(xp.reshape(q, (*shape[:2], *(1 for _ in tap))), shape)
    return place(xp, spread, grid)
