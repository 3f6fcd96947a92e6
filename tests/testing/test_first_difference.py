"""The first layer that differs, where layers run under a ``vmap`` or give another shape."""

from typing import Any

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import mlx.core as mx
import mlx.nn
import numpy as np
import pytest
import torch
from flax import linen, nnx

from portinit.testing import prove_match
from portinit.testing.proof.first_difference import first_difference
from portinit.testing.twins import twin_of
from portinit_torch.forward import TorchForward

TOKENS = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)
NAMES = ("a", "b", "c")


class Ours(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (torch.nn.Linear(8, 8) for _ in NAMES)
        self.head = torch.nn.Linear(8, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.c(torch.relu(self.b(torch.relu(self.a(x)))))[:, 0])


class InVmap(Ours):
    def forward(self, x: Any) -> Any:
        each = torch.vmap(torch.vmap(self.b))
        return self.head(self.c(torch.relu(each(torch.relu(self.a(x)))))[:, 0])


class Equinox(eqx.Module):
    """The relu before b is forgotten, as in each twin here."""

    a: eqx.nn.Linear
    b: eqx.nn.Linear
    c: eqx.nn.Linear
    head: eqx.nn.Linear

    def __init__(self) -> None:
        self.a, self.b, self.c = (eqx.nn.Linear(8, 8, key=jax.random.key(0)) for _ in NAMES)
        self.head = eqx.nn.Linear(8, 2, key=jax.random.key(0))

    def __call__(self, x: Any) -> Any:  # (tokens, 8)
        hidden = jax.nn.relu(jax.vmap(self.b)(jax.vmap(self.a)(x)))
        return self.head(jax.vmap(self.c)(hidden)[0])


class AllMapped(Equinox):
    def __call__(self, x: Any) -> Any:
        hidden = jax.nn.relu(jax.vmap(self.b)(jax.vmap(self.a)(x)))
        return jax.vmap(self.head)(jax.vmap(self.c)(hidden))[0]


class Nnx(nnx.Module):
    def __init__(self) -> None:
        self.a, self.b, self.c = (nnx.Linear(8, 8, rngs=nnx.Rngs(0)) for _ in NAMES)
        self.head = nnx.Linear(8, 2, rngs=nnx.Rngs(0))

    def __call__(self, x: Any) -> Any:
        each = nnx.vmap(lambda layer, x: layer(x), in_axes=(None, 0))
        twice = nnx.vmap(each, in_axes=(None, 0))  # copies of the layer, one vmap in another
        return self.head(each(self.c, jax.nn.relu(twice(self.b, jax.vmap(self.a)(x))))[:, 0])


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        mapped = linen.vmap(
            linen.Dense, variable_axes={"params": None}, split_rngs={"params": False}
        )
        hidden = jax.nn.relu(mapped(8, name="b")(mapped(8, name="a")(x)))
        return linen.Dense(2, name="head")(mapped(8, name="c")(hidden)[:, 0])


def haiku(x: Any) -> Any:
    a, b, c = (hk.vmap(hk.Linear(8, name=name), split_rng=False) for name in NAMES)
    return hk.Linear(2, name="head")(c(jax.nn.relu(b(a(x))))[:, 0])


class Mlx(mlx.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (mlx.nn.Linear(8, 8) for _ in NAMES)
        self.head = mlx.nn.Linear(8, 2)

    def __call__(self, x: Any) -> Any:
        hidden = mlx.nn.relu(mx.vmap(mx.vmap(self.b))(mx.vmap(self.a)(x)))
        return self.head(mx.vmap(self.c)(hidden)[:, 0])


TWINS = {
    "equinox": Equinox,
    "equinox, all": AllMapped,
    "nnx": Nnx,
    "linen": Linen,
    "haiku": lambda: hk.transform(haiku),
    "mlx": Mlx,
}


@pytest.mark.parametrize("ours", [Ours, InVmap])
@pytest.mark.parametrize("kind", TWINS)
def test_a_layer_under_vmap_is_named(kind: str, ours: type[Ours]) -> None:
    where = str(prove_match(ours(), TWINS[kind](), TOKENS).where)
    assert where.startswith("b (b in "), where
    assert "a, before it, agrees" in where
    assert "could not be compared" not in where


@pytest.mark.parametrize("kind", ["equinox", "nnx", "mlx"])
def test_the_whole_of_an_output_is_seen(kind: str) -> None:
    made = TWINS[kind]()
    forward = twin_of(made, TOKENS).forward(made)
    seen = {name: np.asarray(x) for name, _, x in forward.layers(forward.arrays)}
    x = TOKENS
    for name in ("a", "b"):
        layer = getattr(made, name)
        matrix = layer.kernel[...] if kind == "nnx" else layer.weight.T
        x = x @ np.asarray(matrix) + np.asarray(layer.bias[...])
        np.testing.assert_allclose(seen[name], x, rtol=1e-4, atol=1e-5)


class Scanned(Nnx):
    def __call__(self, x: Any) -> Any:
        x = nnx.remat(lambda layer, x: layer(x))(self.a, x)
        x = nnx.remat(lambda layer, x: layer(x))(self.b, x)
        return self.head(self.c(jax.nn.relu(x))[:, 0])


def test_layers_that_are_not_seen_are_counted() -> None:
    where = str(prove_match(Ours(), Scanned(), TOKENS).where)
    assert where.startswith("c (c in Flax), a Linear, is the first layer that differs")
    assert "2 layers could not be compared, and the fault may lie in them" in where
    assert "a (no call of it is seen in Flax), b (no call of it is seen in Flax)" in where


class Hidden(Nnx):
    def __call__(self, x: Any) -> Any:
        def run(model: Any, x: Any) -> Any:
            return model.head(model.c(jax.nn.relu(model.b(model.a(x))))[:, 0])

        return nnx.remat(run)(self, x)


def test_it_is_said_if_no_layer_is_seen() -> None:
    where = str(prove_match(Ours(), Hidden(), TOKENS).where)
    assert where.startswith("no layer is found that differs. 4 layers could not be compared")
    assert where.endswith("c (no call of it is seen in Flax), and 1 more")


class Normed(Ours):
    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(8)

    def forward(self, x: Any) -> Any:
        return self.head(self.norm(self.b(self.a(x)))[:, 0])


class Selected(Equinox):
    norm: eqx.nn.LayerNorm

    def __init__(self) -> None:
        super().__init__()
        self.norm = eqx.nn.LayerNorm(8)

    def __call__(self, x: Any) -> Any:
        x = jax.vmap(self.b)(jax.vmap(self.a)(x))
        return self.head(jnp.tanh(self.norm(x[0])))


def test_a_shape_alone_is_no_difference() -> None:
    where = str(prove_match(Normed(), Selected(), TOKENS).where)
    assert where.startswith("head (head in Equinox), a Linear, is the first layer that differs")
    assert "1 layer could not be compared" in where
    assert "norm ((2, 3, 8) in PyTorch, (2, 8) in Equinox)" in where


def test_layers_of_pytorch_that_cannot_be_watched_are_said() -> None:
    assert "does not run with its layers watched" in str(first_difference([], [], [], "Flax"))


def test_the_whole_of_what_torch_maps_is_seen() -> None:
    ours = InVmap()
    side = TorchForward(ours, TOKENS)
    with side.held(), torch.no_grad():
        seen = {name: x for name, _, x in side.layers()}
        expected = ours.b(torch.relu(ours.a(torch.from_numpy(TOKENS))))
    np.testing.assert_allclose(seen["b"], expected.numpy(), rtol=1e-5, atol=1e-6)
