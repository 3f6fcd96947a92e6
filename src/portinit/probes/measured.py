"""One call of a layer and one parameter, measured."""

from __future__ import annotations

from dataclasses import dataclass

from portinit.arrays.layouts import Shape
from portinit.probes.moments import Histogram, Moments
from portinit.probes.verdicts import departs
from portinit.sampling.distributions import Distribution


@dataclass(frozen=True)
class ProbedLayer:
    """One call of a layer.

    Attributes:
        name: the module's name in PyTorch, or else its path; ``#2`` for its second call.
        kind: the module's class; in Flax and Haiku with the method, where it is not ``__call__``.
        shape: the shape of its output; of several outputs, of the first.
        output: the moments of its output.
        gradient: the moments of the loss's gradient with respect to that output. Where the output
            has no way to the loss it is none in PyTorch, and 0 in libraries on JAX and in MLX.
            Keras on NumPy has no gradients.
    """

    name: str
    kind: str
    shape: Shape
    output: Moments
    gradient: Moments | None

    @property
    def std(self) -> float:
        """The std of the output."""
        return self.output.std

    @property
    def gradient_std(self) -> float | None:
        """The std of the gradient at the output; none if there is none."""
        return _std(self.gradient)


@dataclass(frozen=True)
class ProbedParameter:
    """One parameter.

    Attributes:
        name: its name in PyTorch, or else its path.
        shape: its shape, as its framework holds it.
        values: the moments of its values.
        gradient: the moments of the loss's gradient; none as a layer's.
        histogram: of its values; none if they are all equal.
        initializer: what a recipe says it is drawn from; none without one.
        law: the distribution of each element; none if the initializer has no common one.
    """

    name: str
    shape: Shape
    values: Moments
    gradient: Moments | None = None
    histogram: Histogram | None = None
    initializer: str | None = None
    law: Distribution | None = None

    @property
    def std(self) -> float:
        """The std of the values."""
        return self.values.std

    @property
    def gradient_std(self) -> float | None:
        """The std of the gradient; none if there is none."""
        return _std(self.gradient)

    @property
    def expected_std(self) -> float | None:
        """The std that the initializer gives; None if no initializer is known."""
        return None if self.law is None else self.law.std

    @property
    def verdict(self) -> str:
        """``"nan"``, ``"inf"``, ``"off"`` if the values depart from their law, or ``""``."""
        if self.values.nan or self.values.inf:
            return "nan" if self.values.nan else "inf"
        return "off" if self.law is not None and departs(self.values, self.law) else ""


def _std(moments: Moments | None) -> float | None:
    return None if moments is None else moments.std
