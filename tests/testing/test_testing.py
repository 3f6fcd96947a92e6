"""portinit.testing: its assertions pass where they should, and fail with the reason."""

import functools
import math
import re
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from flax import nnx

import portinit
import portinit.testing
import portinit_flax
import portinit_torch
from portinit import Layout, layers, recipes
from portinit.initializers.expression import expression
from portinit.replay.program import Node
from portinit.testing import assert_distribution, assert_same_distribution, assert_same_weights

KEY = portinit.key(3)
DEFAULTS = recipes.torch_defaults()


def message(call: Callable[..., None], *arguments: Any, **options: Any) -> str:
    """What the assertion says."""
    with pytest.raises(AssertionError) as raised:
        call(*arguments, **options)
    return str(raised.value)


# Weights


@functools.cache
def twins(name: str) -> tuple[torch.nn.Module, Any]:
    ours, theirs = (import_module(f"portinit_examples.{name}_{side}") for side in ("torch", "flax"))
    model, flax_model = ours.make_model(), theirs.make_model()
    recipe = portinit_torch.bind(model, DEFAULTS)
    portinit_torch.initialize(model, recipe, KEY)
    if not isinstance(flax_model, nnx.Module):
        example = jnp.asarray(theirs.example_input())
        flax_model = jax.eval_shape(flax_model.init, jax.random.key(0), example)
    return model, portinit_flax.initialize(flax_model, recipe, KEY)


