"""Whole Keras models against their PyTorch twins: bytes moved by hand, and outputs."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from tests.support.bits import same_bits, to_numpy
from torch import nn

import portinit
import portinit_keras
import portinit_torch
from portinit import Recipe, RecipeError, Rule
from portinit.testing import prove_match

KEY = portinit.key(11)
RANDOM = Recipe([("*running_var", portinit.uniform(1.0, 2.0)), ("*", portinit.normal(std=0.3))])

values = keras.ops.convert_to_numpy


class TorchBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Any) -> Any:
        y = self.ln1(x)
        x = x + self.attn(y, y, y)[0]
        return x + self.fc2(torch.tanh(self.fc1(self.ln2(x))))


class TorchNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(11, 8)
        self.blocks = nn.ModuleList([TorchBlock() for _ in range(2)])
        self.head = nn.Linear(8, 5)

    def forward(self, tokens: Any) -> Any:
        x = self.emb(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Block(layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.ln1 = layers.LayerNormalization(epsilon=1e-5)
        self.ln2 = layers.LayerNormalization(epsilon=1e-5)
        self.attn = layers.MultiHeadAttention(2, 4)
        self.fc1, self.fc2 = layers.Dense(16, "tanh"), layers.Dense(8)

    def call(self, x: Any) -> Any:
        y = self.ln1(x)
        x = x + self.attn(y, y)
        return x + self.fc2(self.fc1(self.ln2(x)))


class Net(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.emb = layers.Embedding(11, 8)
        self.blocks = [Block() for _ in range(2)]
        self.head = layers.Dense(5)

    def call(self, tokens: Any) -> Any:
        x = self.emb(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


TOKENS = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])


def net() -> Any:
    made = Net()
    made(TOKENS)
    return made


def filled(ours: nn.Module, theirs: Any, recipe: Recipe = RANDOM, **options: Any) -> Recipe:
    """Fill both sides; the recipe that was bound to PyTorch's."""
    bound = portinit_torch.bind(ours, recipe)
    portinit_torch.initialize(ours.eval(), bound, KEY)
    assert portinit_keras.initialize(theirs, bound, KEY, **options) is theirs
    return bound


def outputs(ours: nn.Module, theirs: Any, inputs: np.ndarray) -> tuple[Any, Any]:
    with torch.no_grad():
        return ours(torch.from_numpy(inputs)), values(theirs(inputs))


