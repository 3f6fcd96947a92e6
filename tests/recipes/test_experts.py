"""Packed experts: each starts as a layer of its own, in both frameworks and any order of axes."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import portinit
import portinit_flax
import portinit_torch
from portinit import Recipe, recipes

KEY = portinit.key(4)
E, O, I = 8, 64, 32  # noqa: E741


class Packed(torch.nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.experts = torch.nn.Parameter(torch.empty(shape))


def filled(shape: tuple[int, ...], recipe: Recipe) -> np.ndarray:
    model = portinit_torch.initialize(Packed(*shape), recipe, KEY)
    return model.experts.detach().numpy()


@pytest.mark.parametrize(("shape", "axes"), [((E, O, I), (-1, -2)), ((E, I, O), (1, 2))])
def test_each_expert_starts_as_pytorchs_linear(shape: Any, axes: tuple[int, int]) -> None:
    weights = filled(shape, recipes.packed_experts(in_axis=axes[0], out_axis=axes[1]))
    torch.manual_seed(0)
    linear = torch.nn.Linear(I, O).weight.detach()
    for expert in weights:
        assert np.abs(expert).max() <= I**-0.5
        assert abs(expert.std() / float(linear.std()) - 1) < 0.05
    assert len(np.unique(weights)) > 0.99 * weights.size


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((E, O, I), {"in_axis": 2, "out_axis": 1, "batch_axis": 0}),
        ((E, O, I), {"in_axis": -1, "out_axis": -2, "batch_axis": 0}),
        ((E, I, O), {"batch_axis": 0}),
        ((E, I, O), {"in_axis": 1, "out_axis": 2, "batch_axis": (0,)}),
        ((O, I, E), {"in_axis": 1, "out_axis": 0, "batch_axis": 2}),
    ],
)
def test_axes_are_those_of_the_tensor_that_the_user_has(shape: Any, axes: Any) -> None:
    scheme = portinit.variance_scaling(1 / 3, "fan_in", "uniform", **axes)
    by_recipe = filled(shape, Recipe([("*", scheme)]))
    direct = portinit_torch.fill_(torch.empty(shape), scheme, key=KEY.fold_in("experts"))
    by_numpy = scheme(KEY.fold_in("experts"), shape, layout="torch")
    for weights in (by_recipe, direct.numpy(), by_numpy):
        assert 0.99 < np.abs(weights).max() * I**0.5 <= 1
        np.testing.assert_array_equal(weights, by_recipe)
    assert scheme.distribution_of(shape, layout="torch").std == pytest.approx((I * 3) ** -0.5)


def test_a_matrix_too() -> None:
    scheme = portinit.he_normal(in_axis=1, out_axis=0)  # of PyTorch's (out, in)
    tensor = portinit_torch.fill_(torch.empty(400, 50), scheme, key=KEY)
    assert abs(float(tensor.std()) / (2 / 50) ** 0.5 - 1) < 0.02


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 1, 0)])
def test_flax_has_the_same_bits_in_any_order_of_axes(order: tuple[int, ...]) -> None:
    for recipe in (
        recipes.packed_experts(),
        Recipe([("*", portinit.scaled(portinit.he_normal(2, 1, 0), 0.5))]),
    ):
        weights = filled((E, O, I), recipe)
        bound = portinit_torch.bind(Packed(E, O, I), recipe)
        shape = tuple((E, O, I)[axis] for axis in order)
        tree = {"experts": jnp.zeros(shape)}
        array = portinit_flax.initialize(tree, bound, KEY)["experts"]
        np.testing.assert_array_equal(array, weights.transpose(order))


def test_a_recipe_of_patterns_means_the_same_axes_in_flax() -> None:
    scheme = portinit.he_normal(in_axis=1, out_axis=0)
    recipe = Recipe([("*", scheme)])
    tree = {"fc": {"kernel": jnp.zeros((50, 400))}}
    kernel = portinit_flax.initialize(tree, recipe, KEY)["fc"]["kernel"]
    model = torch.nn.ModuleDict({"fc": torch.nn.Linear(50, 400, bias=False)})
    portinit_torch.initialize(model, recipe, KEY)
    np.testing.assert_array_equal(kernel.T, model["fc"].weight.detach())
