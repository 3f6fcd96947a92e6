"""Keras's initializers by their own names, and any of portinit's, from portinit's stream.

Each class derives from Keras's class of the same name and keeps its arguments, defaults, checks and
configuration. The values alone are portinit's: the same on every backend.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Sequence
from typing import Any

import keras

import portinit
from portinit import Layout
from portinit.arrays.dtypes import FORMATS
from portinit.arrays.layouts import as_layout
from portinit.initializers.schemes import TRUNCATION_STD, uniform_with_std, variance_scaling_std
from portinit.recipes.serialization import (
    initializer_from_data,
    initializer_to_data,
    layout_from_data,
    layout_to_data,
)
from portinit_keras.drawing import as_seed, draw, key_of

Shape = Sequence[int]

_registered = keras.saving.register_keras_serializable("portinit_keras")


class _Named:
    """Stands before one of Keras's classes, and gives portinit's values in its place."""

    def __init_subclass__(cls) -> None:
        for base in cls.__mro__:
            if base.__module__.startswith("keras."):
                cls.__signature__ = inspect.signature(base)  # type: ignore[attr-defined]
                return

    def drawn_with(self, shape: Shape) -> portinit.Initializer:
        """The initializer of portinit that a variable of a shape is drawn with."""
        raise NotImplementedError


class _Drawn(_Named):
    """Values that a seed gives."""

    seed: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = inspect.signature(super().__init__).bind(*args, **kwargs).arguments
        super().__init__(**{**given, "seed": as_seed(given.get("seed"))})

    def __call__(self, shape: Shape, dtype: Any = None) -> Any:
        return draw(self.drawn_with(shape), key_of(self.seed), shape, dtype)


class _Fixed(_Named):
    """Values without a seed; integers and booleans are Keras's own."""

    def __call__(self, shape: Shape, dtype: Any = None) -> Any:
        if keras.backend.standardize_dtype(dtype) in FORMATS:
            return draw(self.drawn_with(shape), portinit.key(0), shape, dtype)
        return super().__call__(shape, dtype)  # type: ignore[misc]


class _Scaled(_Drawn):
    """A distribution around 0 whose variance Keras's fans tell."""

    scale: float
    mode: str
    distribution: str
    input_axes: Any = None
    output_axes: Any = None

    def drawn_with(self, shape: Shape) -> portinit.Initializer:
        fan_in, fan_out = keras_fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out}.get(self.mode, (fan_in + fan_out) / 2)
        std = variance_scaling_std(max(1.0, fan), self.scale)
        if self.distribution == "uniform":
            bounds = uniform_with_std(std)
            return portinit.uniform(bounds.a, bounds.b)
        if self.distribution == "untruncated_normal":
            return portinit.normal(0.0, std)
        return portinit.truncated_normal(std / TRUNCATION_STD)


def keras_fans(
    shape: Shape, input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
) -> tuple[float, float]:
    """fan_in and fan_out by Keras's rule.

    Of a kernel (..., in, out) each is its own axis times all before these two; of a vector both are
    its length; where axes are named, they are the products of those axes alone.
    """
    if input_axes is not None and output_axes is not None:
        ins, outs = ([shape[axis] for axis in axes] for axes in (input_axes, output_axes))
        return math.prod(ins), math.prod(outs)
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    receptive = math.prod(shape[:-2])
    return shape[-2] * receptive, shape[-1] * receptive


@_registered
class GlorotUniform(_Scaled, keras.initializers.GlorotUniform):
    """U(-b, b) with b = sqrt(6 / (fan_in + fan_out)).

    Args:
        seed: an int, a key or a generator; see :class:`Initializer`.
        input_axes: axes of the inputs, where Keras has this argument.
        output_axes: axes of the outputs.

    Source: Glorot and Bengio, AISTATS 2010, eq. 16; ``keras.initializers.GlorotUniform``.

    >>> import portinit_keras
    >>> portinit_keras.GlorotUniform(seed=0)((3, 4)).shape[-1]
    4
    """


@_registered
class GlorotNormal(_Scaled, keras.initializers.GlorotNormal):
    """A truncated normal whose std is sqrt(2 / (fan_in + fan_out)).

    Args:
        seed: an int, a key or a generator; see :class:`Initializer`.
        input_axes: axes of the inputs, where Keras has this argument.
        output_axes: axes of the outputs.

    Source: Glorot and Bengio, AISTATS 2010, eq. 16; ``keras.initializers.GlorotNormal``.

    >>> import portinit_keras
    >>> portinit_keras.GlorotNormal(seed=0)((3, 4)).shape[-1]
    4
    """


@_registered
class LecunUniform(_Scaled, keras.initializers.LecunUniform):
    """U(-b, b) with b = sqrt(3 / fan_in).

    Args:
        seed: an int, a key or a generator; see :class:`Initializer`.
        input_axes: axes of the inputs, where Keras has this argument.
        output_axes: axes of the outputs.

    Source: LeCun et al., "Efficient backprop", 1998, eq. 16; ``keras.initializers.LecunUniform``.

    >>> import portinit_keras
    >>> portinit_keras.LecunUniform(seed=0)((3, 4)).shape[-1]
    4
    """


