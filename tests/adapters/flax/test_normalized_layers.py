"""Flax's WeightNorm and SpectralNorm, filled as Flax fills them."""

from contextlib import nullcontext
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch.nn.utils.parametrizations import weight_norm

import portinit
import portinit_flax
import portinit_torch
from portinit import Layout, recipes

KEY = portinit.key(1)
X = jnp.ones((2, 9, 3))


class Weight(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.WeightNorm(nn.Conv(5, (4,), name="conv"))(x)
        return nn.WeightNorm(nn.Dense(6, name="fc"), variable_filter={"kernel", "bias"})(x)


class Spectral(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.SpectralNorm(nn.Conv(5, (4,), name="conv"))(x, update_stats=False)
        return nn.SpectralNorm(nn.Dense(2000, name="fc"), name="norm")(x, update_stats=False)


def flat(tree: Any) -> dict[str, np.ndarray]:
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(str(getattr(k, "key", k)) for k in keys): np.asarray(v) for keys, v in found}


@pytest.mark.parametrize("model", [Weight(), Spectral()], ids=["WeightNorm", "SpectralNorm"])
def test_linen_s_wrappers_have_flax_s_defaults(model):
    shapes = jax.eval_shape(model.init, jax.random.key(0), X)
    ours = portinit_flax.initialize(shapes, recipes.flax_defaults(), KEY)
    theirs = model.init(jax.random.key(0), X)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    mine, flax = flat(ours), flat(theirs)
    constant = [name for name, value in flax.items() if np.unique(value).size == 1]
    assert len(constant) >= 4  # the biases, and scales or sigmas
    for name in constant:
        np.testing.assert_array_equal(mine[name], flax[name], err_msg=name)
    for name in set(flax) - set(constant):
        assert mine[name].shape == flax[name].shape
        if name.endswith("/u") and flax[name].size >= 1000:
            assert mine[name].std() == pytest.approx(flax[name].std(), rel=0.1), name
    assert model.apply(ours, X).shape == model.apply(theirs, X).shape


def test_the_weights_that_spectral_norm_computes_are_flax_s():
    # linen's init divides the kernel that it stores by its largest singular value, and so does the
    # forward pass: the kernel's scale is of no consequence.
    model = nn.SpectralNorm(nn.Dense(4000, name="fc"))
    key, rows = jax.random.key(0), jnp.eye(3)
    shapes = jax.eval_shape(lambda: model.init(key, rows, update_stats=False))
    ours = portinit_flax.initialize(shapes, recipes.flax_defaults(), KEY)
    theirs = model.init(key, rows, update_stats=False)
    mine, flax = (np.asarray(model.apply(v, rows, update_stats=False)) for v in (ours, theirs))
    assert mine.std() == pytest.approx(flax.std(), rel=0.1)


def test_nnx_s_spectral_norm_has_flax_s_defaults():
    def build() -> nnx.Module:
        return nnx.SpectralNorm(nnx.Linear(4, 3000, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))

    model = portinit_flax.initialize(build(), recipes.flax_defaults(), KEY)
    ours = model.batch_stats
    theirs = build().batch_stats
    np.testing.assert_array_equal(ours["kernel", "sigma"][...], theirs["kernel", "sigma"][...])
    u, reference = (np.asarray(s["kernel", "u"][...]) for s in (ours, theirs))
    assert u.shape == reference.shape
    assert u.std() == pytest.approx(reference.std(), rel=0.1)
    assert not np.array_equal(u, reference)


class Torchs(torch.nn.Module):
    """Weight norm of a convolution, whose magnitudes are (5, 1, 1), and of a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = weight_norm(torch.nn.Conv1d(3, 5, 4))
        self.fc = weight_norm(torch.nn.Linear(5, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x.mT).mT)


class Flaxs(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.WeightNorm(nn.Conv(5, (4,), padding="VALID", name="conv"))(x)
        return nn.WeightNorm(nn.Dense(6, name="fc"))(x)


STORED = "{}.parametrizations.weight.original{}"
TABLE = {
    "conv/kernel": STORED.format("conv", 1),
    "WeightNorm_0/conv/kernel/scale": STORED.format("conv", 0),
    "fc/kernel": STORED.format("fc", 1),
    "WeightNorm_1/fc/kernel/scale": STORED.format("fc", 0),
}
TABLES = {
    "none": None,
    "names": TABLE,
    "layout": {p: (n, "torch") if n.endswith("0") else n for p, n in TABLE.items()},
    "rank 1": {p: (n, Layout((0,), ())) if n.endswith("0") else n for p, n in TABLE.items()},
}


@pytest.mark.parametrize("names", TABLES.values(), ids=TABLES)
def test_torch_s_weight_norm_is_carried_to_flax_s(names):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Torchs()
    recipe = portinit_torch.trace(Torchs)
    values = {name: tensor.detach() for name, tensor in model.named_parameters()}
    for name in values:  # magnitudes other than the directions' lengths
        if name.endswith("original0"):
            values[name] = torch.rand_like(values[name]) + 0.5
    recipe = recipe.with_values(values)
    portinit_torch.initialize(model, recipe, KEY)
    shapes = jax.eval_shape(Flaxs().init, jax.random.key(0), X)
    guessed = pytest.warns(UserWarning, match="matched by a guess")
    with guessed if names is None else nullcontext():
        variables = portinit_flax.initialize(shapes, recipe, KEY, names)
    ours = Flaxs().apply(variables, X)
    theirs = model(torch.ones(2, 9, 3)).detach().numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


class Named(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.WeightNorm(nn.Dense(6, name="fc"), name="weight_norm")(x)


@pytest.mark.filterwarnings("ignore:gpt2's scale of residual projections")  # there are none here
@pytest.mark.parametrize(
    "recipe",
    [
        recipes.gpt2(1),
        recipes.vit(),
        recipes.torch_defaults(),
        portinit.Recipe([("*", portinit.normal())]),
    ],
)
def test_patterns_say_nothing_of_what_flax_s_wrappers_keep(recipe):
    shapes = jax.eval_shape(Named().init, jax.random.key(0), X)
    with pytest.raises(portinit.RecipeError, match="a parametrization stores it"):
        portinit_flax.initialize(shapes, recipe, KEY)
    named = portinit.Recipe([("*fc/kernel/scale", portinit.constant(2))])
    filled = portinit_flax.initialize(shapes, named + recipe, KEY)
    assert (filled["params"]["weight_norm"]["fc/kernel/scale"] == 2).all()


def test_a_flat_tree_s_names_with_slashes_are_parameters():
    flat_tree = {"norm/scale": jax.ShapeDtypeStruct((4,), jnp.float32)}
    filled = portinit_flax.initialize(
        flat_tree, portinit.Recipe([("*", portinit.constant(3))]), KEY
    )
    assert (filled["norm/scale"] == 3).all()
