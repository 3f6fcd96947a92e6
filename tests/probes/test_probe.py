"""portinit.probe: against the frameworks' own autograd, formulas, and mean-field theory."""

import copy
import json
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from examples import deep_linear, deep_linear_flax, deep_linear_torch
from flax import linen, nnx
from torch import nn

import portinit
import portinit_torch
from portinit.probes.moments import Histogram, Moments
from portinit.probes.verdicts import judge
from portinit_examples import (
    convnet_flax,
    convnet_torch,
    gpt_flax,
    gpt_torch,
    lstm_flax,
    lstm_torch,
)

KEY = portinit.key(0)
INPUTS = np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other cost more than these small products."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def std(x):
    """The population std in float64, by its definition."""
    x = np.asarray(x.detach() if isinstance(x, torch.Tensor) else x, dtype=np.float64)
    return math.sqrt(np.mean(np.square(x - np.mean(x))))


def by_name(probe):
    return {layer.name: layer for layer in probe.layers}


# Moments


def test_moments_are_those_of_float64():
    x = np.array([3e38, -3e38, 0.0, 0.0], np.float32)  # whose squares float32 does not hold
    moments = Moments.of(x)
    assert moments.std == pytest.approx(3e38 / math.sqrt(2), rel=1e-6)
    assert (moments.size, moments.mean, moments.zeros) == (4, 0.0, 0.5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, np.inf], (math.inf, 0, 1)), ([1, np.nan, -np.inf], (math.nan, 1, 1))],
)
def test_moments_of_what_is_not_finite(values, expected):
    moments = Moments.of(np.array(values, np.float32))
    assert math.isnan(moments.mean)
    np.testing.assert_equal((moments.std, moments.nan, moments.inf), expected)


def test_a_histogram_counts_every_finite_value():
    values = np.append(np.random.default_rng(0).standard_normal(1000), np.nan)
    histogram = Histogram.of(values)
    assert sum(histogram.counts) == 1000
    assert histogram.edges[0] == np.nanmin(values)
    assert histogram.edges[-1] == np.nanmax(values)
    assert Histogram.of(np.ones(5)) is None


# PyTorch, against autograd used by hand


