"""How a PyTorch module's forward pass uses its parameters, watched at the dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.weak import WeakTensorKeyDictionary

from portinit.probes.inputs import map_arrays
from portinit.recipes.matching.uses.axes import permuted, placed, reshaped, without
from portinit.recipes.matching.uses.dataflow import CONSTANT, INPUT, Dataflow, Value
from portinit.recipes.matching.uses.uses import Operation, Uses
from portinit_torch.inputs import torch_arguments
from portinit_torch.tracing.modes import TorchDispatchMode


def uses(model: nn.Module, *args: Any, **kwargs: Any) -> Uses:
    """Watch one forward pass and say how it uses each parameter and buffer.

    The module runs in evaluation mode, without gradients, and is left as it was.

    Args:
        model: the module; a module on ``torch.device("meta")`` computes nothing.
        args: example inputs: tensors, or arrays of other frameworks.
        kwargs: example inputs by name.

    Returns:
        The uses by the names of ``state_dict()``, the first use first. A tied parameter has the
        same uses under each of its names.

    >>> import torch
    >>> print(uses(torch.nn.Linear(3, 2), torch.zeros(1, 3)))
    weight: contraction (out, in) at depth 1
    bias: add at depth 1
    """
    names = _names(model)
    copies = {id(buffer): buffer.clone() for buffer in model.buffers()}  # a call may write to them
    tensors = {owners[0]: copies.get(id(one), one) for one, owners in names.values()}
    buffers = {
        name: copies[id(buffer)] for name, buffer in model.named_buffers(remove_duplicate=False)
    }

    def call(*args: Any, **kwargs: Any) -> None:
        functional_call(model, buffers, args, kwargs)

    with _in_evaluation(model), torch.random.fork_rng(devices=[]):
        found = uses_of(call, tensors, args, kwargs)
    return Uses(
        {
            name: found[owners[0]]
            for _, owners in names.values()
            if owners[0] in found
            for name in owners
        }
    )


def uses_of(
    function: Callable[..., Any],
    tensors: Mapping[str, Tensor],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Uses:
    """The uses of tensors in a call, in the order in which its operations run.

    Args:
        function: called with the arguments, without gradients.
        tensors: what it uses, by name.
        args: positional arguments, whose arrays become tensors beside these.
        kwargs: keyword arguments, likewise.
    """
    flow = Dataflow({name: tensor.ndim for name, tensor in tensors.items()})
    device = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
    watch = _UseWatch(flow)
    for name, tensor in tensors.items():
        watch.known[tensor] = flow.parameter(name)

    def give(tensor: Any) -> Any:
        given = tensor.detach().to(device)
        given = given.clone() if given.device.type != "meta" else given
        watch.known[given] = INPUT
        return given

    positional, named = (
        map_arrays(torch_arguments(part, device)[0][place], give)
        for place, part in enumerate((args, kwargs or {}))
    )
    with torch.no_grad(), watch:
        function(*positional, **named)
    return flow.uses()


def _names(model: nn.Module) -> Mapping[int, tuple[Tensor, list[str]]]:
    """The parameters and buffers, each with all its names."""
    found: dict[int, tuple[Tensor, list[str]]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):
            found.setdefault(id(tensor), (tensor, []))[1].append(name)
    return found


@contextmanager
def _in_evaluation(model: nn.Module) -> Iterator[None]:
    """The module in evaluation mode, and attention computed from its parts."""
    modes = {part: part.training for part in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    model.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for part, training in modes.items():
            part.training = training


class _UseWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The operations that run while it lasts, told to a dataflow."""

    def __init__(self, flow: Dataflow) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known: Any = WeakTensorKeyDictionary()
        self._flow = flow
        self._written: dict[int, Value] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.name().rpartition("::")[2].partition(".")[0]
        self._follow(name, [*args, *kwargs.values()], list(_tensors(result)))
        return result

    def _follow(self, name: str, args: list[Any], results: list[Tensor]) -> None:
        operands = list(_tensors(args))
        values = [self._value(tensor) for tensor in operands]
        if not results or not any(value.weights or value.is_data for value in values):
            return
        rule = _RULES.get(name) or _RULES.get(name.rstrip("_"))
        if rule is not None:
            value = rule(_DispatchedCall(self._flow, name, args, self._value, results[0]))
        else:
            value = self._other(name, operands, values, results[0])
        for tensor in results:
            self.known[tensor] = value.of_rank(tensor.ndim)
        memory = _memory(results[0])
        if name.endswith("_") and value.is_data and memory:  # of a larger tensor, maybe
            self._written[memory] = value
        elif memory not in map(_memory, operands):  # memory that was freed and given again
            self._written.pop(memory, None)

    def _value(self, tensor: Any) -> Value:
        if not isinstance(tensor, Tensor):
            return CONSTANT
        found: Value = self.known.get(tensor, CONSTANT)
        if found is CONSTANT and self._written:
            return self._written.get(_memory(tensor), CONSTANT)
        return found

    def _other(
        self, name: str, operands: list[Tensor], values: list[Value], result: Tensor
    ) -> Value:
        name = name.strip("_")
        shapes = [tuple(tensor.shape) for tensor in operands]
        ndim = result.ndim
        try:
            is_pointwise = torch.broadcast_shapes(*shapes) == result.shape  # type: ignore[no-untyped-call]
        except RuntimeError:
            is_pointwise = False
        if not is_pointwise:
            return self._flow.unknown(values, ndim)
        aligned = [
            value.moved(placed(range(ndim - len(shape), ndim), ndim))
            for value, shape in zip(values, shapes, strict=True)
        ]
        return self._flow.combine(
            aligned, _POINTWISE.get(name, Operation.OTHER), _FUNCTIONS.get(name)
        )


