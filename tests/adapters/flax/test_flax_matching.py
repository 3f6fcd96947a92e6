"""Twins whose names differ: matched without a table, and proved by what the two models compute.

Each pair is filled from one recipe that draws every parameter, biases and statistics too, so that
a wrong pairing or a wrong layout shows in the outputs, which PyTorch and JAX compute apart.
"""

import dataclasses
import sys
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


# Arrays of several parameters, parts of parameters, permuted rows


def rules(**shapes: tuple[int, ...]) -> Recipe:
    return Recipe(
        portinit.Rule(name.replace("__", "."), portinit.normal(), shape=shape)
        for name, shape in shapes.items()
    )


def drawn(name: str, *shape: int) -> np.ndarray:
    return portinit.normal()(KEY.fold_in(name), shape, layout="torch")


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_an_array_may_stack_parameters_along_an_axis(axis: int) -> None:
    recipe = rules(k__weight=(6, 4), v__weight=(6, 4))
    shape = np.stack([np.zeros((4, 6))] * 2, axis).shape
    table = {"kv/kernel": {"stack": ["k.weight", "v.weight"], "axis": axis}}
    filled = portinit_flax.initialize({"kv": {"kernel": jnp.zeros(shape)}}, recipe, KEY, table)
    expected = np.stack([drawn("k.weight", 6, 4).T, drawn("v.weight", 6, 4).T], axis)
    np.testing.assert_array_equal(filled["kv"]["kernel"], expected)


def test_a_stack_of_two_of_several_heads() -> None:
    recipe = rules(k__weight=(6, 4), v__weight=(6, 4))
    table = {"kv/kernel": {"stack": ["k.weight", "v.weight"]}}
    tree = {"kv": {"kernel": jnp.zeros((2, 4, 3, 2))}}  # (K and V, embed, heads, size)
    filled = portinit_flax.initialize(tree, recipe, KEY, table)
    expected = [drawn(f"{n}.weight", 6, 4).reshape(3, 2, 4).transpose(2, 0, 1) for n in "kv"]
    np.testing.assert_array_equal(filled["kv"]["kernel"], np.stack(expected))


def test_an_array_may_have_parameters_side_by_side() -> None:
    recipe = rules(q__weight=(6, 4), k__weight=(2, 4), q__bias=(6,), k__bias=(2,))
    tree = {"qk": {"kernel": jnp.zeros((4, 8)), "bias": jnp.zeros(8)}}
    table = {
        "qk/kernel": {"concat": ["q.weight", "k.weight"], "axis": -1},
        "qk/bias": {"concat": ["q.bias", "k.bias"]},
    }
    filled = portinit_flax.initialize(tree, recipe, KEY, table)
    kernel = np.concatenate([drawn("q.weight", 6, 4).T, drawn("k.weight", 2, 4).T], -1)
    np.testing.assert_array_equal(filled["qk"]["kernel"], kernel)
    bias = np.concatenate([drawn("q.bias", 6), drawn("k.bias", 2)])
    np.testing.assert_array_equal(filled["qk"]["bias"], bias)
    precompiled = portinit_flax.precompile(tree, recipe, table)(KEY)
    np.testing.assert_array_equal(precompiled["qk"]["kernel"], kernel)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"concat": ["q.weight"], "axis": 1}, "the parts must fill axis 1"),
        ({"stack": ["q.weight", "k.weight"], "axis": 0}, "axis 0 must have 2 parts, got 4"),
        ({"stack": ["q.weight"], "axis": 5}, "has no axis 5"),
        ({"stack": []}, "stack must join a list of names"),
        ({"split": ["q.weight"]}, "an initializer is needed"),
        (3, "an initializer is needed"),
    ],
)
def test_what_cannot_be_joined_is_listed(value: Any, line: str) -> None:
    recipe = rules(q__weight=(6, 4), k__weight=(2, 4))
    with pytest.raises(RecipeError, match=line):
        portinit_flax.initialize(
            {"qk": {"kernel": jnp.zeros((4, 8))}}, recipe, KEY, {"qk/kernel": value}
        )


