"""Plans: what the values of a parameter are, as data that every backend can carry out.

An initializer makes a plan; a backend executes it. A plan speaks of a whole parameter and is
executed for some of its elements: an array, a tile of it, the shard that a device holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from portinit.arrays.dtypes import Format, float_format
from portinit.sampling.distributions import Distribution
from portinit.sampling.transform import Transform, rounded


@dataclass(frozen=True)
class Full:
    """The same number everywhere.

    Attributes:
        value: a number of the parameter's dtype.
        distribution: the number as a distribution, before it was rounded to the dtype.
    """

    value: complex
    distribution: Distribution | None = field(default=None, compare=False, repr=False)
    divisible: ClassVar[bool] = True
    lasting: ClassVar[bool] = True


@dataclass(frozen=True)
class Elementwise:
    """Each element from its own random word.

    Attributes:
        format: the parameter's format.
        transform: the way from a word to a value, or to a complex value's real part.
        imaginary: the way from a word of the second stream to a complex value's imaginary part.
        offset: added to the elements' counters.
        distribution: what each element is an independent draw from, where it has its own word.
    """

    format: Format
    transform: Transform
    imaginary: Transform | None = None
    offset: int = 0
    distribution: Distribution | None = field(default=None, compare=False, repr=False)
    divisible: ClassVar[bool] = True
    lasting: ClassVar[bool] = True


class Piece(NamedTuple):
    """The plan of the coordinates ``start <= coordinate < stop`` along an axis."""

    start: int
    stop: int
    plan: Plan


@dataclass(frozen=True)
class Pieces:
    """Blocks of a packed parameter, one after the other along one of PyTorch's axes.

    Attributes:
        axis: PyTorch's axis that is packed.
        pieces: the plans of the blocks, in their order.
    """

    axis: int
    pieces: tuple[Piece, ...]

    @property
    def divisible(self) -> bool:
        """Whether any part can be computed by itself."""
        return all(piece.plan.divisible for piece in self.pieces)

    @property
    def lasting(self) -> bool:
        """Whether the plan stays right."""
        return all(piece.plan.lasting for piece in self.pieces)


TileMask = Callable[[Any, Any], Any]
"""A function of a tile's request, and of its positions in the array, to the tile's mask."""


class Mask:
    """Which elements a :class:`Select` takes from inside; a frozen dataclass.

    Its methods take a ``Request`` of the module ``base``, which imports this one.
    """

    def at(self, request: Any) -> Any:
        """Whether each element is inside: booleans that broadcast against the array."""
        raise NotImplementedError

    def of_tiles(self, request: Any) -> TileMask:
        """The mask of each tile of a request; what all tiles share is computed once."""
        return lambda tile, _: self.at(tile)


@dataclass(frozen=True)
class Select:
    """One plan where a mask holds, and another elsewhere; each as if for the whole parameter."""

    mask: Mask
    inside: Plan
    outside: Plan

    @property
    def divisible(self) -> bool:
        """Whether any part can be computed by itself."""
        return self.inside.divisible and self.outside.divisible

    @property
    def lasting(self) -> bool:
        """Whether the plan stays right."""
        return self.inside.lasting and self.outside.lasting


@dataclass(frozen=True)
class Computed:
    """Values that a function computes in the arrays of the request's backend.

    Attributes:
        compute: ``compute(request, *arguments)`` returns the array of the request.
        arguments: hashable values, so that equal plans share one compiled program.
        divisible: whether ``compute`` can be asked for any part by itself.
    """

    compute: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    divisible: bool = False
    lasting: ClassVar[bool] = True


@dataclass(frozen=True)
class Hosted:
    """Values that a function computes in NumPy, for every framework alike.

    Attributes:
        compute: ``compute(*arguments)`` returns a NumPy array of PyTorch's shape, of any dtype.
        arguments: its arguments; behind the key's two words, as a pair of ints, if it is keyed.
        keyed: whether the values depend on the key.
        lasting: whether the plan stays right; a file's may change.
    """

    compute: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    keyed: bool = False
    lasting: bool = True
    divisible: ClassVar[bool] = False


Plan = Full | Elementwise | Pieces | Select | Computed | Hosted


def independent_draws(distribution: Distribution, dtype: str) -> Elementwise | Full:
    """The plan of elements that are independent draws from one distribution.

    Raises:
        TypeError: a dtype that cannot be drawn, or a distribution that has no complex draws.
        ValueError: a distribution that the dtype has no room for.
    """
    fmt = float_format(dtype)
    distribution.check(fmt)
    parts = distribution.complex_parts() if fmt.is_complex else (distribution,)
    real, *imaginary = (part.transform(fmt) for part in parts)
    if isinstance(real, Transform):
        other = imaginary[0] if imaginary else None
        assert other is None or isinstance(other, Transform)
        return Elementwise(fmt, real, other, distribution=distribution)
    if fmt.is_complex:
        return Full(complex(real, real), distribution)
    return Full(fmt.saturated(rounded(real, fmt)), distribution)


def leaves(plan: Plan) -> Iterator[Full | Elementwise | Computed | Hosted]:
    """The plans that a plan is made of in the end."""
    if isinstance(plan, Pieces):
        for piece in plan.pieces:
            yield from leaves(piece.plan)
    elif isinstance(plan, Select):
        yield from leaves(plan.inside)
        yield from leaves(plan.outside)
    else:
        yield plan


def is_zero(plan: Plan) -> bool:
    """Whether all of a plan's values are 0.0, which is not -0.0."""
    return isinstance(plan, Full) and str(plan.value) == "0.0"


def is_hosted(plan: Plan) -> bool:
    """Whether NumPy computes some of a plan's values, which a compiled program cannot."""
    if isinstance(plan, Full | Elementwise):
        return False
    return any(isinstance(leaf, Hosted) for leaf in leaves(plan))


def needs_known_words(plan: Plan) -> bool:
    """Whether NumPy computes some of a plan's values from the key, which must not be traced."""
    return is_hosted(plan) and any(leaf.keyed for leaf in leaves(plan) if isinstance(leaf, Hosted))


def is_drawn(plan: Plan) -> bool:
    """Whether a plan says all, and no function has a part in it."""
    if isinstance(plan, Full | Elementwise):
        return True
    return all(isinstance(leaf, Full | Elementwise) for leaf in leaves(plan))


def is_drawn_apart(plan: Plan) -> bool:
    """Whether each element is a number or a function of its own word, whatever the others are."""
    if isinstance(plan, Pieces):
        return all(is_drawn_apart(piece.plan) for piece in plan.pieces)
    return isinstance(plan, Full | Elementwise)