def _memory(tensor: Tensor) -> int:
    """Where the memory begins that a tensor shares with its views; 0 if it has none."""
    try:
        return int(tensor.untyped_storage().data_ptr())
    except (RuntimeError, NotImplementedError):  # sparse tensors, and others of their own kinds
        return 0


def _tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, list | tuple):
        for part in found:
            yield from _tensors(part)


class _DispatchedCall:
    """One operation as a rule sees it.

    Attributes:
        flow: what is told.
        name: the operation's, without its overload.
        args: its arguments, those by keyword last.
        result: one of the tensors that it gave.
    """

    def __init__(
        self,
        flow: Dataflow,
        name: str,
        args: list[Any],
        value: Callable[[Any], Value],
        result: Tensor,
    ) -> None:
        self.flow, self.name, self.args, self.result = flow, name, args, result
        self._value = value

    def value(self, place: int) -> Value:
        """The value of an argument; a constant if there is none."""
        return self._value(self.args[place]) if place < len(self.args) else CONSTANT

    def of(self, tensor: Any) -> Value:
        """The value of a tensor; a constant if it is none."""
        return self._value(tensor)

    def shape(self, place: int = 0) -> tuple[int, ...]:
        """The shape of an argument."""
        return tuple(self.args[place].shape)

    def axis(self, place: int, default: int = 0) -> int:
        """An argument that is an axis, counted from the front."""
        axis = self.args[place] if place < len(self.args) else default
        ndim: int = self.args[0].ndim
        return int(axis) % max(1, ndim)


# What operations do to axes

_Rule = Callable[[_DispatchedCall], Value]


def _same(call: _DispatchedCall) -> Value:
    return call.value(0)


def _reshaped(call: _DispatchedCall) -> Value:
    return call.value(0).moved(reshaped(call.shape(), tuple(call.result.shape)))


def _spread(call: _DispatchedCall) -> Value:
    ndim = call.result.ndim
    return call.value(0).moved(placed(range(ndim - len(call.shape()), ndim), ndim))


