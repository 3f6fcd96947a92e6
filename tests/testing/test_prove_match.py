"""Proofs of matchings by random weights: what is proved, what is caught, what is put right."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx
from torch import nn

import portinit
from portinit import Layout
from portinit.recipes.matching.evidence import Evidence, LayoutEvidence
from portinit.recipes.matching.result import Matching
from portinit.testing import MatchProof, prove_match
from portinit.testing.matches import two_sides
from portinit.testing.proof.layers import LayerOutput, found_again
from portinit.testing.proof.proof import prove
from portinit.testing.proof.visible import visible

X = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
OUT_IN = Layout()


class Net(nn.Module):
    """Square layers whose initial weights hide errors: zeros, ones, a faint scale."""

    def __init__(self, depth: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(depth))
        self.gamma = nn.Parameter(torch.full((6,), 1e-6))
        self.head = nn.Linear(6, 3)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + torch.tanh(layer(norm(x)))
        return self.head(x * self.gamma)


class OutIn(linen.Module):
    """A linear layer that keeps its kernel as PyTorch does."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        size = x.shape[-1]
        kernel = self.param("kernel", linen.initializers.ones, (size, size))
        return x @ kernel.T + self.param("bias", linen.initializers.zeros, (size,))


class NetTwin(linen.Module):
    depth: int = 4
    transposed: bool = False

    @linen.compact
    def __call__(self, x: Any) -> Any:
        for i in range(self.depth):
            name = f"layers_{i}"
            layer = OutIn(name=name) if self.transposed else linen.Dense(6, name=name)
            x = x + jnp.tanh(layer(linen.LayerNorm(1e-5, name=f"norms_{i}")(x)))
        gamma = self.param("gamma", linen.initializers.ones, (6,))
        return linen.Dense(3, name="head")(x * gamma)


def restated(matching: Matching, changes: dict[str, str], **fields: Any) -> Matching:
    """A matching in which some paths hold other paths' parameters, and what its pairs rest on."""
    return Matching(
        tuple(
            replace(pair, parameter=matching.pair(changes.get(pair.path, pair.path)).parameter,
                    **fields)
            for pair in matching.pairs
        )
    )  # fmt: skip


def exchanged(matching: Matching, a: str, b: str, **fields: Any) -> Matching:
    return restated(matching, {a: b, b: a}, **fields)


def turned(matching: Matching, *paths: str, **fields: Any) -> Matching:
    """A matching in which square arrays are taken for their transposes."""
    return Matching(
        tuple(
            replace(pair, layout=Layout((1,), (0,)) if pair.layout.axis0 == (0,) else OUT_IN,
                    **fields)
            if pair.path in paths
            else pair
            for pair in matching.pairs
        )
    )  # fmt: skip


def test_a_right_match_is_proved_though_initial_weights_hide_everything():
    net = Net()
    before = {name: x.clone() for name, x in net.state_dict().items()}
    proof = prove_match(net, NetTwin(), X)
    assert proof.agrees
    assert proof.is_complete
    assert len(proof.proved) == len(proof.matching) == 19
    assert not proof.unproved
    assert not proof.decided
    assert str(proof).startswith("proved by random weights: all 19 parameters matter, outputs with")
    assert net.training
    assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_an_nnx_module_keeps_its_weights():
    class Two(nnx.Module):
        def __init__(self) -> None:
            self.fc = nnx.Linear(6, 6, rngs=nnx.Rngs(0))

        def __call__(self, x: Any) -> Any:
            return self.fc(x)

    module = Two()
    before = np.array(module.fc.kernel[...])
    net = nn.Sequential()
    net.add_module("fc", nn.Linear(6, 6))
    assert prove_match(net, module, X).is_complete
    np.testing.assert_array_equal(module.fc.kernel[...], before)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("layers_0/kernel", "layers_1/kernel"),
        ("layers_0/bias", "layers_3/bias"),
        ("norms_1/scale", "norms_2/scale"),
        ("norms_1/scale", "gamma"),
        ("norms_0/bias", "layers_2/bias"),
    ],
)
def test_a_stated_exchange_is_caught_and_not_overruled(a: str, b: str):
    ours, theirs, matching = two_sides(Net(), NetTwin(), X)
    wrong = exchanged(matching, a, b, evidence=Evidence.TABLE)
    proof = prove(ours, theirs, wrong)
    assert not proof.agrees
    assert not proof.is_complete
    assert not proof.proved
    assert not proof.decided
    text = str(proof)
    assert "a name or a layout is wrong" in text
    assert "is the first layer that differs" in text
    assert "the outputs agree with" in text
    for path in (a, b):
        assert f'"{path}": "{matching.pair(path).parameter}"' in text.replace("[", "")


