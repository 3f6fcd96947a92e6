"""What every initializer is: a frozen dataclass called with a key and a shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, ClassVar

from portinit.arrays.dtypes import Format, dtype_name, float_format
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout, Shape, as_layout, as_shape
from portinit.backends.base import Draw
from portinit.backends.registry import backend_of, default_or_named, words_of
from portinit.random.words import SECOND_STREAM, random_words
from portinit.sampling.distributions import Distribution
from portinit.sampling.transform import Transform


@dataclass(frozen=True)
class Parameter:
    """What a model says of one of its parameters.

    Attributes:
        name: its name, as PyTorch would write it: ``layers.0.weight``.
        shape: its shape in PyTorch.
        kind: the kind of layer that owns it: ``"linear"``, ``"conv"``, ``"conv_transpose"``,
            ``"bilinear"``, ``"embedding"``, ``"norm"``, ``"recurrent"``, ``"attention"``,
            ``"prelu"``, ``"transposed_linear"`` (GPT-2's Conv1D), ``"parametrized"`` (what a
            parametrization stores in a weight's place); None if unknown.
        fan_in: the fan_in of the kernel beside it, or a recurrent layer's hidden size.
        padding_idx: the padding row of an embedding.
        other_names: the other names of a shared (tied) parameter.
    """

    name: str
    shape: Shape
    kind: str | None = None
    fan_in: int | None = None
    padding_idx: int | None = None
    other_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Initializer:
    """A rule for the values of a parameter, called with a key and a shape."""

    default_layout: ClassVar[str] = "flax"
    independent: ClassVar[bool] = True
    on_host: ClassVar[bool] = False

    @property
    def elementwise(self) -> bool:
        """Whether each element can be computed without the others."""
        return self.independent and all(part.elementwise for part in self.parts())

    @property
    def hosted(self) -> bool:
        """Whether values are computed in NumPy, which needs a key whose words are known."""
        return self.on_host or any(part.hosted for part in self.parts())

    def parts(self) -> Iterator[Initializer]:
        """The initializers that this one is made of."""
        for field in fields(self):
            value = getattr(self, field.name)
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Initializer):
                    yield item

    def __call__(
        self,
        key: Any,
        shape: Sequence[int],
        dtype: Any = None,
        out_sharding: Any = None,
        *,
        xp: Any = None,
        device: Any = None,
        layout: Layout | str | None = None,
    ) -> Any:
        """Values for a parameter: the same bits in every framework.

        Args:
            key: a :class:`portinit.Key`, or a JAX threefry key, typed or raw.
            shape: the shape of the array.
            dtype: a floating or complex dtype of any framework, or its name; by default the
                framework's own default, float32 in NumPy.
            out_sharding: for JAX, the sharding of the result.
            xp: the array namespace of the result, such as ``torch``; by default JAX for JAX's
                keys and NumPy for others.
            device: where to put the result.
            layout: how the array's axes are PyTorch's; by default arrays of two or more axes are
                kernels, (..., in, out), and embeddings stand as they are.
                A :class:`portinit.Layout` or a name of one.

        Returns:
            An array of the namespace.

        Raises:
            TypeError: the key, dtype or namespace is of the wrong kind.
            ValueError: the initializer is not defined for the shape.
        """
        chosen = self.default_layout if layout is None else layout
        grid = Grid.whole(as_shape(shape), as_layout(chosen))
        return self.evaluate(key, grid, dtype, out_sharding, xp=xp, device=device)

    def evaluate(
        self,
        key: Any,
        grid: Grid,
        dtype: Any = None,
        out_sharding: Any = None,
        *,
        xp: Any = None,
        device: Any = None,
    ) -> Any:
        """As a call, for the elements of a grid: an array may hold a part of a parameter."""
        backend = backend_of(key, xp)
        name = default_or_named(backend, dtype)
        draw = Draw(backend, words_of(key, backend), grid, name, device)
        self.ensure(grid, name)
        return backend.run(self, draw, out_sharding)

    def distribution_of(
        self, shape: Sequence[int], dtype: Any = "float32", *, layout: Layout | str | None = None
    ) -> Distribution | None:
        """What each element of a parameter is drawn from, independently of the others.

        Args:
            shape: the shape of the array, as for a call.
            dtype: the dtype of the array.
            layout: as for a call.

        Returns:
            A distribution with a ``mean`` and a ``std``; none if the elements have no common one
            (``blocks``) or depend on each other (``orthogonal``).

        >>> import portinit
        >>> portinit.kaiming_normal().distribution_of((32, 64)).std  # sqrt(2 / 32)
        0.25
        """
        chosen = self.default_layout if layout is None else layout
        grid = Grid.whole(as_shape(shape), as_layout(chosen))
        self.check(grid, dtype_name(dtype))
        return self.element_law(grid, dtype_name(dtype))

    def element_law(self, grid: Grid, dtype: str, factor: float = 1.0) -> Distribution | None:
        """The distribution that ``factor`` times each element is an independent draw from."""
        return None

    def check(self, grid: Grid, dtype: str) -> None:
        """Raise what :meth:`values` would, computing nothing: a TypeError or ValueError."""
        raise NotImplementedError

    def ensure(self, grid: Grid, dtype: str) -> None:
        """As :meth:`check`, but once for what cannot change."""
        self.check(grid, dtype)

    def settled(self, draw: Draw) -> Initializer:
        """This initializer with what needs the whole parameter worked out, if anything does.

        Where elements depend on each other through little (a threshold of each column), what is
        returned is elementwise, and so can be computed in parts.
        """
        return self

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        """``factor`` times the values at the draw's elements, in its dtype.

        The factor joins the initializer's own constants before anything is rounded: two
        multiplications after another are folded by one compiler and not by another.
        """
        raise NotImplementedError

    def __str__(self) -> str:
        """The call that makes it, with the arguments that differ from their defaults."""
        given = [
            f"{field.name}={_in_code(getattr(self, field.name))}"
            for field in fields(self)
            if not _is_default(getattr(self, field.name), field.default)
        ]
        return f"{type(self).__name__}({', '.join(given)})"

    def bound(self, parameter: Parameter) -> Initializer:
        """This initializer with what only the model knows filled in; see :mod:`portinit.layers`.

        Parts that are initializers are bound in turn.
        """
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Initializer):
                changed[field.name] = value.bound(parameter)
            elif isinstance(value, tuple) and value and isinstance(value[0], Initializer):
                changed[field.name] = tuple(part.bound(parameter) for part in value)
        return replace(self, **changed) if changed else self


def _is_default(value: Any, default: Any) -> bool:
    return bool(value == default) and str(value).startswith("-") == str(default).startswith("-")


def _in_code(value: Any) -> str:
    if isinstance(value, tuple) and any(isinstance(item, Initializer) for item in value):
        return "(" + "".join(f"{item}, " for item in value).rstrip() + ")"
    return str(value) if isinstance(value, Initializer) else repr(value)


@dataclass(frozen=True)
class Random(Initializer):
    """An initializer whose elements are independent draws from one distribution."""

    def law(self, grid: Grid) -> Distribution:
        """The distribution of a parameter of the grid's shape."""
        raise NotImplementedError

    def check(self, grid: Grid, dtype: str) -> None:
        law = self.law(grid)
        law.check(float_format(dtype))
        if float_format(dtype).is_complex:
            law.complex_parts()

    def ensure(self, grid: Grid, dtype: str) -> None:
        _ensure(self, grid, dtype)

    def element_law(self, grid: Grid, dtype: str, factor: float = 1.0) -> Distribution:
        law = self.law(grid)
        return law if factor == 1 else law.scaled(factor)

    def values(self, draw: Draw, factor: float = 1.0) -> Any:
        return sample(draw, self.element_law(draw.grid, draw.dtype, factor))


@lru_cache(maxsize=4096)
def _ensure(initializer: Random, grid: Grid, dtype: str) -> None:
    initializer.check(grid, dtype)


def sample(draw: Draw, distribution: Distribution) -> Any:
    """Draw from a distribution at the draw's elements; complex numbers are two streams."""
    fmt = float_format(draw.dtype)
    if not fmt.is_complex:
        return draw.backend.cast(_sample_real(draw, distribution, fmt, 0), draw.dtype)
    law, imag_law = distribution.complex_parts()
    real = _sample_real(draw, law, fmt, 0)
    imag = _sample_real(draw, imag_law, fmt, SECOND_STREAM)
    return draw.backend.complex(real, imag, draw.dtype)


def _sample_real(draw: Draw, distribution: Distribution, fmt: Format, stream: int) -> Any:
    steps = distribution.transform(fmt)
    if fmt.bits == 32 and isinstance(steps, Transform):
        values = draw.backend.fused(draw, steps, stream)
        if values is not None:
            return values
    return by_arrays(draw, distribution.sample, fmt, stream)


def by_arrays(draw: Draw, take: Callable[[Any, Any, Format], Any], fmt: Format, stream: int) -> Any:
    """What is taken of the words of the draw's elements, in ``fmt.work``, by array operations."""
    values = draw.backend.seal(take(draw.xp, _words_by_arrays(draw, fmt.bits, stream), fmt))
    return draw.xp.reshape(values, draw.grid.array_shape)


def draw_words(draw: Draw, stream: int) -> Any:
    """The 32-bit words of the draw's elements, as int32."""
    words = draw.backend.fused(draw, None, stream)
    return _words_by_arrays(draw, 32, stream) if words is None else words


def _words_by_arrays(draw: Draw, bits: int, stream: int) -> Any:
    """The words of the draw's elements, 32 or 64 bits wide, by array operations."""
    counters = draw.grid.counters(draw.xp, draw.device)
    return random_words(draw.xp, draw.key, counters, bits, stream)