@pytest.mark.parametrize("name", ["convnet", "lstm"])
def test_twins_of_one_recipe_hold_the_same_weights(name):
    model, variables = twins(name)
    assert_same_weights(model, variables)
    assert_same_weights(model, variables["params"])


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(7, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.head = torch.nn.Linear(4, 7, bias=False)
        self.head.weight = self.table.weight


class NnxTied(nnx.Module):
    def __init__(self) -> None:
        self.table = nnx.Embed(7, 4, rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(4, rngs=nnx.Rngs(0))


def test_tied_weights_count_once():
    model, flax_model = Tied(), NnxTied()
    recipe = portinit_torch.bind(model, DEFAULTS)
    portinit_torch.initialize(model, recipe, KEY)
    portinit_flax.initialize(flax_model, recipe, KEY)
    assert_same_weights(model, flax_model)
    assert_same_weights(model.state_dict(), flax_model)  # which has the table twice
    assert_same_weights(model, nnx.state(flax_model, (nnx.Param, nnx.BatchStat)))
    flax_model.norm.var[...] += 1
    assert "norm.running_var (norm/var): 4 of 4" in message(assert_same_weights, model, flax_model)


def test_arrays_by_name_are_a_side_too():
    model, variables = twins("lstm")
    arrays = {name: tensor.detach().numpy() for name, tensor in model.named_parameters()}
    assert_same_weights(arrays, variables)


def test_a_replay_is_a_side_too():
    model, flax_model = twins("lstm")
    recipe = portinit_torch.trace(type(model))
    values = recipe.replay(5)
    filled = portinit_flax.initialize(flax_model, recipe.with_values(values), KEY)
    assert_same_weights(values, filled)


class Net(torch.nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(5, 4, dtype=dtype)
        self.conv = torch.nn.Conv1d(4, 4, 3, dtype=dtype)
        self.norm = torch.nn.BatchNorm1d(4, dtype=dtype)
        self.head = torch.nn.Linear(4, 4, dtype=dtype)


def net(dtype: str = "float32") -> tuple[Net, dict[str, Any]]:
    """A module, and Flax's variables of the same weights, transposed by hand."""
    model = Net(getattr(torch, dtype))
    portinit_torch.initialize(model, DEFAULTS, KEY)
    held = {name: x.double().numpy().astype(dtype) for name, x in model.state_dict().items()}
    params = {
        "table": {"embedding": held["table.weight"]},
        "conv": {"kernel": held["conv.weight"].transpose(2, 1, 0), "bias": held["conv.bias"]},
        "norm": {"scale": held["norm.weight"], "bias": held["norm.bias"]},
        "head": {"kernel": held["head.weight"].T, "bias": held["head.bias"]},
    }
    stats = {"norm": {"mean": held["norm.running_mean"], "var": held["norm.running_var"]}}
    return model, {"params": params, "batch_stats": stats}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_weights_transposed_by_hand_are_the_same(dtype):
    assert_same_weights(*net(dtype))


def flipped(array: Any, *index: int) -> Any:
    """A copy with the last bit of one element flipped."""
    copy = np.array(array)
    copy.view(f"u{copy.itemsize}")[index] ^= 1
    return copy


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_one_flipped_bit_is_found(dtype):
    model, variables = net(dtype)
    head = variables["params"]["head"]
    head["kernel"] = flipped(head["kernel"], 2, 1)
    text = message(assert_same_weights, model, variables)
    assert text.startswith("PyTorch and Flax must hold the same weights, got 1 difference:\n")
    step = r"head\.weight \(head/kernel\): 1 of 16 elements differ, by at most \S+; "
    assert re.search(step + r"the first at \[1, 2\]: \S+ in PyTorch, \S+ in Flax", text)


def test_the_sign_of_zero_is_a_bit():
    assert_same_weights({"a": np.zeros(2)}, {"a": np.zeros(2)})
    text = message(assert_same_weights, {"a": np.zeros(2)}, {"a": -np.zeros(2)})
    assert "2 of 2 elements differ, by at most 0; the first at [0]: 0.0 in PyTorch, -0.0 in" in text


def test_a_tolerance_lets_small_differences_pass_in_any_dtype():
    model, variables = net()
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64) + 1e-6, variables)
    assert_same_weights(model, wide, tolerance=2e-6)
    assert "16 of 16 elements differ, by at most 1e-06" in message(
        assert_same_weights, model, wide, tolerance=1e-7
    )
    nan = {"a": np.array([math.nan, math.inf, 1.0])}
    assert_same_weights(nan, nan, tolerance=0.1)
    text = message(assert_same_weights, nan, {"a": np.array([0.0, math.inf, 1.0])}, tolerance=0.1)
    assert "1 of 3 elements differ, by at most nan; the first at [0]: nan in PyTorch" in text


def test_other_dtypes_are_a_difference():
    model, variables = net()
    params = variables["params"]
    params["head"]["bias"] = params["head"]["bias"].astype(ml_dtypes.bfloat16)
    text = message(assert_same_weights, model, variables)
    assert "head.bias (head/bias): dtype float32 in PyTorch, bfloat16 in Flax" in text


@pytest.mark.parametrize(
    ("path", "change", "hint"),
    [
        (("head", "kernel"), lambda x: x.T, "axes 0 and 1 swapped"),
        (("conv", "kernel"), lambda x: x[::-1], "space reversed"),
        (
            ("conv", "kernel"),
            lambda x: x[::-1].swapaxes(1, 2),
            "axes 0 and 1 swapped and space reversed",
        ),
    ],
)
def test_a_transposed_kernel_is_told(path, change, hint):
    model, variables = net()
    layer = variables["params"][path[0]]
    layer[path[1]] = change(layer[path[1]])
    text = message(assert_same_weights, model, variables)
    assert text.endswith(f"; equal with {hint}: state the layout")


def test_a_stated_layout_settles_it():
    model, variables = net()
    layer = variables["params"]["head"]
    layer["kernel"] = layer["kernel"].T
    assert_same_weights(model, variables, {"head/kernel": ("head.weight", "torch")})


def test_every_difference_is_listed():
    model, variables = net()
    params = variables["params"]
    params["new"] = {"bias": np.zeros(3)}
    params["conv"].pop("bias")
    params["table"]["embedding"] = params["table"]["embedding"][:4]
    params["head"]["bias"] = flipped(params["head"]["bias"], 3)
    variables["batch_stats"]["norm"]["var"] = np.full(4, 2.0, np.float32)
    lines = message(assert_same_weights, model, variables).splitlines()
    assert lines[0].endswith("got 5 differences:")
    assert [line.strip() for line in lines[1:4]] == [
        "new/bias: the torch module has no such name",
        "conv.bias: the flax tree has no such parameter",
        "table.weight (table/embedding): shape (5, 4) in PyTorch, (4, 4) in Flax",
    ]
    assert "head.bias (head/bias): 1 of 4" in lines[4]
    assert "norm.running_var (norm/var): 4 of 4 elements differ, by at most 1;" in lines[5]


def test_buffers_may_be_missing_on_either_side():
    model, variables = net()
    assert_same_weights(model, variables["params"])
    assert_same_weights(dict(model.named_parameters()), variables)
    assert_same_weights(model.state_dict(), variables["params"])


def test_a_module_of_nothing_and_a_tree_of_nothing():
    assert_same_weights(torch.nn.ReLU(), {})
    assert "a: the torch module has no such name" in message(
        assert_same_weights, torch.nn.ReLU(), {"a": np.zeros(1)}
    )


def test_rows_of_a_packed_parameter():
    packed = {"qkv": np.arange(24.0).reshape(6, 4)}
    tree = {"q": {"kernel": packed["qkv"][:2].T}, "kv": {"kernel": packed["qkv"][2:].T}}
    names = {"q/kernel": "qkv[0:2]", "kv/kernel": "qkv[2:6]"}
    assert_same_weights(packed, tree, names)
    tree["kv"]["kernel"] = tree["kv"]["kernel"] + 1
    text = message(assert_same_weights, packed, tree, names)
    assert "qkv[2:6] (kv/kernel): 16 of 16 elements differ, by at most 1; the first at [0" in text
    text = message(assert_same_weights, packed, {"q": tree["q"]}, {"q/kernel": "qkv[0:2]"})
    assert "qkv: each of its 6 rows must be in one array, got [range(0, 2)]" in text


def test_a_table_that_leads_nowhere_is_listed():
    model, variables = net()
    names = {"head/kernel": "tail.weight", "body/kernel": "head.bias"}
    lines = message(assert_same_weights, model, variables, names)
    assert "body/kernel: in the table of names, but not in the tree" in lines
    assert "head/kernel: the torch module has no tail.weight" in lines
    assert "head.weight: the flax tree has no such parameter" in lines


def test_shapes_without_values_are_a_difference():
    model, variables = net()
    shapes = jax.eval_shape(lambda: variables)
    text = message(assert_same_weights, model, shapes)
    assert "head.bias (head/bias): Flax has a shape and no values" in text
    text = message(assert_same_weights, model.to("meta"), variables)
    assert "head.bias (head/bias): PyTorch has a shape and no values" in text


def test_a_layout_that_does_not_fit_is_a_difference():
    tree, names = {"a": np.zeros((2, 3))}, {"a": ("a", Layout(axis0=(0,), axis1=(4,)))}
    text = message(assert_same_weights, {"a": np.zeros((2, 3))}, tree, names)
    assert "a (a): a layout of axes (0, 4) cannot hold an array of 2 axes" in text


def test_what_is_no_module_is_a_type_error():
    with pytest.raises(TypeError, match=r"an nn\.Module or a mapping of names, got list"):
        assert_same_weights([], {})


# Distributions

SHAPE = (100, 200)
LAWS: dict[str, portinit.Initializer] = {
    "normal": portinit.normal(0.3, 2.0),
    "uniform": portinit.uniform(-0.1, 0.3),
    "trunc_normal": portinit.trunc_normal(0.1, 0.5, 0.0, math.inf),
    "kaiming_normal": portinit.kaiming_normal(),
    "he_normal": portinit.he_normal(),
    "xavier_uniform": portinit.xavier_uniform(),
    "constant": portinit.constant(0.1),
    "nothing drawn": portinit.normal(0.7, 0.0),
    "scaled": portinit.scaled(portinit.lecun_normal(), -0.3),
    "scaled constant": portinit.scaled(portinit.ones, 0.1),
    "orthogonal": portinit.orthogonal(1.5),
    "eye": portinit.eye(),
    "sparse": portinit.sparse(0.3),
    "scaled sparse": portinit.scaled(portinit.sparse(0.9, 3.0), 2.0),
    "sparse of nothing": portinit.sparse(0.3, 0.0),
    "assign": portinit.assign(np.linspace(0, 1, 20_000).reshape(200, 100)),
    "blocks": portinit.blocks((portinit.orthogonal(), portinit.zeros, portinit.lecun_normal()),
                              (40, 60, 100)),
    "where": portinit.where(np.s_[3:9], portinit.eye(), portinit.normal()),
    "padded": layers.embedding(3),
    "nested": portinit.scaled(portinit.where(0, portinit.blocks((portinit.ones, portinit.normal()),
                              axis=1), portinit.blocks((portinit.uniform(), portinit.eye()))), 2.0),
    "like_jax": portinit.like_jax(portinit.he_normal()),
}  # fmt: skip
FRAMEWORKS = {"numpy": np, "torch": torch, "jax": jnp}


@pytest.mark.parametrize("initializer", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_initializers_draws_are_its_own(initializer, dtype):
    array = initializer(KEY, SHAPE, dtype)
    if "like_jax" in str(initializer) and dtype == "bfloat16":
        # JAX draws a bfloat16 from 7 or 8 random bits.
        assert "chi-squared: p = 0" in message(assert_distribution, array, initializer)
    else:
        assert_distribution(array, initializer)


@pytest.mark.parametrize("shape", [(), (1,), (7, 9), (300,), (0, 3)])
def test_few_values_are_tested_too(shape):
    for initializer in (portinit.normal(), portinit.uniform(), portinit.zeros):
        assert_distribution(initializer(KEY, shape), initializer)


@pytest.mark.parametrize("dtype", ["float64", "float16", "complex64", "complex128"])
def test_other_dtypes_are_drawn_from_the_law_too(dtype):
    for initializer in (portinit.normal(), portinit.he_normal(), portinit.orthogonal()):
        assert_distribution(initializer(KEY, (40, 60), dtype), initializer)


def test_convolutions_and_their_layouts():
    for layout, shape in (("flax", (3, 3, 20, 40)), ("flax_conv_transpose", (3, 3, 40, 20))):
        for initializer in (
            portinit.delta_orthogonal(0.5),
            portinit.dirac(2),
            portinit.kaiming_normal(mode="fan_out"),
            portinit.blocks((portinit.dirac(), portinit.orthogonal())),
        ):
            array = initializer(KEY, shape, layout=layout)
            assert_distribution(array, initializer, layout=layout)


@pytest.mark.parametrize("xp", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_arrays_of_any_framework(xp):
    layout = "torch" if xp is torch else "flax"
    for initializer in (portinit.kaiming_normal(), portinit.blocks((portinit.zeros,))):
        assert_distribution(initializer(KEY, (60, 90), xp=xp, layout=layout), initializer)


def test_the_frameworks_own_initializers():
    torch.manual_seed(0)
    linear, key = torch.nn.Linear(300, 200), jax.random.key(0)
    assert_distribution(linear.weight, layers.linear_weight())
    assert_distribution(linear.bias, layers.linear_bias(300))
    assert_distribution(torch.nn.init.orthogonal_(torch.empty(300, 200)), portinit.orthogonal())
    assert_distribution(torch.nn.init.sparse_(torch.empty(70, 60), 0.3), portinit.sparse(0.3))
    for name in ("he_normal", "lecun_uniform", "glorot_normal"):
        array = getattr(jax.nn.initializers, name)()(key, (300, 200))
        assert_distribution(array, getattr(portinit, name)())


def test_a_part_of_an_array_has_the_fans_of_the_whole():
    array = portinit.kaiming_normal()(KEY, (400, 300))
    assert_distribution(array[:20], portinit.kaiming_normal(), shape=(400, 300))
    assert "variance: p" in message(assert_distribution, array[:20], portinit.kaiming_normal())
    ones = np.ones((2, 3), np.float32)
    assert_distribution(ones, portinit.ones, shape=(4, 3))
    assert_distribution(ones[0], portinit.ones, shape=(4, 3))
    with pytest.raises(TypeError, match=r"independent draws only, got orthogonal\(\)"):
        assert_distribution(ones, portinit.orthogonal(), shape=(4, 3))


# What is drawn, what it is said to be, and what the failure says of it
WRONG: dict[str, tuple[portinit.Initializer, portinit.Initializer, str]] = {
    "fan_out for fan_in": (
        portinit.kaiming_normal(mode="fan_out"),
        portinit.kaiming_normal(),
        r"std 0\.1414; got mean \S+, std 0\.\d+\n.*variance: p = .*must be at least \d\.?\d*e-07"
        r".*fit N\(0, 0\.1^2\): .*kaiming_normal\(mode='fan_out'\)",
    ),
    "a normal for a truncated one": (
        portinit.kaiming_normal(),
        portinit.he_normal(),
        r"fit N\(0, 0\.1414^2\): a normal of the same std, not truncated or kaiming_normal\(\)",
    ),
    "a truncated normal for a normal": (
        portinit.he_normal(),
        portinit.kaiming_normal(),
        r"fit N\(0, 0\.1608^2\) in \[-0\.3215, 0\.3215\]: a truncated normal of the same std",
    ),
    "a truncated normal that is not corrected": (
        portinit.truncated_normal(math.sqrt(2 / 100)),
        portinit.he_normal(),
        "fit .*: a normal truncated at two stds, and not corrected for it",
    ),
    "a uniform for a normal": (
        portinit.kaiming_uniform(),
        portinit.kaiming_normal(),
        r"fit U\[-0\.2449, 0\.2449\): a uniform of the same std or kaiming_uniform\(\)",
    ),
    "a bound that is the std": (
        portinit.uniform(-0.02, 0.02),
        portinit.normal(std=0.02),
        r"fit U\[-0\.02, 0\.02\): a uniform whose bound is the std",
    ),
    "an std that is the bound": (
        portinit.normal(std=0.02),
        portinit.uniform(-0.02, 0.02),
        r"fit N\(0, 0\.02^2\): a normal whose std is the bound",
    ),
    "an std that is the variance": (
        portinit.normal(std=0.0004),
        portinit.normal(std=0.02),
        r"fit N\(0, 0\.0004^2\): a normal whose std is the variance",
    ),
    "PyTorch's default": (
        layers.linear_weight(),
        portinit.kaiming_uniform(),
        r"fit U\[-0\.1, 0\.1\): kaiming_uniform\(a=2\.236",
    ),
    "another std": (
        portinit.normal(std=0.03),
        portinit.normal(std=0.02),
        r"their std is 1\.\d+ times what is expected",
    ),
    "another sign": (
        portinit.normal(0.5, 0.1),
        portinit.normal(-0.5, 0.1),
        r"mean -0\.5, std 0\.1; got mean 0\.\d+.* fit N\(0\.5, 0\.1^2\): the opposite sign",
    ),
    "another constant": (
        portinit.ones,
        portinit.zeros,
        "20000 of 20000 elements differ, by at most 1; "
        r"the first at \[0, 0\]: 0\.0 expected, 1\.0 found",
    ),
    "a constant for a draw": (portinit.zeros, portinit.normal(), "kolmogorov-smirnov: p = 0"),
    "no orthogonal matrix": (
        portinit.normal(),
        portinit.orthogonal(),
        r"the Gram matrix must be 1 times the identity to within 1e-05, got \S+ at",
    ),
    "another gain": (
        portinit.orthogonal(1.01),
        portinit.orthogonal(),
        r"must be 1 times the identity to within 1e-05, got 1\.0\d+ at \[",
    ),
    "an identity that is not": (portinit.ones, portinit.eye(), "19900 of 20000 elements differ"),
    "too sparse": (
        portinit.sparse(0.31),
        portinit.sparse(0.3),
        "each column must have 60 zeros, got 62 in column 0",
    ),
    "not sparse enough": (
        portinit.sparse(0.3),
        portinit.sparse(0.31),
        "each column must have 62 zeros, got 60 in column 0",
    ),
    "sparse with another std": (
        portinit.sparse(0.3, 0.02),
        portinit.sparse(0.3, 0.01),
        "14000 values must be N.*std 0.01; got .*std 0.0(1|2)",
    ),
    "one of the blocks": (
        portinit.blocks((portinit.zeros, portinit.normal(), portinit.normal(), portinit.ones)),
        portinit.blocks((portinit.zeros, portinit.normal(), portinit.uniform(), portinit.zeros)),
        r"block 2: 5000 values must be U\[0, 1\).*block 3: 5000 of 5000 elements differ",
    ),
    "inside": (
        portinit.normal(),
        portinit.where(0, portinit.zeros, portinit.normal()),
        r"\n  inside: 100 of 20000 elements differ",
    ),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_a_failure_tells_what_is_wrong_and_why(case):
    drawn, said, wanted = case
    text = message(assert_distribution, drawn(KEY, SHAPE), said)
    assert text.startswith(f"the values must be draws of {said}, got float32 (100, 200):\n")
    assert re.search(wanted.replace("^2", r"\^2"), text, re.DOTALL), text


def test_a_kernel_in_the_other_layout_is_told():
    array = portinit.kaiming_normal()(KEY, SHAPE, layout="torch")
    text = message(assert_distribution, array, portinit.kaiming_normal())
    assert "kaiming_normal() in the layout 'torch' or kaiming_normal(mode='fan_out')" in text


def test_values_that_are_not_finite_are_told():
    array = np.full((40, 50), 0.5, np.float32)
    array[3, 4] = math.nan
    assert "all values finite: p = 0" in message(assert_distribution, array, portinit.uniform())
    assert "of 2000 elements differ" in message(assert_distribution, array, portinit.constant(0.5))


def test_few_values_out_of_bounds_are_told():
    array = np.array([0.5, 1.5], np.float32)
    assert "bounds: p = 0" in message(assert_distribution, array, portinit.uniform())


def test_parts_of_complex_values_are_told():
    array = portinit.normal()(KEY, SHAPE, "complex64")
    array.imag *= 2
    text = message(assert_distribution, array, portinit.normal())
    assert "variance of the imaginary part: p = " in text
    assert "real part" not in text


def test_a_value_beside_the_centre_tap_is_told():
    kernel = portinit.delta_orthogonal()(KEY, (3, 3, 4, 4))
    assert_distribution(kernel, portinit.delta_orthogonal())
    kernel[0, 2, 1, 3] = 0.5
    text = message(assert_distribution, kernel, portinit.delta_orthogonal())
    assert "all but the centre tap [1, 1] must be 0, got 1" in text


def test_a_matrix_of_nothing_is_orthogonal():
    assert_distribution(np.zeros((0, 3), np.float32), portinit.orthogonal())


def test_what_cannot_be_told_is_refused():
    product = expression((Node("normal", (), (3,), "float32", {"mean": 0.0, "std": 1.0}),))
    with pytest.raises(TypeError, match=r"distribution must be known, got normal\("):
        assert_distribution(np.zeros(3, np.float32), product)
    matrix = np.zeros((3, 3), np.float32)
    with pytest.raises(TypeError, match=r"orthogonal\(\) can be checked as a whole only"):
        assert_distribution(matrix, portinit.where(0, portinit.orthogonal(), portinit.zeros))
    with pytest.raises(ValueError, match="2 dimensions"):
        assert_distribution(matrix[0], portinit.eye())
    with pytest.raises(TypeError, match="int64"):
        assert_distribution(np.zeros(3, np.int64), portinit.normal())


# How often a test fails by chance, and what it finds


def failures(alpha: float, keys: range, test: Callable[[portinit.Key, float], None]) -> int:
    failed = 0
    for number in keys:
        try:
            test(portinit.key(number), alpha)
        except AssertionError:
            failed += 1
    return failed


def assert_rate(failed: int, tried: int, alpha: float) -> None:
    """No more than alpha says, within four standard errors; and not as good as never."""
    assert alpha * tried / 4 < failed < alpha * tried + 4 * math.sqrt(alpha * tried)


@pytest.mark.parametrize("size", [30, 300, 2000])
@pytest.mark.parametrize("law", ["normal", "uniform", "trunc_normal"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_distribution_fails_by_chance_as_often_as_alpha_says(law, size, dtype):
    initializer, tried = LAWS[law], 150

    def test(key: portinit.Key, alpha: float) -> None:
        assert_distribution(initializer(key, (size,), dtype), initializer, alpha=alpha)

    assert_rate(failures(0.1, range(tried), test), tried, 0.1)


def test_the_parts_of_an_array_share_alpha():
    several, tried = portinit.blocks((portinit.normal(),) * 10), 60

    def test(key: portinit.Key, alpha: float) -> None:
        assert_distribution(several(key, (1000,)), several, alpha=alpha)

    assert_rate(failures(0.1, range(tried), test), tried, 0.1)


@pytest.mark.parametrize("sizes", [(40, 60), (500, 300)])
@pytest.mark.parametrize("dtype", ["float32", "float8_e5m2"])
def test_equal_distributions_fail_by_chance_no_more_often_than_alpha_says(sizes, dtype):
    tried = 150

    def test(key: portinit.Key, alpha: float) -> None:
        a, b = (portinit.normal()(key.fold_in(i), (n,), dtype) for i, n in enumerate(sizes))
        assert_same_distribution(a, b, alpha=alpha)

    assert_rate(failures(0.1, range(tried), test), tried, 0.1)


POWER: dict[str, tuple[portinit.Initializer, portinit.Initializer, int]] = {
    "truncated or not": (portinit.he_normal(), portinit.kaiming_normal(), 10_000),
    "not truncated, or truncated": (portinit.kaiming_normal(), portinit.he_normal(), 10_000),
    "uniform or normal": (portinit.kaiming_uniform(), portinit.kaiming_normal(), 2000),
    "5 % of the std": (portinit.normal(std=1.05), portinit.normal(), 10_000),
    "2 % of the std": (portinit.normal(std=1.02), portinit.normal(), 100_000),
    "a tenth of the std in the mean": (portinit.normal(0.1), portinit.normal(), 10_000),
}


@pytest.mark.parametrize("case", POWER.values(), ids=POWER)
def test_so_many_values_tell_two_laws_apart(case):
    drawn, said, size = case
    for number in range(5 if size <= 10_000 else 2):
        array = drawn(portinit.key(number), (100, size // 100))
        message(assert_distribution, array, said)


# Two arrays


@pytest.mark.parametrize("xp", FRAMEWORKS.values(), ids=FRAMEWORKS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_two_arrays_of_one_distribution_agree(xp, dtype):
    one, other = KEY.split()
    for initializer in (portinit.normal(), portinit.he_normal(), portinit.sparse(0.3)):
        a = initializer(one, SHAPE, dtype, xp=xp)
        assert_same_distribution(a, initializer(other, SHAPE, dtype))
    assert_same_distribution(np.ones(50), jnp.ones((2, 3)))
    assert_same_distribution(np.arange(3), np.arange(3))


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        (
            portinit.normal(),
            portinit.normal(0.2),
            r"mean 0\.0\d+, std \d\.\d+\n  b: 20000 values, mean 0\.2(.|\n)*\n  mean: p = ",
        ),
        (portinit.normal(), portinit.normal(std=1.1), "spread: p = .*, must be at least 3.3e-07"),
        (portinit.normal(), portinit.uniform(-1.73, 1.73), "kolmogorov-smirnov: p = "),
        (portinit.ones, portinit.zeros, "kolmogorov-smirnov: p = 0"),
        (portinit.ones, portinit.normal(), "kolmogorov-smirnov: p = 0"),
    ],
    ids=["mean", "spread", "shape", "constants", "a constant"],
)
def test_arrays_of_other_distributions_are_told_apart(a, b, wanted):
    one, other = KEY.split()
    text = message(assert_same_distribution, a(one, SHAPE), b(other, SHAPE))
    assert text.startswith("both arrays must be draws from one distribution:\n  a: 20000 values")
    assert re.search(wanted, text), text


def test_arrays_that_cannot_be_compared():
    with pytest.raises(ValueError, match="both arrays must have values, got 0 and 1"):
        assert_same_distribution(np.zeros(0), np.zeros(1))
    text = message(assert_same_distribution, np.array([math.nan]), np.zeros(9))
    assert "all values finite: p = 0" in text


@pytest.mark.parametrize("test", ["assert_distribution", "assert_same_distribution"])
def test_scipy_is_asked_for_by_the_name_of_its_extra(test, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    second = portinit.normal() if test == "assert_distribution" else np.zeros(9)
    with pytest.raises(ImportError, match=r"pip install 'portinit\[proof\]'"):
        getattr(portinit.testing, test)(np.ones(9, np.float32), second)
