"""Plain distributions and constants.

The class names are lower case because an initializer is written, printed and pasted as a call:
``uniform(a=-1.0, b=1.0)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from numpy.typing import NDArray

from portinit.arrays.dtypes import FORMATS, float_format
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout
from portinit.backends.plan import Full
from portinit.initializers.base import Initializer, Random
from portinit.initializers.numbers import as_number, set_floats
from portinit.initializers.signatures import Namespace
from portinit.random.keys import Key
from portinit.sampling.distributions import Constant, Normal, Uniform
from portinit.sampling.truncated_normal import TruncatedNormal

if TYPE_CHECKING:
    import jax

_Array = TypeVar("_Array")

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
        set_floats(self, "a", "b")
        Uniform(self.a, self.b)

    def element_distribution(self, grid: Grid) -> Uniform:
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

    >>> import portinit
    >>> values = portinit.normal(std=0.02)(portinit.key(0), (100, 100))
    >>> round(float(values.std()), 3)
    0.02
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        set_floats(self, "mean", "std")
        Normal(self.mean, self.std)

    def element_distribution(self, grid: Grid) -> Normal:
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

    >>> import portinit
    >>> values = portinit.trunc_normal(std=0.02, a=-0.04, b=0.04)(portinit.key(0), (100, 100))
    >>> bool((abs(values) <= 0.04).all())
    True
    """

    mean: float = 0.0
    std: float = 1.0
    a: float = -2.0
    b: float = 2.0

    def __post_init__(self) -> None:
        set_floats(self, "mean", "std", "a", "b")
        if self.std <= 0:
            raise ValueError(f"std must be above 0, got {self.std}")
        TruncatedNormal(self.mean, self.std, self.a, self.b)

    def element_distribution(self, grid: Grid) -> TruncatedNormal:
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

    >>> import portinit
    >>> values = portinit.truncated_normal(stddev=0.02)(portinit.key(0), (100, 100))
    >>> bool((abs(values) <= 0.04).all())
    True
    """

    stddev: float = 1e-2
    lower: float = -2.0
    upper: float = 2.0

    def __post_init__(self) -> None:
        set_floats(self, "stddev", "lower", "upper")
        self._distribution()

    def _distribution(self) -> TruncatedNormal:
        s = self.stddev
        return TruncatedNormal(0.0, s, self.lower * s, self.upper * s)

    def element_distribution(self, grid: Grid) -> TruncatedNormal:
        return self._distribution()


# Constants

_LARGEST = float_format("float64").largest


@dataclass(frozen=True, eq=False)
class constant(Initializer):
    """Every element ``val``, in any dtype.

    Args:
        val: the value.

    Raises:
        ValueError: a value beyond the largest number of the dtype.

    Source: ``torch.nn.init.constant_``, jax.nn.initializers.constant.

    >>> import portinit
    >>> portinit.constant(0.5)(portinit.key(0), (2,))
    array([0.5, 0.5], dtype=float32)
    """

    val: float = 0.0

    def __post_init__(self) -> None:
        val = as_number("val", self.val)
        if isinstance(val, int) and abs(val) > _LARGEST:
            raise ValueError(f"val must be within {_LARGEST:g}, got a larger integer")
        object.__setattr__(self, "val", val)

    def __eq__(self, other: object) -> bool:
        """Whether the other gives the same bits: -0.0 is not 0.0, and NaN is NaN."""
        same = type(other) is type(self)
        return same and _bits(self.val) == _bits(other.val)  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(_bits(self.val))

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Full:
        value = self.val if factor == 1 else self.val * factor
        law = None if isinstance(value, complex) else Constant(value)
        if dtype not in FORMATS:
            return Full(value, law)
        fmt = float_format(dtype)
        if fmt.is_complex:
            return Full(value, law)
        if isinstance(self.val, complex):
            raise ValueError(f"val must be real for {dtype}, got {self.val}")
        if math.isfinite(self.val) and abs(self.val) > fmt.largest:
            raise ValueError(f"val must be within {fmt.largest:g} for {dtype}, got {self.val}")
        return Full(fmt.saturated(value), law)  # frameworks round twice, or once


def _bits(value: complex) -> tuple[Any, str]:
    """A key that distinguishes numbers: their text, and the value of integers beyond a float's."""
    exact = value if isinstance(value, int) and abs(value) > 1 << 53 else None
    return exact, repr(complex(value))


@dataclass(frozen=True, eq=False)
class _Fixed(constant):
    """A constant that also serves uncalled, as in JAX: ``bias_init=portinit.zeros``."""

    @overload
    def __call__(self) -> _Fixed: ...
    @overload
    def __call__(
        self,
        key: Key,
        shape: Sequence[int],
        dtype: Any = None,
        out_sharding: None = None,
        *,
        xp: None = None,
        device: Any = None,
        layout: Layout | str | None = None,
    ) -> NDArray[Any]: ...
    @overload
    def __call__(
        self,
        key: jax.Array,
        shape: Sequence[int],
        dtype: Any = None,
        out_sharding: Any = None,
        *,
        xp: None = None,
        device: Any = None,
        layout: Layout | str | None = None,
    ) -> jax.Array: ...
    @overload
    def __call__(
        self,
        key: Any,
        shape: Sequence[int],
        dtype: Any = None,
        out_sharding: Any = None,
        *,
        xp: Namespace[_Array],
        device: Any = None,
        layout: Layout | str | None = None,
    ) -> _Array: ...
    def __call__(self, *arguments: Any, **where: Any) -> Any:
        """Itself when called with nothing, as in PyTorch and Flax; else the values."""
        return super().__call__(*arguments, **where) if arguments or where else self

    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        return {"0.0": "zeros()", "1.0": "ones()"}.get(repr(self.val), f"constant(val={self.val})")


zeros = _Fixed(0.0)
ones = _Fixed(1.0)


def zeros_init() -> Initializer:
    """Flax's name for :data:`zeros`.

    Returns:
        :data:`zeros`.

    >>> import portinit
    >>> portinit.zeros_init()(portinit.key(0), (2,))
    array([0., 0.], dtype=float32)
    """
    return zeros


def ones_init() -> Initializer:
    """Flax's name for :data:`ones`.

    Returns:
        :data:`ones`.

    >>> import portinit
    >>> portinit.ones_init()(portinit.key(0), (2,))
    array([1., 1.], dtype=float32)
    """
    return ones
