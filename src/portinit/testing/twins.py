"""Twins: PyTorch's model in another framework, as proofs and commands meet it.

The adapter of a framework has a module ``twin``. Its ``twin(made, inputs, target)`` gives an object
that satisfies :class:`TwinModel`; nothing else in a command depends on the framework.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from portinit.checkpoints.tensors import TensorSpec
from portinit.probes.frameworks import ADAPTERS, framework_of
from portinit.random.keys import Key
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit.recipes.matching.uses.uses import Uses
from portinit.recipes.recipe import Recipe
from portinit.testing.proof.sides import Twin


class TwinModel(Protocol):
    """A model that is to be filled like PyTorch's, and its example input."""

    @property
    def framework(self) -> str:
        """What messages call the framework: ``"Flax"``."""

    @property
    def adapter(self) -> str:
        """The adapter's package: ``"portinit_flax"``."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided for the user, a line each."""

    def plans(self, recipe: Recipe, request: MatchRequest) -> list[LeafPlan]:
        """What each array gets; a RecipeError lists all that does not fit."""

    def match(self, recipe: Recipe, request: MatchRequest, *, strict: bool = True) -> Matching:
        """The pairs of arrays and parameters; a RecipeError lists what does not fit, if strict."""

    def initialize(self, recipe: Recipe, key: Key, request: MatchRequest) -> Any:
        """The model filled, as the adapter's ``initialize`` returns it."""

    def forward(self, filled: Any) -> Twin:
        """The filled model on its example input as a function of its arrays.

        These are in the order of the leaves' positions, and outputs are in inference mode.
        """

    def uses(self) -> Uses | None:
        """How the forward pass uses the arrays, by path; None if that cannot be read off it."""

    def paths(self, filled: Any) -> dict[str, Any]:
        """The arrays of the filled model by path, to be written to a file."""

    def tensors(self, recipe: Recipe, dtype: Any, request: MatchRequest) -> list[TensorSpec]:
        """The tensors of a checkpoint, with the paths that ``paths`` gives."""

    def copied(self) -> TwinModel:
        """The same model, to be filled without a change of this one."""


class _KerasIsMadeError(BaseException):
    """A factory makes a layer of Keras, which must have data; no factory catches it."""


def made_by(factory: Callable[[], Any]) -> Any:
    """What a factory makes, of any framework: a Flax module without data, where it allows that."""
    if "flax" not in sys.modules:
        return factory()
    made_abstract = importlib.import_module("portinit_flax.forward").made_abstract
    try:
        with _stopped_by_keras():
            return made_abstract(factory)
    except _KerasIsMadeError:
        return factory()


@contextmanager
def _stopped_by_keras() -> Iterator[None]:
    """Stop a factory that makes a layer of Keras: its variables would keep JAX's tracers."""
    keras: Any = sys.modules.get("keras")
    if not hasattr(keras, "Layer"):
        yield
        return
    own = keras.Layer.__init__

    def stop(*args: Any, **kwargs: Any) -> None:
        raise _KerasIsMadeError

    keras.Layer.__init__ = stop
    try:
        yield
    finally:
        keras.Layer.__init__ = own


def twin_of(made: Any, inputs: Any = None, target: str = "the factory") -> TwinModel:
    """The twin that a factory made.

    Args:
        made: a model of a framework that portinit fills; what is of none of them is for Flax's
            adapter to judge, as a library's wrapper of a linen module is.
        inputs: the example input; None if there is none.
        target: what the user calls the factory.

    Raises:
        portinit.RecipeError: the adapter cannot make a twin of it.
    """
    framework = framework_of(made)
    adapter = ADAPTERS["flax" if framework in (None, "torch") else framework]
    twin: TwinModel = importlib.import_module(f"{adapter}.twin").twin(made, inputs, target)
    return twin


def converted_arrays(made: Any) -> dict[str, Any]:
    """The arrays of what a conversion returns, by path: of a model, or of a tree as Flax has."""
    framework = framework_of(made)
    if framework is None and type(made) is tuple and "haiku" in sys.modules:
        framework = "haiku"  # params and state
    adapter = ADAPTERS["flax" if framework in (None, "torch") else framework]
    found: dict[str, Any] = importlib.import_module(f"{adapter}.conversion").arrays_of(made)
    return found
