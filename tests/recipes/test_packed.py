"""Arrays that hold a part of what PyTorch packs: Flax's query, key and value."""

import jax
import numpy as np
import pytest
import torch
from flax import linen

import portinit
import portinit_flax
import portinit_torch
from portinit import Recipe, RecipeError

E, HEADS = 16, 4
X = np.random.default_rng(0).normal(size=(2, 5, E)).astype(np.float32)
KEY = portinit.key(3)
RECIPES = {
    "torch defaults": portinit.recipes.torch_defaults(),
    "orthogonal": Recipe([("*in_proj_weight", portinit.orthogonal()), ("*", portinit.normal())]),
    "blocks": Recipe(
        [
            ("*in_proj_weight", portinit.blocks((portinit.xavier_uniform(),) * 3)),
            ("*", portinit.normal(std=0.1)),
        ]
    ),
    "a row apart": Recipe(
        [
            ("*in_proj_weight", portinit.where(20, portinit.zeros, portinit.normal())),
            ("*", portinit.zeros),
        ]
    ),
}


class TorchModel(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = torch.nn.MultiheadAttention(E, HEADS, batch_first=True)

    def forward(self, x):
        return self.attn(x, x, x)[0]


class FlaxModel(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.MultiHeadDotProductAttention(HEADS, name="attn")(x)


def names() -> dict[str, str]:
    table = {"attn/out/kernel": "attn.out_proj.weight", "attn/out/bias": "attn.out_proj.bias"}
    for i, part in enumerate(("query", "key", "value")):
        rows = f"[{i * E}:{(i + 1) * E}]"
        table[f"attn/{part}/kernel"] = f"attn.in_proj_weight{rows}"
        table[f"attn/{part}/bias"] = f"attn.in_proj_bias{rows}"
    return table


def shapes():
    return jax.eval_shape(FlaxModel().init, jax.random.key(0), X)


def assert_same_parts(variables, model):
    packed = model.attn.in_proj_weight.detach().numpy()
    for part, rows in zip(("query", "key", "value"), np.split(packed, 3), strict=True):
        kernel = np.asarray(variables["params"]["attn"][part]["kernel"])
        np.testing.assert_array_equal(kernel.reshape(E, E).T, rows)  # (E, heads, size)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_parts_hold_the_rows_of_the_packed_weight(recipe):
    model = TorchModel()
    bound = portinit_torch.bind(model, recipe)
    portinit_torch.initialize(model, bound, KEY)
    assert_same_parts(portinit_flax.initialize(shapes(), bound, KEY, names()), model)


def test_a_replay_reaches_the_parts_and_the_outputs_agree():
    recipe = portinit_torch.trace(TorchModel)
    torch.manual_seed(11)
    model = TorchModel()
    given = recipe.with_values(recipe.replay(11))
    variables = portinit_flax.initialize(shapes(), given, KEY, names())
    assert_same_parts(variables, model)
    theirs = model(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(FlaxModel().apply(variables, X), theirs, atol=1e-6)


def test_rows_in_no_array_or_in_two_are_listed():
    bound = portinit_torch.bind(TorchModel(), RECIPES["torch defaults"])
    table = names() | {"attn/key/bias": "attn.in_proj_bias[8:24]"}
    with pytest.raises(RecipeError, match=r"each of its 48 rows must be in one array"):
        portinit_flax.initialize(shapes(), bound, KEY, table)


def test_rows_of_another_number_than_the_arrays_are_refused():
    bound = portinit_torch.bind(TorchModel(), RECIPES["torch defaults"])
    table = names() | {"attn/key/bias": "attn.in_proj_bias[16:20]"}
    with pytest.raises(RecipeError, match=r"in_proj_bias\[16:20\] needs an array of \(4,\)"):
        portinit_flax.initialize(shapes(), bound, KEY, table)