def _transposed(call: _DispatchedCall) -> Value:
    order = list(range(len(call.shape())))
    if len(order) > 1:
        first, second = (0, 1) if call.name == "t" else (call.axis(1), call.axis(2))
        order[first], order[second] = order[second], order[first]
    return call.value(0).moved(permuted(order))


def _permuted(call: _DispatchedCall) -> Value:
    return call.value(0).moved(permuted([axis % len(call.shape()) for axis in call.args[1]]))


def _without_axis(call: _DispatchedCall) -> Value:
    return call.value(0).moved(without([call.axis(1)]))


def _joined(call: _DispatchedCall) -> Value:
    return call.flow.combine([*map(call.of, call.args[0])])


def _embedding(call: _DispatchedCall) -> Value:
    view = (*[frozenset[int]()] * call.args[1].ndim, frozenset({1}))
    return call.flow.lookup(call.value(0), [call.value(1)], [0], view)


def _index_select(call: _DispatchedCall) -> Value:
    axis = call.axis(1)
    kept = (frozenset({i} - {axis}) for i in range(len(call.shape())))
    return call.flow.lookup(call.value(0), [call.value(2)], [axis], tuple(kept))


def _index(call: _DispatchedCall) -> Value:
    given = call.args[1]
    indexed = [axis for axis, index in enumerate(given) if index is not None]
    view = None
    if len(indexed) == 1 and given[indexed[0]].dtype is not torch.bool:
        axes = [frozenset({axis}) for axis in range(len(call.shape()))]
        axes[indexed[0] : indexed[0] + 1] = [frozenset()] * given[indexed[0]].ndim
        view = tuple(axes)
    return call.flow.lookup(call.value(0), [*map(call.of, given)], indexed, view)


def _matrix_product(first: int, ndims: tuple[int, int]) -> _Rule:
    """A product of two arguments, the axes of a batch first, to which the one before is added."""
    batch = range(max(0, min(ndims) - 2))
    contracted = ((ndims[0] - 1,), (max(0, ndims[1] - 2),))

    def rule(call: _DispatchedCall) -> Value:
        factors = call.value(first), call.value(first + 1)
        product = call.flow.contract(*factors, contracted, (batch, batch), ndims)
        return call.flow.combine([product, call.value(0)], Operation.ADD) if first else product

    return rule


def _linear(call: _DispatchedCall) -> Value:
    ndim = len(call.shape())
    product = call.flow.contract(call.value(0), call.value(1), ((ndim - 1,), (1,)), ndims=(ndim, 2))
    return call.flow.combine([product, call.value(2)], Operation.ADD)


def _convolution(call: _DispatchedCall) -> Value:
    data, weights, bias = map(call.value, range(3))
    if not data.is_data or not weights.weights:
        return call.flow.unknown([data, weights, bias], call.result.ndim)
    is_transposed = "transpose" in call.name or (
        call.name.strip("_") == "convolution" and call.args[6]
    )
    inputs, outputs = (0, 1) if is_transposed else (1, 0)
    space = dict.fromkeys(range(2, len(call.shape(1))), "space")
    result = call.flow.matrix(
        weights, data, {inputs: "in", outputs: "out", **space}, Operation.CONVOLUTION
    )
    return call.flow.combine([result, bias], Operation.ADD)


def _normalization(weight: int, bias: int | None, *statistics: int) -> _Rule:
    """A normalization, given the places of its parameters among the arguments."""

    def rule(call: _DispatchedCall) -> Value:
        flow, result = call.flow, call.value(0)
        for place, operation in zip(statistics, (Operation.ADD, Operation.MULTIPLY), strict=False):
            result = flow.combine([result, call.value(place)], operation)
        result = flow.combine([result, call.value(weight)], Operation.MULTIPLY)
        return result if bias is None else flow.combine([result, call.value(bias)], Operation.ADD)

    return rule


