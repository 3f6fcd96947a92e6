"""Parameters that a constructor made from one draw stay related under a key, as in PyTorch."""

import copy
from collections.abc import Callable

import jax
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import portinit
import portinit_flax
import portinit_torch
from portinit import Recipe
from portinit.checkpoints import checkpoint_tensors
from portinit_torch import trace

KEY = portinit.key(11)


def filled(build: Callable[[], nn.Module], recipe: Recipe | None = None) -> nn.Module:
    """The model that a key gives, its recipe written as JSON and read."""
    recipe = Recipe.from_json((recipe or trace(build)).to_json())
    return portinit_torch.initialize(build(), recipe, KEY)


class Twins(nn.Module):
    """A network and its target, copied in one of the ways that people copy."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.online = nn.Linear(8, 6)
        self.target = nn.Linear(8, 6)
        if way == "deepcopy":
            self.target = copy.deepcopy(self.online)
        elif way == "load_state_dict":
            self.target.load_state_dict(self.online.state_dict())
        elif way == "data":
            for p, q in zip(self.target.parameters(), self.online.parameters(), strict=True):
                p.data.copy_(q.data)
        elif way == "clone":
            self.target.weight.data = self.online.weight.detach().clone()
            self.target.bias.data = self.online.bias.detach().clone()
        else:
            self.target = torch.optim.swa_utils.AveragedModel(self.online).module


WAYS = ["deepcopy", "load_state_dict", "data", "clone", "averaged"]


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_is_drawn_once(way):
    model = filled(lambda: Twins(way))
    for name, p in model.online.named_parameters():
        assert torch.equal(p, dict(model.target.named_parameters())[name]), name
        assert p.unique().numel() == p.numel()


def test_the_first_keeps_the_bits_that_it_has_alone():
    alone = portinit_torch.initialize(nn.Linear(8, 6), trace(lambda: nn.Linear(8, 6)), KEY)
    recipe = trace(lambda: nn.Linear(8, 6))
    assert [rule.drawn_as for rule in recipe.rules] == [None, None]
    named = nn.ModuleDict({"online": nn.Linear(8, 6)})
    portinit_torch.initialize(named, trace(lambda: nn.ModuleDict({"online": nn.Linear(8, 6)})), KEY)
    assert torch.equal(filled(lambda: Twins("deepcopy")).online.weight, named["online"].weight)
    assert not torch.equal(alone.weight, named["online"].weight)


def test_independent_copies_are_drawn_apart():
    recipe = trace(lambda: Twins("deepcopy"))
    assert [rule.drawn_as for rule in recipe.rules] == [
        None, None, "online.weight", "online.bias",
    ]  # fmt: skip
    model = filled(lambda: Twins("deepcopy"), recipe.independent())
    assert not torch.equal(model.online.weight, model.target.weight)
    expected = recipe.rules[2].initializer(KEY.fold_in("target.weight"), (6, 8), layout="torch")
    assert np.array_equal(model.target.weight.detach(), expected)


def test_the_table_says_whose_draw_it_is():
    text = str(trace(lambda: Twins("deepcopy")))
    assert "drawn as" in text
    (row,) = [line for line in text.splitlines() if line.startswith("target.bias")]
    assert "online.bias" in row


def test_an_encoders_layers_are_equal_as_in_torch():
    def build() -> nn.Module:
        layer = nn.TransformerEncoderLayer(8, 2, 16)
        return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)

    first, *others = filled(build).layers
    for layer in others:
        for p, q in zip(first.parameters(), layer.parameters(), strict=True):
            assert torch.equal(p, q)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norms_magnitudes_are_the_norms(dim):
    def build() -> nn.Module:
        return weight_norm(nn.Linear(16, 12), dim=dim)

    model = filled(build)
    g = model.parametrizations.weight.original0.detach()
    v = model.parametrizations.weight.original1.detach()
    expected = torch.norm_except_dim(v.double(), 2, -1 if dim is None else dim)
    np.testing.assert_allclose(g, expected, rtol=3e-7)
    assert v.unique().numel() == v.numel()


class Parts(nn.Module):
    """Parameters that are functions of each other's draws."""

    def __init__(self) -> None:
        super().__init__()
        both = torch.randn(8, 3)
        self.top = nn.Parameter(both[:4].clone())
        self.bottom = nn.Parameter(both[4:].clone())
        self.weight = nn.Parameter(torch.randn(5, 4))
        self.negative = nn.Parameter(-self.weight.detach())
        self.turned = nn.Parameter(self.weight.detach().t().contiguous())
        self.shifted = nn.Parameter(self.weight.detach() + torch.rand(5, 4))
        self.small = nn.Parameter(torch.randn(5, 5) * 0.1)
        self.square = nn.Parameter(self.small.detach() ** 2)
        self.free = nn.Parameter(torch.randn(5, 4))


