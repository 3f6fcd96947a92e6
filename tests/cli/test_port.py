"""Porting: twins filled from one recipe, compared bit for bit and by their outputs."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import flax.linen
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from rich.console import Console

import portinit
from portinit import Layout, Recipe, RecipeError, recipes
from portinit.cli import porting
from portinit.cli.tables import print_port
from portinit.replay.torch_math import mkl
from portinit_flax.twin import FlaxTwin

DEFAULTS = recipes.torch_defaults()
X = np.random.default_rng(0).standard_normal((16, 3)).astype(np.float32)

EXAMPLES = {
    "convnet": (DEFAULTS, 27),
    "gpt": (recipes.gpt2(layers=2), 28),
    "lstm": (DEFAULTS, 11),
}


@pytest.fixture
def by_xla() -> None:
    """Nobody decides who makes JAX's arrays: as in a user's process."""


def port(
    torch_model: torch.nn.Module,
    make_flax: Callable[[], Any],
    recipe: Recipe | None,
    seed: int = 0,
    names: porting.Names | None = None,
    inputs: tuple[Any, Any] = (None, None),
    tolerance: float | None = None,
    **options: Any,
) -> porting.Port:
    given = dict(zip(("torch_input", "twin_input"), inputs, strict=True))
    task = porting.Task(
        lambda: torch_model, make_flax, recipe=recipe, seed=seed, names=names, **given, **options
    )
    return porting.port(task, tolerance)


def example(name: str) -> tuple[Any, Any]:
    return tuple(import_module(f"portinit_examples.{name}_{side}") for side in ("torch", "flax"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_bundled_twins_port(name):
    recipe, count = EXAMPLES[name]
    ours, theirs = example(name)
    inputs = ours.example_input(), theirs.example_input()
    done = port(ours.make_model(), theirs.make_model, recipe, 3, inputs=inputs)
    assert len(done.rows) == count
    assert all(row.same for row in done.rows)
    assert {row.name for row in done.rows} == floating_names(done.pair.torch_model)
    assert done.forward is not None
    assert done.forward < 1e-6
    assert done.same


def floating_names(model: torch.nn.Module) -> set[str]:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {name for name, tensor in tensors if tensor.is_floating_point()}


class Mlp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(3, 4)
        self.b = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(x)))


class Twin(flax.linen.Module):
    factor: float = 1.0
    outputs: int = 4

    @flax.linen.compact
    def __call__(self, x: Any) -> Any:
        x = flax.linen.relu(flax.linen.Dense(4, name="a")(x)) * self.factor
        return flax.linen.Dense(self.outputs, name="b")(x)


class NnxTwin(nnx.Module):
    def __init__(self) -> None:
        self.a = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
        self.b = nnx.Linear(4, 4, rngs=nnx.Rngs(0))

    def __call__(self, x: Any) -> Any:
        return self.b(nnx.relu(self.a(x)))


@pytest.mark.parametrize("make", [Twin, NnxTwin])
def test_a_port_fills_both_sides_with_what_numpy_gives(make: Callable[[], Any]):
    done = port(Mlp(), make, DEFAULTS, 9, inputs=(X, X))
    assert done.same
    bias = portinit.layers.linear_bias(3)(portinit.key(9).fold_in("a.bias"), (4,))
    arrays = done.pair.twin.paths(done.pair.filled)
    np.testing.assert_array_equal(done.pair.torch_model.a.bias.detach(), bias)
    np.testing.assert_array_equal(arrays["a/bias"], bias)
    np.testing.assert_array_equal(arrays["a/kernel"], done.pair.torch_model.a.weight.detach().T)


def test_a_port_tells_each_parameters_names_shape_and_initializer():
    done = port(Mlp(), Twin, DEFAULTS, inputs=(X, X))
    rows = {row.path: row for row in done.rows}
    assert [*rows] == ["a/kernel", "a/bias", "b/kernel", "b/bias"]  # in the model's order
    row = rows["a/kernel"]
    assert (row.name, row.shape) == ("a.weight", (4, 3))
    assert row.initializer == str(portinit.layers.linear_weight())
    assert rows["b/bias"].initializer == "fan_in_uniform(fan_in=4)"


@pytest.mark.parametrize("model", [NnxTwin, lambda: nnx.eval_shape(NnxTwin)], ids=["made", "lazy"])
def test_an_nnx_model_needs_no_input(model):
    done = port(Mlp(), model, DEFAULTS)
    assert done.forward is None
    assert done.same
    assert len(done.rows) == 4


def test_a_linen_model_needs_an_input():
    with pytest.raises(RecipeError, match="example_input"):
        port(Mlp(), Twin, DEFAULTS)


def test_another_seed_gives_other_weights():
    a, b = (port(Mlp(), NnxTwin, DEFAULTS, seed) for seed in (0, 1))
    assert not torch.equal(a.pair.torch_model.a.weight, b.pair.torch_model.a.weight)
    assert a.same
    assert b.same


def test_outputs_that_differ_are_no_port():
    done = port(Mlp(), lambda: Twin(factor=1.01), DEFAULTS, inputs=(X, X))
    assert all(row.same for row in done.rows)
    assert done.forward is not None
    assert done.forward > 1e-5
    assert not done.same
    assert port(Mlp(), lambda: Twin(factor=1.01), DEFAULTS, inputs=(X, X), tolerance=1.0).same


def test_the_largest_difference_of_outputs_is_told():
    def model() -> Twin:
        return Twin(factor=0.0)  # the outputs are b's bias

    done = port(Mlp(), model, DEFAULTS, inputs=(X, X))
    with torch.no_grad():
        gap = (
            (done.pair.torch_model(torch.from_numpy(X)) - done.pair.torch_model.b.bias).abs().max()
        )
    assert gap > 0.01
    assert done.forward == pytest.approx(gap.item(), abs=1e-6)


def test_outputs_that_are_not_numbers_are_no_port():
    done = port(Mlp(), lambda: Twin(factor=float("nan")), DEFAULTS, inputs=(X, X))
    assert not done.same


def test_a_swap_of_axes_is_seen_in_the_outputs():
    names = {"b/kernel": ("b.weight", Layout(roles="oi"))}
    done = port(Mlp(), Twin, DEFAULTS, names=names, inputs=(X, X))
    assert done.forward is not None
    assert not done.same


def test_outputs_of_other_shapes_are_a_problem():
    class Summed(NnxTwin):
        def __call__(self, x: Any) -> Any:
            return super().__call__(x).sum(axis=1)

    done = port(Mlp(), Summed, DEFAULTS, inputs=(X, X))
    assert not done.same
    assert any("(16, 4)" in problem and "(16,)" in problem for problem in done.problems)


def test_a_model_of_another_size_does_not_port_and_is_left_alone():
    model = Mlp()
    before = model.a.weight.clone()
    with pytest.raises(RecipeError, match=r"b\.weight: the recipe has \(4, 4\), got \(5, 4\)"):
        port(model, lambda: Twin(outputs=5), DEFAULTS, inputs=(X, X))
    assert torch.equal(model.a.weight, before)


def test_a_recipe_without_a_rule_does_not_port():
    with pytest.raises(RecipeError, match=r"a\.bias.*\n.*b\.bias"):
        port(Mlp(), NnxTwin, Recipe([("*weight", portinit.normal())]))


def test_a_difference_in_one_bit_is_counted(monkeypatch):
    def off_by_a_bit(*arguments: Any, **options: Any) -> Any:
        values = original(*arguments, **options)
        bias = values.a.bias[...]
        values.a.bias[...] = bias.at[1].set(jnp.nextafter(bias[1], jnp.inf))
        return values

    original = FlaxTwin.initialize
    monkeypatch.setattr(FlaxTwin, "initialize", off_by_a_bit)
    done = port(Mlp(), NnxTwin, DEFAULTS)
    assert {row.path: row.differing for row in done.rows if not row.same} == {"a/bias": 1}
    assert not done.same


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_parameters_are_compared_bit_for_bit(dtype):
    class Narrow(nnx.Module):
        def __init__(self) -> None:
            self.a = nnx.Linear(3, 4, param_dtype=getattr(jnp, dtype), rngs=nnx.Rngs(0))

    model = torch.nn.Sequential()
    model.add_module("a", torch.nn.Linear(3, 4, dtype=getattr(torch, dtype)))
    done = port(model, Narrow, DEFAULTS)
    assert done.same
    assert len(done.rows) == 2


def test_parameters_of_different_widths_are_no_port():
    model = torch.nn.Sequential()
    model.add_module("a", torch.nn.Linear(3, 4, dtype=torch.bfloat16))

    class Wide(nnx.Module):
        def __init__(self) -> None:
            self.a = nnx.Linear(3, 4, rngs=nnx.Rngs(0))

    assert not port(model, Wide, DEFAULTS).same


def test_an_output_of_several_arrays_is_compared():
    class Two(Mlp):
        def forward(self, x: torch.Tensor) -> Any:
            return {"y": super().forward(x), "x": x}

    class TwoFlax(NnxTwin):
        def __call__(self, x: Any) -> Any:
            return {"x": x + 1, "y": super().__call__(x)}

    done = port(Two(), TwoFlax, DEFAULTS, inputs=(X, X))
    assert done.forward == pytest.approx(1.0, abs=1e-6)


def test_dropout_and_batch_norm_are_compared_as_in_evaluation():
    class Noisy(Mlp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.dropout(super().forward(x), training=self.training)

    assert port(Noisy(), NnxTwin, DEFAULTS, inputs=(X, X)).same


class Near(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(3, 4)
        self.dt = torch.nn.Parameter(torch.exp(torch.rand(500) * 4 - 7))


class NearTwin(nnx.Module):
    def __init__(self) -> None:
        self.fc = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
        self.dt = nnx.Param(jnp.zeros(500))


NEAR = porting.Task(Near, NearTwin, replay=3)


def test_a_replay_with_mkl_is_the_same() -> None:
    if mkl.find((2, 13)) is None:
        pytest.skip("no MKL of PyTorch's version here")
    assert all(row.same for row in porting.port(NEAR).rows)


def test_a_replay_without_mkl_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mkl, "find", lambda version: None)
    done = porting.port(NEAR)
    assert {row.name: row.near for row in done.rows if not row.same} == {"dt": "within 1 ulp (exp)"}
    assert done.same
    console = Console(record=True, width=200)
    print_port(console, "", done, verbose=False)
    text = console.export_text()
    assert "2 of 3 parameters filled alike under the names found, 1 nearly" in text
    assert "within 1 ulp (exp)" in text


@pytest.mark.parametrize(("name", "factor"), [("dt", 1.001), ("fc.weight", 1 + 2**-23)])
def test_a_replay_that_is_not_near_fails(
    name: str, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a difference near where every bit is promised."""
    monkeypatch.setattr(mkl, "find", lambda version: None)
    pair = porting.fill(NEAR)
    with torch.no_grad():
        pair.torch_model.get_parameter(name).mul_(factor)
    done = porting.compare(pair)
    (row,) = (row for row in done.rows if row.name == name)
    assert not row.same
    assert row.near is None
    assert not done.same