@_registered
class LecunNormal(_Scaled, keras.initializers.LecunNormal):
    """A truncated normal whose std is sqrt(1 / fan_in).

    Args:
        seed: an int, a key or a generator; see :class:`Initializer`.
        input_axes: axes of the inputs, where Keras has this argument.
        output_axes: axes of the outputs.

    Source: LeCun et al., "Efficient backprop", 1998, eq. 16; ``keras.initializers.LecunNormal``.

    >>> import portinit_keras
    >>> portinit_keras.LecunNormal(seed=0)((3, 4)).shape[-1]
    4
    """


@_registered
class HeUniform(_Scaled, keras.initializers.HeUniform):
    """U(-b, b) with b = sqrt(6 / fan_in).

    Args:
        seed: an int, a key or a generator; see :class:`Initializer`.
        input_axes: axes of the inputs, where Keras has this argument.
        output_axes: axes of the outputs.

    Source: He et al., ICCV 2015, eq. 10; ``keras.initializers.HeUniform``.

    >>> import portinit_keras
    >>> portinit_keras.HeUniform(seed=0)((3, 4)).shape[-1]
    4
    """


@_registered
class HeNormal(_Scaled, keras.initializers.HeNormal):
    """A truncated normal whose std is sqrt(2 / fan_in).

    Args:
        seed: an int, a key or a generator; see :class:`Initializer`.
        input_axes: axes of the inputs, where Keras has this argument.
        output_axes: axes of the outputs.

    Source: He et al., ICCV 2015, eq. 10; ``keras.initializers.HeNormal``.

    >>> import portinit_keras
    >>> portinit_keras.HeNormal(seed=0)((3, 4)).shape[-1]
    4
    """


@_registered
class VarianceScaling(_Scaled, keras.initializers.VarianceScaling):
    """A distribution around 0 of variance scale / n, n a fan or the mean of both.

    Args:
        scale: above 0.
        mode: ``"fan_in"``, ``"fan_out"`` or ``"fan_avg"``.
        distribution: ``"truncated_normal"`` (cut at two of its own standard deviations, and
            corrected for that), ``"untruncated_normal"`` or ``"uniform"``.
        seed: an int, a key or a generator; see :class:`Initializer`.
        input_axes: axes of the inputs, where Keras has this argument.
        output_axes: axes of the outputs.

    Source: He et al., ICCV 2015, eq. 10; ``keras.initializers.VarianceScaling``.

    >>> import portinit_keras
    >>> portinit_keras.VarianceScaling(2.0, "fan_out", "uniform", seed=0)((3, 4)).shape[-1]
    4
    """


@_registered
class RandomNormal(_Drawn, keras.initializers.RandomNormal):
    """N(mean, stddev^2).

    Args:
        mean: the mean.
        stddev: the standard deviation, 0 or more.
        seed: an int, a key or a generator; see :class:`Initializer`.

    Source: ``keras.initializers.RandomNormal``.

    >>> import portinit_keras
    >>> portinit_keras.RandomNormal(stddev=0.02, seed=0)((3, 4)).shape[-1]
    4
    """

    mean: Any
    stddev: Any

    def drawn_with(self, shape: Shape) -> portinit.Initializer:
        return portinit.normal(float(self.mean), float(self.stddev))


@_registered
class TruncatedNormal(_Drawn, keras.initializers.TruncatedNormal):
    """N(mean, stddev^2) conditioned on [mean - 2 stddev, mean + 2 stddev].

    Args:
        mean: the mean.
        stddev: the standard deviation before truncation, 0 or more; 0.8796 of it is left.
        seed: an int, a key or a generator; see :class:`Initializer`.

    Source: ``keras.initializers.TruncatedNormal``.

    >>> import portinit_keras
    >>> portinit_keras.TruncatedNormal(stddev=0.02, seed=0)((3, 4)).shape[-1]
    4
    """

    mean: Any
    stddev: Any

    def drawn_with(self, shape: Shape) -> portinit.Initializer:
        mean, std = float(self.mean), float(self.stddev)
        if not std:
            return portinit.constant(mean)
        return portinit.trunc_normal(mean, std, mean - 2 * std, mean + 2 * std)


@_registered
class RandomUniform(_Drawn, keras.initializers.RandomUniform):
    """U[minval, maxval).

    Args:
        minval: the lower bound, included.
        maxval: the upper bound, excluded whatever the dtype rounds to.
        seed: an int, a key or a generator; see :class:`Initializer`.

    Source: ``keras.initializers.RandomUniform``.

    >>> import portinit_keras
    >>> portinit_keras.RandomUniform(-1, 1, seed=0)((3, 4)).shape[-1]
    4
    """

    minval: Any
    maxval: Any

    def drawn_with(self, shape: Shape) -> portinit.Initializer:
        return portinit.uniform(float(self.minval), float(self.maxval))


