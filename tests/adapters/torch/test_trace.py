"""Traces: the names that initializers get, their source lines, what is refused, and the JSON."""

import copy
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

import portinit
import portinit_torch
from portinit import Initializer, Layout, Recipe, RecipeError
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import LAYOUTS
from portinit.initializers.combinators import blocks, where
from portinit.initializers.expression import expression, unavailable
from portinit.layers import fan_in_uniform
from portinit_torch import TraceError, trace

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")

Build = Callable[[], nn.Module]
KEY = portinit.key(5)
DEFAULT = portinit.kaiming_uniform(a=math.sqrt(5))


def round_trip(recipe: Recipe) -> Recipe:
    read = Recipe.from_json(recipe.to_json())
    assert read.rules == recipe.rules
    assert read.program == recipe.program
    return read


def named(build: Build) -> dict[str | None, Initializer]:
    return {rule.name: rule.initializer for rule in round_trip(trace(build)).rules}


class Holder(nn.Module):
    def __init__(self, **held: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in held.items():
            if tensor.is_floating_point() and not name.startswith("buffer"):
                setattr(self, name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)


# Names


def weight(edit: Callable[[torch.Tensor], Any], *shape: int) -> Build:
    """A module with one parameter that an edit of empty memory gives."""

    def build() -> nn.Module:
        holder = Holder(w=torch.empty(shape))
        edit(holder.w)
        return holder

    return build


def value(make: Callable[[], torch.Tensor]) -> Build:
    return lambda: Holder(w=make())


def divided(w: torch.Tensor, number: float) -> None:
    nn.init.normal_(w, std=0.02)
    w.data /= number


def in_chunks(init: Callable[[torch.Tensor], Any], parts: int) -> Callable[[torch.Tensor], None]:
    def edit(w: torch.Tensor) -> None:
        for part in w.data.chunk(parts):
            init(part)

    return edit


def timm(w: torch.Tensor, std: float, a: float, b: float) -> None:
    def cdf(x: float) -> float:
        return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0

    w.data.uniform_(2 * cdf(a / std) - 1, 2 * cdf(b / std) - 1)
    w.data.erfinv_().mul_(std * math.sqrt(2.0)).add_(0.0).clamp_(min=a, max=b)


def zero_row(w: torch.Tensor, row: int) -> None:
    nn.init.normal_(w, std=0.02)
    w.data[row].zero_()


def two_parts(w: torch.Tensor) -> None:
    w.data[:2].uniform_(-0.4, 0.4)
    w.data[2:].zero_()


i = nn.init
NAMES: dict[str, tuple[Build, dict[str, Initializer]]] = {
    "Linear": (lambda: nn.Linear(6, 4), {"weight": DEFAULT, "bias": fan_in_uniform(6)}),
    "Conv2d": (
        lambda: nn.Conv2d(4, 6, 3, groups=2),
        {"weight": DEFAULT, "bias": fan_in_uniform(18)},
    ),
    "ConvTranspose1d": (
        lambda: nn.ConvTranspose1d(4, 6, 3),
        {"weight": DEFAULT, "bias": fan_in_uniform(18)},
    ),
    "Embedding": (lambda: nn.Embedding(6, 4), {"weight": portinit.normal()}),
    "Embedding_padded": (
        lambda: nn.Embedding(6, 4, padding_idx=2),
        {"weight": where(2, portinit.zeros, portinit.normal())},
    ),
    "LayerNorm": (lambda: nn.LayerNorm(4), {"weight": portinit.ones, "bias": portinit.zeros}),
    "BatchNorm1d": (
        lambda: nn.BatchNorm1d(4),
        {
            "weight": portinit.ones,
            "bias": portinit.zeros,
            "running_mean": portinit.zeros,
            "running_var": portinit.ones,
            "num_batches_tracked": portinit.zeros,
        },
    ),
    "PReLU": (lambda: nn.PReLU(3), {"weight": portinit.constant(0.25)}),
    "MultiheadAttention": (
        lambda: nn.MultiheadAttention(8, 2),
        {
            "in_proj_weight": portinit.xavier_uniform(),
            "in_proj_bias": portinit.zeros,
            "out_proj.weight": DEFAULT,
            "out_proj.bias": portinit.zeros,
        },
    ),
    "GRUCell": (
        lambda: nn.GRUCell(3, 5),
        dict.fromkeys(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), fan_in_uniform(5)),
    ),
    "uniform": (
        weight(lambda w: i.uniform_(w, -0.3, 0.2), 4, 6),
        {"w": portinit.uniform(-0.3, 0.2)},
    ),
    "normal": (weight(lambda w: i.normal_(w, 1, 0.02), 4, 6), {"w": portinit.normal(1.0, 0.02)}),
    "trunc_normal": (
        weight(lambda w: i.trunc_normal_(w, std=0.02), 4, 6),
        {"w": portinit.trunc_normal(std=0.02)},
    ),
    "trunc_normal_tail": (
        weight(lambda w: i.trunc_normal_(w, 0.25, 0.5, 1.0, 3.0), 4, 6),
        {"w": portinit.trunc_normal(0.25, 0.5, 1.0, 3.0)},
    ),
    "trunc_normal_timm": (
        weight(lambda w: timm(w, 0.02, -0.04, 0.04), 4, 6),
        {"w": portinit.trunc_normal(std=0.02, a=-0.04, b=0.04)},
    ),
    "xavier_uniform": (weight(i.xavier_uniform_, 4, 6), {"w": portinit.xavier_uniform()}),
    "xavier_normal": (weight(i.xavier_normal_, 4, 6, 3), {"w": portinit.xavier_normal()}),
    "kaiming_normal": (
        weight(lambda w: i.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"), 4, 6, 3, 3),
        {"w": portinit.kaiming_normal(mode="fan_out", nonlinearity="relu")},
    ),
    "orthogonal": (weight(lambda w: i.orthogonal_(w, 1.5), 4, 6), {"w": portinit.orthogonal(1.5)}),
    "orthogonal_tall": (weight(i.orthogonal_, 6, 4), {"w": portinit.orthogonal()}),
    "sparse": (
        weight(lambda w: i.sparse_(w, 0.25, std=0.1), 8, 5),
        {"w": portinit.sparse(0.25, 0.1)},
    ),
    "eye": (weight(i.eye_, 4, 6), {"w": portinit.eye()}),
    "dirac": (weight(lambda w: i.dirac_(w, 2), 4, 2, 3), {"w": portinit.dirac(2)}),
    "zeros": (weight(i.zeros_, 4), {"w": portinit.zeros}),
    "ones": (weight(i.ones_, 4), {"w": portinit.ones}),
    "constant": (weight(lambda w: i.constant_(w, 0.7), 4), {"w": portinit.constant(0.7)}),
    "residual": (
        weight(lambda w: divided(w, math.sqrt(24)), 4, 6),
        {"w": portinit.normal(std=0.02 / math.sqrt(24))},
    ),
    "padding_row": (
        weight(lambda w: zero_row(w, 3), 5, 6),
        {"w": where(3, portinit.zeros, portinit.normal(std=0.02))},
    ),
    "gates": (
        weight(in_chunks(i.orthogonal_, 4), 24, 6),
        {"w": blocks((portinit.orthogonal(),) * 4, (6, 6, 6, 6))},
    ),
    "packed_qkv": (
        weight(in_chunks(i.xavier_uniform_, 3), 12, 4),
        {"w": blocks((portinit.xavier_uniform(),) * 3, (4, 4, 4))},
    ),
    "two_parts": (
        weight(two_parts, 5, 4),
        {"w": blocks((portinit.uniform(-0.4, 0.4), portinit.zeros), (2, 3))},
    ),
    "concatenated": (
        value(lambda: torch.cat([torch.randn(3, 4), torch.zeros(3, 2)], 1)),
        {"w": blocks((portinit.normal(), portinit.zeros), (4, 2), 1)},
    ),
    "scaled_randn": (value(lambda: torch.randn(4, 6) * 0.02), {"w": portinit.normal(std=0.02)}),
    "negated_randn": (value(lambda: -torch.randn(4, 6) / 2), {"w": portinit.normal(std=0.5)}),
    "shifted_rand": (value(lambda: 2 * torch.rand(4, 6) - 1), {"w": portinit.uniform(-1, 1)}),
    "mirrored_rand": (value(lambda: 1 - torch.rand(4, 6)), {"w": portinit.uniform(0, 1)}),
    "transposed_randn": (value(lambda: torch.randn(4, 6).t() * 3), {"w": portinit.normal(std=3)}),
    "cast": (value(lambda: torch.randn(4, 6).bfloat16()), {"w": portinit.normal()}),
    "data": (
        value(lambda: torch.linspace(0, 1, 5)),
        {"w": portinit.assign(np.linspace(0, 1, 5, dtype=np.float32))},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_initializers_by_name(name):
    build, expected = NAMES[name]
    found = named(build)
    assert list(found) == list(expected)
    for parameter, initializer in expected.items():
        if isinstance(initializer, portinit.sparse):
            assert isinstance(found[parameter], portinit.sparse)
            assert found[parameter].std == initializer.std
            kept = found[parameter](KEY, (8, 5), layout="torch") != 0
            assert np.array_equal(kept, initializer(KEY, (8, 5), layout="torch") != 0)
        elif isinstance(initializer, portinit.normal | portinit.uniform | portinit.trunc_normal):
            assert type(found[parameter]) is type(initializer)
            assert vars(found[parameter]) == pytest.approx(vars(initializer), rel=1e-12)
        else:
            assert found[parameter] == initializer


def test_forget_gates():
    def build() -> nn.Module:
        lstm = nn.LSTM(3, 4)
        for name, parameter in lstm.named_parameters():
            if "bias" in name:
                parameter.data[4:8].fill_(1)
        return lstm

    found = named(build)
    assert found["weight_ih_l0"] == found["weight_hh_l0"] == fan_in_uniform(4)
    assert found["bias_ih_l0"] == where(np.s_[4:8], portinit.ones, fan_in_uniform(4))
    assert found["bias_hh_l0"] == found["bias_ih_l0"]


NOT_NAMED: dict[str, Callable[[], torch.Tensor]] = {
    "product": lambda: torch.randn(4, 6) * torch.rand(4, 6),
    "triangle": lambda: torch.randn(4, 4).tril(),
    "one_row_repeated": lambda: torch.randn(1, 6).expand(4, 6).clone(),
    "first_column_repeated": lambda: torch.randn(4, 6)[:, :1].repeat(1, 6),
    "square": lambda: torch.randn(4, 6) ** 2,
    "whole_numbers": lambda: (torch.rand(4, 6) * 10).floor(),
    "the_same_twice": lambda: torch.randn(2, 6).repeat(2, 1),
    "sum_with_itself": lambda: _sum_with_transpose(torch.randn(4, 4)),
    "clamped": lambda: torch.randn(4, 6).clamp(-1, 1),
    "overlapping": lambda: torch.randn(12).as_strided((4, 6), (2, 1)).clone(),
}


def _sum_with_transpose(w: torch.Tensor) -> torch.Tensor:
    return w + w.t()


@pytest.mark.parametrize("name", NOT_NAMED)
def test_what_is_no_named_initializer_is_an_expression(name):
    found = named(value(NOT_NAMED[name]))["w"]
    assert isinstance(found, expression)
    shape = NOT_NAMED[name]().shape
    values = found(KEY, tuple(shape), layout="torch")
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert np.unique(values).size > 1


def test_independent_parts_of_one_draw_do_not_become_one_distribution():
    """Two parameters cut from one draw are each their part of it, not the whole."""

    def build() -> nn.Module:
        both = torch.randn(8, 3)
        return Holder(a=both[:4].clone(), b=both[4:].clone())

    for found in named(build).values():
        assert np.unique(found(KEY, (4, 3), layout="torch")).size == 12


# Source lines


def line_of(marker: str) -> str:
    lines = Path(__file__).read_text().splitlines()
    (number,) = [n for n, line in enumerate(lines, 1) if line.endswith(f"# line: {marker}")]
    return f"torch/test_trace.py:{number}"


class Sourced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)  # line: first
        self.second = nn.Linear(4, 5)  # line: second
        self.free = nn.Parameter(torch.randn(3) * 2)  # line: free
        self.register_buffer("table", torch.arange(4.0))  # line: table
        self.reset()

    def reset(self) -> None:
        nn.init.normal_(self.second.weight, std=0.02)  # line: reset
        for _, parameter in self.first.named_parameters():
            if parameter.ndim == 1:
                parameter.data.zero_()  # line: zeroed
        self.first.weight.data[1] *= 2  # line: part


def test_source_lines():
    rules = {rule.name: rule for rule in round_trip(trace(Sourced)).rules}
    expected = {
        "free": "free",
        "first.weight": "part",
        "first.bias": "zeroed",
        "second.weight": "reset",
        "second.bias": "second",
        "table": "table",
    }
    assert set(rules) == set(expected)
    for name, marker in expected.items():
        assert rules[name].source is not None
        assert rules[name].source.endswith(line_of(marker)), name
    assert [name for name, rule in rules.items() if rule.buffer] == ["table"]


def test_rules_have_shapes_and_layouts():
    rules = {
        rule.name: rule
        for rule in trace(
            lambda: nn.Sequential(nn.Embedding(5, 3), nn.ConvTranspose1d(2, 4, 3))
        ).rules
    }
    assert rules["0.weight"].shape == (5, 3)
    assert rules["0.weight"].layout == LAYOUTS["rows"]
    assert rules["1.weight"].shape == (2, 4, 3)
    assert rules["1.weight"].layout == LAYOUTS["flax_conv_transpose"]
    assert rules["1.bias"].layout is None


def test_brackets_in_names():
    def build() -> nn.Module:
        model = nn.Module()
        model.register_parameter("a[0]", nn.Parameter(torch.randn(3)))
        model.register_parameter("b*", nn.Parameter(torch.randn(20)))
        return model

    recipe = round_trip(trace(build))
    assert recipe.names == ("a[0]", "b*")
    torch.manual_seed(0)
    assert np.array_equal(recipe.replay(0)["b*"], dict(build().named_parameters())["b*"].detach())


# What cannot be carried


def untouched() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), Holder(w=torch.empty(3)))


