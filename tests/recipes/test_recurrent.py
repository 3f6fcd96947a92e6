"""Recurrent recipes: against formulas written anew, and by running torch's and Flax's cells."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from numpy.testing import assert_array_equal
from scipy import stats

import portinit
import portinit_flax
import portinit_torch
from portinit import Parameter, Recipe, RecipeError, recipes, recurrent
from portinit.sampling.log2 import FRACTION_BITS, log2_fixed
from portinit.sampling.log_uniform import LogUniform
from portinit.testing import assert_same_weights
from portinit_torch.modules import parameters

KEY = portinit.key(11)
I, H = 6, 16  # noqa: E741
X = np.random.default_rng(0).normal(size=(2, 7, I)).astype(np.float32)
LEVEL = 1e-6  # of fixed comparisons: one false alarm in a million keys


def torch_layer(cls: Any, **options: Any) -> torch.nn.Module:
    module = torch.nn.Module()
    module.add_module("rnn", cls(I, H, 2, batch_first=True, bidirectional=True, **options))
    with torch.no_grad():  # nothing can be right by having been left alone
        for parameter in module.parameters():
            parameter.fill_(77)
    return module


def gate_blocks(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy().reshape(-1, H, *tensor.shape[1:])


# The distributions, gate by gate


KINDS: dict[str, tuple[Any, Callable[..., Recipe]]] = {
    "LSTM": (torch.nn.LSTM, recipes.lstm),
    "GRU": (torch.nn.GRU, recipes.gru),
    "RNN": (torch.nn.RNN, recipes.rnn),
}


@pytest.mark.parametrize(("cls", "recipe"), KINDS.values(), ids=KINDS)
def test_input_weights_are_xavier_on_one_gates_fans(cls, recipe):
    module = torch.nn.Module()
    module.add_module("rnn", cls(40, 60))
    portinit_torch.initialize(module, recipe(), KEY)
    bound = math.sqrt(6 / (40 + 60))  # Glorot's, on one gate's inputs and outputs
    for gate in module.rnn.weight_ih_l0.detach().numpy().reshape(-1, 60, 40):
        assert 0.99 * bound < np.abs(gate).max() <= bound
        uniform = stats.uniform(-bound, 2 * bound)
        assert stats.kstest(gate.ravel(), uniform.cdf).pvalue > LEVEL


@pytest.mark.parametrize(("cls", "recipe"), KINDS.values(), ids=KINDS)
def test_recurrent_weights_are_orthogonal_gate_by_gate(cls, recipe):
    module = portinit_torch.initialize(torch_layer(cls), recipe(), KEY)
    for name, parameter in module.named_parameters():
        if "weight_hh" in name:
            seen = gate_blocks(parameter)
            for gate in seen:
                np.testing.assert_allclose(gate.T @ gate, np.eye(H), atol=2e-6)
            assert len({gate.tobytes() for gate in seen}) == len(seen)


def test_biases_are_zero_but_for_the_forget_gates_one_which_is_put_once():
    module = portinit_torch.initialize(torch_layer(torch.nn.LSTM), recipes.lstm(2.5), KEY)
    for name, parameter in module.named_parameters():
        if "bias" in name:
            expected = np.zeros((4, H))
            expected[1] = 2.5 if "bias_ih" in name else 0
            assert_array_equal(gate_blocks(parameter), expected, err_msg=name)
    for cls, recipe in ((torch.nn.GRU, recipes.gru()), (torch.nn.RNN, recipes.rnn())):
        module = portinit_torch.initialize(torch_layer(cls), recipe, KEY)
        assert not any(p.any() for name, p in module.named_parameters() if "bias" in name)


def test_other_initializers_a_projection_and_cells():
    recipe = recipes.lstm(input=portinit.ones, recurrent=portinit.constant(3.0))
    module = torch.nn.Module()
    module.add_module("rnn", torch.nn.LSTM(I, H, proj_size=5))
    module.add_module("cell", torch.nn.LSTMCell(I, H))
    portinit_torch.initialize(module, recipe, KEY)
    for weight in (module.rnn.weight_ih_l0, module.rnn.weight_hr_l0, module.cell.weight_ih):
        assert (weight == 1).all()
    assert (module.rnn.weight_hh_l0 == 3).all()
    assert (module.cell.bias_ih[H : 2 * H] == 1).all()


def test_a_layer_of_another_kind_is_refused_and_can_be_kept_apart():
    module = torch.nn.Module()
    module.add_module("encoder", torch.nn.LSTM(I, H))
    module.add_module("decoder", torch.nn.GRU(I, H))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(RecipeError, match="an LSTM must have 4 gates of 16 rows, got 48 rows") as e:
        portinit_torch.initialize(module, recipes.lstm() + recipes.gru(), KEY)
    assert len(e.value.misfits) == 3
    assert all((tensor == before[name]).all() for name, tensor in module.state_dict().items())
    apart = recipes.lstm(module="encoder") + recipes.gru(module="decoder")
    portinit_torch.initialize(module, apart, KEY)
    assert module.encoder.bias_ih_l0.sum() == H
    assert module.decoder.bias_ih_l0.sum() == 0


def test_the_identity():
    module = torch_layer(torch.nn.RNN, nonlinearity="relu")
    portinit_torch.initialize(module, recipes.irnn(0.25, std=0.01), KEY)
    for name, parameter in module.named_parameters():
        if "weight_hh" in name:
            assert_array_equal(parameter.detach().numpy(), np.eye(H) / 4)
        elif "bias" in name:
            assert not parameter.any()
    inputs = module.rnn.weight_ih_l1.detach().numpy().ravel()
    assert stats.kstest(inputs / 0.01, "norm").pvalue > LEVEL
    cell = torch.nn.RNNCell(I, H, nonlinearity="relu")
    portinit_torch.initialize(cell, recipes.irnn(), KEY)
    state = torch.rand(1, H)  # without input it stays, as it is not negative
    assert (cell(torch.zeros(1, I), state) == state).all()


# Chrono


@pytest.mark.parametrize("t_max", [2.5, 30, 784])
def test_chrono_biases_are_logarithms_of_uniform_numbers(t_max):
    bias = Parameter("rnn.bias_ih_l0", (80_000,), "recurrent", 20_000)
    (rule,) = recipes.chrono_lstm(t_max).bind([bias]).rules
    i, f, g, o = rule.initializer(KEY, (80_000,)).reshape(4, -1)
    assert_array_equal(i, -f)
    assert not np.signbit(i[i == 0]).any()
    assert not np.concatenate([g, o]).any()
    uniform = stats.uniform(1, t_max - 2)  # U[1, t_max - 1]
    assert stats.kstest(np.exp(f.astype(np.float64)), uniform.cdf).pvalue > LEVEL
    assert f.min() >= 0
    assert f.max() <= np.float32(math.log(t_max - 1))


def test_a_grus_chrono_bias_is_the_update_gates():
    module = portinit_torch.initialize(torch_layer(torch.nn.GRU), recipes.gru(t_max=50), KEY)
    r, z, n = gate_blocks(module.rnn.bias_ih_l1)
    assert not np.concatenate([r, n]).any()
    assert not module.rnn.bias_hh_l1.any()
    assert z.min() > 0
    assert z.max() < math.log(49)
    # The update gate keeps the state: h' = (1 - z) n + z h, and with weights of zero n is 0.
    cell = torch.nn.GRUCell(I, H)
    weightless = Recipe([("weight*", portinit.zeros)]) + recipes.gru(t_max=50)
    portinit_torch.initialize(cell, weightless, KEY)
    kept = cell(torch.zeros(1, I), torch.ones(1, H)).detach().numpy()[0]
    b = cell.bias_ih.detach().numpy()[H : 2 * H].astype(np.float64)
    np.testing.assert_allclose(kept, 1 / (1 + np.exp(-b)), rtol=1e-6)
    assert b.min() > 0


def test_the_logarithm_is_exact_to_two_of_its_last_bits():
    rng = np.random.default_rng(0)
    n = np.concatenate([np.arange(1, 3000), 2 ** np.arange(31), rng.integers(1, 2**31, 10_000)])
    n = n[n < 2**31].astype(np.int32)
    scale = 2.0 ** FRACTION_BITS[32]
    error = log2_fixed(np, n, 32) - np.log2(n.astype(np.float64)) * scale
    assert np.abs(error).max() <= 2
    wide = np.array([1, 3, 10**9 + 7, 2**62 - 1, 2**40], np.int64)
    ours = log2_fixed(np, wide, 64) / 2.0 ** FRACTION_BITS[64]
    np.testing.assert_allclose(ours, np.log2(wide.astype(np.float64)), rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_log_uniform_is_the_same_in_every_namespace(xp, dtype, bits):
    if xp is jax.numpy and dtype == "float64":
        pytest.skip("needs JAX's 64-bit mode")
    if xp.__name__ == "array_api_strict" and "16" in dtype:
        pytest.skip("array-api-strict has no such dtype")
    initializer = portinit.blocks(
        (
            recurrent.shifted(portinit.scaled(recurrent.log_uniform(99.0), -1), 500),
            recurrent.log_uniform(99.0),
        )
    )
    expected = initializer(KEY, (1000,), dtype)
    assert bits(initializer(KEY, (1000,), dtype, xp=xp)) == bits(expected)


def test_log_uniform_under_jit_and_its_moments():
    initializer = recurrent.log_uniform(200.0)
    values = initializer(KEY, (50_000,))
    key = jax.random.wrap_key_data(jnp.array(KEY.words, jnp.uint32))
    assert_array_equal(jax.jit(lambda k: initializer(k, (50_000,)))(key), values)
    law = initializer.distribution_of((50_000,))
    # E[log u] and E[log^2 u] by quadrature
    u = np.linspace(1, 200, 2_000_001)
    mean = np.trapezoid(np.log(u), u) / 199
    square = np.trapezoid(np.log(u) ** 2, u) / 199
    assert law.mean == pytest.approx(mean, rel=1e-8)
    assert law.std == pytest.approx(math.sqrt(square - mean**2), rel=1e-7)
    assert values.mean() == pytest.approx(mean, abs=5 * law.std / math.sqrt(50_000))
    assert LogUniform(1.0).std == 0


# Where the cells use the biases


def memory_after(cell: Any, bias_ih: np.ndarray, bias_hh: np.ndarray) -> np.ndarray:
    """c' of a cell without weights, from c = 1 and zero input."""
    with torch.no_grad():
        for weight in (cell.weight_ih, cell.weight_hh):
            weight.zero_()
        cell.bias_ih.copy_(torch.from_numpy(bias_ih))
        cell.bias_hh.copy_(torch.from_numpy(bias_hh))
        c = cell(torch.zeros(1, I), (torch.zeros(1, H), torch.ones(1, H)))[1]
    return c.numpy()[0]


