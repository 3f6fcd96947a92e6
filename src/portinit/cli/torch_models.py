"""A PyTorch model as the commands meet it: made by a factory, run in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import torch

from portinit.probes.inputs import Arguments


def torch_model(factory: Callable[[], Any], target: str, twin: str = "") -> torch.nn.Module:
    """The PyTorch module that a factory makes.

    Args:
        factory: makes the module.
        target: how the user named it.
        twin: how the user named the Flax factory, where there is one.
    """
    model = factory()
    if isinstance(model, torch.nn.Module):
        return model
    kind = type(model).__name__
    if any(base.__module__.startswith("flax") for base in type(model).__mro__):
        if twin:
            cure = f"the PyTorch factory comes first: portinit port {twin} {target}"
        else:
            cure = (
                f"portinit port net_torch.py:make {target} fills it as its PyTorch twin is filled"
            )
        raise click.ClickException(
            f"{target} must return a torch.nn.Module, got {kind}, a Flax module; {cure}"
        )
    raise click.ClickException(f"{target} must return a torch.nn.Module, got {kind}")


def torch_forward(model: torch.nn.Module, arguments: Arguments) -> Any:
    """The output of a model in evaluation mode, without gradients."""
    model.eval()
    with torch.no_grad():
        return model(*arguments[0], **arguments[1])