def partly_untouched() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 2), Holder(w=torch.empty(3)))
    model[1].w.data[:2] = 0
    return model


def unknown_operation() -> nn.Module:
    w = torch.randn(4, 4)
    return nn.Sequential(nn.Linear(3, 2), Holder(w=torch.linalg.eig(w)[0]))  # line: inverse


def unknown_then_known() -> nn.Module:
    w = torch.special.digamma(torch.randn(30))  # line: cumulative
    return nn.Sequential(nn.Linear(3, 2), Holder(w=w * 2 + 1))


def unknown_draw() -> nn.Module:
    w = torch.poisson(torch.ones(9))  # line: exponential
    return nn.Sequential(nn.Linear(3, 2), Holder(w=w))


PRETRAINED = torch.zeros(1025, 1024)
PRETRAINED[0, 0] = 1


def pretrained() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 2), Holder(w=torch.empty(1025, 1024)))
    model[1].w.data.copy_(PRETRAINED)  # line: pretrained
    return model


REFUSED: dict[str, tuple[Build, str, str | None]] = {
    "uninitialised": (untouched, "uninitialised memory", None),
    "partly uninitialised": (partly_untouched, "uninitialised memory", None),
    "skip_init": (
        lambda: nn.Sequential(nn.Linear(3, 2), nn.utils.skip_init(nn.Linear, 3, 2)),
        "uninitialised memory",
        None,
    ),
    "unknown operation": (unknown_operation, "linalg_eig", "inverse"),
    "unknown, then known": (unknown_then_known, "digamma", "cumulative"),
    "unknown draw": (unknown_draw, "poisson", "exponential"),
    "pretrained": (pretrained, "1049600 values from elsewhere", "pretrained"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_carried_is_named_and_refused(name):
    build, reason, marker = REFUSED[name]
    with pytest.warns(UserWarning, match="cannot be carried") as caught:
        recipe = trace(build)
    (warning,) = caught
    assert warning.filename == __file__
    text = str(warning.message)
    assert f"1.w" in text or "1.weight" in text  # noqa: F541
    carried, _, replayed = text.partition("cannot be replayed")
    assert "0.weight" not in carried
    assert ("0.weight" in replayed) == (name == "unknown draw")
    assert reason in text
    if marker is not None:
        assert line_of(marker) in text
    recipe = round_trip(recipe)
    lost = [rule for rule in recipe.rules if isinstance(rule.initializer, unavailable)]
    assert lost
    with pytest.raises(RecipeError, match=re.escape(reason)):
        recipe.replay(0)
    model = build()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RecipeError, match=re.escape(reason)):
        portinit_torch.initialize(model, recipe, KEY)
    after = model.state_dict()
    assert all(after[n].numpy().tobytes() == before[n].numpy().tobytes() for n in before)


def test_values_can_take_the_place_of_what_was_lost():
    with pytest.warns(UserWarning, match="cannot be carried"):
        recipe = trace(untouched)
    model = untouched()
    given_values = recipe.with_values({"1.w": np.arange(3, dtype=np.float32)})
    portinit_torch.initialize(model, given_values, KEY)
    assert model[1].w.tolist() == [0, 1, 2]


def test_memory_that_was_written_in_full_by_parts_is_carried():
    def build() -> nn.Module:
        w = torch.empty(6, 4)
        w[:2] = 1
        w[2:, :3].normal_()
        w[2:, 3].uniform_()
        return Holder(w=w)

    recipe = trace(build)
    torch.manual_seed(0)
    assert np.array_equal(recipe.replay(0)["w"], build().w.detach().numpy())


def item() -> nn.Module:
    return nn.Linear(3, 2 + int(torch.rand(()).item() > 2))  # line: item


def branch() -> nn.Module:
    w = torch.randn(3)
    if w.sum() > 0:  # line: branch
        w = -w
    return Holder(w=w)


def as_list() -> nn.Module:
    return nn.Linear(3, len(torch.rand(3).tolist()))  # line: list


def as_array() -> nn.Module:
    return nn.Linear(3, len(torch.rand(3).numpy()))  # line: array


def by_numpy() -> nn.Module:
    return nn.Linear(3, len(np.asarray(torch.rand(3))))  # line: asarray


def as_float() -> nn.Module:
    return Holder(w=torch.full((3,), float(torch.rand(()))))  # line: float


def as_size() -> nn.Module:
    return nn.Linear(int(torch.randint(1, 5, ())), 3)  # line: int


def equal() -> nn.Module:
    same = torch.equal(torch.rand(3), torch.rand(3))  # line: equal
    return nn.Linear(3, 3 if same else 4)


def nonzero() -> nn.Module:
    chosen = (torch.rand(9) > 0.5).nonzero()  # line: nonzero
    return nn.Linear(len(chosen), 4)


def by_mask() -> nn.Module:
    w = torch.randn(900)
    return Holder(w=w[w > 0])  # line: mask


def known_values() -> nn.Module:
    """Values that no draw has a part in may be read in every way."""
    steps = torch.arange(6)
    sizes = [int(steps[2]), len((steps % 2 == 0).nonzero()), len(steps[steps > 2])]
    sizes += [len(np.asarray(steps)), len(steps.numpy()), len(torch.unique(steps // 2))]
    sizes += [2 if torch.equal(steps, steps) else 3, 2 if torch.allclose(steps, steps) else 3]
    sizes += [x.item() for x in steps[3:5]]
    return nn.Sequential(*(nn.Linear(n, n) for n in sizes))


def test_known_values_may_be_read():
    rules = round_trip(trace(known_values)).rules
    torch.manual_seed(0)
    assert [r.shape for r in rules] == [tuple(p.shape) for p in known_values().parameters()]


OUTSIDE = torch.zeros(3)


def written_outside() -> nn.Module:
    OUTSIDE.normal_()  # line: outside
    return Holder(w=OUTSIDE.clone())


SHAPE = {"int": as_size, "equal": equal, "nonzero": nonzero, "mask": by_mask}
VALUE = {"branch": branch, "float": as_float}
NOTHING = {"item": item, "list": as_list, "array": as_array, "asarray": by_numpy}


@pytest.mark.parametrize("marker", SHAPE)
def test_random_values_that_decide_a_shape_are_an_error(marker):
    with pytest.raises(TraceError, match=re.escape(line_of(marker).partition("/")[2])):
        trace(SHAPE[marker])


@pytest.mark.parametrize("marker", VALUE)
def test_random_values_that_decide_a_value_are_named_with_their_line(marker):
    with pytest.warns(UserWarning, match="1 parameters cannot be carried") as caught:
        recipe = trace(VALUE[marker])
    assert line_of(marker) in str(caught[0].message)
    with pytest.raises(RecipeError, match="reads"):
        recipe.replay(0)


@pytest.mark.parametrize("marker", NOTHING)
def test_random_values_that_are_read_and_decide_nothing_are_no_error(marker):
    recipe = round_trip(trace(NOTHING[marker]))
    torch.manual_seed(4)
    weight = NOTHING[marker]().weight.detach()
    assert np.array_equal(recipe.replay(4)["weight"], weight)


def test_a_tensor_from_outside_is_not_written():
    with pytest.raises(TraceError, match=re.escape(line_of("outside").partition("/")[2])):
        trace(written_outside)
    assert OUTSIDE.tolist() == [0, 0, 0]


@pytest.mark.parametrize("made", [None, torch.zeros(2), nn.Linear])
def test_what_builds_no_module(made):
    with pytest.raises(TypeError, match=r"build must return a torch\.nn\.Module"):
        trace(lambda: made)


def test_a_parametrization_that_looks_at_random_values_is_named():
    """torch asks whether the weight happens to be orthogonal, and goes on otherwise if it is."""
    with pytest.warns(UserWarning, match=r"reads a random value \(aten\.allclose\) at .*\.py:\d+"):
        trace(lambda: parametrizations.orthogonal(nn.Linear(5, 5)))


# Applied with a key


def applied(build: Build) -> tuple[Recipe, nn.Module]:
    recipe = round_trip(trace(build))
    return recipe, portinit_torch.initialize(build(), recipe, KEY)


@pytest.mark.parametrize("name", NAMES)
def test_a_key_gives_what_the_initializer_gives(name):
    build, _ = NAMES[name]
    recipe, model = applied(build)
    held = dict([*model.named_parameters(), *model.named_buffers()])
    for rule in recipe.rules:
        tensor = held[str(rule.name)].detach()
        if tensor.is_floating_point() and tensor.dtype == torch.float32:
            expected = rule.initializer(KEY.fold_in(rule.name), tuple(tensor.shape), layout="torch")
            assert np.array_equal(tensor.numpy(), expected)


def test_buffers_of_other_kinds_survive_a_key():
    """Integers and masks are what the constructor made them."""

    def build() -> nn.Module:
        model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
        model.register_buffer("positions", torch.arange(7))
        model.register_buffer("mask", torch.ones(4, 4, dtype=torch.bool).tril())
        model.register_buffer("all", torch.ones(4, dtype=torch.bool))
        model.register_buffer("count", torch.tensor(3))
        model.register_buffer("table", torch.linspace(0, 1, 5))
        return model

    _, model = applied(build)
    expected = dict(build().named_buffers())
    for name, buffer in model.named_buffers():
        assert buffer.dtype == expected[name].dtype, name
        assert torch.equal(buffer, expected[name]), name


def test_random_buffers_take_the_key():
    def build() -> nn.Module:
        model = nn.Linear(3, 2)
        model.register_buffer("noise", torch.randn(4, 5) * 0.1)
        model.register_buffer("order", torch.randperm(9))
        model.register_buffer("levels", (torch.rand(40) * 10).long())
        return model

    _, model = applied(build)
    expected = portinit.normal(std=0.1)(KEY.fold_in("noise"), (4, 5), layout="torch")
    assert np.array_equal(model.noise.numpy(), expected)
    assert sorted(model.order.tolist()) == list(range(9))
    assert set(model.levels.tolist()) <= set(range(10))
    assert len(set(model.levels.tolist())) > 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_expressions_in_other_dtypes(dtype):
    def build() -> nn.Module:
        return Holder(w=torch.randn(4, 6, dtype=dtype) * torch.rand(6, dtype=dtype))

    _, model = applied(build)
    assert model.w.dtype == dtype
    assert model.w.detach().float().std() > 0


def test_an_expression_is_the_same_for_another_seed_only_by_its_key():
    recipe, model = applied(value(NOT_NAMED["product"]))
    again = portinit_torch.initialize(value(NOT_NAMED["product"])(), recipe, KEY)
    other = portinit_torch.initialize(value(NOT_NAMED["product"])(), recipe, portinit.key(6))
    assert torch.equal(model.w, again.w)
    assert not torch.equal(model.w, other.w)


# JSON


def rich() -> nn.Module:
    """Programs with every sort of node."""
    w = torch.randn(6, 4)
    w[1:3, ::2].uniform_()
    v = torch.empty(3, 4, 2, 2).to(memory_format=torch.channels_last)
    nn.init.trunc_normal_(v, std=0.5, a=-1, b=0.5)
    u = torch.where(torch.rand(9) > 0.5, torch.randperm(9) / 9, torch.randint(0, 5, (9,)) * 1.0)
    g = torch.Generator().manual_seed(3)
    chain = torch.cat([torch.randn(3, 3, generator=g).tril(), torch.eye(3)], 1).clamp(-1, 1)
    spread = torch.log1p(torch.rand(4)[:, None].expand(4, 3).contiguous() ** 2).flip(0)
    sparse = nn.init.sparse_(torch.empty(5, 3), 0.3)
    square = nn.init.orthogonal_(torch.empty(4, 4))
    model = Holder(w=w * 2 - 1, v=v, u=u, chain=chain, spread=spread, sparse=sparse, q=square)
    model.norm = nn.BatchNorm1d(3)
    return model


RICH = json.loads(trace(rich).to_json())


def test_json_is_a_rule_and_a_node_a_line():
    text = trace(rich).to_json()
    lines = text.splitlines()
    rules = [line for line in lines if line.startswith('  {"name"')]
    nodes = [line for line in lines if line.startswith('  {"op"')]
    assert len(rules) == len(RICH["rules"])
    assert len(nodes) == len(RICH["program"])
    assert len(lines) == len(rules) + len(nodes) + 4
    assert text == Recipe.from_json(text).to_json()


def test_tracing_twice_gives_the_same_text():
    torch.manual_seed(1)
    first = trace(rich).to_json()
    torch.manual_seed(2)
    assert trace(rich).to_json() == first


NODE = {"op": "normal", "shape": [3], "mean": 0.0, "std": 1.0}
RULE = {"name": "w", "shape": [3], "value": 0, "initializer": {"init": "normal"}}


def text_of(nodes: Any = None, rules: Any = None, **more: Any) -> str:
    data = {"portinit": 1, "rules": [RULE] if rules is None else rules, "torch": "2.13.0"}
    return json.dumps(data | {"program": [NODE] if nodes is None else nodes} | more)


MALFORMED = {
    "newer": text_of(portinit=2),
    "no schema": text_of(portinit=None),
    "program no list": text_of(nodes={"op": "normal"}),
    "program a string": text_of(nodes="normal"),
    "node no object": text_of(nodes=[3]),
    "unknown operation": text_of(nodes=[NODE | {"op": "os.system"}]),
    "operation no text": text_of(nodes=[NODE | {"op": ["normal"]}]),
    "no operation": text_of(nodes=[{"shape": [3]}]),
    "no shape": text_of(nodes=[{"op": "normal", "mean": 0.0, "std": 1.0}]),
    "negative shape": text_of(nodes=[NODE | {"shape": [-3]}]),
    "shape of text": text_of(nodes=[NODE | {"shape": ["3"]}]),
    "shape of fractions": text_of(nodes=[NODE | {"shape": [3.5]}]),
    "unknown dtype": text_of(nodes=[NODE | {"dtype": "object"}]),
    "dtype no text": text_of(nodes=[NODE | {"dtype": 3}]),
    "a later input": text_of(nodes=[{"op": "neg", "inputs": [1], "shape": [3]}, NODE]),
    "its own input": text_of(nodes=[{"op": "neg", "inputs": [0], "shape": [3]}]),
    "a negative input": text_of(nodes=[NODE, {"op": "neg", "inputs": [-1], "shape": [3]}]),
    "inputs of text": text_of(nodes=[NODE, {"op": "neg", "inputs": "x", "shape": [3]}]),
    "inputs no list": text_of(nodes=[NODE, {"op": "neg", "inputs": 0, "shape": [3]}]),
    "no base64": text_of(nodes=[{"op": "data", "shape": [3], "bytes": {"base64": "%%%"}}]),
    "base64 no text": text_of(nodes=[{"op": "data", "shape": [3], "bytes": {"base64": 3}}]),
    "a value beyond the program": text_of(rules=[RULE | {"value": 1}]),
    "a negative value": text_of(rules=[RULE | {"value": -1}]),
    "a value of text": text_of(rules=[RULE | {"value": "0"}]),
    "a value without a program": json.dumps({"portinit": 1, "rules": [RULE]}),
    "data that is a draw": text_of(rules=[RULE | {"initializer": {"init": "program's data"}}]),
    "no version of torch": text_of(torch=None),
    "a version that is none": text_of(torch="latest"),
    "an empty expression": text_of(
        rules=[RULE | {"initializer": {"init": "expression", "nodes": []}}]
    ),
    "an expression of no nodes": text_of(
        rules=[RULE | {"initializer": {"init": "expression", "nodes": [3]}}]
    ),
    "an expression of text": text_of(
        rules=[RULE | {"initializer": {"init": "expression", "nodes": "normal"}}]
    ),
    "an unknown node in an expression": text_of(
        rules=[RULE | {"initializer": {"init": "expression", "nodes": [NODE | {"op": "eval"}]}}]
    ),
    "unavailable for a number": text_of(
        rules=[RULE | {"initializer": {"init": "unavailable", "reason": 3}}]
    ),
    "rule no object": text_of(rules=[3]),
    "an unknown field": text_of(rules=[RULE | {"code": "print()"}]),
    "source no text": text_of(rules=[RULE | {"source": 3}]),
    "two values": text_of(rules=[RULE | {"value": [0]}]),
}


def test_the_well_formed_one_is_read():
    assert set(Recipe.from_json(text_of()).replay(0)) == {"w"}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_text(name):
    with pytest.raises(RecipeError):
        Recipe.from_json(MALFORMED[name])


# Programs that are well formed and mean nothing: a ValueError when evaluated, and no wild reads

BROKEN: dict[str, list[dict[str, Any]]] = {
    "window beyond": [NODE, {"op": "strided", "inputs": [0], "shape": [3], "size": [3],
                             "stride": [2], "offset": 0}],
    "window before": [NODE, {"op": "strided", "inputs": [0], "shape": [3], "size": [3],
                             "stride": [-1], "offset": 0}],
    "offset before": [NODE, {"op": "strided", "inputs": [0], "shape": [1], "size": [1],
                             "stride": [1], "offset": -1}],
    "offset far": [NODE, {"op": "strided", "inputs": [0], "shape": [1], "size": [1],
                          "stride": [1], "offset": 2**62}],
    "stride that wraps": [NODE, {"op": "strided", "inputs": [0], "shape": [2, 2], "size": [2, 2],
                                 "stride": [2**62, 2**62], "offset": 0}],
    "size far": [NODE, {"op": "strided", "inputs": [0], "shape": [3], "size": [2**40],
                        "stride": [0], "offset": 0}],
    "negative size": [NODE, {"op": "strided", "inputs": [0], "shape": [0], "size": [-1],
                             "stride": [1], "offset": 0}],
    "zero and far": [NODE, {"op": "strided", "inputs": [0], "shape": [0, 2], "size": [0, 2],
                            "stride": [1, 2**62], "offset": 2**62}],
    "fewer strides": [NODE, {"op": "strided", "inputs": [0], "shape": [3], "size": [3, 1],
                             "stride": [1], "offset": 0}],
    "no stride": [NODE, {"op": "strided", "inputs": [0], "shape": [3], "size": [3]}],
    "window of fractions": [NODE, {"op": "strided", "inputs": [0], "shape": [2], "size": [2],
                                   "stride": [0.5], "offset": 0.5}],
    "order of others": [NODE, {"op": "strided", "inputs": [0], "shape": [3], "size": [3],
                               "stride": [1], "offset": 0, "order": [5]}],
    "scatter beyond": [NODE, NODE, {"op": "scatter", "inputs": [0, 1], "shape": [3], "size": [3],
                                    "stride": [1], "offset": 1}],
    "scatter of another shape": [NODE, NODE | {"shape": [2]},
                                 {"op": "scatter", "inputs": [0, 1], "shape": [3], "size": [3],
                                  "stride": [1], "offset": 0}],
    "index beyond": [NODE, {"op": "full", "shape": [1], "dtype": "int64", "value": 9},
                     {"op": "index_put", "inputs": [0, 1], "shape": [3], "value": 0}],
    "index of fractions": [NODE, NODE, {"op": "index_put", "inputs": [0, 1], "shape": [3],
                                        "value": 0}],
    "no operand": [{"op": "add", "shape": [3]}],
    "three operands": [NODE, {"op": "add", "inputs": [0, 0, 0], "shape": [3]}],
    "no number": [NODE, {"op": "add", "inputs": [0], "shape": [3]}],
    "number of text": [NODE, {"op": "mul", "inputs": [0], "shape": [3], "other": "x"}],
    "another shape": [NODE, {"op": "neg", "inputs": [0], "shape": [4]}],
    "shapes that do not fit": [NODE, NODE | {"shape": [2]},
                               {"op": "add", "inputs": [0, 1], "shape": [3]}],
    "axis beyond": [NODE, {"op": "concat", "inputs": [0, 0], "shape": [6], "axis": 1}],
    "axis of text": [NODE, {"op": "concat", "inputs": [0, 0], "shape": [6], "axis": "x"}],
    "permutation of others": [NODE, {"op": "permute", "inputs": [0], "shape": [3], "axes": [1]}],
    "flip of others": [NODE, {"op": "flip", "inputs": [0], "shape": [3], "axes": [4]}],
    "reshape of others": [NODE, {"op": "reshape", "inputs": [0], "shape": [4], "size": [4]}],
    "broadcast far": [NODE, {"op": "broadcast", "inputs": [0], "shape": [3],
                             "size": [2**40, 3]}],
    "triangle of a vector": [NODE, {"op": "tril", "inputs": [0], "shape": [3]}],
    "qr of a vector": [NODE, {"op": "qr_q", "inputs": [0], "shape": [3]}],
    "product of others": [NODE, {"op": "matmul", "inputs": [0, 0], "shape": [3]}],
    "data of another size": [{"op": "data", "shape": [3], "bytes": {"base64": "AAAA"}}],
    "data of too many": [{"op": "data", "shape": [1], "bytes": {"base64": "AAAAAAAAAAA="}}],
    "data of text": [{"op": "data", "shape": [1], "bytes": "AAAA"}],
    "full of text": [{"op": "full", "shape": [3], "value": "x"}],
    "full of nothing": [{"op": "full", "shape": [3]}],
    "normal without std": [{"op": "normal", "shape": [3], "mean": 0.0}],
    "normal of text": [NODE | {"std": "x"}],
    "negative std": [NODE | {"std": -1.0}],
    "uniform upside down": [{"op": "uniform", "shape": [3], "a": 1.0, "b": 0.0}],
    "integers upside down": [{"op": "randint", "shape": [3], "dtype": "int64", "low": 3,
                              "high": 1}],
    "integers of none": [{"op": "randint", "shape": [3], "dtype": "int64", "low": 3, "high": 3}],
    "normal integers": [NODE | {"dtype": "int64"}],
    "normal truths": [NODE | {"dtype": "bool"}],
    "an endless rejection": [{"op": "trunc_normal", "shape": [3], "mean": 0.0, "std": 1.0,
                              "a": 3.0, "b": 2.0}],
    "an unseeded generator": [NODE | {"generator": 7}],
    "a generator of text": [NODE | {"generator": [7]}],
    "a seed of text": [{"op": "seed", "shape": [], "seed": "x"}, NODE],
    "no seed": [{"op": "seed", "shape": []}, NODE],
    "a state of another size": [{"op": "seed", "shape": [], "state": {"base64": "AAAA"}}, NODE],
    "an opaque draw": [{"op": "opaque", "shape": [3], "name": "bernoulli"}],
    "order of a draw": [NODE | {"order": [3]}],
    "seed as a value": [{"op": "seed", "shape": [3], "seed": 3}],
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_programs_that_mean_nothing(name):
    """Read or not: a ValueError (RecipeError is one), and nothing is read out of bounds."""
    nodes = BROKEN[name]
    rule = RULE | {"value": len(nodes) - 1, "shape": nodes[-1]["shape"]}
    with pytest.raises(ValueError):  # noqa: PT011
        Recipe.from_json(text_of(nodes, [rule])).replay(0)


NOT_FOR_A_KEY = {"a seed of text", "no seed", "a state of another size"}  # moves no stream there
NOT_FOR_A_KEY |= {"an unseeded generator", "a generator of text", "order of a draw"}
NOT_FOR_A_KEY |= {"integers upside down", "integers of none"}  # whole numbers nobody asked for


@pytest.mark.parametrize("name", [name for name in BROKEN if name not in NOT_FOR_A_KEY])
def test_expressions_that_mean_nothing(name):
    nodes = BROKEN[name]
    rule = RULE | {"initializer": {"init": "expression", "nodes": nodes}, "value": None}
    with pytest.raises(ValueError):  # noqa: PT011
        _apply(text_of([], [rule]), tuple(nodes[-1]["shape"]))


def _apply(text: str, shape: tuple[int, ...]) -> Any:
    (rule,) = Recipe.from_json(text).rules
    rule.initializer.plan(Grid.whole(shape, Layout()), "float32")
    return rule.initializer(KEY, shape, layout="torch")


SMALL = st.integers(-3, 12)
ODD = st.one_of(
    SMALL,
    st.sampled_from([2**31, 2**62, -(2**62), 0.5, "x", None, True, [], {}, [0], [1, 0], [2, 2]]),
    st.lists(SMALL, max_size=4),
)
OPS = sorted({node["op"] for node in RICH["program"]} | {"broadcast", "permute", "matmul", "norm"})
SHAPES = st.lists(st.integers(0, 12), max_size=3)
DTYPES = st.sampled_from(
    ["float32", "float64", "bfloat16", "float16", "int64", "bool", "complex64"]
)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    data = copy.deepcopy(RICH)
    for _ in range(draw(st.integers(1, 3))):
        node = draw(st.sampled_from(data["program"]))
        keys = sorted(set(node) - {"op", "shape", "dtype", "bytes"})
        what = draw(st.sampled_from(["op", "shape", "dtype", "drop", *keys * 2]))
        if what == "op":
            node["op"] = draw(st.sampled_from(OPS))
        elif what == "shape":
            node["shape"] = draw(SHAPES)
        elif what == "dtype":
            node["dtype"] = draw(DTYPES)
        elif what == "drop" and keys:
            del node[draw(st.sampled_from(keys))]
        elif what in keys:
            node[what] = draw(ODD)
    return data


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")  # a garbage cast
@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(mutated())
def test_mutated_programs(data):
    try:
        recipe = Recipe.from_json(json.dumps(data))
        values = recipe.replay(0)
    except ValueError:
        return
    for rule in recipe.rules:
        node = recipe.program.nodes[rule.value]
        assert values[rule.name].shape == node.shape


# A large model

LARGE = """
import os, sys, time
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
from transformers import LlamaConfig, LlamaForCausalLM
from portinit_torch import trace
start = time.perf_counter()
recipe = trace(lambda: LlamaForCausalLM(LlamaConfig()))
seconds = time.perf_counter() - start
text = recipe.to_json()
count = 0
for rule in recipe.rules:
    size = 1
    for n in rule.shape:
        size *= n
    count += 0 if rule.buffer else size
# Of this program alone: getrusage's high-water mark begins with the parent's.
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**20
print(count, len(text), seconds, peak)
"""


def test_a_model_of_seven_billion_parameters():
    root = Path(__file__).parents[3]
    paths = ";".join(f"sys.path.insert(0, {str(root / p)!r})" for p in ("src", "adapters"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys; {paths}\n{LARGE}"],
        capture_output=True, text=True, timeout=55, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    count, size, seconds, gigabytes = map(float, done.stdout.split())
    assert count == 6_738_415_616
    assert size < 1e6
    assert seconds < 30
    assert gigabytes < 2


# What is done to a traced recipe


def test_a_traced_recipe_with_layouts_or_rules_in_front_still_replays():
    recipe = trace(lambda: nn.Linear(4, 3))
    expected = recipe.replay(5)["weight"]
    stated = recipe.with_layouts({"weight": portinit.Layout(axis0=(1,), axis1=(0,))})
    np.testing.assert_array_equal(stated.replay(5)["weight"], expected)
    given = recipe.with_values({"bias": np.ones(3)})
    np.testing.assert_array_equal(given.replay(5)["weight"], expected)


def test_every_parameter_of_an_unknown_sampler_is_listed():
    def build() -> nn.Module:
        model = nn.Module()
        for name in ("a", "b"):
            model.register_parameter(name, nn.Parameter(torch.poisson(torch.ones(20))))
        return model

    with pytest.warns(UserWarning, match="2 parameters cannot be carried"):
        recipe = trace(build)
    with pytest.raises(portinit.RecipeError, match="2 do not fit") as caught:
        recipe.replay(0)
    assert [line.partition(":")[0] for line in caught.value.misfits] == ["a", "b"]


def test_gpt2s_conv1d_is_held_by_flax_as_it_stands():
    """Its weight is (in, out): a square one would otherwise be taken for a Linear's."""

    class Conv1D(nn.Module):  # as in transformers.pytorch_utils
        def __init__(self) -> None:
            super().__init__()
            self.nf, self.weight = 6, nn.Parameter(torch.empty(6, 6).normal_(std=0.02))

    (rule,) = trace(Conv1D).rules
    assert rule.layout == portinit.Layout(roles="io")


def test_equal_tables_are_kept_once():
    recipe = trace(lambda: nn.Sequential(*(Table() for _ in range(5))))
    assert sum(node.op == "data" for node in recipe.program.nodes) == 1


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("angles", torch.outer(torch.arange(7.0), torch.arange(3.0)))
