"""Memory for a module's meta tensors: as ``to_empty`` gives it, but tied parameters stay tied."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def materialize(module: nn.Module, device: torch.device) -> None:
    """Give memory on a device to all that a module has on the meta device, and to nothing else.

    Of a DTensor only the local shard is made. What is in the memory is undefined.
    """
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


def _put(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    if getattr(owner, leaf) is not parameter:
        setattr(owner, leaf, parameter)
