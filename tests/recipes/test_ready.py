"""Ready recipes against the frameworks' own constructors, in distribution, and by hand."""

import math
import zlib
from collections.abc import Callable
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from scipy import stats
from torch import nn

import portinit
import portinit_flax
import portinit_torch
from portinit import Recipe, recipes

KEY = portinit.key(7)
# Hundreds of fixed comparisons at this level: one false alarm in a thousand suites of them.
LEVEL = 1e-6

TORCH: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: nn.Linear(300, 200),
    "Linear of one input": lambda: nn.Linear(1, 2000),
    "Linear without bias": lambda: nn.Linear(100, 100, bias=False),
    "Bilinear": lambda: nn.Bilinear(30, 20, 400),
    "Conv1d": lambda: nn.Conv1d(16, 300, 5),
    "Conv2d": lambda: nn.Conv2d(8, 300, (3, 5)),
    "Conv3d": lambda: nn.Conv3d(4, 300, 3),
    "Conv2d, grouped": lambda: nn.Conv2d(16, 320, 3, groups=4),
    "Conv2d, depthwise": lambda: nn.Conv2d(400, 400, 3, groups=400),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(40, 300, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(10, 300, 3),
    "ConvTranspose2d, grouped": lambda: nn.ConvTranspose2d(20, 400, 3, groups=5),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(5, 300, 2),
    "Embedding": lambda: nn.Embedding(300, 40),
    "Embedding with padding": lambda: nn.Embedding(300, 40, padding_idx=17),
    "Embedding with padding from the end": lambda: nn.Embedding(300, 40, padding_idx=-1),
    "EmbeddingBag": lambda: nn.EmbeddingBag(300, 40, padding_idx=0),
    "RNN": lambda: nn.RNN(50, 90, num_layers=2),
    "LSTM": lambda: nn.LSTM(50, 90, num_layers=2, bidirectional=True),
    "LSTM with proj_size": lambda: nn.LSTM(50, 90, proj_size=20),
    "GRU": lambda: nn.GRU(50, 90),
    "RNNCell": lambda: nn.RNNCell(60, 300),
    "LSTMCell": lambda: nn.LSTMCell(60, 100),
    "GRUCell": lambda: nn.GRUCell(60, 100),
    "MultiheadAttention": lambda: nn.MultiheadAttention(96, 4),
    "MultiheadAttention, separate": lambda: nn.MultiheadAttention(96, 4, kdim=40, vdim=56),
    "MultiheadAttention with bias_kv": lambda: nn.MultiheadAttention(256, 4, add_bias_kv=True),
    "LayerNorm": lambda: nn.LayerNorm((5, 6)),
    "GroupNorm": lambda: nn.GroupNorm(2, 6),
    "RMSNorm": lambda: nn.RMSNorm(6),
    "BatchNorm1d": lambda: nn.BatchNorm1d(6),
    "BatchNorm2d": lambda: nn.BatchNorm2d(6),
    "BatchNorm3d": lambda: nn.BatchNorm3d(6),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(6),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
    "PReLU": lambda: nn.PReLU(5),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(64, 4, 300),
    "TransformerDecoderLayer": lambda: nn.TransformerDecoderLayer(64, 4, 300),
}


def torch_state(make: Callable[[], nn.Module], name: str) -> tuple[nn.Module, dict[str, Any]]:
    with torch.random.fork_rng():
        torch.manual_seed(zlib.crc32(name.encode()))
        model = make()
    return model, {k: v.detach().clone().numpy() for k, v in model.state_dict().items()}


def assert_same_law(ours: np.ndarray, theirs: np.ndarray, what: str) -> None:
    """The same distribution; where theirs is constant, the same values."""
    assert ours.shape == theirs.shape
    fixed = theirs.size and theirs.min() == theirs.max()
    if fixed:
        np.testing.assert_array_equal(ours, theirs, err_msg=what)
    else:
        assert stats.ks_2samp(ours.ravel(), theirs.ravel()).pvalue > LEVEL, what


