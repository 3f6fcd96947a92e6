"""Whole PyTorch modules: what is filled, what is left alone, and that it is all or nothing."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import portinit
import portinit_torch
from portinit import Recipe, RecipeError, Rule, recipes

KEY = portinit.key(5)
DEFAULTS = recipes.torch_defaults()
NORMAL = Recipe([("*", portinit.normal())])


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_untouched(model: nn.Module, before: dict[str, torch.Tensor]) -> None:
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def expected(name: str, shape: tuple[int, ...], initializer: Any = None) -> torch.Tensor:
    """What the core gives the parameter of this name, in NumPy."""
    initializer = initializer or portinit.normal()
    return torch.from_numpy(initializer(KEY.fold_in(name), shape, layout="torch"))


# What is filled


def test_the_module_itself_is_filled_and_returned():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    parameters = dict(model.named_parameters())
    pointers = {name: p.data_ptr() for name, p in parameters.items()}
    before = snapshot(model)
    assert portinit_torch.initialize(model, NORMAL, KEY) is model
    for name, parameter in model.named_parameters():
        assert parameter is parameters[name]
        assert parameter.data_ptr() == pointers[name]
        assert not torch.equal(parameter, before[name])
        assert torch.equal(parameter, expected(name, tuple(parameter.shape)))


def test_a_module_that_is_one_layer():
    layer = portinit_torch.initialize(nn.Linear(3, 4), NORMAL, KEY)
    assert torch.equal(layer.weight, expected("weight", (4, 3)))
    assert torch.equal(layer.bias, expected("bias", (4,)))


def test_a_module_without_parameters():
    model = nn.ReLU()
    assert portinit_torch.initialize(model, Recipe([]), KEY) is model


@pytest.mark.parametrize("words", [np.array([0, 5], np.uint32)])
def test_a_raw_key_is_the_same_key(words):
    a = portinit_torch.initialize(nn.Linear(3, 4), NORMAL, words)
    assert torch.equal(a.weight, expected("weight", (4, 3)))


@pytest.mark.parametrize("key", [5, None, "5", torch.tensor([0, 5])])
def test_what_is_no_key_writes_nothing(key):
    model = nn.Linear(3, 4)
    before = snapshot(model)
    with pytest.raises(TypeError, match="key must be"):
        portinit_torch.initialize(model, NORMAL, key)
    assert_untouched(model, before)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


def test_a_tied_parameter_is_filled_once_by_its_first_name():
    model = portinit_torch.initialize(Tied(), NORMAL, KEY)
    assert model.head.weight is model.embed.weight
    assert torch.equal(model.head.weight, expected("embed.weight", (5, 3)))
    assert [p.name for p in portinit_torch.parameters(model)] == ["embed.weight"]
    assert portinit_torch.bind(model, NORMAL).names == ("embed.weight",)


def test_a_tied_parameter_needs_no_rule_for_its_other_name():
    model = portinit_torch.initialize(Tied(), Recipe([("embed.*", portinit.ones)]), KEY)
    assert (model.head.weight == 1).all()


def test_a_shared_module_is_filled_once():
    layer = nn.Linear(2, 2)
    model = portinit_torch.initialize(nn.Sequential(layer, nn.ReLU(), layer), NORMAL, KEY)
    assert torch.equal(model[2].weight, expected("0.weight", (2, 2)))


def test_running_statistics_are_reset():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.InstanceNorm1d(3, track_running_stats=True))
    model(torch.randn(4, 3, 7, generator=torch.Generator().manual_seed(0)) * 5 + 2)
    assert model[0].num_batches_tracked == 1
    portinit_torch.initialize(model, DEFAULTS, KEY)
    for layer in model:
        assert not layer.running_mean.any()
        assert (layer.running_var == 1).all()
        assert layer.num_batches_tracked == 0
        assert layer.num_batches_tracked.dtype == torch.int64


def test_a_bound_recipe_resets_what_its_own_recipe_does():
    by_recipe, by_bound = (nn.Sequential(nn.BatchNorm1d(3)) for _ in range(2))
    for model in (by_recipe, by_bound):
        model(torch.arange(6.0).reshape(2, 3))
    portinit_torch.initialize(by_recipe, DEFAULTS, KEY)
    portinit_torch.initialize(by_bound, portinit_torch.bind(by_bound, DEFAULTS), KEY)
    assert_untouched(by_bound, by_recipe.state_dict())


class WithBuffers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("inv_freq", torch.tensor([1.0, 0.1]))
        self.register_buffer("causal_mask", torch.ones(2, 2).tril())
        self.register_buffer("steps", torch.tensor(3))
        self.register_buffer("hidden", torch.tensor([2.0]), persistent=False)
        self.loss = nn.CrossEntropyLoss(weight=torch.tensor([0.3, 0.7]))


READY = {
    "torch_defaults": DEFAULTS,
    "flax_defaults": recipes.flax_defaults(),
    "gpt2": recipes.gpt2(layers=2),
    "vit": recipes.vit(),
    "resnet": recipes.resnet(),
    "everything": NORMAL,
}


@pytest.mark.filterwarnings("ignore:gpt2's scale of residual projections")  # there are none here
@pytest.mark.parametrize("recipe", READY.values(), ids=READY)
def test_buffers_that_are_no_statistics_are_left_alone(recipe):
    model = WithBuffers()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    portinit_torch.initialize(model, recipe, KEY)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_a_rule_for_everything_serves_a_batch_norm():
    model = portinit_torch.initialize(nn.BatchNorm1d(3), NORMAL, KEY)
    assert torch.equal(model.weight, expected("weight", (3,)))
    assert (model.running_var > 0).all()
    assert model.num_batches_tracked == 0


def test_a_buffer_that_the_recipe_names_is_filled():
    recipe = Recipe([("inv_freq", portinit.ones), ("linear.*", portinit.normal())])
    model = portinit_torch.initialize(WithBuffers(), recipe, KEY)
    assert (model.inv_freq == 1).all()


# How it is written


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_module_of_another_dtype(dtype):
    model = portinit_torch.initialize(nn.Linear(30, 40).to(dtype), NORMAL, KEY)
    assert model.weight.dtype == dtype
    if dtype == torch.float64:
        ours = portinit.normal()(KEY.fold_in("weight"), (40, 30), "float64", layout="torch")
        assert torch.equal(model.weight, torch.from_numpy(ours))
    else:  # one draw, rounded by torch
        assert torch.equal(model.weight, expected("weight", (40, 30)).to(dtype))


def test_a_module_of_mixed_dtypes():
    model = nn.Sequential(nn.Linear(3, 4).to(torch.bfloat16), nn.BatchNorm1d(4))
    portinit_torch.initialize(model, DEFAULTS, KEY)
    assert [p.dtype for p in model.parameters()] == [torch.bfloat16] * 2 + [torch.float32] * 2


def strided(kind: str) -> torch.Tensor:
    makers = {
        "transposed": lambda: torch.zeros(3, 4).t(),
        "every other": lambda: torch.zeros(8, 6)[::2, ::2],
        "offset": lambda: torch.zeros(5, 3)[1:],
    }
    return makers[kind]()


@pytest.mark.parametrize("kind", ["transposed", "every other", "offset"])
def test_parameters_that_are_not_contiguous(kind):
    model = nn.Linear(3, 4)
    model.weight = nn.Parameter(strided(kind))
    strides = model.weight.stride()
    portinit_torch.initialize(model, NORMAL, KEY)
    assert torch.equal(model.weight, expected("weight", (4, 3)))
    assert model.weight.stride() == strides


def test_channels_last_keeps_its_memory_format():
    model = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
    portinit_torch.initialize(model, NORMAL, KEY)
    assert torch.equal(model.weight, expected("weight", (6, 4, 3, 3)))
    assert model.weight.is_contiguous(memory_format=torch.channels_last)


def test_parameters_that_share_storage_write_their_own_part_only():
    model = nn.Linear(3, 4)
    storage = torch.full((6, 3), 77.0)
    model.weight = nn.Parameter(storage[1:5])
    portinit_torch.initialize(model, NORMAL, KEY)
    assert (storage[0] == 77).all()
    assert (storage[5] == 77).all()


def test_requires_grad_and_gradients_are_kept():
    model = nn.Linear(3, 4)
    model.weight.requires_grad_(False)
    model.bias.grad = torch.ones(4)
    portinit_torch.initialize(model, NORMAL, KEY)
    assert not model.weight.requires_grad
    assert model.bias.requires_grad
    assert model.bias.is_leaf
    assert model.bias.grad_fn is None
    assert torch.equal(model.bias.grad, torch.ones(4))


def test_training_mode_is_kept():
    assert not portinit_torch.initialize(nn.BatchNorm1d(2).eval(), DEFAULTS, KEY).training


def test_global_generators_are_untouched():
    model = nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 3), nn.BatchNorm1d(3))
    torch_before, numpy_before = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    portinit_torch.initialize(model, DEFAULTS, KEY)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert repr(np.random.get_state()) == numpy_before  # noqa: NPY002


def test_no_grad_and_inference_modes_do_not_matter():
    with torch.no_grad():
        model = portinit_torch.initialize(nn.Linear(3, 4), NORMAL, KEY)
    assert model.weight.requires_grad
    assert torch.equal(model.weight, expected("weight", (4, 3)))


# What a recipe is told


def test_parameters_are_described():
    model = nn.ModuleDict(
        {
            "embed": nn.Embedding(7, 4, padding_idx=2),
            "conv": nn.Conv2d(4, 6, 3, groups=2),
            "up": nn.ConvTranspose1d(6, 4, 2),
            "gru": nn.GRU(4, 3),
            "ln": nn.LayerNorm(4),
            "attn": nn.MultiheadAttention(4, 2),
        }
    )
    model.register_parameter("scale", nn.Parameter(torch.ones(())))
    told = {p.name: p for p in portinit_torch.parameters(model)}
    kinds = {name: p.kind for name, p in told.items()}
    assert list(told) == [name for name, _ in model.named_parameters()]
    assert told["embed.weight"].padding_idx == 2
    assert told["conv.bias"].fan_in == 2 * 9
    assert told["up.bias"].fan_in == 4 * 2
    assert told["gru.weight_ih_l0"].fan_in == 3
    assert told["scale"] == portinit.Parameter("scale", ())
    assert kinds["embed.weight"] == "embedding"
    assert kinds["conv.weight"] == "conv"
    assert kinds["up.weight"] == "conv_transpose"
    assert kinds["gru.bias_hh_l0"] == "recurrent"
    assert kinds["ln.bias"] == "norm"
    assert kinds["attn.in_proj_weight"] == "attention"
    assert kinds["attn.out_proj.weight"] == "linear"
    assert kinds["attn.out_proj.bias"] == "attention"


def test_subclasses_are_of_their_parents_kind():
    class Mine(nn.Linear):
        pass

    assert portinit_torch.parameters(Mine(2, 3))[0].kind == "linear"


def test_jax_fans_see_a_transposed_convolution_with_its_roles():
    wide = Recipe([("*weight", portinit.lecun_normal()), ("*", portinit.zeros)])
    model = portinit_torch.initialize(nn.ConvTranspose1d(100, 16, 4), wide, KEY)
    assert model.weight.std().item() == pytest.approx(1 / 20, rel=0.05)  # 100 * 4 inputs


# All or nothing


class Failing(nn.Module):
    """The misfits come last, so that a fill that checks as it goes has written by then."""

    def __init__(self) -> None:
        super().__init__()
        self.good = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.bad = nn.Linear(4, 2)
        self.worse = nn.Linear(2, 2)


GOOD = Recipe([("good.*", portinit.normal()), ("norm.*", portinit.ones)])
MISFITS: dict[str, tuple[Recipe, list[str]]] = {
    "no rule": (GOOD, ["bad.weight", "bad.bias", "worse.weight", "worse.bias", "4 do not fit"]),
    "does not suit": (
        GOOD + Recipe([("*", portinit.kaiming_normal())]),
        ["bad.bias (2,)", "worse.bias (2,)", "2 do not fit"],
    ),
    "no fan": (
        GOOD + Recipe([("*weight", portinit.dirac()), ("*", portinit.zeros)]),
        ["bad.weight (2, 4)", "worse.weight (2, 2)"],
    ),
    "blocks that do not divide": (
        GOOD + Recipe([("*", portinit.blocks((portinit.zeros,) * 3))]),
        ["bad.weight", "bad.bias", "worse.weight", "worse.bias"],
    ),
    "assigned values of another shape": (
        GOOD + Recipe([("bad*", portinit.assign([1.0])), ("*", portinit.zeros)]),
        ["bad.weight (2, 4)", "bad.bias (2,)"],
    ),
    "an index out of bounds": (
        GOOD + Recipe([("*", portinit.where(2, portinit.zeros, portinit.ones))]),
        ["bad.weight", "bad.bias", "worse.weight", "worse.bias"],
    ),
    "another shape in a bound recipe": (
        GOOD + Recipe([Rule("bad.weight", portinit.zeros, shape=(4, 2)), ("*", portinit.zeros)]),
        ["bad.weight", "(4, 2)", "(2, 4)"],
    ),
}


@pytest.mark.parametrize(("recipe", "lines"), MISFITS.values(), ids=MISFITS)
def test_a_misfit_is_listed_and_nothing_is_written(recipe, lines):
    model = Failing()
    before = snapshot(model)
    with pytest.raises(RecipeError) as raised:
        portinit_torch.initialize(model, recipe, KEY)
    assert_untouched(model, before)
    assert all(line in str(raised.value) for line in lines)
    assert "good" not in str(raised.value)


def test_a_missing_file_writes_nothing(tmp_path):
    recipe = GOOD + Recipe([("*", portinit.from_safetensors(str(tmp_path / "gone"), "a"))])
    model = Failing()
    before = snapshot(model)
    with pytest.raises((OSError, RecipeError)):
        portinit_torch.initialize(model, recipe, KEY)
    assert_untouched(model, before)


@pytest.mark.parametrize("dtype", [torch.complex64])
def test_an_initializer_that_does_not_suit_the_dtype_writes_nothing(dtype):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, dtype=dtype))
    before = snapshot(model)
    recipe = Recipe([("*", portinit.trunc_normal(mean=1.0))])
    with pytest.raises(RecipeError, match=r"1\.weight"):
        portinit_torch.initialize(model, recipe, KEY)
    assert_untouched(model, before)


def test_the_meta_device_is_refused_with_a_way_out():
    with torch.device("meta"):
        model = nn.Linear(3, 4)
    with pytest.raises(RecipeError) as raised:
        portinit_torch.initialize(model, NORMAL, KEY)
    assert "to_empty" in str(raised.value)
    assert "weight" in str(raised.value)
    assert "bias" in str(raised.value)
    portinit_torch.initialize(model.to_empty(device="cpu"), NORMAL, KEY)
    assert torch.equal(model.weight, expected("weight", (4, 3)))


def test_a_model_partly_on_the_meta_device_is_left_alone():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    before = model[0].weight.clone()
    with pytest.raises(RecipeError, match=r"1\.weight.*\n.*1\.bias"):
        portinit_torch.initialize(model, NORMAL, KEY)
    assert torch.equal(model[0].weight, before)


def test_a_recipe_binds_to_a_model_on_the_meta_device():
    with torch.device("meta"):
        abstract = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    bound = portinit_torch.bind(abstract, DEFAULTS)
    assert bound == portinit_torch.bind(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), DEFAULTS)


def lazy_model() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.Linear(3, 4), nn.LazyLinear(2))


def test_a_lazy_module_is_refused_until_it_has_run():
    model = lazy_model()
    before = model[0].weight.clone()
    with pytest.raises(RecipeError, match=r"1\.weight: not made yet"):
        portinit_torch.initialize(model, NORMAL, KEY)
    assert torch.equal(model[0].weight, before)
    model(torch.zeros(1, 3))
    portinit_torch.initialize(model, NORMAL, KEY)
    assert torch.equal(model[1].weight, expected("1.weight", (2, 4)))


def test_lazy_batch_norm_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.LazyBatchNorm1d())
    with pytest.raises(RecipeError, match="not made yet"):
        portinit_torch.initialize(model, DEFAULTS, KEY)


def test_binding_a_lazy_module_says_so():
    with pytest.raises(RecipeError, match="not made yet"):
        portinit_torch.bind(lazy_model(), DEFAULTS)


def test_binding_lists_what_no_rule_matches():
    with pytest.raises(RecipeError) as raised:
        portinit_torch.bind(Failing(), GOOD)
    assert "4 do not fit" in str(raised.value)


def test_a_bound_recipe_refuses_another_model():
    bound = portinit_torch.bind(nn.Linear(3, 4), DEFAULTS)
    model = nn.Linear(4, 4)
    before = snapshot(model)
    with pytest.raises(RecipeError, match=r"weight: the recipe has \(4, 3\), got \(4, 4\)"):
        portinit_torch.initialize(model, bound, KEY)
    assert_untouched(model, before)