class Skip(nn.Module):
    """A layer that is called twice, in-place ReLU, an identity beside a skip, two outputs."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.relu = nn.ReLU(inplace=True)
        self.same = nn.Identity()
        self.second = nn.Linear(8, 8)
        self.unused = nn.Linear(8, 8)

    def forward(self, x):
        self.unused(x)
        h = self.relu(self.first(x))
        y = self.same(h) * 2 + h
        y = self.second(self.second(y))
        return {"b": y, "a": h.sum(dim=1)}


def by_hand(model, loss):
    """The same forward pass written out, with the gradient kept at every output."""
    x = torch.from_numpy(INPUTS)
    first = model.first(x)
    relu = torch.relu(first)
    same = relu.clone()
    once = model.second(same * 2 + relu)
    twice = model.second(once)
    kept = {"first": first, "relu": relu, "same": same, "second": once, "second#2": twice}
    for tensor in kept.values():
        tensor.retain_grad()
    loss({"a": relu.sum(dim=1), "b": twice}).backward()
    return kept


def weighted(outputs):
    """The default loss as the documentation states it, with other code."""
    total = 0.0
    for place, name in enumerate(sorted(outputs)):
        key = portinit.key(0).fold_in("portinit.probe").fold_in(place)
        weights = portinit.normal()(key, outputs[name].shape, layout="torch", xp=torch)
        total = total + (outputs[name] * weights).sum()
    return total


@pytest.mark.parametrize("loss", [None, lambda outputs: outputs["b"].square().mean()])
def test_torch_layers_are_those_of_autograd(loss):
    torch.manual_seed(0)
    model = Skip()
    probe = portinit.probe(model, INPUTS, loss=loss)
    kept = by_hand(copy.deepcopy(model), loss or weighted)
    found = by_name(probe)
    assert [*found] == ["unused", *kept]
    for name, tensor in kept.items():
        assert found[name].std == pytest.approx(std(tensor), rel=1e-5)
        assert found[name].gradient_std == pytest.approx(std(tensor.grad), rel=1e-5)
    assert found["unused"].gradient is None


def test_torch_parameters_have_autograds_gradients():
    model = Skip()
    model.first.weight.requires_grad_(False)  # frozen ones are measured too
    probe = portinit.probe(model, INPUTS)
    twin = copy.deepcopy(model).requires_grad_()
    by_hand(twin, weighted)
    for parameter in probe.parameters:
        gradient = twin.get_parameter(parameter.name).grad
        if gradient is None:
            assert parameter.gradient is None
        else:
            assert parameter.gradient_std == pytest.approx(std(gradient), rel=1e-5)
        assert parameter.std == pytest.approx(std(twin.get_parameter(parameter.name)), rel=1e-6)


class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.norm(self.linear(x)))


@pytest.mark.parametrize("recipe", [None, portinit.recipes.torch_defaults()])
def test_a_torch_module_is_left_as_it_was(recipe):
    model = Stateful()
    model.drop.eval()
    model.norm.weight.requires_grad_(False)
    model.linear.weight.grad = torch.ones(8, 8)
    calls = []
    model.linear.register_forward_hook(lambda *_: calls.append(1))
    before = copy.deepcopy(model.state_dict())
    modes = {name: part.training for name, part in model.named_modules()}
    generator = torch.get_rng_state()
    portinit.probe(model, INPUTS, recipe=recipe, key=recipe and KEY)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert modes == {name: part.training for name, part in model.named_modules()}
    assert torch.equal(generator, torch.get_rng_state())
    assert torch.equal(model.linear.weight.grad, torch.ones(8, 8))
    assert model.norm.bias.grad is None
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, True]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    assert hooks == [0, 1, 0, 0]
    assert calls == [1]


def test_bfloat16_is_measured():
    model = nn.Linear(8, 8).to(torch.bfloat16)
    probe = portinit.probe(model, torch.from_numpy(INPUTS).to(torch.bfloat16))
    (weight, _), (layer,) = probe.parameters, probe.layers
    assert weight.std == pytest.approx(std(model.weight.float()))
    assert layer.gradient_std == pytest.approx(1.0, abs=0.25)  # 256 weights of N(0, 1)


def test_hooks_go_when_the_model_fails():
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(8, 4))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        portinit.probe(model, INPUTS)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@dataclass
class Output:
    """As transformers returns them."""

    loss: None
    logits: torch.Tensor


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 4)

    def forward(self, *, x):
        return Output(None, self.lstm(x)[0])


def test_outputs_in_containers_and_keyword_arguments():
    probe = portinit.probe(Wrapped(), {"x": INPUTS})
    (layer,) = probe.layers
    assert (layer.name, layer.kind, layer.shape) == ("lstm", "LSTM", (32, 4))
    assert layer.gradient_std == pytest.approx(1.0, abs=0.3)  # 128 weights of N(0, 1)


def test_a_model_without_a_gradient_has_activations_alone():
    class Detached(nn.Linear):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    probe = portinit.probe(Detached(8, 4), INPUTS)
    assert probe.layers[0].gradient is None
    assert probe.parameters[0].gradient is None
    assert probe.layers[0].std > 0


# Recipes


def test_with_a_key_a_copy_is_filled_with_the_recipe():
    recipe = portinit.Recipe([("*.bias", portinit.zeros), ("*", portinit.normal(std=0.3))])
    model = Skip()
    filled = portinit_torch.initialize(Skip(), recipe, KEY)
    probe = portinit.probe(model, INPUTS, recipe=recipe, key=KEY)
    assert probe.layers == portinit.probe(filled, INPUTS).layers
    assert [p.expected_std for p in probe.parameters] == [0.3, 0.0] * 3
    assert not probe.problems


def test_without_a_key_the_models_own_values_are_measured_against_the_recipe():
    torch.manual_seed(0)
    model = nn.Linear(64, 64)  # U(-1/8, 1/8)
    wrong = portinit.Recipe([("weight", portinit.normal(std=0.02)), ("bias", portinit.zeros)])
    probe = portinit.probe(model, np.ones((2, 64), np.float32), recipe=wrong)
    assert [p.verdict for p in probe.parameters] == ["off", "off"]
    assert [p.verdict for p in probe.problems] == ["off", "off"]
    assert "expected are 0 and 0.02" in str(probe)
    own = portinit.recipes.torch_defaults()
    probe = portinit.probe(model, np.ones((2, 64), np.float32), recipe=own)
    assert [p.verdict for p in probe.parameters] == ["", ""]
    assert probe.parameters[0].expected_std == pytest.approx(1 / 8 / math.sqrt(3))


# Twins


def same_numbers(ours, theirs, pairs):
    left, right = by_name(ours), by_name(theirs)
    for name, path in pairs.items():
        a, b = left[name], right[path]
        assert a.std == pytest.approx(b.std, rel=1e-4), name
        assert a.gradient_std == pytest.approx(b.gradient_std, rel=1e-4), name


@pytest.mark.parametrize("train", [False, True])
def test_the_convolutional_twins_have_the_same_numbers(train):
    model = convnet_torch.make_model().train(train)
    recipe = portinit_torch.bind(model, portinit.recipes.torch_defaults())
    ours = portinit.probe(model, convnet_torch.example_input(), recipe=recipe, key=KEY)
    inputs = {"x": convnet_flax.example_input(), "train": train}
    theirs = portinit.probe(convnet_flax.make_model(), inputs, recipe=recipe, key=KEY)
    same_numbers(ours, theirs, {x.name: _path(x.name) for x in ours.layers})
    assert [_path(x.name) for x in ours.layers] == [x.name for x in theirs.layers]
    gradients = {p.name: p.gradient_std for p in theirs.parameters}
    assert gradients["head/kernel"] == pytest.approx(_gradient(ours, "head.weight"), rel=1e-4)
    assert gradients["stem/kernel"] == pytest.approx(_gradient(ours, "stem.weight"), rel=1e-4)


def _path(name):
    return name.replace("blocks.", "blocks_").replace(".", "/")


def _gradient(probe, name):
    return next(p.gradient_std for p in probe.parameters if p.name == name)


def test_the_transformer_twins_have_the_same_numbers():
    model = gpt_torch.make_model()
    recipe = portinit_torch.bind(model, portinit.recipes.gpt2(layers=2))
    ours = portinit.probe(model, gpt_torch.example_input(), recipe=recipe, key=KEY)
    theirs = portinit.probe(gpt_flax.make_model(), gpt_flax.example_input(), recipe=recipe, key=KEY)
    special = {"lm_head": "wte#2"} | {
        f"blocks.{i}.attn": f"blocks/{i}/attn/out_proj" for i in range(2)
    }
    pairs = {x.name: special.get(x.name, x.name.replace(".", "/")) for x in ours.layers}
    assert len(pairs) == 14
    same_numbers(ours, theirs, pairs)
    assert by_name(theirs)["wte#2"].kind == "Embed.attend"
    # The tied table's gradient is the sum of both of its uses'.
    tied = next(p for p in theirs.parameters if p.name == "wte/embedding")
    assert tied.gradient_std == pytest.approx(_gradient(ours, "wte.weight"), rel=1e-4)


def test_the_recurrent_twins_have_the_same_numbers():
    model = lstm_torch.make_model()
    recipe = portinit_torch.bind(model, portinit.recipes.torch_defaults())
    ours = portinit.probe(model, lstm_torch.example_input(), recipe=recipe, key=KEY)
    theirs = portinit.probe(
        lstm_flax.make_model(), lstm_flax.example_input(), recipe=recipe, key=KEY
    )
    same_numbers(ours, theirs, {"embed": "embed", "lstm": "lstm", "head": "head"})


# Flax


class Perturbed(linen.Module):
    """Flax's own way to a gradient inside a model."""

    @linen.compact
    def __call__(self, x):
        x = self.perturb("at_first", linen.Dense(8, name="first")(x))
        return self.perturb("at_second", linen.Dense(4, name="second")(linen.relu(x)))