def _attention(call: _DispatchedCall) -> Value:
    queries, keys, values = map(call.value, range(3))
    ndims = (len(call.shape()), len(call.shape(1)))
    last, batch = [n - 1 for n in ndims], range(ndims[0] - 2)
    scores = call.flow.contract(queries, keys, ((last[0],), (last[1],)), (batch, batch), ndims)
    call.flow.normalize(scores, [last[0]])
    scores = call.flow.combine([scores], function="exp")
    return replace(call.flow.combine([scores, values]), sides=())


def _softmax(call: _DispatchedCall) -> Value:
    call.flow.normalize(call.value(0), [call.axis(1)])
    return call.flow.combine([call.value(0)], function="exp")


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(
        (
            *("alias", "detach", "clone", "_to_copy", "lift_fresh", "slice", "flip", "roll"),
            *("split", "split_with_sizes", "chunk", "narrow", "constant_pad_nd", "contiguous"),
        ),
        _same,
    ),
    **dict.fromkeys(
        (
            *("view", "_unsafe_view", "reshape", "_reshape_alias", "_reshape_copy"),
            *("squeeze", "unsqueeze", "flatten", "unflatten"),
        ),
        _reshaped,
    ),
    **dict.fromkeys(("expand", "repeat"), _spread),
    **dict.fromkeys(("t", "transpose"), _transposed),
    **dict.fromkeys(("select", "unbind"), _without_axis),
    "permute": _permuted,
    "cat": _joined,
    "embedding": _embedding,
    "index_select": _index_select,
    "index": _index,
    "mm": _matrix_product(0, (2, 2)),
    "addmm": _matrix_product(1, (2, 2)),
    "_addmm_activation": _matrix_product(1, (2, 2)),
    "bmm": _matrix_product(0, (3, 3)),
    "baddbmm": _matrix_product(1, (3, 3)),
    "mv": _matrix_product(0, (2, 1)),
    "addmv": _matrix_product(1, (2, 1)),
    "dot": _matrix_product(0, (1, 1)),
    **dict.fromkeys(("linear", "mkldnn_linear"), _linear),
    **dict.fromkeys(
        (
            *("convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution"),
            *("cudnn_convolution", "cudnn_convolution_transpose", "_conv_depthwise2d"),
        ),
        _convolution,
    ),
    **dict.fromkeys(("_softmax", "_safe_softmax", "_log_softmax"), _softmax),
    "native_layer_norm": _normalization(2, 3),
    "native_group_norm": _normalization(1, 2),
    "_fused_rms_norm": _normalization(2, None),
    **dict.fromkeys(
        (
            *("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"),
            *("_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
            "_batch_norm_no_update",
        ),
        _normalization(1, 2, 3, 4),
    ),
    **dict.fromkeys(
        (
            *("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_cudnn_attention"),
            *("_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"),
            *("_scaled_dot_product_attention_math", "scaled_dot_product_attention"),
            "_scaled_dot_product_fused_attention_overrideable",
        ),
        _attention,
    ),
}
"""Rules by the names of operations; of one that works in place, without its last underscore."""

_POINTWISE = {
    **dict.fromkeys(("mul", "div", "prelu_kernel", "prelu", "addcmul"), Operation.MULTIPLY),
    **dict.fromkeys(("add", "sub", "rsub"), Operation.ADD),
}

_FUNCTIONS = {
    **{name: name for name in ("exp", "tanh", "erf", "sin", "cos", "log", "relu", "leaky_relu")},
    **dict.fromkeys(("exp2", "expm1", "elu"), "exp"),
    **dict.fromkeys(("sigmoid", "silu", "log_sigmoid_forward"), "logistic"),
    **dict.fromkeys(("erfc", "gelu"), "erf"),
    **dict.fromkeys(("softplus", "log1p"), "log"),
    "mish": "tanh",
}
"""Nonlinear functions, by the names that the passes of all frameworks use."""