def test_a_transformer_computes_what_its_twin_does() -> None:
    ours, theirs = TorchNet(), net()
    bound = filled(ours, theirs)
    matching = portinit_keras.match(theirs, bound)
    assert len(matching) == len(theirs.weights) == 35
    assert not matching.suspects
    name = matching["blocks/1/attn/key/kernel"][0]
    assert name == "blocks.1.attn.in_proj_weight[8:16]"
    expected, found = outputs(ours, theirs, TOKENS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_heads_are_pytorchs_rows() -> None:
    ours, theirs = TorchNet(), net()
    filled(ours, theirs)
    block, twin = ours.blocks[1], theirs.blocks[1]
    q, k, v = to_numpy(block.attn.in_proj_weight).reshape(3, 8, 8)
    for part, weight in (("query", q), ("key", k), ("value", v)):
        dense = getattr(twin.attn, f"{part}_dense")
        assert same_bits(dense.kernel.value, weight.T.reshape(8, 2, 4))
    out = to_numpy(block.attn.out_proj.weight).T.reshape(2, 4, 8)
    assert same_bits(twin.attn.output_dense.kernel.value, out)
    assert same_bits(theirs.emb.embeddings.value, ours.emb.weight)


class Conv(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(4, 6, (3, 2)),
            nn.BatchNorm2d(6),
            nn.PReLU(6),
            nn.Conv2d(6, 12, 3, groups=6),
            nn.ConvTranspose2d(12, 5, (3, 2), stride=2),
            nn.Flatten(1),
            nn.Linear(5 * 9 * 6, 3),
        )


def conv() -> Any:
    return keras.Sequential(
        [
            keras.Input((8, 6, 4)),
            layers.Conv2D(6, (3, 2)),
            layers.BatchNormalization(epsilon=1e-5),
            layers.PReLU(shared_axes=[1, 2]),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.Conv2DTranspose(5, (3, 2), strides=2),
            layers.Permute((3, 1, 2)),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def test_a_convolutional_net_computes_what_its_twin_does() -> None:
    images = np.random.default_rng(0).standard_normal((2, 8, 6, 4)).astype(np.float32)
    theirs, ours = conv(), Conv()
    ours[-1] = nn.Linear(theirs.layers[-1].kernel.shape[0], 3)
    with pytest.warns(UserWarning, match="are matched by a guess"):
        filled(ours, theirs)
    with torch.no_grad():
        expected = ours(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(values(theirs(images)), expected, rtol=2e-4, atol=2e-4)


PATHS = [
    "conv2d/kernel", "conv2d/bias", "batch_normalization/gamma", "batch_normalization/beta",
    "batch_normalization/moving_mean", "batch_normalization/moving_variance", "p_re_lu/alpha",
    "depthwise_conv2d/kernel", "depthwise_conv2d/bias", "conv2d_transpose/kernel",
    "conv2d_transpose/bias", "dense/kernel", "dense/bias",
]  # fmt: skip


def test_paths_do_not_depend_on_what_the_process_has_made_before() -> None:
    first, second = conv(), conv()
    assert {v.path for v in first.weights}.isdisjoint(v.path for v in second.weights)
    recipe = Recipe([("*", portinit.normal())])
    for model in (first, second):
        assert sorted(portinit_keras.match(model, recipe)) == sorted(PATHS)
        portinit_keras.initialize(model, recipe, KEY)
    for a, b in zip(first.weights, second.weights, strict=True):
        assert same_bits(a.value, b.value)


def test_patterns_see_pytorchs_words() -> None:
    seen = portinit_keras.match(conv(), Recipe([("*", portinit.normal())]))
    names = [seen[path][0] for path in PATHS]
    assert names[2:8] == [
        "batch_normalization.weight", "batch_normalization.bias",
        "batch_normalization.running_mean", "batch_normalization.running_var",
        "p_re_lu.weight", "depthwise_conv2d.weight",
    ]  # fmt: skip
    attention = portinit_keras.match(net(), Recipe([("*", portinit.normal())]))
    path = "blocks/0/attn/attention_output/kernel"
    assert attention[path][0] == "blocks.0.attn.out_proj.weight"


RECURRENT = {
    "LSTM": (nn.LSTM, layers.LSTM, portinit.zeros),
    "GRU": (nn.GRU, layers.GRU, portinit.normal()),
    "SimpleRNN": (nn.RNN, layers.SimpleRNN, portinit.zeros),
}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_compute_what_their_twins_do(name: str, bidirectional: bool) -> None:
    torchs, kerass, bias_hh = RECURRENT[name]
    ours = torchs(4, 3, num_layers=2, batch_first=True, bidirectional=bidirectional)
    rnns = [kerass(3, return_sequences=True, name=f"rnn_{i}") for i in range(2)]
    wrap = layers.Bidirectional if bidirectional else lambda layer: layer
    theirs = keras.Sequential([keras.Input((5, 4)), *map(wrap, rnns)])
    recipe = Recipe([("*bias_hh*", bias_hh), ("*", portinit.normal())])
    filled(ours, theirs, recipe)
    inputs = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)
    (expected, _), found = outputs(ours, theirs, inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_two_biases_of_an_lstm_are_refused_with_the_cure() -> None:
    bound = portinit_torch.bind(nn.LSTM(4, 3), RANDOM)
    theirs = keras.Sequential([keras.Input((5, 4)), layers.LSTM(3)])
    with pytest.raises(RecipeError, match=r"portinit\.sum_biases"):
        portinit_keras.initialize(theirs, bound, KEY)
    portinit_keras.initialize(theirs, portinit.sum_biases(bound, KEY), KEY)


def test_a_gru_that_is_not_pytorchs_is_refused() -> None:
    bound = portinit_torch.bind(nn.GRU(4, 3, bias=False), RANDOM)
    theirs = keras.Sequential([keras.Input((5, 4)), layers.GRU(3, use_bias=False)])
    portinit_keras.initialize(theirs, bound, KEY)
    cell = layers.GRU(3, use_bias=False, reset_after=False)
    with pytest.raises(RecipeError, match="gru/gru_cell/kernel: a GRU with reset_after=False"):
        portinit_keras.initialize(keras.Sequential([keras.Input((5, 4)), cell]), bound, KEY)


def test_einsum_layers_lie_as_their_equations_say() -> None:
    dense = layers.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de")
    dense.build((1, 5, 6))
    ours = nn.Linear(6, 8)
    filled(ours, dense)
    assert same_bits(dense.kernel.value, to_numpy(ours.weight).T.reshape(6, 2, 4))
    assert same_bits(dense.bias.value, to_numpy(ours.bias).reshape(2, 4))


def test_functional_models_and_shared_layers() -> None:
    class Ours(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.out(self.shared(self.shared(x)))

    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    theirs = keras.Model(inputs, layers.Dense(2, name="out")(shared(shared(inputs))))
    ours = Ours()
    filled(ours, theirs)
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    expected, found = outputs(ours, theirs, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_dtypes_of_policies_are_filled() -> None:
    dense = layers.Dense(5, dtype="bfloat16", name="fc")
    model = keras.Sequential([keras.Input((4,)), dense])
    recipe = Recipe([("fc.weight", portinit.normal()), ("*", portinit.zeros)])
    portinit_keras.initialize(model, recipe, KEY)
    expected = portinit.normal()(KEY.fold_in("fc.weight"), (4, 5), "bfloat16")
    assert same_bits(dense.kernel.value, expected)


def test_a_table_of_names() -> None:
    ours = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    theirs = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Dense(4)])
    names = {"dense": "1", "dense_1": "0"}
    filled(ours, theirs, names=names)
    assert same_bits(theirs.layers[0].kernel.value, to_numpy(ours[1].weight).T)


def test_a_table_puts_parts_together() -> None:
    ours = nn.ModuleDict({name: nn.Linear(3, 2, bias=False) for name in "abcd"})
    dense = layers.Dense(4, use_bias=False, name="fc")
    theirs = keras.Sequential([keras.Input((6,)), dense])
    rows = [{"concat": [f"{x}.weight", f"{y}.weight"], "axis": 1} for x, y in ("ab", "cd")]
    filled(ours, theirs, names={"fc/kernel": {"concat": rows, "axis": 0}})
    a, b, c, d = (to_numpy(ours[name].weight).T for name in "abcd")
    assert same_bits(dense.kernel.value, np.block([[a, b], [c, d]]))


def test_the_outputs_prove_a_matching_and_the_model_keeps_its_weights() -> None:
    ours, theirs = TorchNet(), net()
    before = [values(v.value).tobytes() for v in theirs.weights]
    proof = prove_match(ours, theirs, TOKENS)
    assert proof.agrees
    assert len(proof.proved) == 35 - 2  # the biases of keys move no output
    assert [values(v.value).tobytes() for v in theirs.weights] == before


# What does not fit


def test_everything_that_does_not_fit_is_listed_and_nothing_is_written() -> None:
    theirs = net()
    before = [values(v.value).tobytes() for v in theirs.weights]
    bound = portinit_torch.bind(TorchNet(), RANDOM)
    rules = [rule for rule in bound.rules if not rule.pattern.startswith("head")]
    recipe = Recipe([*rules, Rule("tail.weight", portinit.zeros, shape=(2, 2))])
    with pytest.raises(RecipeError) as raised:
        portinit_keras.initialize(theirs, recipe, KEY)
    for word in ("head/kernel", "head/bias", "tail.weight"):
        assert word in str(raised.value)
    assert [values(v.value).tobytes() for v in theirs.weights] == before


def test_a_model_that_is_not_built_is_refused() -> None:
    with pytest.raises(TypeError, match=r"call it on an example input first, or model.build"):
        portinit_keras.initialize(Net(), RANDOM, KEY)


@pytest.mark.parametrize(("model", "words"), [(nn.Linear(2, 2), "portinit_torch"), ({}, "dict")])
def test_what_is_no_keras_model_is_refused(model: Any, words: str) -> None:
    with pytest.raises(TypeError, match=f"must be a keras.Model or keras.Layer, got .*{words}"):
        portinit_keras.initialize(model, RANDOM, KEY)


def test_variables_of_one_path_are_refused() -> None:
    class Twice(layers.Layer):
        def build(self, shape: Any) -> None:
            self.held = {
                i: self.add_weight(shape=(2,), name="same", initializer="zeros") for i in range(2)
            }

        def call(self, x: Any) -> Any:
            return x

    layer = Twice()
    layer.build((1, 2))
    with pytest.raises(RecipeError, match="same: ") as raised:
        portinit_keras.initialize(layer, RANDOM, KEY)
    assert len(raised.value.misfits) == 2


def test_plans_that_a_recipe_keeps_are_not_those_of_another_equation() -> None:
    """EinsumDense says in its equation alone how its kernel lies; paths and shapes are equal."""
    one, key = portinit.Recipe([("*", portinit.normal())]), portinit.key(0)

    def kernel(equation: str, recipe: portinit.Recipe) -> np.ndarray:
        layer = keras.layers.EinsumDense(equation, output_shape=(4,), name="fc")
        model = keras.Sequential([keras.Input((4,)), layer])
        return np.asarray(portinit_keras.initialize(model, recipe, key).weights[0])

    for equation in ("ab,bc->ac", "ab,cb->ac", "ab,bc->ac"):
        fresh = portinit.Recipe([("*", portinit.normal())])
        assert np.array_equal(kernel(equation, one), kernel(equation, fresh))
    assert np.array_equal(kernel("ab,bc->ac", one), kernel("ab,cb->ac", one).T)