def test_linen_gradients_are_those_of_perturb():
    variables = Perturbed().init(jax.random.key(0), INPUTS)

    def loss(parameters, zeros):
        everything = {"params": parameters, "perturbations": zeros}
        return jnp.sum(jnp.square(Perturbed().apply(everything, INPUTS)))

    at_parameters, at_outputs = jax.grad(loss, (0, 1))(*variables.values())
    probe = portinit.probe(
        Perturbed(), INPUTS, variables=variables, loss=lambda y: jnp.sum(jnp.square(y))
    )
    found = by_name(probe)
    for name in ("first", "second"):
        assert found[name].gradient_std == pytest.approx(std(at_outputs[f"at_{name}"]), rel=1e-5)
        kernel = next(p for p in probe.parameters if p.name == f"{name}/kernel")
        assert kernel.gradient_std == pytest.approx(std(at_parameters[name]["kernel"]), rel=1e-5)


def test_a_linen_module_draws_its_own_values_with_a_key():
    model = linen.Dense(8)
    variables = model.init({"params": jax.random.key(0)}, INPUTS)
    drawn = portinit.probe(model, INPUTS, key=KEY)
    assert drawn.layers == portinit.probe(model, INPUTS, variables=variables).layers
    assert drawn.layers == portinit.probe(model, INPUTS, key=jax.random.key(0)).layers


