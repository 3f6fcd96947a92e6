"""Tables read off conversions: filling by them is converting the filled PyTorch model, in bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from flax.traverse_util import flatten_dict

import portinit
import portinit_flax
import portinit_torch
from portinit.recipes.matching.tables.files import Names

HEADS, SIZE, DIM = 4, 8, 32
ROWS = np.random.default_rng(0).permutation(DIM)


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = torch.nn.Linear(DIM, DIM)
        self.kv_proj = torch.nn.Linear(DIM, 2 * DIM, bias=False)
        self.gate = torch.nn.Linear(DIM, 2 * DIM)
        self.up = torch.nn.Linear(DIM, 2 * DIM)
        self.norm = torch.nn.LayerNorm(DIM)
        torch.nn.init.orthogonal_(self.gate.weight)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(60, DIM)
        self.layers = torch.nn.ModuleList(Layer() for _ in range(3))
        self.conv = torch.nn.Conv2d(3, DIM, 2, stride=2)
        self.transposed = torch.nn.ConvTranspose2d(3, 5, 3)
        self.attn = torch.nn.MultiheadAttention(DIM, HEADS)
        self.c_attn = torch.nn.Parameter(torch.randn(DIM, 3 * DIM) * 0.02)
        self.bn = torch.nn.BatchNorm1d(DIM)
        self.head = torch.nn.Linear(DIM, 60, bias=False)
        self.head.weight = self.embed.weight


def rotary(weight):
    """Rows of interleaved pairs, as the halves that other implementations rotate."""
    return weight.reshape(HEADS, SIZE // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


CONVERSIONS = {
    "transposed": lambda s: {"kernel": s["layers.0.q_proj.weight"].T},
    "square as it stands": lambda s: {"kernel": s["layers.0.q_proj.weight"]},
    "fused qkv": lambda s: {
        "qkv": {
            "kernel": torch.cat([s["layers.0.q_proj.weight"], s["layers.0.kv_proj.weight"]]).T,
        }
    },
    "fused by heads": lambda s: {
        "qkv": torch.stack(
            [
                s["layers.0.q_proj.weight"].view(HEADS, SIZE, DIM),
                *s["layers.0.kv_proj.weight"].view(2, HEADS, SIZE, DIM),
            ],
            1,
        ).reshape(-1, DIM)
    },
    "split rows": lambda s: {
        name: {"kernel": part.T, "bias": bias}
        for name, part, bias in zip(
            "qkv",
            s["attn.in_proj_weight"].chunk(3),
            s["attn.in_proj_bias"].chunk(3),
            strict=True,
        )
    },
    "split columns": lambda s: {
        name: {"kernel": part} for name, part in zip("qkv", s["c_attn"].chunk(3, 1), strict=True)
    },
    "one array of two": lambda s: {
        "kv": {"kernel": s["layers.0.kv_proj.weight"].view(2, HEADS, SIZE, DIM).permute(0, 3, 1, 2)}
    },
    "rotary": lambda s: {"q": rotary(s["layers.0.q_proj.weight"]).T},
    "rotary in heads": lambda s: {
        "q": rotary(s["layers.0.q_proj.weight"]).reshape(HEADS, SIZE, DIM).permute(2, 0, 1),
        "bias": rotary(s["layers.0.q_proj.bias"][:, None])[:, 0].reshape(HEADS, SIZE),
    },
    "permuted rows": lambda s: {"q": s["layers.0.q_proj.weight"][ROWS].T},
    "permuted rows of an orthogonal matrix": lambda s: {
        "q": s["layers.0.gate.weight"].T[ROWS],
        "part": s["layers.1.gate.weight"][3:40:2, 5:9],
    },
    "reversed": lambda s: {"q": s["c_attn"].flip(0)},
    "stacked": lambda s: {
        "layers": {
            "q": {
                "kernel": torch.stack([s[f"layers.{i}.q_proj.weight"].T for i in range(3)]),
                "bias": torch.stack([s[f"layers.{i}.q_proj.bias"] for i in range(3)], 1),
            }
        }
    },
    "stacked backwards": lambda s: {
        "q": torch.stack([s[f"layers.{i}.q_proj.weight"].T for i in (2, 0, 1)], 2)
    },
    "stacked and fused": lambda s: {
        "qkv": torch.stack(
            [
                torch.cat([s[f"layers.{i}.q_proj.weight"], s[f"layers.{i}.kv_proj.weight"]]).T
                for i in range(3)
            ]
        )
    },
    "interleaved": lambda s: {
        "gate_up": torch.stack([s["layers.0.gate.weight"], s["layers.0.up.weight"]], 1)
        .reshape(-1, DIM)
        .T
    },
    "copied": lambda s: {
        "embed": {"embedding": s["embed.weight"]},
        "head": {"kernel": s["head.weight"].T},
        "again": s["embed.weight"][:7],
    },
    "repeated": lambda s: {"q": s["c_attn"].repeat_interleave(2, 0)},
    "padded": lambda s: {
        "embedding": torch.cat([s["embed.weight"], torch.zeros(4, DIM)]),
        "offset": s["embed.weight"][2:],
    },
    "constants": lambda s: {
        "key": {"bias": torch.zeros(DIM), "kernel": s["layers.0.q_proj.weight"].T},
        "frequencies": 1.0 / 10000.0 ** (torch.arange(0, 8, 2) / 8),
        "eps": torch.full((3,), 0.1),
    },
    "convolutions": lambda s: {
        "conv": {"kernel": s["conv.weight"].permute(2, 3, 1, 0)},
        "patches": s["conv.weight"].flatten(1).T,
        "up": {"kernel": s["transposed.weight"].permute(2, 3, 0, 1).flip(0, 1)},
        "up_as_it_stands": s["transposed.weight"].permute(2, 3, 1, 0),
    },
    "linen variables": lambda s: {
        "params": {"bn": {"scale": s["bn.weight"], "bias": s["bn.bias"]}},
        "batch_stats": {"bn": {"mean": s["bn.running_mean"], "var": s["bn.running_var"]}},
    },
    "by jax": lambda s: jax.tree.map(
        lambda x: jnp.asarray(x).astype(jnp.float32).T,
        {"a": np.asarray(s["layers.1.gate.weight"]), "b": np.asarray(s["layers.1.gate.bias"])},
    ),
}


@pytest.fixture(scope="module")
def filled():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        recipe = portinit_torch.trace(Model)
        model = Model()
    key = portinit.key(3)
    return portinit_torch.initialize(model, recipe, key), recipe, key


def numpy_tree(tree):
    return jax.tree.map(np.asarray, tree)


def fill(tree, recipe, key, names):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    return numpy_tree(portinit_flax.initialize(shapes, recipe, key, names))


@pytest.mark.parametrize("name", CONVERSIONS)
def test_filling_by_the_table_is_converting(name, filled):
    model, recipe, key = filled
    convert = CONVERSIONS[name]
    names = portinit_flax.from_conversion(convert, model)
    assert names.unexplained == ()
    with torch.no_grad():
        wanted = numpy_tree(convert(model.state_dict()))
    for table in (names, Names.from_json(names.to_json())):
        got = flatten_dict(fill(wanted, recipe, key, table))
        for path, array in flatten_dict(wanted).items():
            assert got[path].tobytes() == array.tobytes(), path


def test_filling_under_jit_is_filling(filled):
    model, recipe, key = filled
    convert = CONVERSIONS["permuted rows of an orthogonal matrix"]
    names = portinit_flax.from_conversion(convert, model)
    names = {**names, **portinit_flax.from_conversion(CONVERSIONS["interleaved"], model)}
    tree = {
        "q": jnp.zeros((DIM, 64)),
        "part": jnp.zeros((19, 4)),
        "gate_up": jnp.zeros((DIM, 4 * DIM)),
    }
    ignore = "*"
    eager = portinit_flax.initialize(tree, recipe, key, names, ignore=ignore)
    jitted = jax.jit(
        lambda k: portinit_flax.initialize(tree, recipe, k, names, ignore=ignore),
    )(jax.random.key(3))
    assert np.array_equal(eager["gate_up"], jitted["gate_up"])


def test_readable_lines(filled):
    model = filled[0]
    said = {name: portinit_flax.from_conversion(CONVERSIONS[name], model) for name in CONVERSIONS}

    def line(name, path):
        return said[name].entries[path].to_data()

    assert line("transposed", "kernel") == ["layers.0.q_proj.weight", "flax"]
    assert line("square as it stands", "kernel") == ["layers.0.q_proj.weight", "torch"]
    assert line("fused qkv", "qkv/kernel") == {
        "concat": [["layers.0.q_proj.weight", "flax"], ["layers.0.kv_proj.weight", "flax"]],
        "axis": 1,
    }
    assert line("split rows", "k/kernel") == ["attn.in_proj_weight[32:64]", "flax"]
    assert line("split columns", "v/kernel") == ["c_attn[:, 64:96]", "torch"]
    assert line("stacked", "layers/q/kernel") == {
        "stack": "layers.*.q_proj.weight",
        "axis": 0,
        "layout": "flax",
    }
    assert line("constants", "key/bias") == {"init": "zeros"}
    assert line("convolutions", "up/kernel") == ["transposed.weight", "flax_conv_transpose"]
    assert said["copied"].unused
    assert "embed.weight" in said["copied"].ignore


def test_an_nnx_module_and_state_that_a_conversion_fills():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.fc = nnx.Linear(3, 4, rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)

    def convert(state):
        model = Net(nnx.Rngs(0))
        model.fc.kernel[...] = jnp.asarray(state["0.weight"].numpy()).T
        model.fc.bias[...] = jnp.asarray(state["0.bias"].numpy())
        model.norm.scale[...] = jnp.asarray(state["1.weight"].numpy())
        model.norm.bias[...] = jnp.asarray(state["1.bias"].numpy())
        model.norm.mean[...] = jnp.asarray(state["1.running_mean"].numpy())
        model.norm.var[...] = jnp.asarray(state["1.running_var"].numpy())
        return model

    source = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    names = portinit_flax.from_conversion(convert, source)
    assert {path: str(target.parameter) for path, target in names.items()} == {
        "fc/kernel": "0.weight",
        "fc/bias": "0.bias",
        "norm/scale": "1.weight",
        "norm/bias": "1.bias",
        "norm/mean": "1.running_mean",
        "norm/var": "1.running_var",
    }
    of_state = portinit_flax.from_conversion(lambda s: nnx.state(convert(s)), source)
    assert dict(of_state) == dict(names)


def test_a_loader_of_a_checkpoints_folder():
    from safetensors import safe_open

    def load(folder):
        with safe_open(f"{folder}/model.safetensors", "np") as file:
            return {"fc": {"kernel": jnp.asarray(file.get_tensor("weight")).T}}

    names = portinit_flax.from_conversion(load, torch.nn.Linear(3, 4, bias=False), folder=True)
    assert dict(names)["fc/kernel"].to_data() == ["weight", "flax"]


def test_flat_dicts_of_paths_and_bfloat16():
    source = torch.nn.Linear(30, 40).bfloat16()

    def convert(state):
        return {("fc", "kernel"): state["weight"].T, ("fc", "bias"): state["bias"].float()}

    names = portinit_flax.from_conversion(convert, source)
    assert set(names) == {"fc/kernel", "fc/bias"}
    assert names.unexplained == ()


@pytest.mark.parametrize("source", ["tensors", "arrays", "structs", "meta"])
def test_sources_of_shapes(source):
    weight = {
        "tensors": {"w": torch.zeros(4, 3)},
        "arrays": {"w": np.zeros((4, 3), np.float32)},
        "structs": {"w": jax.ShapeDtypeStruct((4, 3), jnp.bfloat16)},
        "meta": torch.nn.Linear(3, 4, bias=False, device="meta"),
    }[source]
    names = portinit_flax.from_conversion(lambda state: {"k": next(iter(state.values())).T}, weight)
    assert names["k"].to_data()[1] == "flax"


def test_what_is_no_conversion_is_refused_in_words():
    source = {"w": np.zeros((4, 3), np.float32)}
    with pytest.raises(
        portinit.RecipeError, match=r"must return a model or its parameters.*NoneType"
    ):
        portinit_flax.from_conversion(lambda state: None, source)
    with pytest.raises(TypeError, match="must be those of a PyTorch module"):
        portinit_flax.from_conversion(lambda state: state, 3)
