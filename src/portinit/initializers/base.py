"""The base class of initializers: a frozen dataclass, called with a key and a shape."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar, overload

from numpy.typing import NDArray

from portinit.arrays.dtypes import dtype_name
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout, Shape, as_layout, as_shape
from portinit.backends.base import Request, UnknownWordsError
from portinit.backends.plan import Plan, independent_draws
from portinit.backends.registry import backend_of, words_of
from portinit.initializers.signatures import Namespace
from portinit.random.keys import Key
from portinit.sampling.distributions import Distribution

if TYPE_CHECKING:
    import jax

_Array = TypeVar("_Array")
_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Parameter:
    """What a model tells about one of its parameters.

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
        siblings: of a normalisation's parameter, the names of the layers in the same block; None
            if unknown.
        direction: of the magnitude that weight norm stores, the name and the shape of the direction
            beside it.

    >>> Parameter("fc.bias", (10,), "linear", fan_in=512).shape
    (10,)
    """

    name: str
    shape: Shape
    kind: str | None = None
    fan_in: int | None = None
    padding_idx: int | None = None
    other_names: tuple[str, ...] = ()
    siblings: tuple[str, ...] | None = None
    direction: tuple[str, Shape] | None = None


def require_arguments(name: str, *arguments: Any) -> None:
    """Refuse a key where an initializer's own arguments belong: it was not made, but called."""
    if arguments and _is_key(arguments[0]):
        raise TypeError(
            f"{name} must be made before it draws, portinit.{name}(...)(key, shape); got it "
            f"called with a key: write kernel_init=portinit.{name}() with parentheses"
        )


def made_first(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function that returns an initializer say so where it is given a key instead."""
    name = f"{function.__module__}.{function.__name__}".removeprefix("portinit.")

    @functools.wraps(function)
    def make(*arguments: _P.args, **named: _P.kwargs) -> _R:
        require_arguments(name, *arguments)
        return function(*arguments, **named)

    return make


def _is_key(value: Any) -> bool:
    """Whether a value is a key: portinit's, or one of JAX's, typed (``key<fry>``) or raw."""
    dtype, shape = str(getattr(value, "dtype", "")), getattr(value, "shape", ())
    return isinstance(value, Key) or dtype.startswith("key<") or (dtype == "uint32" and shape != ())


@dataclass(frozen=True)
class Initializer:
    """A rule for the values of a parameter, called with a key and a shape.

    >>> import portinit
    >>> init = portinit.kaiming_normal()
    >>> init(portinit.key(0), (3, 4)).shape
    (3, 4)
    >>> print(init)
    kaiming_normal()
    """

    default_layout: ClassVar[str] = "flax"

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        """Plan ``factor`` times the values of a parameter: the one method of an initializer.

        The factor joins the initializer's own constants before anything is rounded: two
        multiplications after another are folded by one compiler and not by another.

        Args:
            grid: the parameter's shape and layout; which of its elements an array holds does not
                matter to the plan.
            dtype: the name of the dtype.
            factor: a finite number.

        Raises:
            TypeError, ValueError: the initializer is not defined for the shape or the dtype.
        """
        raise NotImplementedError

    def planned(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        """Like :meth:`plan`, kept for the next call with equal arguments."""
        try:
            plans: dict[Any, Plan] = self.__dict__["_plans"]
        except KeyError:
            plans = self.__dict__["_plans"] = {}
        known = plans.get((grid, dtype, factor))
        if known is not None:
            return known
        if len(plans) >= _MOST_PLANS:
            plans.clear()
        plan = self.plan(grid, dtype, factor)
        if plan.lasting:
            plans[grid, dtype, factor] = plan
        return plan

    def __getstate__(self) -> dict[str, Any]:
        """The arguments, without the plans that are kept."""
        return {name: value for name, value in self.__dict__.items() if name != "_plans"}

    def parts(self) -> Iterator[Initializer]:
        """The initializers that this one is made of."""
        for field in fields(self):
            value = getattr(self, field.name)
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Initializer):
                    yield item

    if not TYPE_CHECKING:

        def __new__(cls, *arguments: Any, **named: Any) -> Any:
            """Say so where the class is called in the place of an initializer of it."""
            require_arguments(cls.__name__, *arguments)
            return super().__new__(cls)

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
            key: a :class:`portinit.Key`, or a JAX key of threefry2x32 or rbg, typed or raw.
            shape: the shape of the array.
            dtype: a floating or complex dtype of any framework, or its name; by default the
                framework's own default, float32 in NumPy.
            out_sharding: for JAX, the sharding of the result.
            xp: the array namespace of the result, such as ``torch``; by default JAX for JAX's
                keys and NumPy for others.
            device: where to put the result.
            layout: how the array's axes map to PyTorch's; by default arrays of two or more axes are
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
        """Compute the elements of a grid, which may be a part of a parameter."""
        backend = backend_of(key, xp)
        words = words_of(key, backend)
        name = backend.default_dtype() if dtype is None else dtype_name(dtype)
        plan = self.planned(grid, name)
        try:
            return backend.run(plan, Request(backend, words, grid, name, device), out_sharding)
        except UnknownWordsError as error:
            raise TypeError(f"{self} is computed in NumPy: {error}") from error

    def distribution_of(
        self, shape: Sequence[int], dtype: Any = "float32", *, layout: Layout | str | None = None
    ) -> Distribution | None:
        """The distribution from which each element of a parameter is drawn independently.

        Args:
            shape: the shape of the array, as for a call.
            dtype: the dtype of the array.
            layout: as for a call.

        Returns:
            A distribution with a ``mean`` and a ``std``; None if the elements have no common one
            (``blocks``) or depend on each other (``orthogonal``).

        >>> import portinit
        >>> portinit.kaiming_normal().distribution_of((32, 64)).std  # sqrt(2 / 32)
        0.25
        """
        chosen = self.default_layout if layout is None else layout
        grid = Grid.whole(as_shape(shape), as_layout(chosen))
        return distribution(self, grid, dtype_name(dtype))

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

    def draws_with(self, parameter: Parameter) -> str | None:
        """The name of another parameter whose key it draws with; None for the parameter's own."""
        return None


def _is_default(value: Any, default: Any) -> bool:
    return bool(value == default) and str(value).startswith("-") == str(default).startswith("-")


def _in_code(value: Any) -> str:
    if isinstance(value, tuple) and any(isinstance(item, Initializer) for item in value):
        return "(" + "".join(f"{item}, " for item in value).rstrip() + ")"
    return str(value) if isinstance(value, Initializer) else repr(value)


_MOST_PLANS = 256  # that one initializer keeps


def distribution(
    initializer: Initializer, grid: Grid, dtype: str, factor: float = 1.0
) -> Distribution | None:
    """The distribution of ``factor`` times each independently drawn element, or None.

    Raises:
        TypeError, ValueError: the initializer is not defined for the shape or the dtype.
    """
    return getattr(initializer.planned(grid, dtype, factor), "distribution", None)


@dataclass(frozen=True)
class Random(Initializer):
    """An initializer whose elements are independent draws from one distribution."""

    def element_distribution(self, grid: Grid) -> Distribution:
        """The distribution of the elements of a parameter of the grid's shape."""
        raise NotImplementedError

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        law = self.element_distribution(grid)
        return independent_draws(law if factor == 1 else law.scaled(factor), dtype)