def test_a_stated_transpose_is_caught_and_not_overruled():
    ours, theirs, matching = two_sides(Net(), NetTwin(), X)
    wrong = turned(matching, "layers_2/kernel", layout_evidence=LayoutEvidence.STATED)
    proof = prove(ours, theirs, wrong)
    assert not proof.agrees
    assert "layers.2 (layers_2 in Flax), a Linear, is the first layer that differs" in str(proof)
    assert 'the outputs agree with "layers_2/kernel": ["layers.2.weight", "flax"]' in str(proof)


def guessed(matching: Matching) -> Matching:
    return restated(matching, {}, evidence=Evidence.ORDER, layout_evidence=LayoutEvidence.ASSUMED)


SCRAMBLED = {
    "two layers": {"layers_0/kernel": "layers_3/kernel", "layers_3/kernel": "layers_0/kernel"},
    "whole modules": {
        f"{module}_{i}/{leaf}": f"{module}_{j}/{leaf}"
        for module, leaves in (("layers", ("kernel", "bias")), ("norms", ("scale", "bias")))
        for i, j in ((0, 2), (2, 1), (1, 3), (3, 0))
        for leaf in leaves
    },
    "biases and scales of all": {
        f"{module}_{i}/{leaf}": f"{other}_{i}/{twin}"
        for module, leaf, other, twin in (
            ("layers", "bias", "norms", "scale"),
            ("norms", "scale", "norms", "bias"),
            ("norms", "bias", "layers", "bias"),
        )
        for i in range(4)
    },
}


@pytest.mark.parametrize("changes", SCRAMBLED.values(), ids=SCRAMBLED)
def test_guesses_are_put_right_by_the_outputs(changes: dict[str, str]):
    ours, theirs, matching = two_sides(Net(), NetTwin(), X)
    proof = prove(ours, theirs, guessed(restated(matching, changes)))
    assert proof.agrees
    found = {pair.path: str(pair.parameter) for pair in proof.matching.pairs}
    assert found == {pair.path: str(pair.parameter) for pair in matching.pairs}
    assert {pair.path for pair in proof.decided} == changes.keys()
    assert "decided by comparing outputs: " in str(proof)
    assert 'to state it: "' in str(proof)


class Parallel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.alpha, self.beta, self.gamma = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c = (torch.tanh(layer(x)) for layer in (self.alpha, self.beta, self.gamma))
        return a + 2 * b + 3 * c


