"""A model as the commands meet it: made by a factory, PyTorch's or of any other framework."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import click

from portinit.cli.user_code import running
from portinit.probes.frameworks import framework_of
from portinit.testing.twins import TwinModel, made_by, twin_of


def twin_model(factory: Callable[[], Any], target: str, inputs: Any = None) -> TwinModel:
    """The twin that a factory makes.

    Args:
        factory: makes a model of Flax's or of another framework that portinit fills.
        target: how the user named the factory.
        inputs: the example input; some models have no parameters without one.
    """
    with running(target):
        made = made_by(factory)
    return _twin(made, target, inputs)


def torch_or_twin(
    factory: Callable[[], Any], target: str, inputs: Callable[[], Any], *, empty: bool = False
) -> Any:
    """The model that a factory makes: a ``torch.nn.Module``, or else a twin.

    Args:
        factory: makes a model of any framework that portinit fills.
        target: how the user named the factory.
        inputs: gives the example input, of which PyTorch has no need.
        empty: whether a PyTorch module is made without data.
    """
    torch = sys.modules.get("torch") if empty and not _keras_is_on_torch() else None
    with running(target), torch.device("meta") if torch else nullcontext():
        made = made_by(factory)
    if framework_of(made) == "torch":
        return made
    if framework_of(made) is None and not hasattr(made, "module"):  # as Flax's wrappers have
        raise click.ClickException(
            f"{target} must return a torch.nn.Module or a model of Flax, Keras, Equinox, Haiku or "
            f"MLX, got {type(made).__name__}"
        )
    return _twin(made, target, inputs())


def _keras_is_on_torch() -> bool:
    """Whether Keras makes tensors of PyTorch, which must have data."""
    backend = getattr(sys.modules.get("keras"), "backend", None)
    return backend is not None and backend.backend() == "torch"


def _twin(made: Any, target: str, inputs: Any) -> TwinModel:
    with running(f"{target} on its example input"):
        return twin_of(made, inputs, target)
