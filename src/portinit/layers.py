"""The initializers that PyTorch's layers use by default, for Flax modules.

``nn.Dense(10, kernel_init=layers.linear_weight(), bias_init=layers.linear_bias(fan_in=512))`` is
what ``torch.nn.Linear(512, 10)`` draws. A bias needs its kernel's fan_in, which Flax does not
tell it: name it here, or let a recipe find it.

Source: the ``reset_parameters`` of PyTorch 2.13's modules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from portinit.arrays.grids import Grid
from portinit.arrays.layouts import LAYOUTS, Shape, as_shape
from portinit.backends.base import Request
from portinit.backends.numpy import NUMPY
from portinit.backends.plan import Hosted, Plan
from portinit.initializers.assigned import times
from portinit.initializers.base import Initializer, Parameter, Random, made_first
from portinit.initializers.basic import constant, normal, ones, zeros
from portinit.initializers.combinators import blocks, where
from portinit.initializers.numbers import as_int
from portinit.initializers.torch_schemes import kaiming_uniform, xavier_uniform
from portinit.sampling.distributions import Uniform


@made_first
def linear_weight() -> Initializer:
    """Return what the weight of ``nn.Linear`` starts from: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    Returns:
        An initializer.

    Source: ``torch.nn.Linear.reset_parameters``.

    >>> import portinit
    >>> from portinit import layers
    >>> layers.linear_weight()(portinit.key(0), (4, 2)).shape
    (4, 2)
    """
    return kaiming_uniform(a=math.sqrt(5))


@made_first
def conv_weight() -> Initializer:
    """Return what every convolution's weight starts from: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    fan_in is axis 1 times the kernel's size: for a transposed convolution that is its outputs.

    Returns:
        An initializer.

    Source: ``torch.nn.modules.conv._ConvNd.reset_parameters``.

    >>> import portinit
    >>> from portinit import layers
    >>> layers.conv_weight()(portinit.key(0), (3, 3, 4, 8)).shape
    (3, 3, 4, 8)
    """
    return kaiming_uniform(a=math.sqrt(5))


@dataclass(frozen=True)
class fan_in_uniform(Random):
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for a fan_in that is not the parameter's own.

    Args:
        fan_in: the kernel's; none means that a recipe finds the kernel beside the bias.

    Raises:
        ValueError: a fan_in below 1, or none given outside a recipe.

    >>> import portinit
    >>> fan_in_uniform(4)(portinit.key(0), (8,)).shape
    (8,)
    """

    fan_in: int | None = None

    def __post_init__(self) -> None:
        if self.fan_in is None:
            return
        object.__setattr__(self, "fan_in", as_int("fan_in", self.fan_in))
        if self.fan_in < 1:
            raise ValueError(f"fan_in must be 1 or more, got {self.fan_in}")

    def bound(self, parameter: Parameter) -> Initializer:
        fan_in = parameter.fan_in if self.fan_in is None else self.fan_in
        if fan_in is None:
            raise ValueError(
                f"{parameter.name} needs a kernel beside it for its fan_in, found none"
            )
        if fan_in == 0 and len(parameter.shape) == 1:  # the bias of a layer without inputs
            return zeros
        return fan_in_uniform(fan_in)

    def element_distribution(self, grid: Grid) -> Uniform:
        if self.fan_in is None:
            raise ValueError(
                "a bias outside a recipe needs its kernel's fan_in, as in "
                "fan_in_uniform(fan_in=512); got none"
            )
        bound = 1 / math.sqrt(self.fan_in)
        return Uniform(-bound, bound)


@made_first
def linear_bias(fan_in: int | None = None) -> Initializer:
    """Return what the bias of ``nn.Linear`` starts from: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    Args:
        fan_in: the number of the layer's inputs, 1 or more; None lets a recipe find it.

    Returns:
        An initializer.

    >>> import portinit
    >>> from portinit import layers
    >>> layers.linear_bias(fan_in=4)(portinit.key(0), (8,)).shape
    (8,)
    """
    return fan_in_uniform(fan_in)


@made_first
def conv_bias(fan_in: int | None = None) -> Initializer:
    """Return what a convolution's bias starts from: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    Args:
        fan_in: in_channels / groups * prod(kernel_size); for a transposed convolution PyTorch
            takes out_channels / groups * prod(kernel_size). None lets a recipe find it.

    Returns:
        An initializer.

    >>> import portinit
    >>> from portinit import layers
    >>> layers.conv_bias(fan_in=36)(portinit.key(0), (8,)).shape
    (8,)
    """
    return fan_in_uniform(fan_in)


