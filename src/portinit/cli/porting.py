"""Porting a model: both sides initialised from one recipe and key, and compared."""

from __future__ import annotations

from collections.abc import Mapping
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
from portinit import Recipe

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


@dataclass
class Port:
    """The two models of a port, filled, and how they compare."""

    torch_model: torch.nn.Module
    flax_model: Any
    flax_values: Any
    rows: list[Row]
    forward: float | None = None  # largest absolute difference of the outputs
    problems: list[str] = field(default_factory=list)

    def same(self, tolerance: float) -> bool:
        """Whether all bits agree, and the outputs to within the tolerance."""
        outputs = self.forward is None or self.forward <= tolerance
        return not self.problems and outputs and all(row.same for row in self.rows)


def port(
    torch_model: torch.nn.Module,
    flax_model: Any,
    recipe: Recipe,
    seed: int = 0,
    names: Names | None = None,
    inputs: tuple[Any, Any] | None = None,
) -> Port:
    """Fill both models from one recipe and key, and compare parameters and outputs.

    Args:
        torch_model: a PyTorch module.
        flax_model: its Flax twin, linen or nnx.
        recipe: rules for PyTorch's names.
        seed: of the key.
        names: as for ``portinit_flax.initialize``.
        inputs: an example input for either side; linen modules need it to have parameters.

    Raises:
        portinit.RecipeError: listing everything that does not match.
    """
    key = portinit.key(seed)
    bound = portinit_torch.bind(torch_model, recipe)
    empty = _flax_tree(flax_model, inputs)
    matched = portinit_flax.match(empty, bound, names)
    portinit_torch.initialize(torch_model, bound, key)
    values = portinit_flax.initialize(empty, bound, key, names)
    done = Port(torch_model, flax_model, values, _rows(torch_model, values, bound, matched))
    if inputs is not None:
        _compare_outputs(done, inputs)
    return done


def _flax_tree(flax_model: Any, inputs: tuple[Any, Any] | None) -> Any:
    if isinstance(flax_model, nnx.Module):
        return flax_model
    if inputs is None:
        raise portinit.RecipeError(
            "a linen module needs an example input to have parameters: define example_input() "
            "beside its factory, or name one with --flax-input"
        )
    return jax.eval_shape(flax_model.init, jax.random.key(0), jnp.asarray(inputs[1]))


def flat_arrays(values: Any) -> dict[str, jax.Array]:
    """The arrays of a filled Flax model by path, its collection left out."""
    from portinit_flax.trees import leaves

    tree = values
    if isinstance(values, nnx.Module):
        tree = nnx.state(values, (nnx.Param, nnx.BatchStat))
    found, arrays, _ = leaves(tree)
    return {"/".join(leaf.path): arrays[leaf.position] for leaf in found}


def _rows(
    torch_model: torch.nn.Module, values: Any, bound: Recipe, matched: Mapping[str, Any]
) -> list[Row]:
    state = torch_model.state_dict()
    rules = {rule.name: rule for rule in bound.rules}
    rows = []
    for path, array in flat_arrays(values).items():
        name, layout = matched[path]
        ours, theirs = _torch_bits(state[name]), layout.to_torch(_bits(np.asarray(array)))
        differing = int(np.count_nonzero(ours != theirs))
        rows.append(Row(name, path, ours.shape, str(rules[name].initializer), differing))
    return rows


def _bits(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.view(f"u{array.dtype.itemsize}")


def _torch_bits(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    detached = tensor.detach().cpu().contiguous()
    return _bits(detached.view(integers[tensor.element_size()]).numpy())


def _compare_outputs(done: Port, inputs: tuple[Any, Any]) -> None:
    done.torch_model.eval()
    with torch.no_grad():
        ours = done.torch_model(torch.from_numpy(np.asarray(inputs[0])))
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
    if isinstance(done.flax_values, nnx.Module):
        nnx.Module.eval(done.flax_values)  # type: ignore[no-untyped-call]
        return done.flax_values(example)
    return done.flax_model.apply(done.flax_values, example)
