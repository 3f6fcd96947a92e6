"""Shared memory, and what parametrizations store: every name of a tensor counts, none is a weight.

The references are PyTorch's and safetensors' own loaders.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn.utils import parametrizations

import portinit
import portinit_flax
import portinit_torch
from portinit import Recipe, layers, recipes

KEY = portinit.key(2)


class Tied(nn.Module):
    """An embedding and a head that are one parameter; either may come first."""

    def __init__(self, head_first: bool = False) -> None:
        super().__init__()
        if head_first:
            self.head = nn.Linear(4, 7, bias=False)
        self.wte = nn.Embedding(7, 4)
        if head_first:
            self.wte.weight = self.head.weight
        else:
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.wte.weight
        self.out = nn.Linear(7, 2)


def trained(**options: bool) -> Tied:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Tied(**options)


def save_model(model: nn.Module, folder: Path) -> Path:
    safetensors.torch.save_model(model, folder / "w.safetensors")
    return folder / "w.safetensors"


def save_one_name(model: nn.Module, folder: Path) -> Path:
    kept = {name: t for name, t in model.state_dict().items() if name != "wte.weight"}
    safetensors.torch.save_file(kept, folder / "w.safetensors")  # without a note
    return folder / "w.safetensors"


def save_all(model: nn.Module, folder: Path) -> Path:
    torch.save(model.state_dict(), folder / "w.pt")
    return folder / "w.pt"


Save = Callable[[nn.Module, Path], Path]
SAVES = [save_model, save_one_name, save_all]


@pytest.mark.filterwarnings("ignore:gpt2's scale of residual projections")  # there are none here
@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("of_file", [False, True])
@pytest.mark.parametrize("of_model", [False, True])
def test_a_tied_tensor_is_the_file_s_whichever_name_it_has_there(save, of_file, of_model, tmp_path):
    source = trained(head_first=of_file)
    start = portinit.pretrained(save(source, tmp_path))
    for recipe in (start, start + recipes.torch_defaults(), start + recipes.gpt2(layers=1)):
        model = portinit_torch.initialize(Tied(of_model), recipe, KEY)
        assert torch.equal(model.wte.weight, source.wte.weight)
        assert model.wte.weight is model.head.weight
        bound = portinit_torch.bind(Tied(of_model), recipe)
        assert torch.equal(
            portinit_torch.initialize(Tied(of_model), bound, KEY).head.weight, source.head.weight
        )
    before_trace = start + portinit_torch.trace(lambda: Tied(of_model))
    model = portinit_torch.initialize(Tied(of_model), before_trace, KEY)
    assert torch.equal(model.wte.weight, source.wte.weight)


def test_notes_are_renamed_and_chosen_as_tensors_are(tmp_path):
    source = trained()
    file = save_model(source, tmp_path)  # keeps head.weight
    names = set(portinit.pretrained(file, prefix="net.").names)
    assert names == {"net.head.weight", "net.wte.weight", "net.out.weight", "net.out.bias"}
    assert set(portinit.pretrained(file, only="wte.*").names) == {"wte.weight"}
    once = portinit.pretrained(file, names={"head.weight": "wte.weight"})
    assert set(once.names) == {"wte.weight", "out.weight", "out.bias"}
    model = portinit_torch.initialize(Tied(), once, KEY)
    assert torch.equal(model.head.weight, source.head.weight)


def test_an_untied_model_and_a_flax_tree_take_the_names_that_they_have(tmp_path):
    source = trained()
    start = portinit.pretrained(save_model(source, tmp_path))
    untied = Tied()
    untied.wte.weight = nn.Parameter(torch.zeros(7, 4))
    portinit_torch.initialize(untied, start, KEY)
    assert torch.equal(untied.wte.weight, source.wte.weight)
    assert torch.equal(untied.head.weight, source.wte.weight)
    shape = jax.ShapeDtypeStruct
    tree = {
        "wte": {"embedding": shape((7, 4), jnp.float32)},
        "out": {"kernel": shape((7, 2), jnp.float32), "bias": shape((2,), jnp.float32)},
    }
    for recipe in (start, start + recipes.flax_defaults()):
        filled = portinit_flax.initialize(tree, recipe, KEY)
        np.testing.assert_array_equal(filled["wte"]["embedding"], source.wte.weight.detach())
    del tree["wte"]
    for recipe in (start, start + recipes.flax_defaults()):
        with pytest.raises(portinit.RecipeError, match=r"wte\.weight.*|head\.weight.*"):
            portinit_flax.initialize(tree, recipe, KEY)


def test_two_tensors_for_one_parameter_must_be_equal(tmp_path):
    state = {name: tensor.clone() for name, tensor in trained().state_dict().items()}
    state["head.weight"][3, 1] += 1
    torch.save(state, tmp_path / "w.pt")
    model = Tied()
    before = model.wte.weight.clone()
    start = portinit.pretrained(tmp_path / "w.pt")
    with pytest.raises(portinit.RecipeError, match="two tensors that differ in the file"):
        portinit_torch.initialize(model, start, KEY)
    assert torch.equal(model.wte.weight, before)
    chosen = portinit.pretrained(tmp_path / "w.pt", without="wte.weight")
    portinit_torch.initialize(model, chosen, KEY)
    assert torch.equal(model.wte.weight, state["head.weight"])


@pytest.mark.parametrize("name", ["wte.weight", "head.weight", "head.*", "?ead.weight"])
def test_a_rule_may_say_any_name_and_draws_with_the_first_one_s_key(name):
    normal = portinit.normal(std=0.3)
    model = portinit_torch.initialize(Tied(), Recipe([(name, normal), ("*", portinit.zeros)]), KEY)
    drawn = normal(KEY.fold_in("wte.weight"), (7, 4), layout="torch")
    np.testing.assert_array_equal(model.head.weight.detach(), drawn)
    assert not model.out.weight.any()


def test_the_first_rule_decides_as_ever():
    rules = [("wte.weight", portinit.ones), ("head.weight", portinit.zeros), ("*", portinit.eye())]
    for order, value in ((rules, 1), ([rules[1], rules[0], *rules[2:]], 0)):
        recipe = Recipe([*order[:2], ("*bias", portinit.zeros), order[2]])
        model = portinit_torch.initialize(Tied(), recipe, KEY)
        assert (model.wte.weight == value).all()


def test_memory_in_common_without_a_tie_is_refused():
    model = Tied()
    model.head.weight = nn.Parameter(model.wte.weight.data)  # a parameter of its own
    before = model.wte.weight.clone()
    with pytest.raises(portinit.RecipeError, match=r"wte\.weight and head\.weight: share memory"):
        portinit_torch.initialize(model, recipes.torch_defaults(), KEY)
    memory = torch.zeros(10)
    halves = nn.ParameterList([nn.Parameter(memory[:6]), nn.Parameter(memory[5:])])
    with pytest.raises(portinit.RecipeError, match="0 and 1: share memory"):
        portinit_torch.initialize(halves, Recipe([("*", portinit.normal())]), KEY)
    assert torch.equal(model.wte.weight, before)
    assert not memory.any()
    apart = nn.ParameterList([nn.Parameter(memory[:5]), nn.Parameter(memory[5:])])
    portinit_torch.initialize(apart, Recipe([("*", portinit.normal())]), KEY)
    assert memory.all()


def test_memory_in_common_may_be_filled_twice_with_the_same(tmp_path):
    source = trained()
    start = portinit.pretrained(save_model(source, tmp_path))
    model = Tied()
    model.head.weight = nn.Parameter(model.wte.weight.data)
    portinit_torch.initialize(model, start, KEY)
    assert torch.equal(model.wte.weight, source.wte.weight)


def test_an_error_on_the_way_gives_the_meta_tensors_back(monkeypatch):
    module = sys.modules["portinit_torch.initialize"]
    fill, filled = module.fill_, []

    def failing(tensor, *args, **kwargs):
        if filled:
            raise OSError("the disk is gone")
        filled.append(fill(tensor, *args, **kwargs))

    monkeypatch.setattr(module, "fill_", failing)
    with torch.device("meta"):
        model = Tied()
    model.register_buffer("kept", torch.ones(2))
    before = dict(model.named_parameters(remove_duplicate=False))
    with pytest.raises(OSError, match="the disk is gone"):
        portinit_torch.initialize(model, recipes.torch_defaults(), KEY, device="cpu")
    assert not filled[0].is_meta
    after = dict(model.named_parameters(remove_duplicate=False))
    assert [*after] == [*before]
    assert all(after[name] is before[name] for name in before)
    assert model.kept.tolist() == [1, 1]
    monkeypatch.undo()
    portinit_torch.initialize(model, recipes.torch_defaults(), KEY, device="cpu")
    plain = portinit_torch.initialize(Tied(), recipes.torch_defaults(), KEY)
    assert torch.equal(model.wte.weight, plain.wte.weight)
    assert model.wte.weight is model.head.weight


def test_a_transform_s_tensors_have_no_memory_to_compare():
    def weight(x: torch.Tensor) -> torch.Tensor:
        layer = portinit_torch.initialize(nn.Linear(2, 2), recipes.torch_defaults(), KEY)
        return x @ layer.weight

    plain = portinit_torch.initialize(nn.Linear(2, 2), recipes.torch_defaults(), KEY)
    assert torch.equal(torch.func.functionalize(weight)(torch.eye(2)), plain.weight)


# Wrappers


def test_averaged_models_are_seen_through(tmp_path):
    layer = nn.Linear(3, 2)
    averaged = torch.optim.swa_utils.AveragedModel(layer)
    portinit_torch.initialize(averaged, recipes.torch_defaults(), KEY)
    plain = portinit_torch.initialize(nn.Linear(3, 2), recipes.torch_defaults(), KEY)
    assert torch.equal(averaged.module.weight, plain.weight)
    assert averaged.n_averaged == 0
    torch.save(averaged.state_dict(), tmp_path / "w.pt")
    start = portinit.pretrained(tmp_path / "w.pt", strip="module.")
    assert torch.equal(portinit_torch.initialize(layer, start, KEY).weight, plain.weight)
    wrapped = portinit.pretrained(tmp_path / "w.pt", without="n_averaged")
    with pytest.raises(portinit.RecipeError, match=r"strip='module\.'"):
        portinit_torch.initialize(layer, wrapped + recipes.torch_defaults(), KEY)


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of jit's age
@pytest.mark.parametrize(
    "recipe", [recipes.torch_defaults(), recipes.gpt2(1), recipes.flax_defaults(), recipes.vit()]
)
def test_a_scripted_model_has_its_layers_kinds(recipe):
    def build() -> nn.Module:
        return nn.Sequential(nn.Embedding(5, 4, padding_idx=1), nn.LayerNorm(4), nn.Linear(4, 4))

    plain = portinit_torch.initialize(build(), recipe, KEY)
    scripted = portinit_torch.initialize(torch.jit.script(build()), recipe, KEY)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(scripted.state_dict()[name], tensor)


# Parametrizations


def wrapped(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(wrap(nn.Linear(8, 6)), nn.Linear(6, 2))


WRAPS = {
    "weight_norm": parametrizations.weight_norm,
    "orthogonal": parametrizations.orthogonal,
    "spectral_norm": parametrizations.spectral_norm,
    "old weight_norm": nn.utils.weight_norm,
    "two": lambda m: parametrizations.spectral_norm(parametrizations.weight_norm(m)),
}
PATTERNS = {
    "torch_defaults": recipes.torch_defaults(),
    "flax_defaults": recipes.flax_defaults(),
    "gpt2": recipes.gpt2(1),
    "vit": recipes.vit(),
    "resnet": recipes.resnet(),
    "all": Recipe([("*", portinit.normal())]),
    "weights": Recipe([("*weight*", portinit.normal()), ("*", portinit.zeros)]),
}


@pytest.mark.parametrize("recipe", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_patterns_say_nothing_of_what_a_parametrization_stores(wrap, recipe):
    model = wrapped(wrap)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(portinit.RecipeError, match=r"parametrization stores it"):
        portinit_torch.initialize(model, recipe, KEY)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


MAGNITUDES = Recipe(
    [
        ("*.original0", layers.weight_norm_magnitude(portinit.kaiming_normal())),
        ("*.original1", portinit.kaiming_normal()),
        ("*weight_g", layers.weight_norm_magnitude(portinit.kaiming_normal())),
        ("*weight_v", portinit.kaiming_normal()),
        ("*", portinit.zeros),
    ]
)


@pytest.mark.parametrize("dim", [0, 1, 2, None])
@pytest.mark.parametrize("norm", [parametrizations.weight_norm, nn.utils.weight_norm])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_magnitudes_of_weight_norm_are_the_norms_of_the_direction(norm, dim, dtype):
    """By PyTorch's norms, of the very values that the direction has; and through JSON."""
    model = nn.Sequential(norm(nn.Conv1d(6, 9, 4, dtype=dtype), dim=dim))
    portinit_torch.initialize(model, MAGNITUDES, KEY)
    stored = dict(model.named_parameters())
    g, v = (p for name, p in stored.items() if "bias" not in name)
    exact = torch.norm_except_dim(v.detach().double(), 2, -1 if dim is None else dim)
    expected = exact.reshape(g.shape).to(dtype)
    torch.testing.assert_close(g.detach(), expected, rtol=4e-16, atol=0)  # 0 but in float64
    assert v.std() > 0.1
    assert model[0].weight.shape == v.shape
    bound = Recipe.from_json(portinit_torch.bind(model, MAGNITUDES).to_json())
    again = nn.Sequential(norm(nn.Conv1d(6, 9, 4, dtype=dtype), dim=dim))
    portinit_torch.initialize(again, bound, KEY)
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, stored[name]), name
    apart = portinit_torch.initialize(again, bound.independent(), KEY)
    assert not torch.equal(next(p for n, p in apart.named_parameters() if p is not v), v)