def test_the_forget_bias_is_where_torchs_cell_forgets():
    module = portinit_torch.initialize(torch.nn.LSTMCell(I, H), recipes.lstm(1.5), KEY)
    ih, hh = module.bias_ih.detach().numpy().copy(), module.bias_hh.detach().numpy().copy()
    # g = tanh(0) = 0, so c' = sigmoid(b_f) c, whatever the input gate lets through
    np.testing.assert_allclose(memory_after(module, ih, hh), 1 / (1 + math.exp(-1.5)), rtol=1e-6)


LSTMS = [nn.LSTMCell, nn.OptimizedLSTMCell, nnx.LSTMCell, nnx.OptimizedLSTMCell]


@pytest.mark.parametrize("make", LSTMS)
def test_the_forget_bias_is_where_flaxs_cells_forget(make):
    weightless = Recipe([("*weight", portinit.zeros)]) + recipes.lstm(1.5)
    carry, x = (jnp.ones((1, H)), jnp.zeros((1, H))), jnp.zeros((1, I))
    if make.__module__.startswith("flax.nnx"):
        cell = portinit_flax.initialize(make(I, H, rngs=nnx.Rngs(0)), weightless, KEY)
        (c, _), _ = cell(carry, x)
    else:
        shapes = jax.eval_shape(make(H).init, jax.random.key(0), carry, x)
        variables = portinit_flax.initialize(shapes, weightless, KEY)
        (c, _), _ = make(H).apply(variables, carry, x)
    np.testing.assert_allclose(c[0], 1 / (1 + math.exp(-1.5)), rtol=1e-6)