def test_calls_inside_transformations_are_named_as_unseen():
    class Scanned(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.remat(linen.Dense)(8, name="remat")(x)
            return linen.Dense(8, name="plain")(x)

    probe = portinit.probe(Scanned(), INPUTS, key=KEY)
    assert [layer.name for layer in probe.layers] == ["plain"]
    assert probe.unseen == ("remat",)
    assert "not seen: remat" in str(probe)


class Dropped(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(8, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.norm(self.linear(x)))


def test_an_nnx_module_is_left_as_it_was():
    model = Dropped(nnx.Rngs(0))
    state = jax.tree.map(jnp.copy, nnx.state(model))
    calls = [cls.__call__ for cls in (Dropped, nnx.Linear, nnx.BatchNorm)]
    recipe = portinit.recipes.flax_defaults()
    for given in ({}, {"recipe": recipe, "key": KEY}, {"recipe": recipe}):
        probe = portinit.probe(model, INPUTS, **given)
        assert [layer.name for layer in probe.layers] == ["linear", "norm", "drop"]
        assert probe.layers[2].output.zeros == pytest.approx(0.5, abs=0.15)
    assert calls == [cls.__call__ for cls in (Dropped, nnx.Linear, nnx.BatchNorm)]
    same = jax.tree.map(lambda a, b: bool((a == b).all()), state, nnx.state(model))
    assert all(jax.tree.leaves(same))


def test_rows_of_a_packed_parameter_have_the_whole_ones_law():
    packed = portinit.Recipe(
        [
            portinit.Rule("qkv.weight", portinit.xavier_normal(), shape=(24, 8)),
            portinit.Rule("qkv.bias", portinit.zeros, shape=(24,)),
        ]
    )

    class Split(linen.Module):
        @linen.compact
        def __call__(self, x):
            return sum(linen.Dense(8, name=name)(x) for name in "qkv")

    names = {}
    for i, name in enumerate("qkv"):
        names[f"{name}/kernel"] = f"qkv.weight[{8 * i}:{8 * i + 8}]"
        names[f"{name}/bias"] = f"qkv.bias[{8 * i}:{8 * i + 8}]"
    probe = portinit.probe(Split(), INPUTS, recipe=packed, key=KEY, names=names)
    kernels = [p for p in probe.parameters if p.name.endswith("kernel")]
    assert [p.expected_std for p in kernels] == [pytest.approx(math.sqrt(2 / 32))] * 3


# Verdicts


@pytest.mark.parametrize(
    ("std", "verdict"), [(1.1e6, "exploding"), (9e5, ""), (1.1e-6, ""), (9e-7, "vanishing")]
)
def test_a_signal_may_change_by_a_million(std, verdict):
    assert judge(Moments(4, 0.0, 3 * std, 0.0), 3.0, 1e6) == verdict


def test_what_a_bias_alone_gives_has_not_vanished():
    assert judge(Moments(4, 1.0, 0.0, 0.0), 1.0, 1e6) == ""
    assert judge(Moments(4, 0.0, 0.0, 1.0), 1.0, 1e6) == "zero"


def chain(*stds):
    """Linear layers that multiply by numbers."""
    layers = [nn.Linear(8, 8, bias=False) for _ in stds]
    for layer, factor in zip(layers, stds, strict=True):
        layer.weight = nn.Parameter(torch.eye(8) * factor)
    return nn.Sequential(*layers)


def test_the_first_layer_of_each_verdict_is_named():
    probe = portinit.probe(chain(1, 1e-4, 1e-4, 1e-4), INPUTS)
    forward, backward = probe.problems
    assert (forward.signal, forward.verdict, forward.name) == ("activations", "vanishing", "2")
    assert (forward.place, forward.count) == (3, 2)
    # The gradient at layer 4 is 1, and a factor of 1e-4 comes with each layer before it.
    assert (backward.signal, backward.name, backward.count) == ("gradients", "1", 2)
    assert str(forward) in str(probe)
    tolerant = portinit.probe(chain(1, 1e-4, 1e-4, 1e-4), INPUTS, limit=1e13)
    assert not tolerant.problems


def test_overflow_and_nan_are_named_apart():
    probe = portinit.probe(chain(1, 1e30, 1e30, 0), INPUTS)
    verdicts = {p.name: p.verdict for p in probe.problems if p.signal == "activations"}
    assert verdicts == {"1": "exploding", "2": "inf", "3": "nan"}  # 0 times infinity


def test_zeros_and_nan_in_parameters_are_told():
    probe = portinit.probe(chain(1, 0, math.nan), INPUTS)
    found = {(p.signal, p.verdict): p.name for p in probe.problems}
    assert found["activations", "zero"] == "1"
    assert found["activations", "nan"] == "2"
    assert found["parameter", "nan"] == "2.weight"


def test_the_json_is_json():
    probe = portinit.probe(chain(1, 1e30, 1e30), INPUTS)
    data = json.loads(probe.to_json(), parse_constant=pytest.fail)
    assert data["layers"][2]["output"]["std"] is None
    assert data["layers"][2]["output"]["inf"] == 256
    assert data["layers"][0]["output"]["std"] == pytest.approx(std(INPUTS))
    assert data["problems"][0]["name"] == "1"
    assert repr(probe).startswith("<Probe of 3 layers, 3 parameters")


# Errors


@pytest.mark.parametrize(
    ("model", "given", "error", "message"),
    [
        (object(), {}, TypeError, "must be of PyTorch, Flax, Keras"),
        (nn.Linear(8, 8), {"limit": 1.0}, ValueError, "above 1, got 1.0"),
        (nn.Linear(8, 8), {"key": KEY}, ValueError, "must come with a recipe"),
        (nn.Linear(8, 8), {"variables": {}}, ValueError, "are not for PyTorch"),
        (nn.Linear(8, 8), {"recipe": portinit.Recipe([])}, portinit.RecipeError, "no rule"),
        (linen.Dense(8), {}, ValueError, "needs variables, or a key"),
        (linen.Dense(8), {"variables": {}, "key": KEY}, ValueError, "either variables or a key"),
        (gpt_flax.make_model(), {"key": KEY}, ValueError, "must come with a recipe"),
        (gpt_flax.make_model(), {"variables": {}}, ValueError, "are for linen"),
        (nnx.Param(jnp.ones(3)), {}, TypeError, "an nnx or a linen module"),
    ],
)
def test_what_does_not_go_together_is_refused(model, given, error, message):
    with pytest.raises(error, match=message):
        portinit.probe(model, INPUTS, **given)


# The classic experiment, against mean-field theory


@pytest.fixture(scope="module")
def classic():
    return deep_linear.run(deep_linear_torch.probe)


N_TIMES_VARIANCE = {"N(0, 1)": 256.0, "N(0, 1/n)": 1.0, "Xavier, tanh": 25 / 9, "Kaiming": 2.0}


def theory(activation, scheme):
    """q_1 = n s^2, and q_(l+1) = n s^2 E[f(sqrt(q_l) z)^2]: the std at each layer."""
    z = np.linspace(-12, 12, 200_001)
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    step = {
        "none": lambda q: q,
        "relu": lambda q: q / 2,
        "tanh": lambda q: np.trapezoid(np.tanh(math.sqrt(q) * z) ** 2 * density, z),
    }[activation]
    q = [N_TIMES_VARIANCE[scheme]]
    while len(q) < deep_linear.DEPTH:
        q.append(N_TIMES_VARIANCE[scheme] * step(q[-1]))
    return np.sqrt(q)


@pytest.mark.parametrize("scheme", deep_linear.SCHEMES)
@pytest.mark.parametrize("activation", deep_linear.ACTIVATIONS)
def test_each_layers_std_is_that_of_theory(classic, activation, scheme):
    measured = np.array(deep_linear.stds(classic[activation, scheme]))
    finite = np.isfinite(measured)
    layers = np.arange(1, deep_linear.DEPTH + 1)[finite]
    # log(std) is a random walk, whose steps have a variance of 1 / (2 n) in a linear network and
    # of 5 / (4 n) behind ReLU. Under tanh saturation pulls it back, but at n s^2 = 1 hardly.
    variance = 5 / 1024 if activation == "relu" else 1 / 512
    saturates = activation == "tanh" and scheme != "N(0, 1/n)"
    allowed = 0.02 + 3 * np.sqrt(variance * (1 if saturates else layers))
    error = np.abs(np.log(measured[finite] / theory(activation, scheme)[finite]))
    assert (error < allowed).all()


def test_float32_overflows_where_theory_says(classic):
    # The largest of 64 * 256 normals is about 4.3 std: 4.3 * 16^l passes 2^128 at l = 32, and at
    # 31 is still a factor of 4 below. A linear network's std is within a factor of 2 of theory.
    assert deep_linear.turns(classic["none", "N(0, 1)"])["overflow"] == 32
    # Behind ReLU a layer multiplies by 8 sqrt(2), which chance can move by a layer either way.
    predicted = 1 + np.argmax(4.3 * theory("relu", "N(0, 1)") > 2.0**128)
    found = deep_linear.turns(classic["relu", "N(0, 1)"])
    assert abs(found["overflow"] - predicted) <= 1
    # 16^6 and 16 * 11.3^6 are the first above 1e6 times the first layer's 16.
    assert deep_linear.turns(classic["none", "N(0, 1)"])["explode"] == 6
    assert found["explode"] == 7


def test_what_keeps_the_mean_square_is_steady(classic):
    for steady in (("none", "N(0, 1/n)"), ("relu", "Kaiming"), ("tanh", "Xavier, tanh")):
        assert not classic[steady].problems
    # Half of the square is lost at each ReLU: a millionth of the std after 2 log2(1e6) layers.
    vanished = deep_linear.turns(classic["relu", "N(0, 1/n)"])["vanish"]
    assert vanished == pytest.approx(1 + 2 * math.log2(1e6), abs=3)


@pytest.mark.parametrize("scheme", ["N(0, 1)", "Kaiming"])
def test_both_frameworks_measure_the_same(classic, scheme):
    recipe = portinit.Recipe([("*", deep_linear.SCHEMES[scheme])])
    theirs = deep_linear_flax.probe("relu", recipe)
    ours = classic["relu", scheme]
    finite = np.isfinite(deep_linear.stds(ours))
    assert (finite == np.isfinite(deep_linear.stds(theirs))).all()
    np.testing.assert_allclose(
        np.array(deep_linear.stds(theirs))[finite],
        np.array(deep_linear.stds(ours))[finite],
        rtol=1e-4,
    )
    assert deep_linear.turns(theirs) == deep_linear.turns(ours)


@pytest.mark.parametrize("module", [deep_linear_torch, deep_linear_flax])
def test_the_measured_gains(module):
    values = deep_linear.samples()
    assert values.shape == (10_000,)
    relu = deep_linear.measured_gain(values, module.function_of("relu", values))
    # E[relu^4] - E[relu^2]^2 = 3/2 - 1/4: the gain's standard error is 1.1 %.
    assert relu == pytest.approx(math.sqrt(2), rel=0.035)
    tanh = deep_linear.measured_gain(values, module.function_of("tanh", values))
    assert tanh == pytest.approx(1.5925, rel=0.01)
    assert abs(tanh - portinit.calculate_gain("tanh")) > 0.05  # 5/3 is a choice of the table


def test_the_table_names_layers_and_gains(classic, tmp_path):
    text = deep_linear.report(classic, deep_linear_torch.function_of)
    assert "N(0, 1): activations overflow at layer 32" in text
    assert text.count("\n     1 ") == 3
    assert "gain         table    integral    10,000 samples" in text
    deep_linear.plot(classic, tmp_path / "stds.svg")
    assert "activation: tanh" in (tmp_path / "stds.svg").read_text("utf-8")
