"""Types of what initializers are called with and give; nothing here runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

Mode = Literal["fan_in", "fan_out"]
"""The fan that PyTorch's Kaiming initializers keep the variance by."""

FanMode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
"""The fan, or the mean of fans, that JAX's variance scaling takes."""

DistributionName = Literal["truncated_normal", "normal", "uniform"]
"""The distributions of JAX's variance scaling."""

NonlinearityName = Literal[
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "selu",
]
"""The names of PyTorch's table of gains."""

Nonlinearity = NonlinearityName | float | Callable[[Any], Any]
"""A name of PyTorch's table, a gain, or a function whose gain is integrated."""

Array_co = TypeVar("Array_co", covariant=True)


class Namespace(Protocol[Array_co]):
    """An array namespace, such as the module numpy, torch or jax.numpy, by what it makes."""

    def stack(self, arrays: Any, /) -> Array_co:
        """An array of the namespace; of all its functions the one whose type torch exports."""