# Flax's cells hold PyTorch's bits, and compute the same


class Linen(nn.Module):
    cell: Any

    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = nn.Bidirectional(nn.RNN(self.cell(H)), nn.RNN(self.cell(H)))(x)
        return x


class Nnx(nnx.Module):
    def __init__(self, cell):
        rngs = nnx.Rngs(0)

        def one(size):
            return nnx.RNN(cell(size, H, rngs=rngs), rngs=rngs)

        self.rnn = nnx.List([nnx.Bidirectional(one(n), one(n), rngs=rngs) for n in (I, 2 * H)])

    def __call__(self, x):
        for layer in self.rnn:
            x = layer(x)
        return x


def relu(cell: Any) -> Callable[..., Any]:
    return lambda *sizes, **rest: cell(*sizes, activation_fn=jax.nn.relu, **rest)


Twin = tuple[Any, Recipe, Callable[[], Any], dict[str, Any]]
TWINS: dict[str, Twin] = {
    "linen LSTM": (torch.nn.LSTM, recipes.chrono_lstm(4), lambda: Linen(nn.OptimizedLSTMCell), {}),
    "linen GRU": (torch.nn.GRU, recipes.gru(t_max=8), lambda: Linen(nn.GRUCell), {}),
    "linen RNN": (
        torch.nn.RNN,
        recipes.irnn(0.5, std=0.3),
        lambda: Linen(relu(nn.SimpleCell)),
        {"nonlinearity": "relu"},
    ),
    "nnx LSTM": (torch.nn.LSTM, recipes.lstm(), lambda: Nnx(nnx.LSTMCell), {}),
    "nnx packed LSTM": (torch.nn.LSTM, recipes.lstm(), lambda: Nnx(nnx.OptimizedLSTMCell), {}),
    "nnx GRU": (torch.nn.GRU, recipes.gru(), lambda: Nnx(nnx.GRUCell), {}),
    "nnx RNN": (torch.nn.RNN, recipes.rnn(), lambda: Nnx(nnx.SimpleCell), {}),
}