@_registered
class Orthogonal(_Drawn, keras.initializers.Orthogonal):
    """``gain`` times a matrix with orthonormal rows or columns, uniform among them.

    A variable of more than two axes is the matrix (prod(shape[:-1]), shape[-1]). Values are within
    1e-6 of each other on all backends; the other initializers' are equal bit for bit.

    Args:
        gain: the factor.
        seed: an int, a key or a generator; see :class:`Initializer`.

    Source: Saxe, McClelland and Ganguli, ICLR 2014; ``keras.initializers.Orthogonal``.

    >>> import portinit_keras
    >>> portinit_keras.Orthogonal(seed=0)((3, 4)).shape[-1]
    4
    """

    gain: Any

    def drawn_with(self, shape: Shape) -> portinit.Initializer:
        return portinit.orthogonal(float(self.gain))


@_registered
class Zeros(_Fixed, keras.initializers.Zeros):
    """Zeros.

    Source: ``keras.initializers.Zeros``.

    >>> import portinit_keras
    >>> portinit_keras.Zeros()((3, 4)).shape[-1]
    4
    """

    def drawn_with(self, shape: Shape) -> portinit.Initializer:
        return portinit.zeros


@_registered
class Ones(_Fixed, keras.initializers.Ones):
    """Ones.

    Source: ``keras.initializers.Ones``.

    >>> import portinit_keras
    >>> portinit_keras.Ones()((3, 4)).shape[-1]
    4
    """

    def drawn_with(self, shape: Shape) -> portinit.Initializer:
        return portinit.ones


@_registered
class Constant(_Fixed, keras.initializers.Constant):
    """One number everywhere, rounded to the dtype once.

    Args:
        value: the number.

    Source: ``keras.initializers.Constant``.

    >>> import portinit_keras
    >>> float(portinit_keras.Constant(0.5)((3, 4))[0][0])
    0.5
    """

    value: Any

    def drawn_with(self, shape: Shape) -> portinit.Initializer:
        return portinit.constant(float(self.value))


@_registered
class Identity(_Fixed, keras.initializers.Identity):
    """``gain`` on the diagonal of a matrix, zeros elsewhere.

    Args:
        gain: the factor.

    Source: ``keras.initializers.Identity``.

    >>> import portinit_keras
    >>> float(portinit_keras.Identity(gain=2.0)((3, 4))[1][1])
    2.0
    """

    gain: Any

    def drawn_with(self, shape: Shape) -> portinit.Initializer:
        return portinit.scaled(portinit.eye(), float(self.gain))


@_registered
class Initializer(keras.initializers.Initializer):
    """Any of portinit's initializers as one of Keras's.

    Args:
        initializer: one of portinit's own, or its JSON data.
        seed: an int in [0, 2**64), a :class:`portinit.Key`, a JAX key, or a
            ``keras.random.SeedGenerator``, whose calls each give other values; None is Keras's own
            random int, which ``keras.utils.set_random_seed`` governs.
        layout: how the variable's axes are PyTorch's, as for the initializer's own call: arrays of
            two axes or more are kernels, (..., in, out), by default; ``"rows"`` is for embeddings.

    Raises:
        TypeError: not an initializer of portinit's, or no seed.

    >>> import portinit, portinit_keras
    >>> init = portinit_keras.Initializer(portinit.kaiming_normal(), seed=0)
    >>> init((3, 4)).shape[-1]
    4
    """

    def __init__(
        self,
        initializer: portinit.Initializer | dict[str, Any],
        seed: Any = None,
        layout: Layout | str | None = None,
    ) -> None:
        if isinstance(initializer, dict):
            initializer = initializer_from_data(initializer)
        if not isinstance(initializer, portinit.Initializer):
            raise TypeError(
                "initializer must be one of portinit's, such as portinit.kaiming_normal(); got "
                f"{initializer!r}"
            )
        given = as_seed(seed)
        if isinstance(given, dict):
            given = keras.saving.deserialize_keras_object(given)
        self.initializer = initializer
        self.layout = None if layout is None else as_layout(layout)
        self._given_seed = given
        self.seed = random.randint(1, 10**9) if given is None else given  # Keras's own range

    def __call__(self, shape: Shape, dtype: Any = None) -> Any:
        return draw(self.initializer, key_of(self.seed), shape, dtype, self.layout)

    def get_config(self) -> dict[str, Any]:
        return {
            "initializer": initializer_to_data(self.initializer),
            "seed": keras.saving.serialize_keras_object(self._given_seed),
            "layout": None if self.layout is None else layout_to_data(self.layout),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        layout = config.get("layout")
        return cls(**{**config, "layout": None if layout is None else layout_from_data(layout)})