class ParallelTwin(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        c, b, a = (linen.Dense(6, name=name)(x) for name in ("one", "two", "three"))
        return 2 * jnp.tanh(b) + 3 * jnp.tanh(c) + jnp.tanh(a)


def test_layers_in_parallel_that_factors_alone_tell_apart_are_put_right():
    proof = prove_match(Parallel(), ParallelTwin(), X)
    assert proof.is_complete
    found = {pair.path: str(pair.parameter) for pair in proof.matching.pairs}
    names = {"one": "gamma", "two": "beta", "three": "alpha"}
    leaves = {"kernel": "weight", "bias": "bias"}
    assert found == {
        f"{path}/{leaf}": f"{name}.{word}"
        for path, name in names.items()
        for leaf, word in leaves.items()
    }


@pytest.mark.parametrize("count", [1, 2, 4])
def test_assumed_layouts_are_put_right_by_the_outputs(count: int):
    ours, theirs, matching = two_sides(Net(), NetTwin(), X)
    paths = [f"layers_{i}/kernel" for i in range(count)]
    proof = prove(ours, theirs, guessed(turned(matching, *paths)))
    assert proof.agrees
    assert proof.matching == guessed(matching)


def test_an_exchange_and_a_transpose_at_once_are_put_right():
    ours, theirs, matching = two_sides(Net(), NetTwin(), X)
    wrong = exchanged(turned(matching, "layers_1/kernel"), "layers_1/kernel", "layers_2/kernel")
    assert prove(ours, theirs, guessed(wrong)).matching == guessed(matching)


def test_a_class_that_keeps_its_kernel_out_in_is_found_out():
    proof = prove_match(Net(), NetTwin(transposed=True), X)
    assert proof.agrees
    kernels = [proof.matching.pair(f"layers_{i}/kernel") for i in range(4)]
    assert {pair.layout_evidence for pair in kernels} == {LayoutEvidence.CONTRACTION}
    assert all(pair.layout.axis0 in ((0,), (-2,)) for pair in kernels)
    assert proof.is_complete


def test_layouts_that_no_forward_pass_tells_are_put_right_by_the_outputs():
    ours, theirs, matching = two_sides(Net(), NetTwin(transposed=True), X)
    paths = [f"layers_{i}/kernel" for i in range(4)]
    proof = prove(ours, theirs, guessed(turned(matching, *paths)))
    assert {pair.path for pair in proof.decided} == {*paths}
    assert proof.matching == guessed(matching)


def test_models_that_compute_something_else_are_no_match():
    class Other(NetTwin):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            return NetTwin.__call__(self, x) * 1.001

    proof = prove_match(Net(), Other(), X)
    assert not proof.agrees
    assert proof.differs
    assert not proof.hints
    assert "the models compute different things" in str(proof)


class Attention(nn.Module):
    """One head of attention whose keys have a bias, which no output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(6, 6) for _ in range(3))
        self.unused = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(self.query(x) @ self.key(x).T / 6**0.5, -1)
        return weights @ self.value(x)


class AttentionTwin(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        query, key, value, _ = (
            linen.Dense(6, name=name)(x) for name in ("query", "key", "value", "unused")
        )
        return jax.nn.softmax(query @ key.T / 6**0.5) @ value


def test_what_no_output_depends_on_is_listed():
    proof = prove_match(Attention(), AttentionTwin(), X)
    assert proof.agrees
    unproved = {pair.path for pair in proof.unproved}
    assert unproved == {"key/bias", "unused/kernel", "unused/bias"}
    assert "no output depends on these, and they are not proved: key/bias = key.bias" in str(proof)
    assert {pair.path for pair in proof.doubtful} == {"unused/kernel"}  # it may be transposed


def test_what_no_output_depends_on_may_be_told_by_its_module():
    ours, theirs, matching = two_sides(Attention(), AttentionTwin(), X)
    proof = prove(ours, theirs, restated(matching, {}, evidence=Evidence.WORDS))
    assert "key/bias" in {pair.path for pair in proof.unproved}
    assert {pair.path for pair in proof.doubtful} == {"unused/kernel", "unused/bias"}


def test_an_exchange_that_no_output_shows_is_not_proved():
    ours, theirs, matching = two_sides(Attention(), AttentionTwin(), X)
    wrong = exchanged(matching, "key/bias", "unused/bias", evidence=Evidence.TABLE)
    proof = prove(ours, theirs, wrong)
    assert proof.agrees
    assert {"key/bias", "unused/bias"} <= {pair.path for pair in proof.doubtful}
    assert not proof.is_complete


def test_symmetric_factors_are_told_apart_by_no_output():
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x) * self.b(x)

    class ProductTwin(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            return linen.Dense(6, name="b")(x) * linen.Dense(6, name="a")(x)

    ours, theirs, matching = two_sides(Product(), ProductTwin(), X)
    assert prove(ours, theirs, matching).is_complete
    proof = prove(ours, theirs, guessed(matching))
    assert proof.agrees
    assert not proof.is_complete or len(proof.indistinct) == 0
    wrong = exchanged(matching, "a/kernel", "b/kernel", evidence=Evidence.TABLE)
    assert not prove(ours, theirs, wrong).agrees  # their biases stay


def test_constant_outputs_prove_nothing():
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x) * 0 + 1

    class ConstantTwin(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            return linen.Dense(6, name="fc")(x) * 0 + 1

    proof = prove_match(Constant(), ConstantTwin(), X)
    assert not proof.proved
    assert not proof.is_complete
    assert len(proof.unproved) == 2


def test_running_statistics_are_proved_too():
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.norm(self.conv(x)))

    class NormedTwin(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            x = linen.Conv(4, (3, 3), padding=0, name="conv")(x)
            return linen.relu(linen.BatchNorm(use_running_average=True, name="norm")(x))

    images = np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)
    sides = two_sides(Normed(), NormedTwin(), images, images.transpose(0, 2, 3, 1))
    proof = prove(*sides)
    assert proof.is_complete
    assert {"norm/mean", "norm/var"} <= {pair.path for pair in proof.proved}
    wrong = exchanged(sides[2], "norm/mean", "norm/bias", evidence=Evidence.TABLE)
    assert not prove(*sides[:2], wrong).agrees


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_parameters_are_proved_in_float32(dtype: str):
    class Narrow(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            kind = getattr(jnp, dtype)
            x = linen.Dense(6, param_dtype=kind, name="a")(x)
            return linen.Dense(6, param_dtype=kind, name="b")(jnp.tanh(x))

    class NarrowNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = (nn.Linear(6, 6, dtype=getattr(torch, dtype)) for _ in "ab")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(torch.tanh(self.a(x)))

    net = NarrowNet()
    proof = prove_match(net, Narrow(), X)
    assert proof.is_complete
    assert proof.gap < 1e-5
    assert net.a.weight.dtype == getattr(torch, dtype)


# The parts


@pytest.mark.parametrize(
    "initial",
    [
        np.zeros(50), np.ones(50), np.full(50, 1e-6), np.full((50, 1, 1), -3.0), np.ones((5, 10)),
        np.zeros((5, 10)), np.log(np.arange(1, 51.0)), np.linspace(-1, 1, 50),
        np.random.default_rng(0).normal(size=(10, 5)), np.zeros((1, 10, 5)),
    ],
)  # fmt: skip
def test_visible_weights_are_distinct_and_of_a_good_size(initial: Any):
    first, second = (visible(initial.astype(np.float32), portinit.key(i)) for i in (0, 1))
    assert first.shape == initial.shape
    assert len(set(first.reshape(-1).tolist())) == first.size
    assert not np.any(first == second)
    assert not np.any(first == initial)
    assert 0.05 < np.abs(first).mean() < 5
    if initial.min() > 0:
        assert first.min() > 0
    if initial.max() < 0:
        assert first.max() < 0


def test_scalars_and_empty_arrays_are_visible_too():
    assert visible(np.float32(2.5).reshape(()), portinit.key(0)).shape == ()
    assert visible(np.zeros((0, 3), np.float32), portinit.key(0)).shape == (0, 3)
    both = visible(np.zeros((3, 4), np.complex64), portinit.key(0))
    assert np.all(both.real != both.imag)


def test_a_layers_output_is_found_in_another_order_of_axes_only():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    weight = np.random.default_rng(1).standard_normal((5, 5)).astype(np.float32)
    layer, moved, other, near = (
        LayerOutput.of(("layer", "Linear", y))
        for y in (x @ weight, np.moveaxis(x @ weight, 1, -1), x @ weight.T, x @ weight * 1.001)
    )
    assert found_again([layer], [other, moved]) == [True]
    assert found_again([layer], [other, near]) == [False]
    assert layer.std == pytest.approx((x @ weight).std(), rel=1e-6)


def test_a_proof_says_what_it_is():
    assert repr(MatchProof(Matching(()))) == "<MatchProof: outputs differ, 0 of 0 pairs proved>"