def empty(model: Any) -> Any:
    if isinstance(model, nnx.Module):
        return model
    return jax.eval_shape(model.init, jax.random.key(0), X)


def forward(model: Any, filled: Any) -> np.ndarray:
    return np.asarray(filled(X) if isinstance(model, nnx.Module) else model.apply(filled, X))


def arrays(filled: Any) -> dict[str, np.ndarray]:
    """The arrays of a model by path."""
    nnxs = isinstance(filled, nnx.Module)
    tree = nnx.to_pure_dict(nnx.state(filled, nnx.Param)) if nnxs else filled["params"]
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(str(part.key) for part in path): np.asarray(a) for path, a in flat}


def joined(held: dict[str, np.ndarray], cell: str, side: str, leaf: str, letters: str) -> Any:
    """One side's arrays of a cell, gate after gate; found by their names, with no help."""
    if f"{cell}/dense_{side}/kernel" in held:
        return held.get(f"{cell}/dense_{side}/{leaf}", 0)
    gates = [f"{cell}/{side}{c.strip()}" for c in letters]
    gates = [gate if f"{gate}/kernel" in held else f"{gate}_" for gate in gates]
    empty = np.zeros(H, np.float32)
    return np.concatenate([held.get(f"{gate}/{leaf}", empty) for gate in gates], axis=-1)


