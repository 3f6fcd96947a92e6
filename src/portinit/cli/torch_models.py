"""A PyTorch model as the commands meet it: made by a factory, run in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import torch

from portinit.probes.frameworks import framework_of
from portinit.probes.inputs import Arguments


def torch_model(factory: Callable[[], Any], target: str, twin: str = "") -> torch.nn.Module:
    """The PyTorch module that a factory makes.

    Args:
        factory: makes the module.
        target: how the user named it.
        twin: how the user named the twin's factory, where there is one.
    """
    model = factory()
    framework = framework_of(model)
    if isinstance(model, torch.nn.Module) and framework == "torch":
        return model
    kind = type(model).__name__
    if framework in _MADE:
        if twin:
            cure = f"the PyTorch factory comes first: portinit port {twin} {target}"
        else:
            cure = (
                f"portinit port net_torch.py:make {target} fills it as its PyTorch twin is filled"
            )
        raise click.ClickException(
            f"{target} must return a torch.nn.Module, got {kind}, {_MADE[framework]}; {cure}"
        )
    raise click.ClickException(f"{target} must return a torch.nn.Module, got {kind}")


_MADE = {
    "flax": "a Flax module",
    "keras": "a Keras model",
    "equinox": "an Equinox model",
    "haiku": "a function of Haiku",
    "mlx": "an MLX module",
}
"""Models of other frameworks in messages."""


def torch_forward(model: torch.nn.Module, arguments: Arguments) -> Any:
    """The output of a model in evaluation mode, without gradients."""
    model.eval()
    with torch.no_grad():
        return model(*arguments[0], **arguments[1])
