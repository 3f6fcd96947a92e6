"""Flax's WeightNorm and SpectralNorm, filled as Flax fills them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import portinit
import portinit_flax
from portinit import recipes

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
