"""Memory for a module's meta tensors: as ``to_empty`` gives it, but tied parameters stay tied."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def materialized(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Give memory to all that a module has on the meta device; take it back if an error is raised.

    Of a DTensor only the local shard is made. What is in the memory is undefined.
    """
    before = {name: tensor for name, tensor in _tensors(module) if tensor.is_meta}
    try:
        _materialize(module, device)
        yield
    except BaseException:
        for name, tensor in before.items():
            _put(module, name, tensor)
        module._apply(lambda tensor: tensor)  # type: ignore[no-untyped-call]
        raise


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers, by each of their names."""
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _materialize(module: nn.Module, device: torch.device) -> None:
    made: dict[Tensor, Tensor] = {}

    def real(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor
        if tensor not in made:
            made[tensor] = torch.empty_like(tensor, device=device)
        return made[tensor]

    tied = _tied(module)
    # As to_empty does: FSDP2 and recurrent layers keep references that they renew here.
    module._apply(real)  # type: ignore[no-untyped-call]
    for first, others in tied:
        for other in others:
            _put(module, other, module.get_parameter(first))


def _tied(module: nn.Module) -> list[tuple[str, list[str]]]:
    """The names of each parameter that has several, the first apart."""
    names: dict[Tensor, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return [(first, others) for first, *others in names.values() if others]


def _put(module: nn.Module, name: str, parameter: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    if getattr(owner, leaf) is not parameter:
        setattr(owner, leaf, parameter)
