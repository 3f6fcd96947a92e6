"""Twins whose names differ: matched without a table, and proved by what the two models compute.

Each pair is filled from one recipe that draws every parameter, biases and statistics too, so that
a wrong pairing or a wrong layout shows in the outputs, which PyTorch and JAX compute apart.
"""

import dataclasses
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn
from flax import nnx
from torch.nn import functional

import portinit
import portinit_flax
import portinit_torch
from portinit import Layout, Recipe, RecipeError
from portinit_flax import Evidence, LayoutEvidence

KEY = portinit.key(11)
DRAWN = Recipe(
    [
        ("*num_batches_tracked", portinit.zeros),
        ("*var", portinit.uniform(0.5, 1.5)),
        ("*", portinit.normal(std=0.4)),
    ]
)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def bound(model: torch.nn.Module) -> Recipe:
    return portinit_torch.bind(model, DRAWN)


def outputs_of_torch(model: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    portinit_torch.initialize(model, DRAWN, KEY).eval()
    with torch.no_grad():
        return model(torch.from_numpy(x)).numpy()


def shapes_of(model: nn.Module, x: np.ndarray, **options: Any) -> Any:
    return jax.eval_shape(model.init, jax.random.key(0), x, **options)


def prove(model: torch.nn.Module, flax_model: nn.Module, x: np.ndarray, **options: Any) -> Any:
    """Fill both, compare their outputs, and return the matching."""
    channels_last = np.moveaxis(x, 1, -1) if x.ndim == 4 else x
    shapes = shapes_of(flax_model, channels_last)
    matching = portinit_flax.match(shapes, bound(model), **options)
    variables = initialize(shapes, model, **options)
    expected = outputs_of_torch(model, x)
    np.testing.assert_allclose(
        flax_model.apply(variables, channels_last), expected, rtol=2e-4, atol=2e-4
    )
    portinit.testing.assert_same_weights(model, variables, **options)
    return matching


def initialize(tree: Any, model: torch.nn.Module, **options: Any) -> Any:
    """Fill a tree that is matched by a guess: the outputs prove it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "[0-9]+ arrays are matched by a guess")
        return portinit_flax.initialize(tree, bound(model), KEY, **options)


# Vision: Flax's own numbering against PyTorch's names, lists of lists against one list


class TorchBlock(torch.nn.Module):
    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(width, out, 3, stride, padding=1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(out)
        self.conv2 = torch.nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(out)
        self.downsample = None
        if stride > 1:
            self.downsample = torch.nn.Sequential(
                torch.nn.Conv2d(width, out, 1, stride, bias=False), torch.nn.BatchNorm2d(out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchResNet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(8)
        self.layer1 = torch.nn.Sequential(TorchBlock(8, 8, 1), TorchBlock(8, 8, 1))
        self.layer2 = torch.nn.Sequential(TorchBlock(8, 16, 2), TorchBlock(16, 16, 1))
        self.fc = torch.nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer2(self.layer1(x)).mean(dim=(2, 3)))


class BasicBlock(nn.Module):
    out: int
    stride: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        s = (self.stride, self.stride)
        y = nn.Conv(self.out, (3, 3), s, padding=1, use_bias=False)(x)
        y = nn.relu(nn.BatchNorm(use_running_average=True)(y))
        y = nn.Conv(self.out, (3, 3), padding=1, use_bias=False)(y)
        y = nn.BatchNorm(use_running_average=True)(y)
        if self.stride > 1:
            x = nn.Conv(self.out, (1, 1), s, use_bias=False, name="conv_proj")(x)
            x = nn.BatchNorm(use_running_average=True, name="norm_proj")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Conv(8, (3, 3), padding=1, use_bias=False, name="conv_init")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True, name="bn_init")(x))
        for out, stride in ((8, 1), (8, 1), (16, 2), (16, 1)):
            x = BasicBlock(out, stride)(x)
        return nn.Dense(5)(x.mean(axis=(1, 2)))


def with_the_epsilon_of_flax(model: torch.nn.Module) -> torch.nn.Module:
    for module in model.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-5
    return model


def test_a_resnet_in_flaxs_own_numbering() -> None:
    matching = prove(TorchResNet(), ResNet(), numbers(2, 3, 8, 8))
    assert matching["BasicBlock_3/Conv_1/kernel"][0] == "layer2.1.conv2.weight"
    assert matching["BasicBlock_2/norm_proj/var"][0] == "layer2.0.downsample.1.running_var"
    assert all(pair.evidence < Evidence.ORDER for pair in matching.suspects)


# Text: attention with other words, a gated MLP, levels that one side lacks


class TorchAttention(torch.nn.Module):
    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, torch.nn.Linear(d, d))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, d = x.shape
        q, k, v = (
            part(x).view(n, t, self.heads, -1).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.o_proj(y.transpose(1, 2).reshape(n, t, d))


class TorchGated(torch.nn.Module):
    def __init__(self, d: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = torch.nn.Linear(d, hidden, bias=False)
        self.up_proj = torch.nn.Linear(d, hidden, bias=False)
        self.down_proj = torch.nn.Linear(hidden, d, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class TorchLayer(torch.nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.input_layernorm = torch.nn.LayerNorm(d, eps=1e-6)
        self.self_attn = TorchAttention(d, 2)
        self.post_attention_layernorm = torch.nn.LayerNorm(d, eps=1e-6)
        self.mlp = TorchGated(d, 2 * d + 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class TorchText(torch.nn.Module):
    def __init__(self, tied: bool = False, layers: int = 3, d: int = 8) -> None:
        super().__init__()
        self.model = torch.nn.ModuleDict(
            {
                "embed_tokens": torch.nn.Embedding(13, d),
                "layers": torch.nn.ModuleList(TorchLayer(d) for _ in range(layers)),
                "norm": torch.nn.LayerNorm(d, eps=1e-6),
            }
        )
        self.lm_head = torch.nn.Linear(d, 13, bias=False)
        if tied:
            self.lm_head.weight = self.model["embed_tokens"].weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.model["embed_tokens"](tokens)
        for layer in self.model["layers"]:
            x = layer(x)
        return self.lm_head(self.model["norm"](x))


def attend(q: Any, k: Any, v: Any, heads: int) -> Any:
    q, k, v = (a.reshape(*a.shape[:2], heads, -1) for a in (q, k, v))
    return jax.nn.dot_product_attention(q, k, v).reshape(*q.shape[:2], -1)


class Layer(nn.Module):
    d: int
    norms: tuple[str, str] = ("attention_norm", "ffn_norm")

    @nn.compact
    def __call__(self, x: Any) -> Any:
        y = nn.LayerNorm(name=self.norms[0])(x)
        q, k, v = (nn.Dense(self.d, name=name)(y) for name in ("wq", "wk", "wv"))
        x = x + nn.Dense(self.d, name="wo")(attend(q, k, v, 2))
        y, hidden = nn.LayerNorm(name=self.norms[1])(x), 2 * self.d + 3
        gate = nn.silu(nn.Dense(hidden, use_bias=False, name="w1")(y))
        up = nn.Dense(hidden, use_bias=False, name="w3")(y)
        return x + nn.Dense(self.d, use_bias=False, name="w2")(gate * up)


class Text(nn.Module):
    tied: bool = False

    @nn.compact
    def __call__(self, tokens: Any) -> Any:
        embed = nn.Embed(13, 8, name="wte")
        x = embed(tokens)
        for i in range(3):
            x = Layer(8, name=f"block_{i}")(x)
        x = nn.LayerNorm(name="ln_f")(x)
        return embed.attend(x) if self.tied else nn.Dense(13, use_bias=False, name="head")(x)


TOKENS = np.array([[1, 4, 12, 0], [3, 3, 7, 2]])


def test_a_language_model_in_other_words_flat_where_pytorch_nests() -> None:
    matching = prove(TorchText(), Text(), TOKENS)
    assert matching["block_2/w1/kernel"][0] == "model.layers.2.mlp.gate_proj.weight"
    assert matching["block_0/wo/bias"][0] == "model.layers.0.self_attn.o_proj.bias"


def test_a_tied_pair_is_one_leaf_in_flax() -> None:
    matching = prove(TorchText(tied=True), Text(tied=True), TOKENS)
    assert matching["wte/embedding"][0] == "model.embed_tokens.weight"


def test_a_tied_pair_may_be_two_leaves_in_flax_with_the_same_values() -> None:
    model = TorchText(tied=True)
    matching = prove(model, Text(tied=False), TOKENS)
    assert matching["head/kernel"][0] == matching["wte/embedding"][0]


class ScannedLayer(nn.Module):
    @nn.compact
    def __call__(self, x: Any, _: Any) -> Any:
        return Layer(8, name="inner")(x), None


class ScannedText(nn.Module):
    axis: int = 0

    @nn.compact
    def __call__(self, tokens: Any) -> Any:
        x = nn.Embed(13, 8, name="wte")(tokens)
        scan = nn.scan(
            ScannedLayer, variable_axes={"params": self.axis}, split_rngs={"params": True}, length=3
        )
        x, _ = scan(name="h")(x, None)
        return nn.Dense(13, use_bias=False, name="head")(nn.LayerNorm(name="ln_f")(x))


@pytest.mark.parametrize("axis", [0, 1])
def test_scanned_layers_of_other_names(axis: int) -> None:
    matching = prove(TorchText(), ScannedText(axis), TOKENS)
    assert matching["h/1/inner/w3/kernel"][0] == "model.layers.1.mlp.up_proj.weight"


def test_equal_shapes_that_no_name_tells_apart_are_listed() -> None:
    model = TorchText()
    shapes = shapes_of(Text(), TOKENS)["params"]
    for i in range(3):
        block = shapes[f"block_{i}"]
        for old, new in (("wq", "foo"), ("wk", "bar"), ("wv", "baz")):
            block[new] = block.pop(old)
    shapes = jax.tree.map(lambda x: x, shapes)  # sorted, as jit returns it
    with pytest.raises(RecipeError) as caught:
        portinit_flax.initialize(shapes, bound(model), KEY)
    assert len(caught.value.misfits) == 36  # 3 layers, of three kernels and biases, both sides
    line = next(line for line in caught.value.misfits if line.startswith("block_1/foo/kernel"))
    assert "model.layers.1.self_attn.q_proj.weight" in line
    assert "model.layers.0.self_attn.q_proj.weight" not in line.split("of its size")[0]


# Order of definition


class Plain(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.zero = nnx.Linear(4, 4, rngs=rngs)
        self.mid = nnx.Linear(4, 4, rngs=rngs)
        self.alpha = nnx.Linear(4, 4, rngs=rngs)


class TorchPlain(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.second = torch.nn.Linear(4, 4)
        self.third = torch.nn.Linear(4, 4)


def test_modules_that_only_their_order_tells_apart_are_matched_with_a_warning() -> None:
    model, recipe = Plain(nnx.Rngs(0)), bound(TorchPlain())
    matching = portinit_flax.match(model, recipe)
    assert matching["zero/kernel"][0] == "first.weight"
    assert matching["alpha/bias"][0] == "third.bias"
    assert matching.pair("mid/bias").evidence is Evidence.ORDER
    assert matching.pair("mid/bias").evidence.certainty == "assumed"
    assert len(matching.suspects) == 6
    assert {len(group) for group in matching.exchangeable()} == {3}
    with pytest.warns(UserWarning, match="6 arrays are matched by a guess"):
        portinit_flax.initialize(model, recipe, KEY)


def test_order_is_not_taken_from_a_sorted_tree() -> None:
    shape = jax.ShapeDtypeStruct((4, 4), np.float32)
    tree = {name: {"kernel": shape} for name in ("alpha", "mid", "zero")}
    model = torch.nn.Sequential()
    for name in ("first", "second", "third"):
        model.add_module(name, torch.nn.Linear(4, 4, bias=False))
    with pytest.raises(RecipeError, match="no such name"):
        portinit_flax.initialize(tree, bound(model), KEY)
    unsorted = {name: tree[name] for name in ("mid", "alpha", "zero")}
    matching = portinit_flax.match(unsorted, bound(model))
    assert matching["mid/kernel"][0] == "first.weight"


# One side has more


class TorchPooled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Linear(6, 6)
        self.head = torch.nn.Linear(6, 2)
        self.pooler = torch.nn.Linear(6, 6)


def test_what_only_pytorch_has_is_named_and_may_be_ignored() -> None:
    shapes = {
        "body": {"kernel": jnp.zeros((6, 6)), "bias": jnp.zeros(6)},
        "head": {"kernel": jnp.zeros((6, 2)), "bias": jnp.zeros(2)},
    }
    recipe = bound(TorchPooled())
    with pytest.raises(RecipeError) as caught:
        portinit_flax.initialize(shapes, recipe, KEY)
    assert caught.value.misfits == (
        "pooler.weight: no such parameter in the tree",
        "pooler.bias: no such parameter in the tree",
    )
    filled = portinit_flax.initialize(shapes, recipe, KEY, ignore="pooler.*")
    assert set(portinit_flax.match(shapes, recipe, ignore=["pooler.*"])) == {
        *("body/kernel", "body/bias", "head/kernel", "head/bias")
    }
    assert filled["head"]["kernel"].any()


def test_what_only_flax_has_gets_a_rule_of_the_table() -> None:
    model = torch.nn.ModuleDict({"key": torch.nn.Linear(4, 3, bias=False)})
    shapes = {"key": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}}
    with pytest.raises(RecipeError, match="key/bias"):
        portinit_flax.initialize(shapes, bound(model), KEY)
    for table in ({"key/bias": portinit.zeros}, {"*/bias": {"init": "zeros"}}):
        filled = portinit_flax.initialize(shapes, bound(model), KEY, table)
        assert not filled["key"]["bias"].any()
        assert filled["key"]["kernel"].std() > 0


# Layouts


def test_a_square_kernel_follows_its_siblings_against_the_convention() -> None:
    """transformers' FlaxConv1D keeps (out, in), and PyTorch's Conv1D (in, out)."""
    rules = [
        portinit.Rule(f"{name}.weight", portinit.normal(), Layout(roles="io"), shape=shape)
        for name, shape in (("c_attn", (4, 12)), ("c_proj", (4, 4)))
    ]
    recipe = Recipe(rules)
    tree = {"c_attn": {"kernel": jnp.zeros((12, 4))}, "c_proj": {"kernel": jnp.zeros((4, 4))}}
    filled = portinit_flax.initialize(tree, recipe, KEY)
    weight = portinit.normal()(KEY.fold_in("c_proj.weight"), (4, 4), layout="torch")
    np.testing.assert_array_equal(filled["c_proj"]["kernel"], weight.T)
    pair = portinit_flax.match(tree, recipe).pair("c_proj/kernel")
    assert pair.layout_evidence is LayoutEvidence.SIBLINGS
    other = {"c_attn": {"kernel": jnp.zeros((4, 12))}, "c_proj": {"kernel": jnp.zeros((4, 4))}}
    filled = portinit_flax.initialize(other, recipe, KEY)
    np.testing.assert_array_equal(filled["c_proj"]["kernel"], weight)


@pytest.mark.parametrize("word", ["w", "weight"])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_square_array_of_another_word_follows_its_siblings(word: str, transposed: bool) -> None:
    model = torch.nn.ModuleDict(
        {"a": torch.nn.Linear(8, 8, bias=False), "b": torch.nn.Linear(8, 3, bias=False)}
    )
    shape = (8, 3) if transposed else (3, 8)
    tree = {"a": {word: jnp.zeros((8, 8))}, "b": {word: jnp.zeros(shape)}}
    filled = portinit_flax.initialize(tree, bound(model), KEY)
    portinit_torch.initialize(model, DRAWN, KEY)
    expected = model["a"].weight.detach().numpy()
    np.testing.assert_array_equal(filled["a"][word], expected.T if transposed else expected)


def test_a_square_array_that_nothing_tells_is_named() -> None:
    model = torch.nn.ModuleDict({"fc": torch.nn.Linear(8, 8, bias=False)})
    tree = {"fc": {"w": jnp.zeros((8, 8))}}
    with pytest.warns(UserWarning, match="fc/w = fc.weight .*layout by assumed"):
        filled = portinit_flax.initialize(tree, bound(model), KEY, {"fc/w": "fc.weight"})
    portinit_torch.initialize(model, DRAWN, KEY)
    np.testing.assert_array_equal(filled["fc"]["w"].T, model["fc"].weight.detach())
    matching = portinit_flax.match(tree, bound(model))
    assert [pair.path for pair in matching.suspects] == ["fc/w"]
    assert len(matching.suspects[0].others) == 1
    table = {"fc/w": ("fc.weight", "torch")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stated = portinit_flax.initialize(tree, bound(model), KEY, table)
    np.testing.assert_array_equal(stated["fc"]["w"], model["fc"].weight.detach())


# Trees of other libraries


HAIKU = {  # an MLP and a LayerNorm: w (in, out), b, scale, offset
    "mlp/~/linear_0": {"w": (6, 6), "b": (6,)},
    "mlp/~/linear_1": {"w": (6, 4), "b": (4,)},
    "layer_norm": {"scale": (4,), "offset": (4,)},
}


def haiku_mlp(params: Any, x: Any) -> Any:
    for i in range(2):
        layer = params[f"mlp/~/linear_{i}"]
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    norm = params["layer_norm"]
    x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * norm["scale"] + norm["offset"]


class TorchMlp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(6, 6), torch.nn.Linear(6, 4)])
        self.norm = torch.nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.norm(x)


def test_a_tree_of_haiku() -> None:
    tree = {
        module: {leaf: jnp.zeros(shape) for leaf, shape in leaves.items()}
        for module, leaves in HAIKU.items()
    }
    x = numbers(3, 6)
    filled = initialize(tree, TorchMlp())
    np.testing.assert_allclose(
        haiku_mlp(filled, x), outputs_of_torch(TorchMlp(), x), rtol=1e-4, atol=1e-5
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class EquinoxLinear:
    weight: Any
    bias: Any

    def __call__(self, x: Any) -> Any:
        return self.weight @ x + self.bias


class EquinoxMlp(NamedTuple):
    layers: list[EquinoxLinear]
    activation: Any

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = self.activation(layer(x))
        return x


class TorchPlainMlp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = torch.nn.Linear(5, 5), torch.nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.fc2(torch.tanh(self.fc1(x))))


def test_a_tree_of_equinox_whose_keys_are_attributes() -> None:
    layers = [EquinoxLinear(jnp.zeros((o, 5)), jnp.zeros(o)) for o in (5, 2)]
    tree = EquinoxMlp(layers, jnp.tanh)
    filled = initialize(tree, TorchPlainMlp())
    x = numbers(4, 5)
    np.testing.assert_allclose(
        jax.vmap(filled)(x), outputs_of_torch(TorchPlainMlp(), x), rtol=1e-4, atol=1e-5
    )
    assert portinit_flax.match(tree, bound(TorchPlainMlp()))["layers/1/weight"][0] == "fc2.weight"


def test_the_fields_of_a_namedtuple_are_parts_of_paths() -> None:
    class Pair(NamedTuple):
        weight: Any
        bias: Any

    recipe = Recipe([("*bias", portinit.zeros), ("*", portinit.normal())])
    tree = {"fc": Pair(jnp.full((4, 3), 7.0), jnp.full(4, 7.0))}
    filled = portinit_flax.initialize(tree, recipe, KEY)
    expected = portinit.normal()(KEY.fold_in("fc.weight"), (4, 3), layout="torch")
    np.testing.assert_array_equal(filled["fc"].weight, expected)
    assert not filled["fc"].bias.any()
    assert set(portinit_flax.match(tree["fc"], recipe)) == {"weight", "bias"}


def test_two_arrays_of_one_path_do_not_pass() -> None:
    tree = {"a": {1: jnp.zeros(2), "1": jnp.zeros(2)}}

    @jax.tree_util.register_pytree_node_class
    class Odd:
        def tree_flatten(self) -> Any:
            return (tree["a"][1], tree["a"]["1"]), None

        def tree_flatten_with_keys(self) -> Any:
            key = jax.tree_util.GetAttrKey("w")
            return [(key, leaf) for leaf in self.tree_flatten()[0]], None

        @classmethod
        def tree_unflatten(cls, _: Any, children: Any) -> Any:
            return cls()

    class Keyed(Odd):
        pass

    jax.tree_util.register_pytree_with_keys_class(Keyed)
    with pytest.raises(RecipeError, match="w: 2 arrays"):
        portinit_flax.initialize(Keyed(), Recipe([("*", portinit.zeros)]), KEY)
