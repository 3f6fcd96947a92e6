"""Activations and gradients of a PyTorch module, by hooks that are gone afterwards."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from portinit import Layout, Recipe, Rule
from portinit.arrays.convert import to_numpy
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Shape
from portinit.probes.measured import ProbedLayer, ProbedParameter
from portinit.probes.moments import Histogram, Moments
from portinit.probes.probing import cotangent, law_of
from portinit.probes.recording import labels
from portinit.probes.result import Probe
from portinit.sampling.distributions import Distribution
from portinit_torch import bind, initialize
from portinit_torch.inputs import torch_arguments


def probe(
    model: nn.Module,
    inputs: Any,
    *,
    recipe: Recipe | None,
    key: Any,
    variables: Any,
    names: Any,
    loss: Callable[[Any], Any] | None,
    limit: float,
) -> Probe:
    """See :func:`portinit.probe`."""
    if variables is not None or names is not None:
        raise ValueError("variables and names are not for PyTorch, got a torch.nn.Module with them")
    if key is not None and recipe is None:
        raise ValueError("a key must come with a recipe that draws with it, got a key alone")
    bound = None if recipe is None else bind(model, recipe)
    if recipe is not None and key is not None:
        model = initialize(copy.deepcopy(model), recipe, key)
    recorder = HookRecorder()
    gradients = _run(model, inputs, recorder, loss)
    parameters = _parameters(model, bound, gradients)
    return Probe("torch", (*recorder.layers(),), (*parameters,), limit=limit)


class HookRecorder:
    """The calls of a module's parts, and what came out of those that call no others."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Shape, Moments]] = []
        self.gradients: dict[int, Moments] = {}
        self._begun: list[int] = []  # of each call under way, how many were recorded before it

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[None]:
        """Watch a module while the context lasts."""
        handles = []
        try:
            for name, part in model.named_modules():
                handles.append(part.register_forward_pre_hook(self._before))
                handles.append(part.register_forward_hook(self._after(name), with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, module: nn.Module, arguments: Any) -> None:
        self._begun.append(len(self.calls))

    def _after(self, name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, arguments: Any, keywords: Any, output: Any) -> Any:
            is_leaf = self._begun.pop() == len(self.calls)
            tensor = next(floats(output), None)
            if not is_leaf or tensor is None:
                return None
            if isinstance(output, Tensor) and any(
                output is x for x in (*arguments, *keywords.values())
            ):
                # Its gradient is not that of what it was given: that may be used elsewhere too.
                output = tensor = output.clone()
            self._record(name, type(module).__name__, tensor)
            return output

        return hook

    def _record(self, name: str, kind: str, tensor: Tensor) -> None:
        place = len(self.calls)
        # Now, since an operation in place may change the tensor later.
        self.calls.append((name, kind, tuple(tensor.shape), Moments.of(to_numpy(tensor))))
        if tensor.requires_grad:
            hook: Callable[..., Any] = tensor.register_hook
            hook(lambda gradient: self._take(place, gradient))

    def _take(self, place: int, gradient: Tensor) -> None:
        self.gradients[place] = Moments.of(to_numpy(gradient))

    def layers(self) -> Iterator[ProbedLayer]:
        """The records, in the order of calls."""
        names = labels([name for name, _, _, _ in self.calls])
        for place, (name, (_, kind, shape, output)) in enumerate(
            zip(names, self.calls, strict=True)
        ):
            yield ProbedLayer(name, kind, shape, output, self.gradients.get(place))


def floats(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors of a module's output, with at least one element, in order."""
    if isinstance(output, Tensor):
        if output.is_floating_point() and output.numel():
            yield output
    elif isinstance(output, Mapping):
        for name in sorted(output):  # as JAX orders them
            yield from floats(output[name])
    elif isinstance(output, list | tuple):
        for part in output:
            yield from floats(part)
    elif is_dataclass(output):
        yield from floats(list(vars(output).values()))


def _run(
    model: nn.Module, inputs: Any, recorder: HookRecorder, loss: Callable[[Any], Any] | None
) -> Mapping[str, Tensor | None]:
    """The gradients of the parameters, from a forward and a backward pass that leave no trace."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    (arguments, keywords), _ = torch_arguments(inputs, device)
    leaves = {name: _leaf(p) for name, p in model.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(_devices(device)), torch.enable_grad(), recorder.on(model):
        output = functional_call(model, {**leaves, **buffers}, arguments, keywords)
        total = _default_loss(floats(output)) if loss is None else loss(output)
        wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
        if not (wanted and isinstance(total, Tensor) and total.requires_grad):
            return {}
        gradients = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
    return dict(zip(wanted, gradients, strict=True))


def _leaf(parameter: Tensor) -> Tensor:
    """The same memory, with a gradient of its own, frozen or not."""
    return parameter.detach().requires_grad_(parameter.is_floating_point())


def _devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []


def _default_loss(outputs: Iterable[Tensor]) -> Tensor | None:
    """The outputs' elements, each times its weight, summed."""
    total = None
    for place, output in enumerate(outputs):
        weights = torch.from_numpy(cotangent(place, tuple(output.shape)))
        term = (output * weights.to(output)).sum()
        total = term if total is None else total + term
    return total


def _parameters(
    model: nn.Module, bound: Recipe | None, gradients: Mapping[str, Tensor | None]
) -> Iterator[ProbedParameter]:
    rules = {} if bound is None else {rule.name: rule for rule in bound.rules}
    for name, tensor in model.named_parameters():
        if not (tensor.is_floating_point() and tensor.numel()):
            continue
        values, gradient, rule = to_numpy(tensor), gradients.get(name), rules.get(name)
        yield ProbedParameter(
            name,
            tuple(tensor.shape),
            Moments.of(values),
            None if gradient is None else Moments.of(to_numpy(gradient)),
            Histogram.of(values),
            None if rule is None else str(rule.initializer),
            None if rule is None else _law(rule, tensor),
        )


def _law(rule: Rule, tensor: Tensor) -> Distribution | None:
    layout = Layout(roles=rule.layout.roles) if rule.layout else Layout()
    return law_of(rule.initializer, Grid.whole(tuple(tensor.shape), layout), tensor.dtype)