@made_first
def recurrent(hidden_size: int) -> Initializer:
    """Return what each weight and bias of RNN, LSTM, GRU and their cells starts from.

    U(-1/sqrt(hidden_size), 1/sqrt(hidden_size)).

    Args:
        hidden_size: the number of the layer's hidden units, 1 or more.

    Returns:
        An initializer.

    >>> import portinit
    >>> from portinit import layers
    >>> layers.recurrent(16)(portinit.key(0), (64,)).shape
    (64,)
    """
    return fan_in_uniform(hidden_size)


@made_first
def attention_in_proj() -> Initializer:
    """Return what MultiheadAttention's packed ``in_proj_weight`` (3E, E) starts from.

    Xavier uniform over the packed matrix: U(-b, b) with b = sqrt(6 / (4E)).

    Returns:
        An initializer.

    >>> import portinit
    >>> from portinit import layers
    >>> layers.attention_in_proj()(portinit.key(0), (48, 16), layout="torch").shape
    (48, 16)
    """
    return xavier_uniform()


@dataclass(frozen=True)
class padded(Initializer):
    """An embedding table (rows, features) whose padding row is zero.

    Args:
        initializer: for the other rows.
        padding_idx: the padding row; none means that a recipe finds it, if there is one.

    >>> import portinit
    >>> padded(portinit.ones, padding_idx=1)(portinit.key(0), (2, 2)).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """

    initializer: Initializer
    padding_idx: int | None = None
    default_layout: ClassVar[str] = "rows"

    def _table(self, padding_idx: int | None) -> Initializer:
        if padding_idx is None:
            return self.initializer
        return where(padding_idx, zeros, self.initializer)

    def bound(self, parameter: Parameter) -> Initializer:
        row = parameter.padding_idx if self.padding_idx is None else self.padding_idx
        return self._table(row).bound(parameter)

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        return self._table(self.padding_idx).planned(grid, dtype, factor)


@made_first
def embedding(padding_idx: int | None = None) -> Initializer:
    """Return what ``nn.Embedding`` starts from: N(0, 1), with the padding row zero.

    Args:
        padding_idx: the padding row, or None for none outside a recipe; a recipe finds it.

    Returns:
        An initializer of tables (rows, features), in both frameworks.

    >>> import portinit
    >>> from portinit import layers
    >>> layers.embedding(padding_idx=0)(portinit.key(0), (3, 2))[0].tolist()
    [0.0, 0.0]
    """
    return padded(normal(), padding_idx)


@dataclass(frozen=True)
class per_gate(Initializer):
    """A packed recurrent weight, one initializer a gate; a recipe finds the number of gates.

    Args:
        initializer: for each gate's block of hidden_size rows.

    >>> import portinit
    >>> gate = per_gate(portinit.orthogonal())
    >>> weight = portinit.Parameter("weight_hh_l0", (32, 8), "recurrent", fan_in=8)
    >>> len(gate.bound(weight).initializers)
    4
    """

    initializer: Initializer

    def bound(self, parameter: Parameter) -> Initializer:
        if not parameter.fan_in:
            raise ValueError("per_gate needs a recurrent layer's hidden size, found none")
        if not parameter.shape:
            raise ValueError("per_gate needs a shape of 1 dimension or more, got ()")
        gates = parameter.shape[0] // parameter.fan_in
        return blocks((self.initializer.bound(parameter),) * gates)

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        raise ValueError("per_gate needs a recipe to find the gates; outside one, use blocks")


@dataclass(frozen=True)
class zero_if_last(Initializer):
    """The weight of a normalisation in a residual block: 0 if none comes after it, else 1.

    A recipe finds the layers of the block. ResNet's basic blocks end in ``bn2``, its bottlenecks
    in ``bn3``.

    Args:
        later: the names of the normalisations that come after it in longer blocks.

    >>> import portinit
    >>> block = ("conv1", "bn1", "conv2", "bn2")
    >>> weight = portinit.Parameter("layer1.0.bn2.weight", (64,), "norm", siblings=block)
    >>> print(zero_if_last(("bn3",)).bound(weight))
    zeros()

    Source: Goyal et al., "Accurate, large minibatch SGD", 2017, section 5.1; torchvision's
    ``zero_init_residual``.
    """

    later: tuple[str, ...]

    def bound(self, parameter: Parameter) -> Initializer:
        if parameter.siblings is None:
            raise ValueError(
                "zero_if_last needs the names of the layers beside it, found none; name the rule's "
                "initializer yourself: zeros for the last normalisation of a block, ones for others"
            )
        return ones if set(self.later) & {*parameter.siblings} else zeros

    def check(self, grid: Grid, dtype: str) -> None:
        raise ValueError("zero_if_last needs a recipe to find the layers beside it; use zeros")


