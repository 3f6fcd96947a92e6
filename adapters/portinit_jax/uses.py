"""How a JAX function uses the arrays of a tree, read off its jaxpr."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from portinit.probes.inputs import is_array
from portinit.recipes.matching.uses.axes import permuted, placed, reshaped, without
from portinit.recipes.matching.uses.dataflow import CONSTANT, INPUT, Dataflow, Value
from portinit.recipes.matching.uses.uses import Operation, Uses


def uses_of(
    function: Callable[..., Any],
    tree: Any,
    names: Sequence[str | None],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Uses:
    """The uses of a tree's arrays in a call, in the order of its trace. Nothing is computed.

    Args:
        function: called with the tree and the arguments.
        tree: of arrays, or of ``jax.ShapeDtypeStruct``.
        names: of the tree's leaves, in JAX's order; None for a leaf that is no parameter.
        args: further positional arguments; what is no array in them is passed as it is.
        kwargs: keyword arguments, likewise.
    """
    given, structure = jax.tree.flatten((tuple(args), dict(kwargs or {})))
    arrays = [x for x in given if is_array(x)]

    def call(tree: Any, arrays: Sequence[Any]) -> Any:
        rest = iter(arrays)
        filled = [next(rest) if is_array(x) else x for x in given]
        positional, named = jax.tree.unflatten(structure, filled)
        output = function(tree, *positional, **named)
        return [x for x in jax.tree.leaves(output) if is_array(x)]

    closed = jax.make_jaxpr(call)(tree, arrays)
    ndims = {
        name: len(var.aval.shape)
        for name, var in zip(names, closed.jaxpr.invars, strict=False)
        if name is not None
    }
    flow = Dataflow(ndims)
    values = [CONSTANT if name is None else flow.parameter(name) for name in names]
    _JaxprWalk(flow).closed(closed, [*values, *[INPUT] * len(arrays)])
    return flow.uses()


class _JaxprWalk:
    """A walk through the equations of a jaxpr, and of those within it."""

    def __init__(self, flow: Dataflow) -> None:
        self._flow = flow

    def closed(self, closed: ClosedJaxpr, values: Sequence[Value]) -> list[Value]:
        """The values of a jaxpr's results, given those of its arguments."""
        return self._jaxpr(closed.jaxpr, values)

    def _jaxpr(self, jaxpr: Jaxpr, values: Sequence[Value]) -> list[Value]:
        known: dict[Any, Value] = dict.fromkeys(jaxpr.constvars, CONSTANT)
        known |= zip(jaxpr.invars, values, strict=True)

        def read(atom: Any) -> Value:
            return CONSTANT if isinstance(atom, Literal) else known.get(atom, CONSTANT)

        for equation in jaxpr.eqns:
            results = self._equation(equation, [read(atom) for atom in equation.invars])
            for var, value in zip(equation.outvars, results, strict=True):
                known[var] = value.of_rank(len(_shape(var)))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: JaxprEqn, values: list[Value]) -> list[Value]:
        name = equation.primitive.name
        count = len(equation.outvars)
        loop = _LOOPS.get(name)
        if loop is not None:
            return loop(self, equation, values)
        inner = _inner(equation)
        if inner is not None:
            results = self._jaxpr(inner, values)
            called = equation.params.get("name")
            if called in _NAMED:
                results = [self._flow.combine([own], function=called) for own in results]
            return results
        if not any(value.weights or value.is_data for value in values):
            return [CONSTANT] * count
        rule = _RULES.get(name)
        if rule is not None:
            return [rule(self._flow, equation, values)] * count
        if name in _UNCHANGED and count == len(values):
            return values
        return [self._other(equation, values, var) for var in equation.outvars]

    def _other(self, equation: JaxprEqn, values: list[Value], result: Var) -> Value:
        shape = _shape(result)
        shapes = [_shape(atom) for atom in equation.invars]
        if all(_spreads(own, shape) for own in shapes):
            return self._flow.combine(
                [
                    value.moved(placed((), len(shape))) if own == () else value
                    for value, own in zip(values, shapes, strict=True)
                ],
                _POINTWISE.get(equation.primitive.name, Operation.OTHER),
                _FUNCTIONS.get(equation.primitive.name),
            )
        return self._flow.unknown(values, len(shape))

    # Loops and branches

    def _scan(self, equation: JaxprEqn, values: list[Value]) -> list[Value]:
        params = equation.params
        consts, carries = params["num_consts"], params["num_carry"]
        fixed, carry = values[:consts], values[consts : consts + carries]
        layers = values[consts + carries :]
        turn = [self._flow.layer_of(value) for value in layers]
        body = params["jaxpr"]
        carry = self._settled(
            carry,
            [*fixed, *turn],
            lambda own: self.closed(body, [*fixed, *own, *turn])[:carries],
        )
        results = self.closed(body, [*fixed, *carry, *turn])
        depths = [max((v.depth for v in own), default=-1) for own in (carry, results[:carries])]
        period = max(0, depths[1] - depths[0])
        self._flow.note_period([name for value in layers for name in value.weights], period)
        further = period * (params["length"] - 1)
        ndims = [len(_shape(var)) for var in equation.outvars]
        stacked = [
            value.moved(placed(range(1, ndim), ndim))
            for value, ndim in zip(results[carries:], ndims[carries:], strict=True)
        ]
        return [
            Value(depth=value.depth + further, latest=value.latest) if value.is_data else value
            for value in (*results[:carries], *stacked)
        ]

    def _while(self, equation: JaxprEqn, values: list[Value]) -> list[Value]:
        params = equation.params
        tested, consts = params["cond_nconsts"], params["body_nconsts"]
        fixed, carry = values[tested : tested + consts], values[tested + consts :]
        body = params["body_jaxpr"]
        carry = self._settled(carry, fixed, lambda own: self.closed(body, [*fixed, *own]))
        return self.closed(body, [*fixed, *carry])

    def _settled(
        self,
        carry: list[Value],
        others: list[Value],
        turn: Callable[[list[Value]], list[Value]],
    ) -> list[Value]:
        """What a loop carries, where constants that become data after a turn are data."""
        depth = max(0, *(value.depth for value in (*carry, *others)))
        while not all(value.is_data for value in carry):
            with self._flow.paused():
                after = turn(carry)
            new = [
                Value(depth=depth) if result.is_data and not value.is_data else value
                for value, result in zip(carry, after, strict=True)
            ]
            if new == carry:
                break
            carry = new
        return carry

    def _cond(self, equation: JaxprEqn, values: list[Value]) -> list[Value]:
        branches = [self.closed(one, values[1:]) for one in equation.params["branches"]]
        return [self._flow.combine(options) for options in zip(*branches, strict=True)]


