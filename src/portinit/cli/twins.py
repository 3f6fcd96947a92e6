"""The twin of a PyTorch model as the commands meet it: made by a factory, of any framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portinit.cli.user_code import running
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
    with running(f"{target} on its example input"):
        return twin_of(made, inputs, target)