@dataclass(frozen=True)
class weight_norm_magnitude(Initializer):
    """The magnitudes that weight norm stores beside its direction: the direction's norms.

    g = ||v||, so that the weight g v / ||v|| starts as v. v is drawn as the direction itself is,
    and in a recipe with the direction's key: g has the norms of the very values that v has.

    It is computed in NumPy in float64 and rounded once, so it needs a key whose words are known:
    call it outside of ``jax.jit``.

    Args:
        direction: what v is drawn from.
        shape: of v, in PyTorch; None means that a recipe finds it.

    Raises:
        ValueError: no shape given outside a recipe, or one that the magnitudes do not fit: each of
            their axes must have the length 1, or v's.

    Source: Salimans and Kingma, "Weight normalization", NeurIPS 2016, eq. 2;
    ``torch.nn.utils.parametrizations.weight_norm``.

    >>> import portinit
    >>> g = weight_norm_magnitude(portinit.constant(2), shape=(3, 4))
    >>> g(portinit.key(0), (3, 1)).ravel().tolist()  # sqrt(4 * 2^2)
    [4.0, 4.0, 4.0]
    """

    direction: Initializer
    shape: Shape | None = None
    default_layout: ClassVar[str] = "rows"

    def __post_init__(self) -> None:
        if not isinstance(self.direction, Initializer):
            raise TypeError(f"the direction needs a portinit initializer, got {self.direction!r}")
        if self.shape is not None:
            object.__setattr__(self, "shape", as_shape(self.shape))

    def bound(self, parameter: Parameter) -> Initializer:
        if self.shape is not None:
            return self
        if parameter.direction is None:
            raise ValueError(
                f"{parameter.name} needs a direction of weight norm beside it, which a PyTorch "
                "model tells: bind the recipe to that first, or give the direction's shape"
            )
        name, shape = parameter.direction
        described = Parameter(name, shape, "parametrized", parameter.fan_in)
        return weight_norm_magnitude(self.direction.bound(described), shape)

    def draws_with(self, parameter: Parameter) -> str | None:
        return parameter.direction and parameter.direction[0]

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        if self.shape is None:
            raise ValueError(
                "weight norm's magnitudes need the direction's shape outside a recipe, as in "
                "weight_norm_magnitude(initializer, shape=(64, 32))"
            )
        fits = len(grid.shape) == len(self.shape) and all(
            size in (1, of_direction)
            for size, of_direction in zip(grid.shape, self.shape, strict=True)
        )
        if grid.shape and not fits:
            raise ValueError(f"magnitudes {grid.shape} do not fit a direction {self.shape}")
        whole = Grid.whole(self.shape, LAYOUTS["torch"])
        drawn = self.direction.planned(whole, dtype)
        return Hosted(_norms, (drawn, whole, dtype, grid.shape, factor), keyed=True)


def _norms(
    words: tuple[int, int], drawn: Plan, direction: Grid, dtype: str, shape: Shape, factor: float
) -> np.ndarray[Any, Any]:
    """The norms of a direction over the axes that the magnitudes do not have."""
    values = NUMPY.execute(drawn, Request(NUMPY, words, direction, dtype))
    sizes = shape or (1,) * len(direction.shape)
    over = tuple(axis for axis, size in enumerate(sizes) if size == 1)
    wide = np.abs(values.astype("complex128" if dtype.startswith("complex") else "float64"))
    return times(np.sqrt((wide**2).sum(axis=over)).reshape(shape), factor)


@made_first
def prelu() -> Initializer:
    """Return what the slope of ``nn.PReLU`` starts from: 0.25.

    Returns:
        An initializer.

    >>> import portinit
    >>> from portinit import layers
    >>> layers.prelu()(portinit.key(0), (1,)).tolist()
    [0.25]
    """
    return constant(0.25)
