"""What the conformance test asks of every framework, and one model that each has to build."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import portinit
from portinit import Layout, Parameter, Recipe

DTYPES = ("float32", "bfloat16", "float16")
KEY = portinit.key(0xC0FFEE)

NET = Recipe(
    [
        ("emb.weight", portinit.trunc_normal(std=0.02, a=-0.04, b=0.04), "rows"),
        ("conv.weight", portinit.kaiming_uniform(mode="fan_out")),
        ("norm.weight", portinit.normal(1.0, 0.1)),
        ("fc.weight", portinit.lecun_normal()),
        ("*.bias", portinit.uniform(-0.1, 0.3)),
    ]
).bind(
    [
        Parameter("emb.weight", (11, 6), "embedding"),
        Parameter("conv.weight", (4, 6, 3, 2), "conv"),
        Parameter("conv.bias", (4,), "conv"),
        Parameter("norm.weight", (4,), "norm"),
        Parameter("norm.bias", (4,), "norm"),
        Parameter("fc.weight", (8, 4), "linear"),
        Parameter("fc.bias", (8,), "linear"),
    ]
)
"""What the model draws, by PyTorch's names and in PyTorch's shapes.

The model has an embedding ``emb`` of 11 rows of 6, a convolution ``conv`` from 6 to 4 channels with
a kernel of 3 x 2, a layer norm ``norm`` of 4 and a linear layer ``fc`` from 4 to 8.
"""


class Framework:
    """One row of the conformance test: a subclass answers for one framework.

    Methods import the framework themselves, so that the rows can be listed where it is absent.

    Attributes:
        name: of the row.
        needs: the modules that must be installed, the framework's first.
        environment: variables that must be set before the framework is imported; a row that has
            any runs in a process of its own.
        dtypes: those of :data:`DTYPES` that the framework has, or others for arrays alone.
        models: whether it has models, and not only arrays.
        in_place: whether ``initialize`` fills the model it is given, or returns another.
        matches: whether ``initialize`` must find an array for each of a bound recipe's names.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    environment: ClassVar[Mapping[str, str]] = {}
    dtypes: ClassVar[tuple[str, ...]] = DTYPES
    models: ClassVar[bool] = True
    in_place: ClassVar[bool] = False
    matches: ClassVar[bool] = True

    def missing(self) -> list[str]:
        """The modules that are needed and not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]

    def draw(
        self,
        initializer: portinit.Initializer,
        key: Any,
        shape: tuple[int, ...],
        dtype: str,
        layout: Layout | str,
    ) -> Any:
        """An array of the framework's own, drawn through the adapter."""
        raise NotImplementedError

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """The framework's array in NumPy, bits kept; bfloat16 by ml_dtypes."""
        return np.asarray(array)

    def model(self, dtype: str) -> Any:
        """The model in the framework's own layers, with the names ``emb``, ``conv``, ...

        A model that is filled in place holds arrays; another may be without data.
        """
        raise NotImplementedError

    def initialize(self, model: Any, recipe: Recipe, key: Any) -> Any:
        """The adapter's ``initialize``."""
        raise NotImplementedError

    def state(self, model: Any) -> dict[str, NDArray[Any]]:
        """The model's arrays by PyTorch's names, each moved to PyTorch's axes by hand."""
        raise NotImplementedError