def test_functions_of_a_draw():
    model = filled(Parts)
    with torch.no_grad():
        assert torch.equal(model.negative, -model.weight)
        assert torch.equal(model.turned, model.weight.t())
        rest = model.shifted - model.weight
        assert rest.min() >= -1e-6
        assert rest.max() <= 1 + 1e-6
        assert rest.unique().numel() > 10
        assert torch.equal(model.square, model.small**2)
        halves = torch.cat([model.top, model.bottom])
        assert halves.unique().numel() == 24
        free = set(model.free.flatten().tolist())
        assert not free & set(model.weight.flatten().tolist())


def test_a_draw_itself_keeps_its_initializers_name():
    rules = {rule.name: rule for rule in trace(Parts).rules}
    assert rules["weight"].initializer == portinit.normal()
    assert rules["negative"].drawn_as == rules["shifted"].drawn_as == "weight"
    assert rules["bottom"].drawn_as == "top"
    assert rules["free"].drawn_as is None


def test_checkpoints_have_the_same_values():
    recipe = trace(Parts)
    model = filled(Parts, recipe)
    for spec in checkpoint_tensors(recipe):
        expected = dict(model.named_parameters())[spec.name].detach()
        assert np.array_equal(spec.draw(KEY), expected), spec.name


def test_flax_has_the_same_values():
    recipe = trace(lambda: Twins("deepcopy"))
    model = filled(lambda: Twins("deepcopy"), recipe)
    empty = {"kernel": np.zeros((8, 6), np.float32), "bias": np.zeros(6, np.float32)}
    tree = portinit_flax.initialize({"online": empty, "target": empty}, recipe, KEY)
    for name in ("online", "target"):
        kernel = np.asarray(tree[name]["kernel"])
        assert np.array_equal(kernel, getattr(model, name).weight.detach().t())
    assert np.array_equal(tree["online"]["bias"], tree["target"]["bias"])


def test_tied_parameters_stay_one():
    def build() -> nn.Module:
        model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7, bias=False))
        model[1].weight = model[0].weight
        return model

    recipe = trace(build)
    assert recipe.names == ("0.weight",)
    model = filled(build, recipe)
    assert model[0].weight is model[1].weight


def test_replays_are_untouched():
    recipe = trace(Parts)
    torch.manual_seed(4)
    expected = {name: p.detach() for name, p in Parts().named_parameters()}
    for values in (recipe.replay(4), recipe.independent().replay(4)):
        assert all(np.array_equal(values[name], expected[name]) for name in expected)


class Tied(nn.Module):
    """Two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight


def test_a_tied_weight_has_its_other_names_and_two_leaves_start_alike() -> None:
    recipe = Recipe.from_json(trace(Tied).to_json())
    assert [(rule.name, rule.other_names) for rule in recipe.rules] == [
        ("embed.weight", ("head.weight",))
    ]
    tree = {"embed": {"embedding": np.empty((7, 4))}, "head": {"kernel": np.empty((4, 7))}}
    tree = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, "float32"), tree)
    both = portinit_flax.initialize(tree, recipe, KEY)
    assert np.array_equal(both["embed"]["embedding"], both["head"]["kernel"].T)
    second = portinit_flax.initialize({"head": tree["head"]}, recipe, KEY)
    assert np.array_equal(second["head"]["kernel"], both["head"]["kernel"])
    model = portinit_torch.initialize(Tied(), recipe, KEY)
    assert np.array_equal(model.head.weight.numpy(force=True), both["embed"]["embedding"])
