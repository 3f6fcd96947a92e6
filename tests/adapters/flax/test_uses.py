"""How forward passes use their parameters: PyTorch's and JAX's say the same of the same model."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn
from flax import nnx
from torch.nn import functional

import portinit_flax
import portinit_torch
from portinit import Layout
from portinit.recipes.matching.uses.uses import Operation, Use, Uses, agrees

TOKENS = np.array([[1, 2, 3]])


class TorchBlock(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(8)
        for name in ("v", "q", "k", "o"):
            setattr(self, name, torch.nn.Linear(8, 8))
        self.up, self.gate = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
        self.down = torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        y = functional.scaled_dot_product_attention(self.q(y), self.k(y), self.v(y))
        x = x + self.o(y)
        return x + self.down(functional.silu(self.gate(x)) * self.up(x))


class TorchModel(torch.nn.Module):
    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.head = torch.nn.Linear(8, 13, bias=False)
        self.embed = torch.nn.Embedding(13, 8)
        self.layers = torch.nn.ModuleList(TorchBlock() for _ in range(layers))
        self.norm = torch.nn.BatchNorm1d(8)
        self.conv = torch.nn.Conv1d(8, 8, 3, padding=1)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.conv(self.norm(x.mT)).mT)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x: Any, _: Any = None) -> Any:
        y = nn.LayerNorm(name="norm")(x)
        k, q, v = (nn.Dense(8, name=name)(y)[..., None, :] for name in "kqv")
        x = x + nn.Dense(8, name="o")(nn.dot_product_attention(q, k, v)[..., 0, :])
        up = nn.Dense(8, name="up")(x)
        return x + nn.Dense(8, name="down")(nn.silu(nn.Dense(8, name="gate")(x)) * up), None


class Model(nn.Module):
    is_scanned: bool = False

    @nn.compact
    def __call__(self, tokens: Any, deterministic: bool) -> Any:
        embed = nn.Embed(13, 8, name="embed")
        x = embed(tokens)
        if self.is_scanned:
            axes = {"params": 0}
            scan = nn.scan(Block, variable_axes=axes, split_rngs={"params": True}, length=3)
            x, _ = scan(name="layers")(x, None)
        else:
            for i in range(3):
                x, _ = nn.remat(Block)(name=f"layers_{i}")(x)
        x = nn.BatchNorm(use_running_average=deterministic, name="norm")(x)
        return embed.attend(nn.Conv(8, (3,), name="conv")(x))


def of_torch(use: Use) -> tuple[Any, ...]:
    return use.operation, use.depth, use.functions


def name_of(path: str) -> str:
    *modules, leaf = path.replace("layers_", "layers/").split("/")
    leaves = {"kernel": "weight", "embedding": "weight", "scale": "weight"}
    leaves |= {"mean": "running_mean", "var": "running_var"}
    return ".".join([*modules, leaves.get(leaf, leaf)])


def test_both_frameworks_say_the_same_of_the_same_model() -> None:
    ours = portinit_torch.uses(TorchModel(), TOKENS)
    theirs = portinit_flax.uses(Model(), TOKENS)
    assert {name_of(path) for path in theirs} == {*ours} - {"head.weight"}
    for path, uses in theirs.items():
        assert [*map(of_torch, uses)] == [*map(of_torch, ours[name_of(path)])], path
    assert ours["layers.1.q.weight"][0].axes == ("out", "in")
    assert theirs["layers_1/q/kernel"][0].axes == ("in", "out")
    assert ours["layers.0.q.weight"][0].functions == {"exp"}
    assert ours["layers.0.v.weight"][0].functions == set()
    assert ours["layers.0.gate.weight"][0].functions == {"logistic"}
    assert ours["conv.weight"][0].axes == ("out", "in", "space")
    assert theirs["conv/kernel"][0].axes == ("space", "in", "out")


def test_a_tied_parameter_is_looked_up_and_multiplied_with() -> None:
    ours = portinit_torch.uses(TorchModel(), TOKENS)
    assert ours["head.weight"] == ours["embed.weight"]
    for uses in (ours["head.weight"], portinit_flax.uses(Model(), TOKENS)["embed/embedding"]):
        assert [use.operation for use in uses] == [Operation.LOOKUP, Operation.CONTRACTION]
        assert [use.axes for use in uses] == [("in", "out"), ("out", "in")]


def test_a_loop_over_layers_is_its_layers() -> None:
    apart = portinit_flax.uses(Model(), TOKENS)
    scanned = portinit_flax.uses(Model(is_scanned=True), TOKENS)
    use = scanned["layers/down/kernel"][0]
    assert use.axes == ("layer", "in", "out")
    for layer in range(3):
        one = use.of_layer(layer, 0)
        assert of_torch(one) == of_torch(apart[f"layers_{layer}/down/kernel"][0])
        assert one.axes == ("in", "out")
    assert of_torch(scanned["conv/kernel"][0]) == of_torch(apart["conv/kernel"][0])


def test_a_module_is_left_as_it_was_and_on_meta_nothing_is_computed() -> None:
    model = TorchModel()
    model.conv.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    real = portinit_torch.uses(model, TOKENS)
    assert modes == [part.training for part in model.modules()]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with torch.device("meta"):
        assert str(portinit_torch.uses(TorchModel(), TOKENS)) == str(real)


@pytest.mark.parametrize("kind", ["transposed", "einsum", "heads", "matmul of a view"])
def test_axes_are_followed_through_views(kind: str) -> None:
    x = np.ones((2, 3, 8), np.float32)
    shape = (8, 2, 4) if kind == "heads" else (8, 8)

    def jax_call(w: Any, x: Any) -> Any:
        if kind == "transposed":
            return x @ w["w"].T
        if kind == "einsum":
            return jnp.einsum("oi,bti->bto", w["w"], x)
        if kind == "heads":
            return jnp.einsum("btd,dhk->bhtk", x, w["w"])
        return (x @ w["w"].reshape(2, 4, 8).reshape(8, 8).astype(jnp.bfloat16)) + 1

    class Torch(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(shape))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if kind == "transposed":
                return x @ self.w.T
            if kind == "einsum":
                return torch.einsum("oi,bti->bto", self.w, x)
            if kind == "heads":
                return torch.einsum("btd,dhk->bhtk", x, self.w)
            return x.bfloat16() @ self.w.view(2, 4, 8).reshape(8, 8).bfloat16() + 1

    expected = {"transposed": ("out", "in"), "einsum": ("out", "in"), "heads": ("in", "out", "out")}
    axes = expected.get(kind, ("in", "out"))
    tree = {"w": jax.ShapeDtypeStruct(shape, np.float32)}
    assert portinit_flax.uses(None, x, variables=tree, call=jax_call)["w"][0].axes == axes
    assert portinit_torch.uses(Torch(), x)["w"][0].axes == axes


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.RNN(nn.SimpleCell(4))(nn.Dense(8, name="first")(x))
        return nn.Dense(2, name="last")(x)


def test_what_starts_as_zeros_in_a_loop_becomes_data() -> None:
    found = portinit_flax.uses(Recurrent(), jnp.ones((1, 5, 3)))
    assert found["SimpleCell_0/h/kernel"][0].axes == ("in", "out")
    names = ("first/kernel", "SimpleCell_0/h/kernel", "last/kernel")
    first, cell, last = (found[name][0].depth for name in names)
    assert first < cell < last


class Written(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(2, 4)
        out[:, :] = self.a(x)
        return self.b(out)


def test_what_is_written_into_a_part_of_a_tensor_is_in_the_whole() -> None:
    found = portinit_torch.uses(Written(), np.ones((2, 4), np.float32))
    assert found["b.weight"][0].depth == found["a.weight"][0].depth + 1


class Nnx(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.attention = nnx.MultiHeadAttention(2, 8, rngs=rngs, decode=False)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.unused = nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.attention(self.dropout(x))


def test_an_nnx_module_abstract_or_not() -> None:
    x = np.ones((1, 3, 8), np.float32)
    model = Nnx(nnx.Rngs(0))
    found = portinit_flax.uses(model, x)
    assert found["attention/out/kernel"][0].axes == ("in", "in", "out")
    assert "unused/kernel" not in found
    assert not model.dropout.deterministic
    assert str(portinit_flax.uses(nnx.eval_shape(lambda: Nnx(nnx.Rngs(0))), x)) == str(found)


def test_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="an nnx or a linen module, got dict"):
        portinit_flax.uses({}, TOKENS)


def test_layouts_agree_where_inputs_lie_on_inputs() -> None:
    ours = Use(Operation.CONTRACTION, 0, 1, ("out", "in"))
    theirs = Use(Operation.CONTRACTION, 0, 1, ("in", "out"))
    flax = Layout(axis0=(-1,), axis1=(-2,))
    assert agrees(flax, (4, 4), ours, theirs) is True
    assert agrees(Layout(), (4, 4), ours, theirs) is False
    assert agrees(Layout(), (4, 4), ours, Use(Operation.ADD, 0, 1, ("", ""))) is None
    assert str(Uses({"w": (theirs,)})) == "w: contraction (in, out) at depth 1"
