"""A Flax model as the commands meet it: made by a factory, with an example input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portinit.cli.user_code import running
from portinit_flax.forward import FlaxModel, made_abstract
from portinit_flax.forward import flax_model as model_of


def flax_model(factory: Callable[[], Any], target: str, inputs: Any = None) -> FlaxModel:
    """The Flax model that a factory makes: nnx, linen, or a library's wrapper of a linen module.

    Args:
        factory: makes the model.
        target: how the user named the factory.
        inputs: the example input; a linen module has no parameters without one.
    """
    with running(target):
        made = made_abstract(factory)
    with running(f"{target} on its example input"):
        return model_of(made, inputs, target)
