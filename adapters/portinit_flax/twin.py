"""A Flax model as the twin of PyTorch's: see :class:`portinit.testing.twins.TwinModel`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from flax import linen, nnx

from portinit import Key, Recipe
from portinit.checkpoints.tensors import TensorSpec
from portinit.probes.inputs import written_call
from portinit.recipes.matching import plans
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit.recipes.matching.uses.uses import Uses
from portinit_flax.checkpoints import tensors_of
from portinit_flax.forward import FlaxForward, FlaxModel, flax_model
from portinit_flax.initialize import PreparedModel
from portinit_flax.matching import FlaxTree, leaf_plans
from portinit_flax.tree import leaves, tree_of


@dataclass(frozen=True)
class FlaxTwin:
    """A Flax model and its example input."""

    model: FlaxModel
    framework: ClassVar[str] = "Flax"
    adapter: ClassVar[str] = "portinit_flax"

    @property
    def notes(self) -> tuple[str, ...]:
        return self.model.notes

    def plans(self, recipe: Recipe, request: MatchRequest) -> list[LeafPlan]:
        return leaf_plans(self.model.empty, recipe, request)

    def match(self, recipe: Recipe, request: MatchRequest, *, strict: bool = True) -> Matching:
        return plans.match(FlaxTree.of(self.model.empty), recipe, request, strict=strict)

    def initialize(self, recipe: Recipe, key: Key, request: MatchRequest) -> Any:
        return PreparedModel.of(self.model.empty, recipe, request, None).fill(key)

    def forward(self, filled: Any) -> FlaxForward:
        return FlaxForward(self.model, filled)

    def uses(self) -> Uses:
        return self.model.uses()

    def paths(self, filled: Any) -> dict[str, Any]:
        found, arrays, _ = leaves(tree_of(filled))
        return {leaf.label: arrays[leaf.position] for leaf in found}

    def tensors(self, recipe: Recipe, dtype: Any, request: MatchRequest) -> list[TensorSpec]:
        return tensors_of(self.model.empty, recipe, dtype, request)

    def python(self, made: str, inputs: str) -> list[str]:
        """Lines of Python that make ``model``, which ``initialize`` takes: see `python_lines`."""
        flax = self.model
        if isinstance(flax.empty, nnx.Module):
            return [f"model = {made}()"]
        if not isinstance(flax.model, linen.Module):  # a library's wrapper
            held = "params_shape_tree" if hasattr(flax.model, "params_shape_tree") else "params"
            return [f"model = {made}().{held}"]
        init = f"module.init(jax.random.key(0), {written_call(inputs, flax.flags)})"
        lines = [f"module = {made}()", f"model = jax.eval_shape(lambda: {init})"]
        if flax.rest:
            lines.append(f"model = {{name: model[name] for name in {[*flax.empty]}}}")
        return lines

    def copied(self) -> Self:
        if not isinstance(self.model.empty, nnx.Module):
            return self
        return replace(self, model=replace(self.model, empty=nnx.clone(self.model.empty)))


def twin(made: Any, inputs: Any = None, target: str = "the factory") -> FlaxTwin:
    """The twin that a factory made: as for :func:`portinit_flax.forward.flax_model`."""
    return FlaxTwin(flax_model(made, inputs, target))