_LOOPS: dict[str, Callable[[_JaxprWalk, JaxprEqn, list[Value]], list[Value]]] = {
    "scan": _JaxprWalk._scan,
    "while": _JaxprWalk._while,
    "cond": _JaxprWalk._cond,
}


def _inner(equation: JaxprEqn) -> Jaxpr | None:
    """The jaxpr that an equation calls with its own operands: of jit, checkpoint, custom_jvp."""
    if equation.primitive.name == "pallas_call":
        return None
    for found in equation.params.values():
        inner = found.jaxpr if isinstance(found, ClosedJaxpr) else found
        if isinstance(inner, Jaxpr):
            sizes = len(inner.invars), len(inner.outvars)
            return inner if sizes == (len(equation.invars), len(equation.outvars)) else None
    return None


def _spreads(own: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether an operand is a scalar, or has the result's axes, some of length 1."""
    same = len(own) == len(shape) and all(n in (m, 1) for n, m in zip(own, shape, strict=True))
    return same or own == ()


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(getattr(atom.aval, "shape", ()))


# What primitives do to axes

_UNCHANGED = {"optimization_barrier"}


def _dot_general(flow: Dataflow, equation: JaxprEqn, values: list[Value]) -> Value:
    contracted, batch = equation.params["dimension_numbers"]
    ndims = [len(_shape(atom)) for atom in equation.invars]
    return flow.contract(values[0], values[1], contracted, batch, (ndims[0], ndims[1]))


def _convolution(flow: Dataflow, equation: JaxprEqn, values: list[Value]) -> Value:
    data, weights = values
    if not data.is_data or not weights.weights:
        return flow.unknown(values, len(_shape(equation.outvars[0])))
    out, inputs, *space = equation.params["dimension_numbers"].rhs_spec
    roles = {out: "out", inputs: "in", **dict.fromkeys(space, "space")}
    return flow.matrix(weights, data, roles, Operation.CONVOLUTION)


def _gather(flow: Dataflow, equation: JaxprEqn, values: list[Value]) -> Value:
    numbers = equation.params["dimension_numbers"]
    shape, sizes = _shape(equation.invars[0]), equation.params["slice_sizes"]
    indexed = [axis for axis in numbers.start_index_map if sizes[axis] != shape[axis]]
    gone = {*numbers.collapsed_slice_dims, *getattr(numbers, "operand_batching_dims", ())}
    kept = iter(axis for axis in range(len(shape)) if axis not in gone)
    view = tuple(
        frozenset({next(kept)}) if axis in numbers.offset_dims else frozenset[int]()
        for axis in range(len(_shape(equation.outvars[0])))
    )
    return flow.lookup(values[0], values[1:], indexed, view)


def _transpose(flow: Dataflow, equation: JaxprEqn, values: list[Value]) -> Value:
    return values[0].moved(permuted(equation.params["permutation"]))


def _reshape(flow: Dataflow, equation: JaxprEqn, values: list[Value]) -> Value:
    return values[0].moved(reshaped(_shape(equation.invars[0]), _shape(equation.outvars[0])))


def _broadcast(flow: Dataflow, equation: JaxprEqn, values: list[Value]) -> Value:
    places = equation.params["broadcast_dimensions"]
    return values[0].moved(placed(places, len(_shape(equation.outvars[0]))))


def _squeeze(flow: Dataflow, equation: JaxprEqn, values: list[Value]) -> Value:
    return values[0].moved(without(equation.params["dimensions"]))


def _reduce(flow: Dataflow, equation: JaxprEqn, values: list[Value]) -> Value:
    if equation.primitive.name == "reduce_max":
        flow.normalize(values[0], equation.params["axes"])
    return values[0].moved(without(equation.params["axes"]))


def _same(flow: Dataflow, equation: JaxprEqn, values: list[Value]) -> Value:
    """A part of an array, or one of its size: axes stay, though some may be shorter."""
    data = [value for value in values[1:] if value.is_data]
    return flow.combine([values[0], *data]) if data else values[0]


_Rule = Callable[[Dataflow, JaxprEqn, list[Value]], Value]

_RULES: dict[str, _Rule] = {
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "gather": _gather,
    "transpose": _transpose,
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast,
    "squeeze": _squeeze,
    **dict.fromkeys(
        ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "argmax", "argmin"), _reduce
    ),
    **dict.fromkeys(
        ("slice", "dynamic_slice", "rev", "pad", "split", "sharding_constraint", "reduce_window"),
        _same,
    ),
}

_POINTWISE = {
    "mul": Operation.MULTIPLY,
    "div": Operation.MULTIPLY,
    "add": Operation.ADD,
    "sub": Operation.ADD,
    "add_any": Operation.ADD,
}

_FUNCTIONS = {
    **{name: name for name in ("exp", "tanh", "logistic", "erf", "sin", "cos", "log")},
    "exp2": "exp",
    "expm1": "exp",
    "erfc": "erf",
    "log1p": "log",
}
"""Nonlinear functions, by the names that the passes of all frameworks use."""

_NAMED = frozenset({"relu", "relu6", "leaky_relu"})
"""Functions of :mod:`jax.nn` whose primitives are used for other things too."""