def test_magnitudes_may_be_scaled():
    """The weight starts as twice the direction, whose own values the norms are of."""
    magnitudes = portinit.scaled(layers.weight_norm_magnitude(portinit.kaiming_normal()), 2)
    model = parametrizations.weight_norm(nn.Linear(8, 6))
    portinit_torch.initialize(model, Recipe([("*.original0", magnitudes)]) + MAGNITUDES, KEY)
    twice = 2 * model.parametrizations.weight.original1
    torch.testing.assert_close(model.weight, twice, rtol=1e-6, atol=0)


def test_magnitudes_need_a_direction():
    magnitudes = layers.weight_norm_magnitude(portinit.zeros)
    recipe = Recipe([("*", magnitudes)])
    with pytest.raises(portinit.RecipeError, match="weight needs a direction of weight norm"):
        portinit_torch.initialize(nn.Linear(2, 2), recipe, KEY)
    with pytest.raises(ValueError, match="need the direction's shape outside a recipe"):
        magnitudes(KEY, (3, 1))
    with pytest.raises(ValueError, match=r"\(2, 1\) do not fit a direction \(3, 4\)"):
        layers.weight_norm_magnitude(portinit.zeros, (3, 4))(KEY, (2, 1))
    with pytest.raises(TypeError, match="needs a portinit initializer"):
        layers.weight_norm_magnitude(3)


def test_what_a_parametrization_stores_is_filled_where_it_is_named():
    model = wrapped(parametrizations.weight_norm)
    magnitude, direction = (f"0.parametrizations.weight.original{i}" for i in (0, 1))
    named = Recipe([(magnitude, portinit.constant(2)), (direction, portinit.normal())])
    patterns = Recipe([("*.original0", portinit.constant(2)), ("*.original1", portinit.normal())])
    kinds = Recipe(
        [
            portinit.Rule("*0", portinit.constant(2), kind="parametrized"),
            portinit.Rule("*1", portinit.normal(), kind="parametrized"),
        ]
    )
    for start in (named, patterns, kinds):
        portinit_torch.initialize(model, start + recipes.torch_defaults(), KEY)
        norms = model[0].weight.norm(dim=1)
        torch.testing.assert_close(norms, torch.full_like(norms, 2.0))
    traced = portinit_torch.trace(lambda: wrapped(parametrizations.weight_norm))
    portinit_torch.initialize(model, traced, KEY)
    assert model[0].weight.std() > 0.1
