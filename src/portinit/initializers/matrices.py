"""Initializers with structure between the elements: eye, dirac, orthogonal, sparse."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid, place
from portinit.arrays.layouts import Shape
from portinit.backends.base import Draw
from portinit.backends.kernels.filling import Zeros
from portinit.initializers.base import Initializer, draw_words, sample
from portinit.initializers.basic import normal
from portinit.random.integers import take
from portinit.random.words import numbered_stream
from portinit.sampling.distributions import Distribution, Normal


def _require_dimensions(name: str, shape: Shape, allowed: tuple[int, ...]) -> None:
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
        _require_dimensions("eye", grid.shape, (2,))

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
        _require_dimensions("dirac", grid.shape, (3, 4, 5))
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
        _require_dimensions("delta_orthogonal", grid.shape, (3, 4, 5))
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


_PLACES = numbered_stream(1)  # whose words say where zeros are


@dataclass(frozen=True)
class sparse(Initializer):
    """N(0, std^2) with ceil(sparsity * rows) zeros at random places of each column.

    The places are those of the column's smallest words in a stream of their own.

    Args:
        sparsity: the fraction of each column that is zero, in [0, 1].
        std: the standard deviation of the rest.

    Raises:
        ValueError: a shape of other than 2 axes, a sparsity outside [0, 1], a negative std.

    Source: Martens, "Deep learning via Hessian-free optimization", ICML 2010;
    ``torch.nn.init.sparse_``.
    """

    sparsity: float
    std: float = 0.01
    independent: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity <= 1:
            raise ValueError(f"sparsity must be in [0, 1], got {self.sparsity}")
        Normal(0.0, self.std)

    def check(self, grid: Grid, dtype: str) -> None:
        float_format(dtype)
        _require_dimensions("sparse", grid.shape, (2,))

    def settled(self, draw: Draw) -> Initializer:
        count = math.ceil(self.sparsity * draw.grid.shape[0])
        law = normal(0.0, self.std)
        if not count or not draw.grid.size:
            return law
        columns, first = draw.grid.columns()
        return _thinned(law, *_last_zeros(draw, columns, count), first)

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        return self.settled(draw).values(draw, factor)


@dataclass(frozen=True, eq=False)
class _thinned(Initializer):
    """An initializer with zeros where a column's words are its smallest: elementwise."""

    dense: Initializer
    word: Any  # of each column, that the words of zeros are at most
    row: Any  # and the last row where that word does; none if equal words do not matter
    first: Any  # the number of the first of these columns

    @property
    def zeros(self) -> Zeros | None:
        return Zeros(_PLACES, self.word) if self.row is None else None

    def element_law(self, grid: Grid, dtype: str, factor: float = 1.0) -> Distribution | None:
        return self.dense.element_law(grid, dtype, factor) if self.zeros else None

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        dense = self.dense.values(draw, factor)
        zero = draw.xp.zeros((), dtype=dense.dtype, device=draw.device)
        return draw.xp.where(self._hit(draw), zero, dense)

    def _hit(self, draw: Draw) -> Any:
        xp, words = draw.xp, draw_words(draw, _PLACES)
        row, column = (draw.grid.coordinate(xp, axis, draw.device) for axis in (0, 1))
        column = column - self.first
        # What torch settled NumPy may go on with, in the same memory.
        word = take(xp, xp.asarray(self.word), column)
        if self.row is None:
            return words <= word
        last = take(xp, xp.asarray(self.row), column)
        return (words < word) | ((words == word) & (row <= last))


def _last_zeros(draw: Draw, by_columns: Grid, count: int) -> tuple[Any, Any]:
    """Of each column, the word and the row of the last of its ``count`` smallest elements."""
    limits = draw.backend.limits(draw.on(by_columns), count, _PLACES)
    if limits is not None:
        return limits, None
    columns, rows = by_columns.array_shape
    step = max(1, draw.backend.tile(draw) // rows)
    alone = draw._replace(threads=1)

    def find(part: Grid) -> tuple[Any, Any]:
        words = partial(draw_words, alone.on(part), _PLACES)
        return draw.backend.kth_smallest(words, count)

    threads = draw.backend.threads(draw) if step < columns else 1
    found = draw.backend.by_rows(find, by_columns, step, threads)
    words, last_rows = zip(*found, strict=True)
    if all(part is None for part in last_rows):
        return draw.xp.concat(words), None
    none = draw.xp.full(step, rows - 1, dtype=draw.xp.int32, device=draw.device)
    known = [none[: len(w)] if r is None else r for w, r in zip(words, last_rows, strict=True)]
    return draw.xp.concat(words), draw.xp.concat(known)