@pytest.mark.parametrize("name", TORCH)
def test_torch_defaults_are_what_torchs_constructors_draw(name):
    model, theirs = torch_state(TORCH[name], name)
    spoiled(model)
    portinit_torch.initialize(model, recipes.torch_defaults(), KEY)
    assert set(model.state_dict()) == set(theirs)
    for parameter, tensor in model.state_dict().items():
        assert_same_law(tensor.numpy(), theirs[parameter], f"{name}: {parameter}")


def spoiled(model: nn.Module) -> None:
    """Overwrite everything, so that nothing can be right by having been left alone."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(77)


@pytest.mark.parametrize(("padding", "row"), [(0, 0), (17, 17), (-1, 299)])
def test_torch_defaults_zero_the_padding_row_alone(padding, row):
    model = nn.Embedding(300, 40, padding_idx=padding)
    portinit_torch.initialize(model, recipes.torch_defaults(), KEY)
    zeros = (model.weight == 0).all(dim=1)
    assert zeros.nonzero().ravel().tolist() == [row]


def test_a_uniform_of_another_bound_would_be_noticed():
    theirs = torch_state(TORCH["Linear"], "Linear")[1]["weight"]
    with pytest.raises(AssertionError):
        assert_same_law(theirs[:150] * 1.05, theirs[150:], "scaled")


# Bounds by hand: 1 / sqrt(fan_in) where fan_in is counted on paper.
BOUNDS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "Linear": (lambda: nn.Linear(16, 50), 16),
    "Bilinear": (lambda: nn.Bilinear(9, 4, 50), 9),
    "Conv2d, grouped": (lambda: nn.Conv2d(8, 64, (3, 2), groups=4), 2 * 3 * 2),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 60, 3), 60 * 3 * 3),
    "ConvTranspose2d, grouped": (lambda: nn.ConvTranspose2d(4, 60, 3, groups=4), 15 * 3 * 3),
    "LSTM": (lambda: nn.LSTM(5, 25), 25),
    "LSTM with proj_size": (lambda: nn.LSTM(5, 25, proj_size=4), 25),
}


@pytest.mark.parametrize(("make", "fan_in"), BOUNDS.values(), ids=BOUNDS)
def test_uniform_bounds_counted_by_hand(make, fan_in):
    model = portinit_torch.initialize(make(), recipes.torch_defaults(), KEY)
    bound = 1 / math.sqrt(fan_in)
    for name, parameter in model.named_parameters():
        largest = parameter.abs().max().item()
        assert 0.85 * bound < largest <= bound, name


# Flax


def linen_params(module: Any, *inputs: Any, **options: Any) -> Any:
    return module.init(jax.random.key(3), *inputs, **options)


X, IMAGE = jnp.ones((1, 60)), jnp.ones((1, 4, 4, 6))
TOKENS = jnp.zeros((1,), jnp.int32)


def linen_cell(cell: Any) -> Any:
    carry = cell.initialize_carry(jax.random.key(0), X.shape)
    return linen_params(cell, carry, X)


def nnx_state(make: Callable[[nnx.Rngs], Any]) -> Any:
    return nnx.to_pure_dict(nnx.state(make(nnx.Rngs(3)), (nnx.Param, nnx.BatchStat)))


FLAX: dict[str, Callable[[], Any]] = {
    "linen Dense": lambda: linen_params(flax.linen.Dense(200), X),
    "linen Conv": lambda: linen_params(flax.linen.Conv(200, (3, 2)), IMAGE),
    "linen Conv, grouped": lambda: linen_params(
        flax.linen.Conv(240, (3, 3), feature_group_count=3), IMAGE
    ),
    "linen ConvTranspose": lambda: linen_params(flax.linen.ConvTranspose(200, (3, 2)), IMAGE),
    "linen Embed": lambda: linen_params(flax.linen.Embed(200, 30), TOKENS),
    "linen LayerNorm": lambda: linen_params(flax.linen.LayerNorm(), X),
    "linen RMSNorm": lambda: linen_params(flax.linen.RMSNorm(), X),
    "linen GroupNorm": lambda: linen_params(flax.linen.GroupNorm(4), X),
    "linen BatchNorm": lambda: linen_params(flax.linen.BatchNorm(True), X),
    "linen PReLU": lambda: linen_params(flax.linen.PReLU(), X),
    "linen attention": lambda: linen_params(flax.linen.MultiHeadDotProductAttention(4), X[None]),
    "linen LSTMCell": lambda: linen_cell(flax.linen.LSTMCell(40)),
    "linen OptimizedLSTMCell": lambda: linen_cell(flax.linen.OptimizedLSTMCell(40)),
    "linen GRUCell": lambda: linen_cell(flax.linen.GRUCell(40)),
    "nnx Linear": lambda: nnx_state(lambda rngs: nnx.Linear(60, 200, rngs=rngs)),
    "nnx Conv": lambda: nnx_state(lambda rngs: nnx.Conv(6, 200, (3, 3), rngs=rngs)),
    "nnx Embed": lambda: nnx_state(lambda rngs: nnx.Embed(200, 30, rngs=rngs)),
    "nnx LayerNorm": lambda: nnx_state(lambda rngs: nnx.LayerNorm(6, rngs=rngs)),
    "nnx BatchNorm": lambda: nnx_state(lambda rngs: nnx.BatchNorm(6, rngs=rngs)),
    "nnx LSTMCell": lambda: nnx_state(lambda rngs: nnx.LSTMCell(60, 40, rngs=rngs)),
    "nnx GRUCell": lambda: nnx_state(lambda rngs: nnx.GRUCell(60, 40, rngs=rngs)),
}


@pytest.mark.parametrize("name", FLAX)
def test_flax_defaults_are_what_flaxs_layers_draw(name):
    theirs = FLAX[name]()
    blank = jax.tree.map(lambda leaf: jnp.full_like(leaf, 77), theirs)
    ours = portinit_flax.initialize(blank, recipes.flax_defaults(), KEY)
    jax.tree_util.tree_map_with_path(
        lambda path, a, b: assert_same_law(np.asarray(a), np.asarray(b), str(path)), ours, theirs
    )


def is_orthogonal(kernel: Any) -> bool:
    matrix = np.asarray(kernel, np.float64)
    return np.allclose(matrix.T @ matrix, np.eye(matrix.shape[1]), atol=1e-5)


RECURRENT = {
    "linen LSTMCell": ("params", ("hi", "hf", "hg", "ho")),
    "linen GRUCell": ("params", ("hr", "hz", "hn")),
    "nnx LSTMCell": (None, ("hi", "hf", "hg", "ho")),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_flax_defaults_make_recurrent_kernels_orthogonal(name):
    collection, gates = RECURRENT[name]
    theirs = FLAX[name]()
    ours = portinit_flax.initialize(theirs, recipes.flax_defaults(), KEY)
    for tree in (theirs, ours):
        owners = tree[collection] if collection else tree
        assert all(is_orthogonal(owners[gate]["kernel"]) for gate in gates)


@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU, nn.RNN], ids=["lstm", "gru", "rnn"])
def test_flax_defaults_serve_torchs_recurrent_layers_gate_by_gate(make):
    model = portinit_torch.initialize(make(100, 30), recipes.flax_defaults(), KEY)
    gates = model.weight_hh_l0.detach().reshape(-1, 30, 30)
    assert all(is_orthogonal(gate) for gate in gates)
    assert model.weight_ih_l0.std().item() == pytest.approx(0.1, rel=0.05)
    assert not model.bias_hh_l0.any()


# Model families: standard deviations by hand.


def stds(model: nn.Module) -> dict[str, float]:
    return {name: p.detach().std(correction=0).item() for name, p in model.named_parameters()}


class Block(nn.Module):
    def __init__(self, size: int, proj: str) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(size)
        self.attn = nn.MultiheadAttention(size, 2)
        self.fc = nn.Linear(size, 4 * size)
        self.register_module(proj, nn.Linear(4 * size, size))


class GPT(nn.Module):
    def __init__(self, proj: str = "c_proj") -> None:
        super().__init__()
        self.wte = nn.Embedding(300, 64)
        self.blocks = nn.ModuleList(Block(64, proj) for _ in range(2))
        self.ln_f = nn.LayerNorm(64)
        self.head = nn.Linear(64, 300)


RESIDUAL = 0.02 / math.sqrt(24)  # twelve layers of two residual branches each


@pytest.mark.parametrize("proj", ["proj", "c_proj", "o_proj", "down_proj"])
def test_gpt2_scales_residual_projections(proj):
    model = portinit_torch.initialize(GPT(proj), recipes.gpt2(layers=12), KEY)
    for name, std in stds(model).items():
        if name.endswith("bias"):
            assert std == 0, name
        elif "ln" not in name:
            residual = name.endswith((f".{proj}.weight", ".out_proj.weight"))
            assert std == pytest.approx(RESIDUAL if residual else 0.02, rel=0.05), name
    assert (model.ln_f.weight == 1).all()
    assert not model.blocks[1].fc.bias.any()


def test_gpt2_draws_normals():
    model = portinit_torch.initialize(GPT(), recipes.gpt2(layers=12, std=0.1), KEY)
    weight = model.head.weight.detach().ravel().numpy()
    assert stats.kstest(weight / 0.1, "norm").pvalue > LEVEL
    residual = model.blocks[0].c_proj.weight.detach().ravel().numpy()
    assert stats.kstest(residual / (0.1 / math.sqrt(24)), "norm").pvalue > LEVEL


@pytest.mark.parametrize("layers", [0, -1])
def test_gpt2_needs_a_layer(layers):
    with pytest.raises(ValueError, match="layers"):
        recipes.gpt2(layers=layers)


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.full((1, 1, 64), 77.0))
        self.pos_embed = nn.Parameter(torch.full((1, 65, 64), 77.0))
        self.patch_embed = nn.Conv2d(3, 64, 8)
        self.block = nn.TransformerEncoderLayer(64, 4, 256)
        self.head = nn.Linear(64, 300)


def test_vit():
    model = portinit_torch.initialize(ViT(), recipes.vit(), KEY)
    found = stds(model)
    assert found["patch_embed.weight"] == pytest.approx(1 / math.sqrt(3 * 8 * 8), rel=0.05)
    for name in ("pos_embed", "block.self_attn.in_proj_weight", "block.linear1.weight"):
        assert found[name] == pytest.approx(0.02, rel=0.05), name
    assert found["cls_token"] == pytest.approx(0.02, rel=0.3)
    assert found["head.weight"] == pytest.approx(0.02, rel=0.05)
    assert not any(p.any() for name, p in model.named_parameters() if name.endswith("bias"))
    assert (model.block.norm1.weight == 1).all()


def test_vit_truncates_the_patch_projection_at_two_of_its_deviations():
    model = nn.Sequential()
    model.add_module("patch", nn.Conv2d(3, 256, 8, bias=False))
    portinit_torch.initialize(model, recipes.vit(), KEY)
    scale = 1 / math.sqrt(192) / stats.truncnorm(-2, 2).std()
    weight = model.patch.weight.detach().ravel().numpy() / scale
    assert stats.kstest(weight, stats.truncnorm(-2, 2).cdf).pvalue > LEVEL


class Bottleneck(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(16, 32, 1, bias=False)
        self.conv2 = nn.Conv2d(32, 32, 3, groups=2)
        self.bn3 = nn.BatchNorm2d(32)
        self.downsample = nn.Sequential(nn.Conv2d(16, 64, 1), nn.BatchNorm2d(64))


class BasicBlock(nn.Module):
    """torchvision's, whose last normalisation is its second."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(16, 16, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(16)


