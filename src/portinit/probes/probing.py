"""The probe itself, as far as it needs no framework."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from portinit.arrays.dtypes import dtype_name
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Shape
from portinit.initializers.base import Initializer, distribution
from portinit.initializers.basic import normal
from portinit.probes.frameworks import ADAPTERS, framework_of
from portinit.probes.result import Probe
from portinit.probes.verdicts import LIMIT
from portinit.random.keys import key as make_key
from portinit.recipes.recipe import Recipe
from portinit.sampling.distributions import Distribution

_COTANGENTS = make_key(0).fold_in("portinit.probe")


def probe(
    model: Any,
    inputs: Any,
    *,
    variables: Any = None,
    recipe: Recipe | None = None,
    key: Any = None,
    names: Mapping[str, Any] | None = None,
    loss: Callable[[Any], Any] | None = None,
    limit: float = LIMIT,
) -> Probe:
    r"""Run a model once, forward and backward, and measure every layer and parameter.

    For each layer, in the order of calls, the std of its output y and of :math:`\partial L /
    \partial y`; for each parameter the std of its values, the std that its initializer promises,
    and the std of its gradient. A layer is a module that calls no other. Without a ``loss`` of its
    own,

    .. math:: L = \sum_i c_i \, y_i, \quad c_i \sim N(0, 1)

    over the elements of the model's outputs, with c from portinit's stream and the same in every
    framework: gradients then start with a std of 1, and a PyTorch model and its Flax twin with the
    same weights have the same numbers (outputs of another layout, such as images, get their
    weights in their own order).

    The model runs as it stands: call ``.eval()`` first where that is what is meant, and give a
    linen module its ``train=...`` among the inputs. Afterwards its parameters, buffers, gradients,
    hooks and modes are what they were, and so is the state of random number generators.

    Args:
        model: a ``torch.nn.Module``; an ``nnx.Module`` or a linen module; a ``keras.Layer``, built
            or not; a pytree of Equinox's modules, alone or in a pair with its State; what
            ``hk.transform`` or ``hk.transform_with_state`` gives; or an ``mlx.nn.Module``.
        inputs: an array; a tuple of positional arguments; or a mapping of keyword arguments. NumPy
            arrays become the framework's. An Equinox model that takes one example is run on each.
        variables: of models that do not hold them: a linen module's variables, Haiku's params or
            the pair of params and state; by default a recipe's or, without one, the model's own
            initializers', with ``key``.
        recipe: what the parameters are drawn from. With a ``key``, a copy of the model is filled
            with the recipe's values and probed; without one, the model's own values are measured
            against what the recipe promises.
        key: a :class:`portinit.Key`; a JAX key too, for libraries on JAX.
        names: as for the ``initialize`` of the framework's adapter; not for PyTorch.
        loss: a function of the model's output that returns a scalar, in the framework's arrays.
        limit: a signal is exploding beyond this many times the std it starts with, and vanishing
            below its inverse. 10^6 is near where float16 ends, and where plain gradient descent
            in float32 leaves one layer unmoved while another moves by its size.

    Returns:
        A :class:`portinit.Probe`: its ``layers``, its ``parameters`` and its ``problems``, which
        name the first layer where a signal explodes, vanishes, or turns inf or NaN.

    Raises:
        TypeError: the model is of no framework that portinit knows.
        ValueError: the arguments do not go together, or the limit is not above 1.
        portinit.RecipeError: listing every parameter that does not fit the recipe.

    Sources: Glorot and Bengio, 2010, section 4 (activations and gradients by layer); Mishkin and
    Matas, "All you need is a good init", 2016.

    >>> import portinit, torch
    >>> layers = [torch.nn.Linear(256, 256, bias=False) for _ in range(40)]
    >>> recipe = portinit.Recipe([("*", portinit.normal())])
    >>> images = portinit.normal()(portinit.key(1), (16, 256))
    >>> found = probe(torch.nn.Sequential(*layers), images, recipe=recipe, key=portinit.key(0))
    >>> print(found.problems[0])
    activations explode at layer 5, with a std of ..., and in 25 more
    """
    if not limit > 1:
        raise ValueError(f"limit must be above 1, got {limit}")
    framework = framework_of(model)
    if framework is None:
        raise TypeError(
            "a model must be of PyTorch, Flax, Keras, Equinox, Haiku or MLX: a torch.nn.Module, an "
            "nnx or linen module, a keras.Layer, an eqx.Module, what hk.transform gives, or an "
            f"mlx.nn.Module; got {type(model).__name__}"
        )
    adapter = importlib.import_module(f"{ADAPTERS[framework]}.probing")
    given = {"variables": variables, "names": names, "loss": loss, "limit": limit}
    found: Probe = adapter.probe(model, inputs, recipe=recipe, key=key, **given)
    return found


def cotangent(place: int, shape: Shape) -> np.ndarray[Any, Any]:
    """The weights of one of the model's outputs in the default loss: N(0, 1), float32."""
    drawn: np.ndarray[Any, Any] = normal()(_COTANGENTS.fold_in(place), shape, layout="torch")
    return drawn


def law_of(initializer: Initializer, grid: Grid, dtype: Any) -> Distribution | None:
    """The distribution of each element of a parameter; none if it is not one distribution."""
    name = dtype_name(dtype)
    try:
        return distribution(initializer, grid, name)
    except (TypeError, ValueError):  # drawing would say why
        return None
