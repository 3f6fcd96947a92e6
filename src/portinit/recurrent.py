"""Initializers of recurrent layers: a packed parameter gate by gate, and biases with a memory.

PyTorch packs the gates of a layer along axis 0: input, forget, cell, output in an LSTM; reset,
update, new in a GRU. A cell adds two bias vectors, ``bias_ih`` and ``bias_hh``, so a bias belongs
into one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from portinit.arrays.grids import Grid
from portinit.backends.plan import Elementwise, Full, Plan
from portinit.initializers.base import Initializer, Parameter, Random
from portinit.initializers.basic import constant, zeros
from portinit.initializers.combinators import blocks, scaled
from portinit.initializers.numbers import as_int, set_floats
from portinit.sampling.distributions import Distribution
from portinit.sampling.log_uniform import LogUniform

GATES = {4: "an LSTM", 3: "a GRU", 1: "a plain RNN"}
"""The kind of layer by its number of gates."""


@dataclass(frozen=True)
class gates(Initializer):
    """One initializer for each gate of a packed recurrent parameter, in PyTorch's order.

    A recipe compares the number of gates with the layer's, by its hidden size, and makes it
    :class:`portinit.blocks`: each gate is initialised as a parameter of its own shape.

    Args:
        initializers: 4 for an LSTM (i, f, g, o), 3 for a GRU (r, z, n), 1 for a plain RNN.

    Raises:
        ValueError: in a recipe, a layer of another number of gates.

    >>> import portinit
    >>> bias = gates((portinit.zeros, portinit.ones, portinit.zeros, portinit.zeros))
    >>> print(bias.bound(portinit.Parameter("lstm.bias_ih_l0", (32,), "recurrent", fan_in=8)))
    blocks(initializers=(zeros(), ones(), zeros(), zeros(),))
    """

    initializers: tuple[Initializer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "initializers", tuple(self.initializers))
        blocks(self.initializers)  # which refuses what is no initializer, and none

    def bound(self, parameter: Parameter) -> Initializer:
        size = parameter.fan_in
        if not size or not parameter.shape:
            raise ValueError("gates need a recurrent layer's hidden size, found none")
        wanted, rows = len(self.initializers), parameter.shape[0]
        if rows != wanted * size:
            kind = GATES.get(wanted, "the layer")
            raise ValueError(
                f"{kind} must have {wanted} gates of {size} rows, got {rows} rows: name the layers "
                "of each kind apart"
            )
        gate = replace(parameter, shape=(size, *parameter.shape[1:]))
        parts = tuple(initializer.bound(gate) for initializer in self.initializers)
        return blocks(parts) if wanted > 1 else parts[0]

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        raise ValueError("gates need a recipe to compare their number; outside one, use blocks")


@dataclass(frozen=True)
class log_uniform(Random):
    """The natural logarithm of U[1, b].

    It is computed in integers, with no logarithm of floating-point numbers: the same bits
    everywhere, within two units in the last place of the true value.

    Args:
        b: upper bound of the uniform number, in [1, 2**24].

    >>> import portinit
    >>> log_uniform(99.0)(portinit.key(0), (2,))
    array([...], dtype=float32)
    """

    b: float

    def __post_init__(self) -> None:
        set_floats(self, "b")
        LogUniform(self.b)

    def element_distribution(self, grid: Grid) -> Distribution:
        return LogUniform(self.b)


@dataclass(frozen=True)
class shifted(Initializer):
    """An initializer with the random words of the elements that lie some rows further on.

    Within :class:`portinit.blocks` one block can so repeat another's draws.

    Args:
        initializer: one whose elements are independent draws.
        rows: how much further, along PyTorch's axis 0; negative for rows before.

    >>> import portinit
    >>> one = portinit.uniform()(portinit.key(0), (4,))
    >>> two = shifted(portinit.uniform(), rows=2)(portinit.key(0), (2,))
    >>> bool((two == one[2:]).all())
    True
    """

    initializer: Initializer
    rows: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", as_int("rows", self.rows))

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        if not grid.shape or grid.offset + self.rows * grid.strides[0] < 0:
            raise ValueError(f"no rows lie {self.rows} further on from a shape of {grid.shape}")
        plan, offset = self.initializer.planned(grid, dtype, factor), self.rows * grid.strides[0]
        if isinstance(plan, Full):
            return plan
        if not isinstance(plan, Elementwise):
            raise ValueError(f"independent draws are needed, got {self.initializer}")
        return replace(plan, offset=plan.offset + offset, distribution=None)


@dataclass(frozen=True)
class chrono(Initializer):
    """The bias of a gated layer whose units remember for up to ``t_max`` steps.

    LSTM: b_f = log(U[1, t_max - 1]), b_i = -b_f with the same draws, the others 0. GRU: the update
    gate, which keeps the state, b_z = log(U[1, t_max - 1]), the others 0. A unit with bias b keeps
    its state for about exp(b) steps. A recipe finds the gates.

    Args:
        t_max: the longest dependency expected, in steps; above 2, at most 2**24.

    Source: Tallec and Ollivier, "Can recurrent neural networks warp time?", ICLR 2018.

    >>> import portinit
    >>> bias = portinit.Parameter("lstm.bias_ih_l0", (32,), "recurrent", fan_in=8)
    >>> values = chrono(100.0).bound(bias)(portinit.key(0), (32,))
    >>> bool((values[:8] == -values[8:16]).all())
    True
    """

    t_max: float

    def __post_init__(self) -> None:
        set_floats(self, "t_max")
        if not 2 < self.t_max <= 2.0**24:
            raise ValueError(f"t_max must be above 2 and at most 2**24, got {self.t_max}")

    def bound(self, parameter: Parameter) -> Initializer:
        size = parameter.fan_in
        if not size or len(parameter.shape) != 1:
            raise ValueError("chrono needs a recurrent layer's bias and hidden size, found none")
        number = parameter.shape[0] // size
        if number not in _CHRONO or parameter.shape[0] % size:
            raise ValueError(f"chrono needs 4 gates (LSTM) or 3 (GRU), got {number}")
        memory = log_uniform(self.t_max - 1)
        return gates(_CHRONO[number](memory, size)).bound(parameter)

    def plan(self, grid: Grid, dtype: str, factor: float = 1.0) -> Plan:
        raise ValueError("chrono needs a recipe to find the gates of a layer's packed bias")


_CHRONO: dict[int, Callable[[Initializer, int], tuple[Initializer, ...]]] = {
    4: lambda memory, size: (shifted(scaled(memory, -1), size), memory, zeros, zeros),
    3: lambda memory, size: (zeros, memory, zeros),
}


def forget_bias(value: float = 1.0) -> Initializer:
    """An LSTM's packed bias: ``value`` for the forget gate, 0 for the others.

    Args:
        value: a finite number; 1 lets a unit keep about 73 % of its state at a step.

    Returns:
        An initializer that a recipe gives to packed biases.

    Source: Gers, Schmidhuber, Cummins, "Learning to forget", 2000; Jozefowicz, Zaremba,
    Sutskever, "An empirical exploration of recurrent network architectures", ICML 2015.

    >>> import portinit
    >>> bias = portinit.Parameter("lstm.bias_ih_l0", (8,), "recurrent", fan_in=2)
    >>> forget_bias().bound(bias)(portinit.key(0), (8,)).tolist()
    [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """
    if not math.isfinite(value):
        raise ValueError(f"a forget bias must be a finite number, got {value}")
    return gates((zeros, constant(value), zeros, zeros))
