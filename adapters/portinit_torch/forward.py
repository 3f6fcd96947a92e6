"""A PyTorch module as a function of its weights: outputs, layers' outputs and gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from portinit.arrays.convert import to_numpy
from portinit.probes.inputs import map_arrays
from portinit.probes.outputs import output_leaves
from portinit_torch.inputs import as_tensor, torch_arguments
from portinit_torch.probing import floats

_NARROW = (torch.bfloat16, torch.float16)


class TorchForward:
    """A module and its example input, run in evaluation mode with any weights.

    Args:
        module: keeps its own weights, outside of :meth:`held`.
        inputs: the example input: an array, a tuple of positional arguments, or a mapping of
            keyword arguments.
    """

    def __init__(self, module: nn.Module, inputs: Any) -> None:
        self.module = module
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        self._arguments, self.note = torch_arguments(inputs, device)
        self._tensors: dict[str, Tensor] = {
            **dict(module.named_buffers()),
            **dict(module.named_parameters(remove_duplicate=False)),
        }

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the module's weights, dtypes and modes as they are for when this ends.

        While it lasts narrow floats are float32, if the module runs so, and every weight has a
        gradient.
        """
        saved = [(one, one.data, one.requires_grad) for one in set(self._tensors.values())]
        modes = [(part, part.training) for part in self.module.modules()]
        arguments = self._arguments
        self.module.eval()
        try:
            self._widen()
            for one in self._parameters().values():
                one.requires_grad_(True)
            yield
        finally:
            self._arguments = arguments
            for one, data, requires_grad in saved:
                one.data = data
                one.requires_grad_(requires_grad)
            for part, mode in modes:
                part.training = mode

    def _widen(self) -> None:
        narrow = [one for one in set(self._tensors.values()) if one.dtype in _NARROW]
        if not narrow:
            return
        before, arguments = [one.data for one in narrow], self._arguments
        for one in narrow:
            one.data = one.data.float()
        self._arguments = map_arrays(
            arguments, lambda x: x.float() if getattr(x, "dtype", None) in _NARROW else x
        )
        try:
            self._run()
        except Exception:  # a forward pass that insists on its dtype
            self._arguments = arguments
            for one, data in zip(narrow, before, strict=True):
                one.data = data

    def _parameters(self) -> dict[str, Tensor]:
        return {
            name: one
            for name, one in self._tensors.items()
            if isinstance(one, nn.Parameter) and one.is_floating_point()
        }

    def tensors(self) -> dict[str, np.ndarray[Any, Any]]:
        """The values of the module's parameters and buffers by name, tied ones by all names."""
        return {name: to_numpy(one) for name, one in self._tensors.items()}

    def fill(self, values: Mapping[str, Any]) -> None:
        """Take these values for the parameters and buffers of these names."""
        for name, array in values.items():
            one = self._tensors[name]
            one.data = as_tensor(np.asarray(array)).to(one.device, one.dtype).reshape(one.shape)

    def outputs(self) -> dict[str, Any]:
        """The leaves of the output, in NumPy."""
        return {name: to_numpy(x) for name, x in output_leaves(self._run()).items()}

    def _run(self) -> Any:
        with torch.no_grad():
            return self.module(*self._arguments[0], **self._arguments[1])

    def layers(self) -> list[tuple[str, str, np.ndarray[Any, Any]]]:
        """The name, the class and the output of each call of a module that calls no other."""
        calls: list[tuple[str, str, np.ndarray[Any, Any]]] = []
        begun: list[int] = []

        def before(module: nn.Module, arguments: Any) -> None:
            begun.append(len(calls))

        def after(name: str) -> Any:
            def hook(module: nn.Module, arguments: Any, output: Any) -> None:
                is_leaf = begun.pop() == len(calls)
                tensor = next(floats(output), None)
                if is_leaf and tensor is not None:  # a copy: it may be changed in place
                    whole = _Whole.of(tensor)
                    calls.append((name, type(module).__name__, to_numpy(whole).copy()))

            return hook

        handles = []
        try:
            for name, part in self.module.named_modules():
                handles.append(part.register_forward_pre_hook(before))
                handles.append(part.register_forward_hook(after(name)))
            self._run()
        finally:
            for handle in handles:
                handle.remove()
        return calls

    def gradients(self, weights: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
        """The gradients of the outputs, weighted and summed, with respect to each parameter.

        Args:
            weights: those of some outputs' elements, by the outputs' names.

        Returns:
            Gradients by the parameters' names; zeros where nothing depends on a parameter, and
            nothing where the forward pass cannot be differentiated.
        """
        parameters = self._parameters()
        with torch.enable_grad():
            leaves = output_leaves(self.module(*self._arguments[0], **self._arguments[1]))
            terms = [
                (leaves[name] * as_tensor(array).to(leaves[name])).sum()
                for name, array in weights.items()
                if isinstance(leaves[name], Tensor) and leaves[name].requires_grad
            ]
            if not terms or not parameters:
                return {}
            found = torch.autograd.grad(sum(terms), [*parameters.values()], allow_unused=True)
        return {
            name: np.zeros(tuple(one.shape)) if slope is None else to_numpy(slope)
            for (name, one), slope in zip(parameters.items(), found, strict=True)
        }


class _Whole(torch.autograd.Function):
    """The identity, which notes the whole of a tensor that ``torch.vmap`` maps."""

    _seen: ClassVar[list[Tensor]] = []

    @classmethod
    def of(cls, tensor: Tensor) -> Tensor:
        """A tensor with the mapped axes in front."""
        cls.apply(tensor)  # type: ignore[no-untyped-call]
        return cls._seen.pop()

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        _Whole._seen.append(x)
        return x.view_as(x)

    @staticmethod
    def setup_context(context: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: there is no backward pass."""

    @staticmethod
    def vmap(info: Any, places: tuple[int | None], x: Tensor) -> tuple[Tensor, int | None]:
        (axis,) = places
        moved = x if axis is None else x.movedim(axis, 0)
        whole: Tensor = _Whole.apply(moved)  # type: ignore[no-untyped-call]
        return whole, None if axis is None else 0