def test_rows_that_are_interleaved_for_rotary_embeddings_are_a_view() -> None:
    heads, size, inputs = 2, 6, 5
    view = Layout(axis0=(1, 3, 2), axis1=(0,), view=(inputs, heads, size // 2, 2))
    tree = {"q": {"kernel": jnp.zeros((inputs, heads * size))}}
    recipe = rules(q__weight=(heads * size, inputs))
    filled = portinit_flax.initialize(tree, recipe, KEY, {"q/kernel": ("q.weight", view)})
    weight = drawn("q.weight", heads * size, inputs)
    permuted = np.concatenate(
        [
            weight[h * size + np.arange(size).reshape(2, size // 2).T.ravel()]  # 0, 3, 1, 4, 2, 5
            for h in range(heads)
        ]
    )
    np.testing.assert_array_equal(filled["q"]["kernel"], permuted.T)
    portinit.testing.assert_same_weights(
        {"q.weight": weight}, filled, {"q/kernel": ("q.weight", view)}
    )
    assert (
        Recipe.from_json(recipe.with_layouts({"q.weight": view}).to_json()).rules[0].layout == view
    )


def test_attention_that_pytorch_packs_is_found_apart() -> None:
    model = torch.nn.ModuleDict({"attn": torch.nn.MultiheadAttention(8, 2)})
    names = {"query": (8, 2, 4), "key": (8, 2, 4), "value": (8, 2, 4), "out": (2, 4, 8)}
    tree = {
        "SelfAttention_0": {
            name: {"kernel": jnp.zeros(shape), "bias": jnp.zeros(shape[1:] if name != "out" else 8)}
            for name, shape in names.items()
        }
    }
    filled = initialize(tree, model)["SelfAttention_0"]
    portinit_torch.initialize(model, DRAWN, KEY)
    packed = model["attn"].in_proj_weight.detach().numpy()
    for i, name in enumerate(("query", "key", "value")):
        expected = packed[8 * i : 8 * (i + 1)].T.reshape(8, 2, 4)
        np.testing.assert_array_equal(filled[name]["kernel"], expected)
    out = model["attn"].out_proj.weight.detach().numpy()
    np.testing.assert_array_equal(filled["out"]["kernel"], out.T.reshape(2, 4, 8))


def test_a_fused_projection_is_cut_by_the_table() -> None:
    model = torch.nn.ModuleDict({"attn": torch.nn.ModuleDict({"qkv": torch.nn.Linear(4, 12)})})
    tree = {n: {"kernel": jnp.zeros((4, 4)), "bias": jnp.zeros(4)} for n in ("q", "k", "v")}
    with pytest.raises(RecipeError, match=r"attn\.qkv\.weight: no such parameter"):
        portinit_flax.initialize(tree, bound(model), KEY)
    table = {
        f"{name}/{leaf}": f"attn.qkv.{word}[{4 * i}:{4 * i + 4}]"
        for i, name in enumerate("qkv")
        for leaf, word in (("kernel", "weight"), ("bias", "bias"))
    }
    filled = portinit_flax.initialize(tree, bound(model), KEY, table)
    portinit_torch.initialize(model, DRAWN, KEY)
    weight = model["attn"]["qkv"].weight.detach().numpy()
    np.testing.assert_array_equal(filled["k"]["kernel"], weight[4:8].T)


# Tables


def named(**modules: torch.nn.Module) -> torch.nn.ModuleDict:
    return torch.nn.ModuleDict(modules)


def test_a_table_has_patterns_and_prefixes() -> None:
    model = torch.nn.ModuleDict(
        {
            "body": torch.nn.ModuleList(
                torch.nn.ModuleDict({"foo": torch.nn.Linear(4, 4)}) for _ in "ab"
            )
        }
    )
    leaf = {"kernel": jnp.zeros((4, 4)), "bias": jnp.zeros(4)}
    tree = {"x": {"0": {"bar": leaf}, "1": {"bar": leaf}}}
    recipe = bound(model)
    for table in (
        {"x/*/bar": "body.*.foo"},
        {"x/*/bar/kernel": "body.*.foo.weight", "x/*/bar/bias": "body.*.foo.bias"},
        {"x/0/bar": "body.1.foo", "x/*/bar": "body.*.foo", "x/1/bar": "body.0.foo"},
    ):
        matching = portinit_flax.match(tree, recipe, table)
        swapped = table.get("x/0/bar") == "body.1.foo"
        assert matching["x/0/bar/kernel"][0] == f"body.{int(swapped)}.foo.weight"
        assert matching.pair("x/1/bar/bias").evidence is Evidence.TABLE
    with pytest.raises(RecipeError, match="gone: in the table of names, but not in the tree"):
        portinit_flax.match(tree, recipe, {"gone": "body"})


def test_a_matching_written_as_a_table_gives_the_same_matching() -> None:
    shapes, recipe = shapes_of(Text(), TOKENS), bound(TorchText())
    matching = portinit_flax.match(shapes, recipe)
    assert repr(matching).endswith("of them guessed; 0 misfits>")
    again = portinit_flax.match(shapes, recipe, matching.as_table())
    assert dict(again) == dict(matching)
    assert again.suspects == ()


# Stacks


def test_a_batch_norm_in_a_list_of_lists_is_no_stack() -> None:
    model = torch.nn.ModuleDict(
        {
            "blocks": torch.nn.ModuleList(
                torch.nn.ModuleList(
                    torch.nn.ModuleDict({"bn1": torch.nn.LayerNorm(4)}) for _ in "ab"
                )
                for _ in "abc"
            )
        }
    )
    tree = {
        "blocks": {
            str(2 * i + j): {"bn1": {"scale": jnp.zeros(4), "bias": jnp.zeros(4)}}
            for i in range(3)
            for j in range(2)
        }
    }
    matching = portinit_flax.match(tree, bound(model))
    assert matching["blocks/3/bn1/scale"][0] == "blocks.1.1.bn1.weight"
    assert all(pair.leaf.axis is None for pair in matching.pairs)


@pytest.mark.parametrize("layers", [2, 4])
def test_a_stack_must_be_as_long_as_the_recipe_has_layers(layers: int) -> None:
    recipe = rules(**{f"h__{i}__fc__weight": (5, 5) for i in range(3)})
    with pytest.raises(RecipeError, match=r"h\.0\.fc\.weight: no such parameter"):
        portinit_flax.initialize({"h": {"fc": {"kernel": jnp.zeros((layers, 5, 5))}}}, recipe, KEY)
    filled = portinit_flax.initialize({"h": {"fc": {"kernel": jnp.zeros((3, 5, 5))}}}, recipe, KEY)
    np.testing.assert_array_equal(filled["h"]["fc"]["kernel"][2], drawn("h.2.fc.weight", 5, 5).T)


def test_experts_of_a_list_are_one_array_in_flax() -> None:
    class Experts(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            init = nn.initializers.zeros
            gates = nn.softmax(nn.Dense(3, use_bias=False, name="gate")(x))
            up = self.param("experts_up", init, (3, 4, 6))
            down = self.param("experts_down", init, (3, 6, 4))
            y = jnp.einsum("td,edh->eth", x, up)
            return jnp.einsum("eth,ehd,te->td", jnp.tanh(y), down, gates)

    class TorchExperts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = torch.nn.Linear(4, 3, bias=False)
            self.experts = torch.nn.ModuleList(
                torch.nn.ModuleDict(
                    {
                        "up": torch.nn.Linear(4, 6, bias=False),
                        "down": torch.nn.Linear(6, 4, bias=False),
                    }
                )
                for _ in range(3)
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            gates = self.gate(x).softmax(-1)
            done = [e["down"](torch.tanh(e["up"](x))) for e in self.experts]
            return sum(y * gates[:, i, None] for i, y in enumerate(done))

    table = {
        f"experts_{name}": {"stack": [f"experts.{i}.{name}.weight" for i in range(3)]}
        for name in ("up", "down")
    }
    prove(TorchExperts(), Experts(), numbers(5, 4), names=table)


# Kinds of layers that a recipe of patterns is told of


def test_a_dense_layer_of_several_axes_starts_as_flax_starts_it() -> None:
    model = nn.DenseGeneral((8, 16))
    shapes = shapes_of(model, numbers(2, 64))
    filled = portinit_flax.initialize(shapes, portinit.recipes.flax_defaults(), KEY)["params"]
    own = model.init(jax.random.key(0), numbers(2, 64))["params"]
    assert abs(float(filled["kernel"].std() / own["kernel"].std()) - 1) < 0.03


def test_classes_of_nnx_tell_the_kind_of_layer() -> None:
    class Model(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.a = nnx.LinearGeneral((4, 32), 64, axis=(-2, -1), use_bias=False, rngs=rngs)
            self.b = nnx.Conv(4, 64, (32,), use_bias=False, rngs=rngs)
            self.c = nnx.ConvTranspose(4, 6, (3, 3), rngs=rngs)

    matching = portinit_flax.match(Model(nnx.Rngs(0)), Recipe([("*", portinit.normal())]))
    assert matching["a/kernel"][1].logical_shape((4, 32, 64)) == (64, 128)
    assert matching["b/kernel"][1].logical_shape((32, 4, 64)) == (64, 4, 32)
    assert matching["c/kernel"][1].logical_shape((3, 3, 4, 6)) == (4, 6, 3, 3)
    assert matching["c/kernel"][1].flip


@pytest.mark.parametrize("bias", [True, False])
def test_stacked_layers_that_a_recipe_of_patterns_is_not_told_of_are_refused(bias: bool) -> None:
    layer = {"fc": {"kernel": jnp.zeros((3, 8, 8))}, "norm": {"scale": jnp.zeros((3, 8))}}
    if bias:
        layer["fc"]["bias"] = jnp.zeros((3, 8))
    defaults = portinit.recipes.flax_defaults()
    with pytest.raises(RecipeError, match=r'stacked=\{"layers": 0\}'):
        portinit_flax.initialize({"layers": layer, "head": jnp.zeros(5)}, defaults, KEY)
    filled = portinit_flax.initialize({"layers": layer}, defaults, KEY, stacked={"layers": 0})
    assert abs(filled["layers"]["fc"]["kernel"].std() * 8**0.5 - 1) < 0.2


# Work


def calls_of_a_match(layers: int, *, renamed: bool) -> int:
    names = [f"layers.{i}.{leaf}.weight" for i in range(layers) for leaf in ("fc", "out")]
    recipe = rules(**{name.replace(".", "__"): (3, 3) for name in names})
    word = "block" if renamed else "layers"
    tree = {
        f"{word}_{i}": {
            leaf: {"kernel": jax.ShapeDtypeStruct((3, 3), np.float32)} for leaf in ("fc", "out")
        }
        for i in range(layers)
    }
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        portinit_flax.match(tree, recipe)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("renamed", [False, True])
def test_the_work_of_a_match_grows_as_the_model_does(renamed: bool) -> None:
    calls_of_a_match(2, renamed=renamed)  # what is imported and cached once
    small, large = (calls_of_a_match(n, renamed=renamed) for n in (50, 500))
    assert large < 12 * small