def assert_same_bits(module: torch.nn.Module, filled: Any) -> None:
    """Of every cell the kernels, and both sides' biases together."""
    held = arrays(filled)
    cells = sorted({path.rsplit("/", 2)[0] for path in held}, key=order)
    for cell, suffix in zip(cells, ("l0", "l0_reverse", "l1", "l1_reverse"), strict=True):
        packed = {
            name.removesuffix(f"_{suffix}"): p.detach().numpy()
            for name, p in module.rnn.named_parameters()
            if name.endswith(suffix)
        }
        letters = {4: "ifgo", 3: "rzn", 1: " "}[len(packed["bias_ih"]) // H]
        for side in "ih":
            kernel = joined(held, cell, side, "kernel", letters)
            # Orthogonal matrices are factored in float64 by two libraries. That one of these
            # few thousand numbers then rounds to another float32 has odds of about 1e-5.
            assert_array_equal(kernel.T, packed[f"weight_{side}h"])
        biases = [joined(held, cell, side, "bias", letters) for side in "ih"]
        assert_array_equal(biases[0] + biases[1], packed["bias_ih"] + packed["bias_hh"])


def order(cell: str) -> tuple[str, bool]:
    return "".join(c for c in cell if c.isdigit()), "backward" in cell


@pytest.mark.parametrize(("cls", "recipe", "make", "options"), TWINS.values(), ids=TWINS)
def test_twins_hold_the_same_bits_and_compute_the_same(cls, recipe, make, options):
    module, model = torch_layer(cls, **options), make()
    bound = portinit_torch.bind(module, recipe)
    assert Recipe.from_json(bound.to_json()) == bound
    portinit_torch.initialize(module, bound, KEY)
    filled = portinit_flax.initialize(empty(model), bound, KEY)
    assert_same_bits(module, filled)
    names = portinit_flax.recurrent_names(empty(model), bound)
    assert_same_weights(module, filled, names)  # where PyTorch's other bias is zero
    with torch.no_grad():
        module.rnn.bias_hh_l1[0] += 1
        with pytest.raises(AssertionError, match=r"bias_hh_l1: the flax tree has no such|differ"):
            assert_same_weights(module, filled, names)
        module.rnn.bias_hh_l1[0] -= 1
        theirs = module.rnn(torch.from_numpy(X))[0].numpy()
    assert np.abs(theirs).max() > 0.05
    np.testing.assert_allclose(forward(model, filled), theirs, atol=1e-5)


@pytest.mark.parametrize("name", ["linen LSTM", "linen GRU"])
def test_torchs_own_two_biases_are_summed(name):
    cls, _, make, options = TWINS[name]
    module, model = torch_layer(cls, **options), make()
    bound = portinit_torch.bind(module, recipes.torch_defaults())
    shapes = empty(model)
    with pytest.raises(RecipeError, match=r"sum_biases\(recipe, key\) makes one"):
        portinit_flax.initialize(shapes, bound, KEY)
    portinit_torch.initialize(module, bound, KEY)
    summed = portinit.sum_biases(bound, KEY)
    filled = portinit_flax.initialize(shapes, summed, KEY)
    with torch.no_grad():
        theirs = module.rnn(torch.from_numpy(X))[0].numpy()
    np.testing.assert_allclose(forward(model, filled), theirs, atol=1e-5)
    values = {rule.name: rule.initializer for rule in summed.rules}
    a, b = module.rnn.bias_ih_l0.detach().numpy(), module.rnn.bias_hh_l0.detach().numpy()
    first = values["rnn.bias_ih_l0"].array()
    assert_array_equal(first[: 2 * H], (a + b)[: 2 * H])
    assert values["rnn.bias_hh_l0"].array()[2 * H :].any() == (cls is torch.nn.GRU)


def test_a_replay_reaches_flaxs_cells():
    def build() -> torch.nn.Module:
        module = torch.nn.Module()
        module.add_module("rnn", torch.nn.LSTM(I, H, 2, batch_first=True, bidirectional=True))
        return module

    recipe = portinit_torch.trace(build)
    torch.manual_seed(5)
    module, model = build(), Linen(nn.OptimizedLSTMCell)
    given = portinit.sum_biases(recipe.with_values(recipe.replay(5)), KEY)
    filled = portinit_flax.initialize(empty(model), given, KEY)
    assert_same_bits(module, filled)


def test_nnxs_gru_has_no_room_for_a_second_new_bias():
    bound = portinit_torch.bind(torch_layer(torch.nn.GRU), recipes.torch_defaults())
    with pytest.raises(RecipeError, match=r"nnx's GRUCell has no bias_hh.*linen's GRUCell has one"):
        portinit_flax.initialize(Nnx(nnx.GRUCell), portinit.sum_biases(bound, KEY), KEY)


# Names


def tree_of(cells: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Parameters of Flax's LSTM cells by path, with no model."""
    tree: dict[str, Any] = {}
    for path, (inputs, hidden) in cells.items():
        place = tree
        for part in path.split("/"):
            place = place.setdefault(part, {})
        for gate in "ifgo":
            place[f"i{gate}"] = {"kernel": np.zeros((inputs, hidden), np.float32)}
            place[f"h{gate}"] = {
                "kernel": np.zeros((hidden, hidden), np.float32),
                "bias": np.zeros(hidden, np.float32),
            }
    return tree


def two_lstms() -> Recipe:
    module = torch.nn.Module()
    module.add_module("encoder", torch.nn.LSTM(I, H))
    module.add_module("decoder", torch.nn.LSTM(I, H))
    return portinit_torch.bind(module, recipes.lstm())


def test_several_modules_are_told_apart_by_name_or_by_a_table():
    named = tree_of({"encoder/cell": (I, H), "decoder/cell": (I, H)})
    names = portinit_flax.recurrent_names(named, two_lstms())
    assert names["decoder/cell/hf/kernel"] == "decoder.weight_hh_l0[16:32]"
    assert names["encoder/cell/hf/bias"] == "encoder.bias_ih_l0[16:32]"
    other = tree_of({"a/cell": (I, H), "b/cell": (I, H)})
    assert portinit_flax.recurrent_names(other, two_lstms()) == {}
    with pytest.raises(RecipeError, match="a/cell/hf/kernel: the recipe has no such name"):
        portinit_flax.initialize(other, two_lstms(), KEY)
    table = portinit_flax.recurrent_names(other, two_lstms(), {"a": "decoder", "b": "encoder"})
    assert table["a/cell/ig/kernel"] == "decoder.weight_ih_l0[32:48]"
    filled = portinit_flax.initialize(other, two_lstms(), KEY, table)
    assert (filled["a"]["cell"]["hf"]["bias"] == 1).all()


STACK = portinit_torch.bind(torch_layer(torch.nn.LSTM), recipes.lstm())
MISFITS = {
    "too few": ({"lstm_0/cell": (I, H)}, "4 layers and directions need as many cells"),
    "no numbers": (
        {f"{name}/cell": (I, H) for name in ("red", "green", "blue", "grey")},
        "numbers, forward and backward must tell its cells apart",
    ),
    "other sizes": (
        {f"lstm_{i}/cell": (I, H) for i in range(4)},
        r"lstm_2/cell: rnn\.weight_ih_l1 has \(4, 32, 16\) gates, inputs and units, got \(4, 6",
    ),
}


@pytest.mark.parametrize(("cells", "message"), MISFITS.values(), ids=MISFITS)
def test_cells_that_do_not_fit_are_listed(cells, message):
    with pytest.raises(RecipeError, match=message):
        portinit_flax.initialize(tree_of(cells), STACK, KEY)


def test_the_order_of_layers_does_not_go_by_the_alphabet():
    inputs, ways = (I, 2 * H), ("forward", "backward")
    sizes = {f"{way}_{i}/cell": (inputs[i], H) for way in ways for i in (0, 1)}
    names = portinit_flax.recurrent_names(tree_of(sizes), STACK)
    assert names["backward_0/cell/ii/kernel"] == "rnn.weight_ih_l0_reverse[0:16]"
    assert names["forward_1/cell/io/kernel"] == "rnn.weight_ih_l1[48:64]"


def test_a_projection_and_missing_biases_are_refused():
    module = torch.nn.Module()
    module.add_module("rnn", torch.nn.LSTM(I, H, proj_size=H - 1))
    bound = portinit_torch.bind(module, recipes.lstm())
    with pytest.raises(RecipeError, match="a cell has no projection"):
        portinit_flax.initialize(tree_of({"cell": (I, H)}), bound, KEY)
    module.rnn = torch.nn.LSTM(I, H, bias=False)
    bound = portinit_torch.bind(module, recipes.lstm())
    with pytest.raises(
        RecipeError, match=r"it has biases, and the layer of rnn\.weight_ih_l0 none"
    ):
        portinit_flax.initialize(tree_of({"cell": (I, H)}), bound, KEY)


def test_a_bias_that_is_not_zero_may_not_be_lacking():
    rules = (("rnn.bias_hh_l0", portinit.ones), ("*bias*", portinit.zeros), ("*", portinit.ones))
    module = torch.nn.Module()
    module.add_module("rnn", torch.nn.LSTM(I, H))
    bound = portinit_torch.bind(module, Recipe(rules))
    filled = portinit_flax.initialize(tree_of({"cell": (I, H)}), bound, KEY)
    assert (filled["cell"]["hg"]["bias"] == 1).all()  # the vector that is not zero
    names = portinit_flax.recurrent_names(tree_of({"cell": (I, H)}), bound)
    wrong = {path: name.replace("bias_hh", "bias_ih") for path, name in names.items()}
    with pytest.raises(RecipeError, match=r"rnn\.bias_hh_l0: no such parameter in the tree"):
        portinit_flax.initialize(tree_of({"cell": (I, H)}), bound, KEY, wrong)


# Without PyTorch's model


def test_flaxs_cells_described_as_pytorchs():
    tree = tree_of({"lstm/cell": (I, H)})
    described = portinit_flax.recurrent_parameters(tree)
    cell = torch.nn.Module()
    cell.add_module("lstm", torch.nn.Module())
    cell.lstm.add_module("cell", torch.nn.LSTMCell(I, H))
    assert described == parameters(cell)
    bound = recipes.chrono_lstm(30).bind(described)
    filled = portinit_flax.initialize(tree, bound + recipes.flax_defaults(), KEY)
    portinit_torch.initialize(cell, recipes.chrono_lstm(30), KEY)
    i, f = (np.asarray(filled["lstm"]["cell"][gate]["bias"]) for gate in ("hi", "hf"))
    assert_array_equal(i, -f)
    assert_array_equal(np.concatenate([i, f]), cell.lstm.cell.bias_ih.detach().numpy()[: 2 * H])


UNBOUND = {
    "linen LSTM": (lambda: Linen(nn.LSTMCell), recipes.lstm(2.0), 2.0),
    "linen GRU": (lambda: Linen(nn.GRUCell), recipes.gru(), 0.0),
    "linen RNN": (lambda: Linen(nn.SimpleCell), recipes.rnn(), 0.0),
    "nnx packed LSTM": (lambda: Nnx(nnx.OptimizedLSTMCell), recipes.lstm(2.0), 2.0),
    "nnx GRU": (lambda: Nnx(nnx.GRUCell), recipes.gru(), 0.0),
}


@pytest.mark.parametrize(("make", "recipe", "forget"), UNBOUND.values(), ids=UNBOUND)
def test_a_recipe_of_patterns_serves_flaxs_cells(make, recipe, forget):
    held = arrays(portinit_flax.initialize(empty(make()), recipe, KEY))
    for path, array in held.items():
        owner, leaf = path.split("/")[-2:]
        if leaf == "bias" and owner in ("hf", "dense_h"):
            expected = np.zeros(len(array)) if owner == "dense_h" else np.full(H, forget)
            expected[H : 2 * H] = forget
            assert_array_equal(array, expected)
        elif leaf == "bias":
            assert not array.any(), path
        else:
            bound = math.sqrt(6 / (len(array) + H))
            for gate in np.split(array, array.shape[1] // H, axis=1):
                if owner.removeprefix("dense_").startswith("h"):
                    np.testing.assert_allclose(gate.T @ gate, np.eye(H), atol=2e-6)
                else:
                    assert 0.8 * bound < np.abs(gate).max() <= bound


def test_chrono_biases_need_the_packed_bias():
    with pytest.raises(RecipeError, match="recurrent_parameters"):
        portinit_flax.initialize(tree_of({"cell": (I, H)}), recipes.chrono_lstm(30), KEY)


# Arguments


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="t_max must be above 2 and at most"):
        recipes.chrono_lstm(2)
    with pytest.raises(ValueError, match="forget bias must be a finite number"):
        recipes.lstm(math.inf)
    with pytest.raises(ValueError, match=r"b must be in \[1, 2\*\*24\]"):
        recurrent.log_uniform(0.5)
    with pytest.raises(ValueError, match="independent draws are needed, got orthogonal"):
        recurrent.shifted(portinit.orthogonal(), 3)(KEY, (4, 4))
    with pytest.raises(ValueError, match="gates need a recipe"):
        recurrent.gates((portinit.zeros,))(KEY, (4,))
    with pytest.raises(ValueError, match="chrono needs a recipe"):
        recurrent.chrono(9)(KEY, (4,))
    with pytest.raises(ValueError, match="hidden size, found none"):
        recurrent.gates((portinit.zeros,)).bound(Parameter("b", (4,)))
    with pytest.raises(ValueError, match=r"4 gates \(LSTM\) or 3 \(GRU\), got 1"):
        recurrent.chrono(9).bound(Parameter("b", (4,), "recurrent", 4))
    with pytest.raises(ValueError, match="no rows lie -2 further on"):
        recurrent.shifted(portinit.normal(), -2)(KEY, (4,))
    with pytest.raises(TypeError, match="must be real"):
        recurrent.log_uniform(4.0)(KEY, (4,), "complex64")
    with pytest.raises(RecipeError, match="two biases"):
        portinit.sum_biases(recipes.lstm(), KEY)


# assert_same_weights finds the cells too


class Encoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.LSTM(5, 7, batch_first=True)
        self.head = torch.nn.Linear(7, 3)


class FlaxEncoder(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(3, name="head")(nn.RNN(nn.OptimizedLSTMCell(7))(x)[:, -1])


def test_the_assertion_on_weights_finds_the_cells() -> None:
    ours, key = Encoder(), portinit.key(0)
    patterns = portinit.recipes.lstm(module="rnn") + portinit.recipes.torch_defaults()
    recipe = portinit_torch.bind(ours, patterns)
    portinit_torch.initialize(ours, recipe, key)
    tree = jax.eval_shape(FlaxEncoder().init, jax.random.key(0), jnp.zeros((1, 4, 5)))
    theirs = portinit_flax.initialize(tree, recipe, key)
    assert_same_weights(ours, theirs)
    with torch.no_grad():
        ours.rnn.bias_ih_l0[8] += 1  # of the forget gate
        ours.rnn.weight_hh_l0[0, 3] += 1
    with pytest.raises(AssertionError) as caught:
        assert_same_weights(ours, theirs)
    lines = str(caught.value)
    assert "2 differences" in lines
    assert "hf/bias" in lines
    assert "hi/kernel" in lines
    with torch.no_grad():
        ours.rnn.bias_hh_l0[8] = 1  # where bias_ih is not zero either
    with pytest.raises(AssertionError, match="two that are not zero"):
        assert_same_weights(ours, theirs)