class FullBottleneck(BasicBlock):
    """torchvision's, with a third normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(16, 64, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)


@pytest.mark.parametrize("wrap", [lambda block: block, lambda block: nn.Sequential(block)])
def test_the_last_normalisation_of_each_kind_of_block_is_zeroed(wrap):
    model = nn.Sequential(nn.BatchNorm2d(3), wrap(BasicBlock()), wrap(FullBottleneck()))
    bound = portinit_torch.bind(model, recipes.resnet(zero_init_residual=True))
    portinit_torch.initialize(model, portinit.Recipe.from_json(bound.to_json()), KEY)
    # torchvision: bn3 of each Bottleneck, bn2 of each BasicBlock
    ends = {id(m.bn3 if isinstance(m, FullBottleneck) else m.bn2) for m in blocks_of(model)}
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == (0 if id(module) in ends else 1)).all()
    assert len(ends) == 2


def blocks_of(model):
    return [module for module in model.modules() if isinstance(module, BasicBlock)]


class FlaxBlock(flax.linen.Module):
    norms: int

    @flax.linen.compact
    def __call__(self, x):
        for number in range(self.norms):
            x = flax.linen.Conv(4, (1, 1), name=f"conv{number + 1}")(x)
            x = flax.linen.BatchNorm(use_running_average=True, name=f"bn{number + 1}")(x)
        return x


def test_flax_blocks_are_zeroed_alike():
    model = flax.linen.Sequential([FlaxBlock(2), FlaxBlock(3)])
    variables = model.init(jax.random.key(0), jnp.ones((1, 4, 4, 3)))
    recipe = recipes.resnet(zero_init_residual=True)
    params = portinit_flax.initialize(variables["params"], recipe, KEY)
    zeroed = {
        f"{block}.{name}"
        for block, layers in params.items()
        for name, layer in layers.items()
        if "scale" in layer and not layer["scale"].any()
    }
    assert zeroed == {"layers_0.bn2", "layers_1.bn3"}


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 7, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Bottleneck(), Bottleneck())
        self.fc = nn.Linear(64, 1000)


@pytest.mark.parametrize("zeroed", [False, True])
def test_resnet(zeroed):
    model = ResNet()
    spoiled(model)
    portinit_torch.initialize(model, recipes.resnet(zero_init_residual=zeroed), KEY)
    found = stds(model)
    # sqrt(2 / fan_out), fan_out = outputs * kernel, whatever the groups: torch's own count
    by_hand = {"conv1": 16 * 49, "layer1.0.conv2": 32 * 9, "layer1.1.downsample.0": 64}
    for name, fan_out in by_hand.items():
        expected = math.sqrt(2 / fan_out)
        assert found[f"{name}.weight"] == pytest.approx(expected, rel=0.06), name
    for name in ("fc.weight", "fc.bias"):  # U(-1/8, 1/8)
        assert found[name] == pytest.approx(0.125 / math.sqrt(3), rel=0.06), name
    assert model.layer1[0].conv2.bias.abs().max() <= 1 / math.sqrt(16 * 9)
    assert (model.layer1[1].bn3.weight == (0 if zeroed else 1)).all()
    assert (model.bn1.weight == 1).all()
    assert not model.bn1.running_mean.any()
    assert (model.bn1.running_var == 1).all()
    assert model.bn1.num_batches_tracked == 0


READY = {
    "torch_defaults": recipes.torch_defaults(),
    "flax_defaults": recipes.flax_defaults(),
    "gpt2": recipes.gpt2(layers=3),
    "vit": recipes.vit(std=0.1),
    "resnet": recipes.resnet(zero_init_residual=True),
}


@pytest.mark.parametrize("recipe", READY.values(), ids=READY)
def test_a_ready_recipe_is_data(recipe):
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.filterwarnings("ignore:.* matches no parameter of this model")
@pytest.mark.parametrize("name", ["vit", "gpt2", "resnet", "torch_defaults", "flax_defaults"])
def test_a_ready_recipe_serves_a_convolution_with_bias(name):
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4))
    spoiled(model)
    portinit_torch.initialize(model, READY[name], KEY)
    assert all(77 not in tensor for tensor in model.state_dict().values())


def test_rules_put_in_front_go_first():
    recipe = Recipe([("head.*", portinit.zeros)]) + recipes.gpt2(layers=2)
    model = portinit_torch.initialize(GPT(), recipe, KEY)
    assert not model.head.weight.any()
    assert model.wte.weight.any()
