"""Flax models whose arrays have shapes and no data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from portinit import RecipeError


def abstract(factory: Callable[[], Any], model: Any, example: Any) -> Any:
    """The abstract model or tree of variables of a factory, which has made ``model``."""
    if isinstance(model, nnx.Module):
        return nnx.eval_shape(factory)
    return variables(model, example)


def variables(model: Any, example: Any) -> Any:
    """The shapes of a linen module's variables."""
    if not isinstance(model, linen.Module):
        raise RecipeError(
            f"a model must be a torch.nn.Module or a Flax module, got {type(model).__name__}"
        )
    if example is None:
        raise RecipeError(
            "a linen module needs an example input to have parameters: define example_input() "
            "beside its factory, or name one with --flax-input"
        )
    return jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(example))
