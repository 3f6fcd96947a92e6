"""Porting a model: both sides initialised from one recipe and key, and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

import portinit
import portinit_flax
import portinit_torch
from portinit import Layout, Recipe
from portinit.cli.flax_models import variables
from portinit.recipes.names import split_name
from portinit.testing.arrays import differing
from portinit.testing.sides import flax_side
from portinit.testing.weights import in_torchs_order

Names = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One parameter on both sides."""

    name: str
    path: str
    shape: tuple[int, ...]
    initializer: str
    differing: int  # elements whose bits differ

    @property
    def same(self) -> bool:
        """Whether every bit agrees."""
        return self.differing == 0


@dataclass(frozen=True)
class Pair:
    """The two models, filled, and how their parameters correspond."""

    torch_model: torch.nn.Module
    flax_model: Any
    values: Any  # linen's variables, or the nnx module itself
    recipe: Recipe
    matched: Mapping[str, tuple[str, Layout]]


@dataclass
class Port:
    """How a pair compares."""

    pair: Pair
    rows: list[Row]
    forward: float | None = None  # largest absolute difference of the outputs
    problems: list[str] = field(default_factory=list)

    def same(self, tolerance: float) -> bool:
        """Whether all bits agree, and the outputs to within the tolerance."""
        outputs = self.forward is None or self.forward <= tolerance
        return not self.problems and outputs and all(row.same for row in self.rows)


def fill(
    make_torch: Callable[[], torch.nn.Module],
    flax_model: Any,
    recipe: Recipe | None,
    seed: int = 0,
    replay: int | None = None,
    names: Names | None = None,
    flax_input: Any = None,
) -> Pair:
    """Fill a PyTorch model and its Flax twin with the same weights.

    Args:
        make_torch: makes the PyTorch module.
        flax_model: its Flax twin, linen or nnx.
        recipe: rules for PyTorch's names; none reads them off ``make_torch``.
        seed: of the key that both sides draw with.
        replay: instead of a key's, the weights that ``torch.manual_seed(replay)`` gives.
        names: as for ``portinit_flax.initialize``.
        flax_input: an example input; linen modules need it to have parameters.

    Raises:
        portinit.RecipeError: listing everything that does not match.
    """
    chosen = portinit_torch.trace(make_torch) if recipe is None else recipe
    if replay is None:
        torch_model = make_torch()
    else:
        torch.manual_seed(replay)
        torch_model = make_torch()
        chosen = chosen.with_values(chosen.replay(replay))
    key = portinit.key(seed)
    bound = portinit_torch.bind(torch_model, chosen)
    is_nnx = isinstance(flax_model, nnx.Module)
    empty = flax_model if is_nnx else variables(flax_model, flax_input)
    matched = portinit_flax.match(empty, bound, names)
    if replay is None:
        portinit_torch.initialize(torch_model, bound, key)
    values = portinit_flax.initialize(empty, bound, key, names)
    return Pair(torch_model, flax_model, values, bound, matched)


def compare(pair: Pair, inputs: tuple[Any, Any] | None = None) -> Port:
    """Compare every parameter bit for bit, and the outputs on an example input for either side."""
    done = Port(pair, _rows(pair))
    if inputs is not None:
        _compare_outputs(done, inputs)
    return done


def flat_arrays(values: Any) -> dict[str, jax.Array]:
    """The arrays of a filled Flax model by path, its collection left out."""
    return {"/".join(path): array for path, array in flax_side(values).arrays.items()}


def _rows(pair: Pair) -> list[Row]:
    state = pair.torch_model.state_dict()
    rules = {rule.name: (i, rule) for i, rule in enumerate(pair.recipe.rules)}
    rows = []
    for path, array in flat_arrays(pair.values).items():
        label, layout = pair.matched[path]
        name = split_name(label)[0]
        ours, theirs = in_torchs_order(label, state[name], array, layout)
        count = int(np.count_nonzero(differing(ours, theirs)))
        place, rule = rules[name]
        rows.append((place, Row(label, path, ours.shape, str(rule.initializer), count)))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]  # in the model's own order


def _compare_outputs(done: Port, inputs: tuple[Any, Any]) -> None:
    done.pair.torch_model.eval()
    with torch.no_grad():
        ours = done.pair.torch_model(torch.from_numpy(np.asarray(inputs[0])))
    theirs = _flax_forward(done, jnp.asarray(inputs[1]))
    left, right = (
        [np.asarray(x) for x in jax.tree_util.tree_leaves(jax.tree_util.tree_map(np.asarray, out))]
        for out in (ours, theirs)
    )
    shapes = [x.shape for x in left], [x.shape for x in right]
    if shapes[0] != shapes[1]:
        done.problems.append(f"outputs must have the same shapes, got {shapes[0]} and {shapes[1]}")
        return
    gaps = [
        np.abs(a.astype(np.float64) - b).max(initial=0) for a, b in zip(left, right, strict=True)
    ]
    done.forward = float(max(gaps, default=0.0))


def _flax_forward(done: Port, example: Any) -> Any:
    if isinstance(done.pair.values, nnx.Module):
        nnx.Module.eval(done.pair.values)  # type: ignore[no-untyped-call]
        return done.pair.values(example)
    return done.pair.flax_model.apply(done.pair.values, example)
