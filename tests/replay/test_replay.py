"""Replays against PyTorch itself: every layer of torch.nn, and constructors written by hand.

What a recipe's replay gives in NumPy, after a trip through JSON, is what ``torch.manual_seed`` and
the same constructor give, for every parameter and buffer: dtype, shape and every bit.
"""

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from portinit import Recipe, RecipeError
from portinit.replay.program import parse_version
from portinit.replay.torch_math import mkl
from portinit_torch import TraceError, trace

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")

SEEDS = (0, 7)
Build = Callable[[], nn.Module]


def tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.detach() for name, t in [*module.named_parameters(), *module.named_buffers()]}


def words(array: Any) -> tuple[str, tuple[int, ...], bytes]:
    """dtype, shape and bytes of a NumPy array or a tensor (NumPy has no bfloat16 of torch's)."""
    if isinstance(array, torch.Tensor):
        name, shape = str(array.dtype).removeprefix("torch."), tuple(array.shape)
        flat = array.resolve_conj().contiguous().reshape(-1)
        return name, shape, flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return array.dtype.name, array.shape, array.tobytes()


def built(build: Build, seed: int) -> dict[str, torch.Tensor]:
    default = torch.get_default_dtype()
    torch.manual_seed(seed)
    try:
        return tensors(build())
    finally:
        torch.set_default_dtype(default)


def traced(build: Build) -> Recipe:
    default = torch.get_default_dtype()
    try:
        return Recipe.from_json(trace(build).to_json())
    finally:
        torch.set_default_dtype(default)


def assert_same(values: dict[str, Any], expected: dict[str, torch.Tensor]) -> None:
    assert list(values) == list(expected)
    assert expected or not values
    different = [name for name in expected if words(values[name]) != words(expected[name])]
    assert not different, different


def assert_replays(build: Build, seeds: tuple[int, ...] = SEEDS) -> None:
    recipe = traced(build)
    for seed in seeds:
        assert_same(recipe.replay(seed), built(build, seed))


def assert_near(build: Build, tolerance: float, near: tuple[str, ...] | None = None) -> None:
    """Within a tolerance for the tensors named (all if none are), bit for bit for the rest."""
    recipe = traced(build)
    for seed in SEEDS:
        values, expected = recipe.replay(seed), built(build, seed)
        assert list(values) == list(expected)
        for name, tensor in expected.items():
            assert values[name].dtype.name == str(tensor.dtype).removeprefix("torch.")
            if near is None or name in near:
                np.testing.assert_allclose(values[name], tensor.numpy(), atol=tolerance, rtol=0)
            else:
                assert words(values[name]) == words(tensor), name


def is_right_or_named(build: Build, tolerance: float = 0.0) -> None:
    """Replayed right, or what is lost is named: never wrong in silence."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            recipe = traced(build)
        except TraceError as error:
            _must_name(error, ".py:")
            return
    if any("cannot be carried" in str(w.message) for w in caught):
        with pytest.raises(RecipeError, match=r"carried|stream is known, got aten"):
            recipe.replay(0)
        return
    if any(node.op == "opaque" for node in recipe.program.nodes):
        with pytest.raises(RecipeError, match="draws whose stream is known, got aten"):
            recipe.replay(0)
        return
    for seed in SEEDS:
        values, expected = recipe.replay(seed), built(build, seed)
        assert_same(values if tolerance == 0 else _rounded(values, expected, tolerance), expected)


def _must_name(error: Exception, what: str) -> None:
    assert what in str(error)


def _rounded(
    values: dict[str, Any], expected: dict[str, torch.Tensor], tolerance: float
) -> dict[str, Any]:
    """The values, those within the tolerance replaced by what was expected."""
    return {
        name: expected[name].numpy()
        if np.allclose(value, expected[name].numpy(), rtol=0, atol=tolerance)
        else value
        for name, value in values.items()
    }


# Every layer of torch.nn that holds parameters or buffers: arguments for its constructor

LAYERS: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "AdaptiveLogSoftmaxWithLoss": [((16, 40, [10, 25]), {}), ((16, 40, [10], 2.0, True), {})],
    "BatchNorm1d": [((6,), {}), ((6,), {"affine": False})],
    "BatchNorm2d": [((6,), {}), ((6,), {"track_running_stats": False})],
    "BatchNorm3d": [((6,), {})],
    "BCELoss": [((torch.full((3,), 0.5),), {})],
    "BCEWithLogitsLoss": [((torch.full((3,), 0.5),), {"pos_weight": torch.ones(3)})],
    "Bilinear": [((5, 4, 3), {}), ((5, 4, 3), {"bias": False})],
    "Conv1d": [((4, 6, 3), {}), ((4, 6, 3), {"groups": 2, "bias": False})],
    "Conv2d": [
        ((3, 8, 3), {}),
        ((4, 8, (3, 1)), {"groups": 4, "padding_mode": "reflect"}),
        ((3, 8, 3), {"dtype": torch.float16}),
    ],
    "Conv3d": [((2, 4, 3), {}), ((2, 4, 3), {"dilation": 2, "bias": False})],
    "ConvTranspose1d": [((4, 6, 3), {}), ((4, 6, 3), {"groups": 2})],
    "ConvTranspose2d": [((4, 6, 3), {}), ((4, 6, 3), {"bias": False, "stride": 2})],
    "ConvTranspose3d": [((2, 4, 3), {}), ((2, 4, 3), {"output_padding": 1, "stride": 2})],
    "CrossEntropyLoss": [((torch.full((3,), 0.5),), {})],
    "Embedding": [
        ((10, 7), {}),
        ((10, 7), {"padding_idx": 0}),
        ((10, 7), {"padding_idx": -1, "max_norm": 1.0}),
        ((10, 7), {"dtype": torch.bfloat16}),
    ],
    "EmbeddingBag": [((10, 7), {}), ((10, 7), {"padding_idx": 3, "mode": "sum"})],
    "GroupNorm": [((2, 6), {}), ((2, 6), {"affine": False})],
    "GRU": [((5, 6), {}), ((5, 6, 2), {"bidirectional": True, "bias": False})],
    "GRUCell": [((5, 6), {}), ((5, 6), {"bias": False})],
    "InstanceNorm1d": [((6,), {"affine": True}), ((6,), {"track_running_stats": True})],
    "InstanceNorm2d": [((6,), {"affine": True})],
    "InstanceNorm3d": [((6,), {"affine": True})],
    "LayerNorm": [((6,), {}), (((2, 3),), {"bias": False})],
    "Linear": [
        ((4, 3), {}),
        ((5, 7), {"bias": False}),
        ((64, 33), {}),
        ((64, 33), {"dtype": torch.bfloat16}),
        ((64, 33), {"dtype": torch.float16}),
        ((64, 33), {"dtype": torch.float64}),
        ((1, 1), {}),
    ],
    "LinearCrossEntropyLoss": [((6, 5), {})],
    "LSTM": [
        ((5, 6), {}),
        ((5, 6, 2), {"bidirectional": True}),
        ((5, 6), {"proj_size": 3}),
        ((5, 6), {"bias": False, "batch_first": True, "dtype": torch.float64}),
    ],
    "LSTMCell": [((5, 6), {}), ((5, 6), {"bias": False})],
    "MultiheadAttention": [
        ((8, 2), {}),
        ((8, 2), {"bias": False}),
        ((8, 2), {"kdim": 5, "vdim": 6}),
        ((8, 2), {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True}),
        ((8, 2), {"dtype": torch.float64}),
        ((8, 2), {"dtype": torch.bfloat16}),
    ],
    "MultiMarginLoss": [((1, 1.0, torch.full((3,), 0.5)), {})],
    "MultiLabelSoftMarginLoss": [((torch.full((3,), 0.5),), {})],
    "NLLLoss": [((torch.full((3,), 0.5),), {})],
    "PReLU": [((), {}), ((5, 0.1), {})],
    "RMSNorm": [((6,), {}), ((6,), {"elementwise_affine": False})],
    "RNN": [((5, 6), {}), ((5, 6, 2, "relu"), {"bias": False})],
    "RNNBase": [(("GRU", 5, 6), {})],
    "RNNCell": [((5, 6), {}), ((5, 6, False, "relu"), {})],
    "RNNCellBase": [((5, 6, True, 2), {})],
    "SyncBatchNorm": [((6,), {})],
    "Transformer": [
        ((8, 2, 1, 2, 16), {}),
        ((8, 2, 1, 1, 16), {"norm_first": True, "bias": False}),
    ],
    "TransformerDecoderLayer": [((8, 2, 16), {}), ((8, 2, 16), {"bias": False})],
    "TransformerEncoderLayer": [((8, 2, 16), {}), ((8, 2, 16), {"dtype": torch.float64})],
}  # fmt: skip

# Layers made of layers: their arguments are layers too, so they are built by hand below.
MADE_OF_LAYERS = {"TransformerEncoder", "TransformerDecoder"}
CONTAINERS = {"Container", "Module", "ModuleDict", "ModuleList", "Sequential", "DataParallel"}
CONTAINERS |= {"ParameterDict", "ParameterList"}
GUESSES: list[tuple[Any, ...]] = [(), (2,), (0.5,), (1, 1), (2, 2), (2, (2, 2)), (1.0, 2.0)]
GUESSES += [((1, 1),), (1, (1, 1)), (2, 1.0)]


def layer_classes() -> dict[str, type[nn.Module]]:
    found = {name: getattr(nn, name) for name in dir(nn)}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, type) and issubclass(value, nn.Module) and "Lazy" not in name
    }


def make(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module:
    return getattr(nn, name)(*args, **kwargs)


def test_the_newest_layers_are_there() -> None:
    """Of older versions of PyTorch the layers that it lacks are skipped."""
    assert all(hasattr(nn, name) for name in LAYERS) or parse_version(torch.__version__) < (2, 13)


ROWS = [(name, *row) for name, rows in LAYERS.items() for row in rows]
ROW_IDS = [f"{name}-{i}" for name, rows in LAYERS.items() for i in range(len(rows))]


def test_the_table_has_every_layer():
    """A class that is in no table holds nothing, whatever arguments it takes."""
    known = {*LAYERS, *MADE_OF_LAYERS, *CONTAINERS}
    rest = {name: cls for name, cls in layer_classes().items() if name not in known}
    assert len(rest) > 60
    assert known - MADE_OF_LAYERS - CONTAINERS == set(LAYERS)
    unknown = []
    for name, cls in rest.items():
        made = None
        for guess in GUESSES:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # some are deprecated
                try:
                    made = cls(*guess)
                    break
                except (TypeError, ValueError, AssertionError, NotImplementedError):
                    continue
        if made is None or tensors(made):
            unknown.append(name)
    assert unknown == []


@pytest.mark.parametrize("name", [n for n in LAYERS if not n.endswith("Loss")])
def test_the_table_has_layers_that_hold_something(name):
    held = [tensors(make(name, *row)) for row in LAYERS[name]]
    assert any(held)


@pytest.mark.parametrize(("name", "args", "kwargs"), ROWS, ids=ROW_IDS)
def test_layers(name, args, kwargs):
    if not hasattr(nn, name):
        pytest.skip(f"PyTorch {torch.__version__} has no {name}")
    assert_replays(lambda: make(name, args, kwargs))


DOUBLE = ["Bilinear", "Conv2d", "Embedding", "GRU", "Linear", "MultiheadAttention", "Transformer"]


@pytest.mark.parametrize("name", DOUBLE)
def test_layers_under_a_double_default(name):
    args, kwargs = LAYERS[name][0]

    def build() -> nn.Module:
        torch.set_default_dtype(torch.float64)
        return make(name, args, kwargs)

    assert_replays(build)


def encoder() -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 3)


def test_deep_copies_of_a_layer_are_equal():
    assert_replays(encoder)
    values = traced(encoder).replay(0)
    name = "layers.{}.linear1.weight".format
    assert np.array_equal(values[name(0)], values[name(2)])


def test_decoder():
    layer = nn.TransformerDecoderLayer
    assert_replays(lambda: nn.TransformerDecoder(layer(8, 2, 16), 2, nn.LayerNorm(8)))


def test_containers():
    def build() -> nn.Module:
        lists = nn.ParameterList([torch.randn(3), torch.rand(20)])
        named = nn.ParameterDict({"a": nn.Parameter(torch.randn(17)), "b": torch.zeros(2)})
        return nn.ModuleDict({"l": lists, "d": named, "s": nn.Sequential(nn.Linear(2, 3))})

    assert_replays(build)


# Constructors written by hand


class Holder(nn.Module):
    """Parameters and buffers by name."""

    def __init__(self, **held: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in held.items():
            if tensor.is_floating_point() and not name.startswith("buffer"):
                setattr(self, name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)


CASES: dict[str, Build] = {}
Case = Callable[[Build], Build]


def case(build: Build) -> Build:
    CASES[build.__name__] = build
    return build


def holding(**values: Callable[[], torch.Tensor]) -> None:
    """A case for each expression: a module that holds its value."""
    for name, value in values.items():

        def build(value: Callable[[], torch.Tensor] = value) -> nn.Module:
            return nn.Sequential(Holder(w=value()), nn.Linear(3, 2))  # the stream's place after it

        CASES[name] = build


holding(
    randn_scaled=lambda: torch.randn(5, 40) * 0.02,
    randn_scaled_left=lambda: 0.02 * torch.randn(40),
    randn_few=lambda: torch.randn(3),
    randn_odd=lambda: torch.randn(7) - 1,
    randn_no_elements=lambda: torch.randn(0, 3),
    randn_no_axes=lambda: torch.randn(()),
    randn_21=lambda: torch.randn(21),
    rand=lambda: torch.rand(33),
    rand_mirrored=lambda: 2 * torch.rand(33) - 1,
    rand_reversed_sub=lambda: 1 - torch.rand(33),
    rand_reversed_div=lambda: 2 / (torch.rand(33) + 1),
    rand_divided=lambda: torch.rand(33) / 3,
    rand_negative=lambda: -torch.rand(33),
    rand_like=lambda: torch.rand_like(torch.zeros(4, 5)),
    randn_like_transposed=lambda: torch.randn_like(torch.zeros(4, 5).t()),
    new_empty=lambda: torch.zeros(2).new_empty(20).normal_(),
    normal_function=lambda: torch.normal(0.5, 0.1, (4, 6)),
    double=lambda: torch.randn(30, dtype=torch.float64) * 0.1,
    half=lambda: torch.randn(30, dtype=torch.float16),
    bfloat=lambda: torch.randn(30, dtype=torch.bfloat16),
    half_scaled=lambda: torch.randn(300, dtype=torch.float16) * 0.02,
    bfloat_scaled=lambda: torch.randn(300, dtype=torch.bfloat16) * 0.02,
    bfloat_plus=lambda: torch.rand(300, dtype=torch.bfloat16) + 0.3,
    bfloat_divided=lambda: torch.rand(300, dtype=torch.bfloat16) / 3,
    cast_to_bfloat=lambda: torch.randn(300).to(torch.bfloat16),
    cast_to_double=lambda: torch.rand(30).double() * 0.1,
    cast_to_int=lambda: (torch.rand(30) * 10).long(),
    uniform_slices=lambda: _sliced(),
    channels_last=lambda: torch.empty(
        3, 4, 5, 6, memory_format=torch.channels_last
    ).normal_(),
    channels_last_uniform=lambda: torch.empty(
        3, 4, 5, 6, memory_format=torch.channels_last
    ).uniform_(-1, 1),
    kaiming_channels_last=lambda: nn.init.kaiming_normal_(
        torch.empty(3, 4, 3, 3).to(memory_format=torch.channels_last), mode="fan_out"
    ),
    transposed_normal=lambda: torch.empty(5, 8).t().normal_(),
    transposed_uniform=lambda: torch.empty(5, 8).t().uniform_(),
    normal_with_gaps=lambda: _write(torch.zeros(8, 6), lambda w: w[:, ::2].normal_()),
    uniform_with_gaps=lambda: _write(torch.zeros(8, 6), lambda w: w[1::3].uniform_()),
    normal_column=lambda: _write(torch.zeros(40, 3), lambda w: w[:, 1].normal_(1, 2)),
    scaled_row=lambda: _write(torch.randn(4, 5), lambda w: w[1].mul_(3)),
    scaled_block=lambda: _write(torch.randn(6, 5), lambda w: w[2:4, 1:3].mul_(3)),
    added_view=lambda: _write(torch.randn(6, 5), lambda w: w.view(-1)[3:9].add_(1)),
    transposed_edit=lambda: _write(torch.randn(6, 5), lambda w: w.t()[1].zero_()),
    chunks=lambda: _write(torch.empty(12, 4), lambda w: _each(nn.init.xavier_uniform_, w, 3)),
    orthogonal_like_chunks=lambda: _write(
        torch.zeros(12, 4), lambda w: _each(nn.init.kaiming_normal_, w, 3)
    ),
    split=lambda: torch.cat(torch.randn(9, 4).split([2, 3, 4])[::-1]),
    unbind=lambda: torch.randn(3, 4, 5).unbind(1)[2] * 2,
    diagonal_edit=lambda: _write(torch.randn(5, 5), lambda w: w.diagonal().fill_(1)),
    fill_diagonal=lambda: torch.randn(5, 5).fill_diagonal_(0),
    expanded=lambda: torch.randn(1, 5).expand(3, 5).clone(),
    repeated=lambda: torch.randn(2, 3).repeat(2, 1, 2),
    repeat_interleave=lambda: torch.randn(4).repeat_interleave(3),
    tiled=lambda: torch.rand(4, 2).tile(2, 3),
    flipped=lambda: torch.randn(4, 5).flip(0, 1),
    permuted=lambda: torch.randn(2, 3, 4).permute(2, 0, 1).contiguous(),
    moved=lambda: torch.randn(2, 3, 4).movedim(0, -1).reshape(3, 8) + 1,
    concatenated=lambda: torch.cat([torch.randn(3, 4), torch.zeros(2, 4), torch.rand(1, 4)]),
    concatenated_columns=lambda: torch.cat([torch.randn(3, 4), torch.ones(3, 2)], -1),
    stacked=lambda: torch.stack([torch.randn(20), torch.rand(20), torch.arange(20.0)], 1),
    tril=lambda: torch.randn(6, 6).tril(-1),
    triu=lambda: torch.triu(torch.randn(5, 6), 1),
    linspace=lambda: torch.linspace(-1, 1, 11),
    arange_scaled=lambda: torch.arange(0, 20, 2) / 20.0,
    rotary=lambda: 1.0 / 10000 ** (torch.arange(0, 64, 2, dtype=torch.float) / 64),
    logspace=lambda: torch.logspace(-2, 1, 9),
    draw_times_linspace=lambda: torch.randn(3, 7) * torch.linspace(0, 1, 7),
    draw_plus_column=lambda: torch.randn(3, 7) + torch.arange(3.0)[:, None],
    draw_times_draw=lambda: torch.randn(30) * torch.rand(30),
    draw_over_draw=lambda: torch.randn(30) / (torch.rand(30) + 0.5),
    where=lambda: torch.where(torch.rand(40) > 0.5, torch.randn(40), torch.zeros(40)),
    where_number=lambda: torch.where(torch.rand(40) < 0.5, torch.randn(40), 0.25),
    masked_fill=lambda: torch.randn(40).masked_fill(torch.rand(40) <= 0.5, 0.0),
    masked_fill_in_place=lambda: torch.randn(40).masked_fill_(torch.arange(40) % 3 == 0, 2.0),
    mask_times=lambda: (torch.rand(40) > 0.5) * 0.5,
    mask_times_float=lambda: (torch.rand(40) > 0.5).float() * 0.5,
    sign_of_draw=lambda: torch.randn(40).sign() * torch.rand(40),
    absolute=lambda: torch.randn(40).abs().neg(),
    clamped=lambda: torch.randn(40).clamp(-1, 0.5),
    clamped_min=lambda: torch.randn(40).clamp(min=0),
    clamped_max=lambda: torch.randn(40).clamp_max(0.3),
    squared=lambda: torch.randn(40) ** 2,
    cubed=lambda: torch.randn(40).pow(3),
    maximum=lambda: torch.maximum(torch.randn(40), torch.rand(40)),
    floor=lambda: (torch.rand(40) * 10).floor(),
    rounded=lambda: (torch.rand(40) * 10).round(),
    added_with_alpha=lambda: torch.add(torch.randn(40), torch.randn(40), alpha=0.3),
    subtracted_with_alpha=lambda: torch.sub(torch.randn(40), torch.randn(40), alpha=0.3),
    index_assigned=lambda: _write(torch.randn(6, 5), lambda w: w.__setitem__(2, 0.0)),
    index_assigned_list=lambda: _write(torch.randn(30), lambda w: w.__setitem__([1, 5], 0.5)),
    index_assigned_draw=lambda: _write(
        torch.zeros(6, 20), lambda w: w.__setitem__(slice(1, 3), torch.randn(2, 20))
    ),
    randperm=lambda: torch.randperm(20),
    randperm_scaled=lambda: torch.randperm(20) / 20,
    randint=lambda: torch.randint(3, 17, (20,)),
    randint_scaled=lambda: torch.randint(0, 100, (200,)) * 0.1,
    randint_plus=lambda: torch.randint(0, 100, (200,)) + 1,
    random_in_range=lambda: torch.empty(20, dtype=torch.int64).random_(5, 100),
    reversed_writes=lambda: _write(torch.randn(20), lambda w: (w.zero_(), w.uniform_())),
    copied=lambda: _write(torch.zeros(4, 5), lambda w: w.copy_(torch.randn(5))),
    copied_cast=lambda: _write(torch.zeros(4, 5), lambda w: w.copy_(torch.randn(4, 5).double())),
    eye=lambda: nn.init.eye_(torch.empty(4, 6)),
    eye_plus_noise=lambda: torch.eye(5) + 0.01 * torch.randn(5, 5),
    dirac=lambda: nn.init.dirac_(torch.empty(6, 3, 3, 3), groups=2),
    sparse=lambda: nn.init.sparse_(torch.empty(10, 7), 0.3, std=0.05),
    trunc_normal=lambda: nn.init.trunc_normal_(torch.empty(40, 30), std=0.02),
    trunc_normal_redrawn=lambda: nn.init.trunc_normal_(torch.empty(40, 30), a=-1, b=0.5),
    trunc_normal_few=lambda: nn.init.trunc_normal_(torch.empty(7), a=-1, b=0.5),
    trunc_normal_tail=lambda: nn.init.trunc_normal_(torch.empty(40, 30), a=1.2, b=3.0),
    trunc_normal_tail_mean=lambda: nn.init.trunc_normal_(
        torch.empty(40, 30), mean=0.3, std=2.0, a=-0.1, b=0.2
    ),
    trunc_normal_double=lambda: nn.init.trunc_normal_(
        torch.empty(40, dtype=torch.float64), a=-1, b=0.5
    ),
    trunc_normal_bfloat=lambda: nn.init.trunc_normal_(
        torch.empty(40, 30, dtype=torch.bfloat16), std=0.7, a=-1, b=0.5
    ),
    trunc_normal_of_slice=lambda: _write(
        torch.zeros(8, 40), lambda w: nn.init.trunc_normal_(w[2:5], a=-1, b=0.5)
    ),
    trunc_normal_with_gaps=lambda: _write(
        torch.zeros(8, 40), lambda w: nn.init.trunc_normal_(w[:, ::2], a=-1, b=0.5)
    ),
    trunc_normal_transposed=lambda: nn.init.trunc_normal_(torch.empty(8, 40).t(), a=-1, b=0.5),
    xavier_of_slice=lambda: _write(
        torch.zeros(8, 6), lambda w: nn.init.xavier_uniform_(w[:, 2:4], gain=2)
    ),
    kaiming_of_transpose=lambda: nn.init.kaiming_uniform_(torch.empty(8, 6).t()),
    torch_tensor=lambda: torch.tensor([[1.0, 2.0], [3.0, 4.5]]),
    from_numpy=lambda: torch.from_numpy(np.arange(6, dtype=np.float32).reshape(2, 3)),
    nan_and_infinity=lambda: torch.tensor([math.nan, math.inf, -math.inf, -0.0]),
    full_of_nan=lambda: torch.full((3,), math.nan),
    full_of_infinity=lambda: torch.full((3, 3), -math.inf).triu(1),
    negative_zero=lambda: torch.full((3,), -0.0),
    zero_times_minus=lambda: torch.zeros(3) * -1,
    causal_mask=lambda: torch.tril(torch.ones(300, 300, dtype=torch.bool)),
    amax_everywhere=lambda: torch.rand(40).amax() + torch.zeros(3),
    amin_of_axis=lambda: torch.randn(4, 5).amin(1),
    multiplied_into=lambda: torch.mul(torch.randn(9), torch.randn(9), out=torch.zeros(9)),
    concatenated_into=lambda: torch.cat(
        [torch.randn(9), torch.rand(3)], out=torch.zeros(12)
    ),
    drawn_into=lambda: torch.randn(20, out=torch.empty(20)),
    squeezed=lambda: torch.randn(1, 20, 1).squeeze() + torch.rand(20).unsqueeze(0),
    as_strided=lambda: torch.randn(30).as_strided((4, 3), (5, 2), 1).clone(),
    unfolded=lambda: torch.randn(30).unfold(0, 4, 2).clone(),
    swapped_halves=lambda: _write(torch.randn(40), _swap_halves),
    overlapping_store=lambda: _views_of_one_store(),
)  # fmt: skip


def _write(tensor: torch.Tensor, edit: Callable[[torch.Tensor], Any]) -> torch.Tensor:
    edit(tensor)
    return tensor


def _each(init: Callable[[torch.Tensor], Any], tensor: torch.Tensor, parts: int) -> None:
    for part in tensor.chunk(parts):
        init(part)


def _sliced() -> torch.Tensor:
    w = torch.empty(6, 10)
    w[:2].uniform_(-1, 1)
    w[2:5].normal_(std=0.1)
    w[5:].zero_()
    return w


def _swap_halves(w: torch.Tensor) -> None:
    first = w[:20].clone()
    w[:20] = w[20:]
    w[20:] = first


def _views_of_one_store() -> torch.Tensor:
    store = torch.randn(50)
    store[10:20].uniform_()
    window = store[5:25].view(4, 5)
    window[1:3, 1:3].fill_(3)
    return window.clone()


@case
def residual_scaling() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    for name, parameter in model.named_parameters():
        if name.endswith("weight"):
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * 12))
    with torch.no_grad():
        model[1].weight /= math.sqrt(2 * 12)
        model[0].bias.data.zero_()
    return model


@case
def deep_copies() -> nn.Module:
    layer = nn.Linear(5, 4)
    copies = nn.ModuleList([copy.deepcopy(layer) for _ in range(2)])
    nn.init.normal_(copies[1].weight)
    return nn.Sequential(layer, *copies)


@case
def tied() -> nn.Module:
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9, bias=False))
    model[1].weight = model[0].weight
    with torch.no_grad():
        model[1].weight[0] = 0
    return model


@case
def shared_storage() -> nn.Module:
    model = nn.Linear(6, 6)
    model.part = nn.Parameter(model.weight.data[:3])
    model.part.data.mul_(2)
    return model


@case
def replaced_data() -> nn.Module:
    model = nn.Linear(6, 4)
    model.weight.data = torch.randn(4, 6) * 0.1
    model.bias.data.copy_(model.weight.data[:, 0])
    return model


@case
def buffers() -> nn.Module:
    model = nn.Linear(3, 2)
    model.register_buffer("table", torch.randn(4, 5))
    model.register_buffer("index", torch.arange(7))
    model.register_buffer("mask", torch.tril(torch.ones(4, 4)).bool(), persistent=False)
    model.register_buffer("none", None)
    return model


@case
def own_generators() -> nn.Module:
    a, b = torch.Generator().manual_seed(3), torch.Generator().manual_seed(4)
    first = torch.randn(20, generator=a)
    second = torch.rand(20, generator=b)
    third = nn.init.normal_(torch.empty(5, 5), generator=a)
    fourth = nn.init.trunc_normal_(torch.empty(25), a=-1, b=1, generator=b)
    return Holder(a=first, b=second, c=third, d=fourth, e=torch.randn(3))


@case
def generator_without_seed() -> nn.Module:
    generator = torch.Generator()
    return Holder(a=torch.randn(20, generator=generator), b=torch.randn(20))


@case
def seeded_inside() -> nn.Module:
    before = torch.randn(20)
    torch.manual_seed(11)
    inside = torch.randn(20)
    return Holder(a=before, b=inside, c=torch.randn(5))


@case
def seeded_twice_alike() -> nn.Module:
    torch.manual_seed(11)
    first = nn.Linear(3, 4)
    torch.manual_seed(11)
    return nn.Sequential(first, nn.Linear(3, 4))


@case
def seeded_with_what_the_trace_began_with() -> nn.Module:
    torch.manual_seed(torch.initial_seed())
    return Holder(a=torch.randn(20))


@case
def generator_seeded_twice_alike() -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    first = torch.randn(20, generator=generator)
    generator.manual_seed(3)
    return Holder(a=first, b=torch.randn(20, generator=generator))


@case
def draws_that_end_nowhere() -> nn.Module:
    torch.randn(5)
    torch.rand(3, 3)
    torch.randn(5, dtype=torch.float64)
    torch.randn(18, dtype=torch.bfloat16)
    torch.randperm(9)
    torch.randint(0, 5, (3,))
    nn.init.trunc_normal_(torch.empty(40), a=-1, b=1)
    nn.init.trunc_normal_(torch.empty(40), a=1.5, b=2)
    nn.Linear(7, 3)
    return nn.Linear(3, 5)


@case
def cached_half_of_a_pair() -> nn.Module:
    return Holder(a=torch.randn(3), b=torch.randn(20), c=torch.randn(2), d=torch.rand(1))


@case
def other_default_dtype() -> nn.Module:
    first = nn.Linear(4, 3)
    torch.set_default_dtype(torch.float64)
    second = nn.Linear(4, 3)
    torch.set_default_dtype(torch.bfloat16)
    third = nn.Linear(4, 3)
    torch.set_default_dtype(torch.float32)
    return nn.Sequential(first, second, third, nn.Linear(4, 3))


@case
def converted_afterwards() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3).bfloat16(), nn.Linear(3, 4).double(), nn.Conv1d(2, 2, 3))


@case
def channels_last_model() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    model.to(memory_format=torch.channels_last)
    nn.init.kaiming_normal_(model[0].weight, mode="fan_out", nonlinearity="relu")
    nn.init.uniform_(model[2].weight, -0.1, 0.1)
    return model


@case
def applied() -> nn.Module:
    def init(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
            nn.init.zeros_(module.bias)

    return nn.Sequential(nn.Linear(8, 9), nn.GELU(), nn.Linear(9, 3)).apply(init)


@case
def forget_gates() -> nn.Module:
    lstm = nn.LSTM(4, 6)
    for name, parameter in lstm.named_parameters():
        if "bias" in name:
            parameter.data[6:12].fill_(1.0)
    return lstm


@case
def decided_by_known_values() -> nn.Module:
    rates = [x.item() for x in torch.linspace(0, 0.1, 4)]
    sizes = torch.arange(2, 5).tolist()
    layers = [nn.Linear(n, n) for n in sizes]
    for layer, rate in zip(layers, rates[1:], strict=True):
        nn.init.normal_(layer.weight, std=rate)
    return nn.Sequential(*layers)


@case
def loaded_from_another() -> nn.Module:
    source, target = nn.Linear(4, 3), nn.Linear(4, 3)
    target.load_state_dict(source.state_dict())
    return nn.Sequential(target, nn.Linear(3, 3))


@case
def grown_table() -> nn.Module:
    """A position table that is moved to another grid by hand, as in checkpoints' code."""
    table = nn.Embedding(6, 4)
    bigger = nn.Embedding(9, 4)
    bigger.weight.data[:6] = table.weight.data
    bigger.weight.data[6:] = table.weight.data[-1]
    return bigger


@pytest.mark.parametrize("name", CASES)
def test_constructors(name):
    assert_replays(CASES[name])


def test_other_seeds():
    """Beyond 32 bits, and negative: torch's seeds are taken modulo 2**64."""
    assert_replays(lambda: nn.Linear(4, 30), seeds=(2**32 + 5, 2**63, -1))


def test_a_tensor_of_another_shape_of_stream():
    """The place in the stream after a model is torch's: a layer behind each other layer."""
    for name, args, kwargs in ROWS:
        if name in ("Linear", "Embedding", "MultiheadAttention", "LSTM", "Conv2d", "Bilinear"):
            assert_replays(lambda: nn.Sequential(make(name, args, kwargs), nn.Linear(5, 9)), (1,))  # noqa: B023


# Functions. SLEEF's are bit for bit; MKL's, whose source is not public, next to it: a few ulps.

FUNCTIONS: dict[str, tuple[Callable[[], torch.Tensor], int]] = {
    "expm1": (lambda: torch.expm1(torch.rand(500) * 2 - 1), 0),
    "log1p": (lambda: torch.log1p(torch.rand(500)), 0),
    "exp": (lambda: torch.exp(torch.rand(500) * 8 - 4), 1),
    "log": (lambda: torch.log(torch.rand(500) + 0.01), 1),
    "sqrt": (lambda: torch.rand(500).sqrt(), 1),
    "rsqrt": (lambda: (torch.rand(500) + 0.1).rsqrt(), 0),
    "erfinv": (lambda: torch.erfinv(torch.rand(500) * 1.9 - 0.95), 2),
    "erfinv_everywhere": (lambda: torch.erfinv(2 * torch.rand(1 << 16) - 1), 2),
    "arange_log": (lambda: torch.log(torch.arange(1, 17, dtype=torch.float32)).repeat(3, 1), 0),
    "log_uniform": (lambda: torch.empty(8).uniform_(1, 16).log_(), 1),
    "exp_double": (lambda: torch.exp(torch.rand(500, dtype=torch.float64)), 1),
    "sqrt_double": (lambda: torch.sqrt(torch.rand(500, dtype=torch.float64)), 1),
    # A sum of near opposites: a few ulps of its terms are more of the sum.
    "mamba_dt": (lambda: _mamba_dt(), 8),
}


def _mamba_dt() -> torch.Tensor:
    low, high = math.log(0.001), math.log(0.1)
    dt = torch.exp(torch.rand(64) * (high - low) + low).clamp(min=1e-4)
    return dt + torch.log(-torch.expm1(-dt))


@pytest.fixture(params=[True, False], ids=["with MKL", "without MKL"])
def has_mkl(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Whether the library that PyTorch's functions come from is at hand; PyTorch in one thread."""
    if not request.param:
        monkeypatch.setattr(mkl, "find", lambda version: None)
    elif mkl.find((2, 13)) is None:
        pytest.skip("no MKL of PyTorch's version here")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield request.param
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, has_mkl):
    value, ulps = FUNCTIONS[name]
    recipe = traced(lambda: Holder(w=value()))
    for seed in SEEDS:
        expected = built(lambda: Holder(w=value()), seed)["w"].numpy()
        values = recipe.replay(seed)["w"]
        assert values.dtype == expected.dtype
        np.testing.assert_array_max_ulp(values, expected, 0 if has_mkl else ulps)
    assert has_mkl <= ("w" not in recipe.inexact())
    assert ulps == 0 or has_mkl or "w" in recipe.inexact()


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if "double" not in name])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_functions_in_16_bits(name, dtype, has_mkl):
    """MKL has no part in them: they are PyTorch's bit for bit without it."""

    def build() -> nn.Module:
        torch.set_default_dtype(dtype)
        return Holder(w=FUNCTIONS[name][0]())

    recipe = traced(build)
    if name == "rsqrt":  # whose last elements PyTorch rounds otherwise
        assert recipe.inexact() == {"w": ("rsqrt",)}
        return
    assert_same(recipe.replay(3), built(build, 3))
    assert recipe.inexact() == {}


def _timm_trunc_normal(tensor: torch.Tensor, mean: float, std: float, a: float, b: float) -> None:
    """timm's, and torch's own before 2.12: by the inverse of the distribution function."""

    def cdf(x: float) -> float:
        return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0

    with torch.no_grad():
        low, high = cdf((a - mean) / std), cdf((b - mean) / std)
        tensor.uniform_(2 * low - 1, 2 * high - 1)
        tensor.erfinv_()
        tensor.mul_(std * math.sqrt(2.0))
        tensor.add_(mean)
        tensor.clamp_(min=a, max=b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_truncated_by_erfinv(dtype, has_mkl):
    def build() -> nn.Module:
        model = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 4)).to(dtype)
        _timm_trunc_normal(model[0].weight, 0.0, 0.02, -2.0, 2.0)
        _timm_trunc_normal(model[1].weight, 0.0, 1.0, -0.5, 0.5)
        return model

    exact = has_mkl or dtype == torch.bfloat16
    assert_near(build, 3e-7, () if exact else ("0.weight", "1.weight"))
    named = dict.fromkeys(("0.weight", "1.weight"), ("erfinv",))
    assert traced(build).inexact() == ({} if exact else named)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (5, 2, 3), (200, 100)])
def test_orthogonal(shape, has_mkl):
    def build() -> nn.Module:
        w = nn.init.orthogonal_(torch.empty(shape), gain=1.5)
        return nn.Sequential(Holder(w=w), nn.Linear(3, 2))

    assert_near(build, 2e-6, () if has_mkl else ("0.w",))
    assert traced(build).inexact() == ({} if has_mkl else {"0.w": ("qr_q", "qr_r")})


def test_orthogonal_gates(has_mkl):
    def build() -> nn.Module:
        gru = nn.GRU(4, 6)
        for gate in gru.weight_hh_l0.data.chunk(3):
            nn.init.orthogonal_(gate)
        return gru

    assert_near(build, 1e-6, () if has_mkl else ("weight_hh_l0",))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [0, 1, 2, -1, None])
def test_weight_norm(dtype, dim):
    """The magnitudes are norms, whose squares are added in PyTorch's order."""
    build = lambda: nn.Sequential(  # noqa: E731
        parametrizations.weight_norm(nn.Conv1d(24, 9, 7, dtype=dtype), dim=dim), nn.Linear(3, 2)
    )
    assert_replays(build)
    assert traced(build).inexact() == {}


@pytest.mark.parametrize("dim", [0, 1])
def test_weight_norm_of_bfloat16(dim):
    build = lambda: parametrizations.weight_norm(nn.Linear(300, 40).bfloat16(), dim=dim)  # noqa: E731
    assert_replays(build)
    assert traced(build).inexact() == {}


SUMS: dict[str, Callable[[], torch.Tensor]] = {
    "rows": lambda: torch.randn(30, 90).sum(1),
    "columns": lambda: torch.randn(300, 90).sum(0),
    "all": lambda: torch.randn(30, 90).sum(),
    "mean": lambda: torch.randn(6, 43).mean(1),
    "mean_of_columns": lambda: torch.randn(6, 43, 5).mean((0, 2), keepdim=True),
    "transposed": lambda: torch.randn(40, 50).t().sum(0),
    "channels_last": lambda: (
        torch.randn(4, 6, 5, 7).contiguous(memory_format=torch.channels_last).sum((2, 3))
    ),
    "norm_of_transposed": lambda: torch.randn(40, 50).t().norm(dim=0),
    "normalize": lambda: nn.functional.normalize(torch.randn(6, 40)),
    "centred": lambda: _centred(torch.randn(6, 40, dtype=torch.float64)),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums(name):
    assert_replays(lambda: Holder(w=SUMS[name]()))


UNSURE: dict[str, tuple[Build, float]] = {
    "weight_norm_of_conv": (
        lambda: parametrizations.weight_norm(nn.Conv1d(8, 8, 5), dim=2),
        1e-6,
    ),
    "spectral_norm": (lambda: parametrizations.spectral_norm(nn.Linear(6, 5)), 1e-5),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(6, 5)), 1e-5),
    "matmul": (lambda: Holder(w=torch.randn(5, 6) @ torch.randn(6, 4)), 1e-5),
    "norm_1": (lambda: Holder(w=_over_norm(torch.randn(6, 40), 1)), 1e-6),
    "vector_norm_inf": (
        lambda: Holder(w=torch.linalg.vector_norm(torch.randn(6, 40), math.inf, dim=1)),
        1e-6,
    ),
    "standard_deviation": (lambda: Holder(w=torch.randn(6, 40) / torch.rand(40).std()), 1e-6),
    "sin": (lambda: Holder(w=torch.sin(torch.randn(40))), 1e-6),
    "tanh": (lambda: Holder(w=torch.tanh(torch.randn(40))), 1e-6),
    "sigmoid": (lambda: Holder(w=torch.sigmoid(torch.randn(40))), 1e-6),
    "softmax": (lambda: Holder(w=torch.softmax(torch.randn(4, 9), -1)), 1e-6),
    "power": (lambda: Holder(w=torch.rand(40) ** 0.3), 1e-6),
    "number_to_power": (lambda: Holder(w=2.0 ** torch.rand(40)), 1e-6),
    "sum_of_integers": (lambda: Holder(w=torch.randint(0, 9, (5, 5)).sum(0).float()), 0.0),
    "cumulative_sum": (lambda: Holder(w=torch.rand(9).cumsum(0)), 1e-6),
    "sorted": (lambda: Holder(w=torch.rand(9).sort().values), 0.0),
    "gathered": (lambda: Holder(w=torch.rand(9)[torch.tensor([1, 4])]), 0.0),
    "gathered_by_draw": (lambda: Holder(w=torch.arange(9.0)[torch.randperm(9)]), 0.0),
    "bernoulli": (lambda: Holder(w=torch.bernoulli(torch.full((9,), 0.5))), 0.0),
    "exponential": (lambda: Holder(w=torch.empty(9).exponential_()), 0.0),
    "after_exponential": (
        lambda: (torch.empty(9).exponential_(), nn.Linear(3, 2))[1],
        0.0,
    ),
    "after_dropout": (
        lambda: (nn.functional.dropout(torch.ones(9)), nn.Linear(3, 2))[1],
        0.0,
    ),
    "after_multinomial": (
        lambda: (torch.multinomial(torch.ones(9), 3), nn.Linear(3, 2))[1],
        0.0,
    ),
    "normal_of_tensors": (
        lambda: Holder(w=torch.normal(torch.zeros(20), torch.linspace(0.1, 1, 20))),
        0.0,
    ),
    "added_with_alpha_double": (
        lambda: Holder(
            w=torch.add(
                torch.randn(40, dtype=torch.float64), torch.rand(40, dtype=torch.float64), alpha=0.3
            )
        ),
        0.0,
    ),
    "added_with_alpha_half": (
        lambda: Holder(w=torch.add(torch.randn(40).half(), torch.rand(40).half(), alpha=0.3)),
        0.0,
    ),
    "added_number_with_alpha": (lambda: Holder(w=torch.add(torch.randn(40), 5, alpha=0.3)), 0.0),
    "rounded_to_decimals": (lambda: Holder(w=(torch.rand(30) * 5).round(decimals=1)), 0.0),
    "clamped_by_tensor": (lambda: Holder(w=torch.randn(30).clamp(min=torch.zeros(30))), 0.0),
    "clamped_by_draws": (
        lambda: Holder(w=torch.randn(30).clamp(torch.rand(30) - 1, torch.rand(30))),
        0.0,
    ),
    "double_added_in_place": (
        lambda: Holder(w=torch.rand(30).add_(torch.rand(30, dtype=torch.float64))),
        0.0,
    ),
    "bfloat_cubed": (lambda: Holder(w=torch.randn(300, dtype=torch.bfloat16) ** 3), 0.0),
    "to_the_fourth": (lambda: Holder(w=torch.rand(300) ** 4), 1e-6),
    "inverse_square": (lambda: Holder(w=(torch.rand(300) + 1) ** -2), 1e-6),
    "square_root_by_power": (lambda: Holder(w=(torch.rand(300) + 1) ** 0.5), 1e-6),
    "complex_absolute": (
        lambda: Holder(w=torch.randn(30, dtype=torch.complex64).abs()),
        1e-6,
    ),
    "full_complex": (lambda: Holder(buffer=torch.full((3,), 1 + 2j)), 0.0),
    "not": (lambda: Holder(buffer=~(torch.rand(30) > 0.5)), 0.0),
    "padded": (lambda: Holder(w=nn.functional.pad(torch.randn(3, 4), (1, 2))), 0.0),
    "relu": (lambda: Holder(w=torch.relu(torch.randn(30))), 0.0),
    "selected_by_draw": (lambda: Holder(w=torch.randn(9)[torch.randperm(9)]), 0.0),
    "integer_division": (lambda: Holder(w=(torch.rand(9) * 9) // 2), 0.0),
    "remainder": (lambda: Holder(w=(torch.rand(9) * 9) % 2), 0.0),
    "complex_draw": (lambda: Holder(buffer=torch.randn(20, dtype=torch.complex64)), 0.0),
    "complex_parts": (
        lambda: Holder(w=torch.view_as_real(torch.randn(20, dtype=torch.complex64)).clone()),
        0.0,
    ),
    "complex_real": (lambda: Holder(w=torch.randn(20, dtype=torch.complex64).real.clone()), 0.0),
    "complex_conjugate": (
        lambda: Holder(buffer=torch.randn(20, dtype=torch.complex64).conj().resolve_conj()),
        0.0,
    ),
    "as_complex": (lambda: Holder(buffer=torch.view_as_complex(torch.randn(9, 2)).clone()), 0.0),
    "other_dtype_view": (
        lambda: Holder(buffer=torch.randn(20).view(torch.int32).clone()),
        0.0,
    ),
    "fork_rng": (lambda: _forked(), 0.0),
    "restored_state": (lambda: _restored(), 0.0),
    "generator_state_restored": (lambda: _restored_generator(), 0.0),
    "cloned_generator": (lambda: _cloned_generator(), 0.0),
    "index_assigned_rows": (lambda: Holder(w=_rows_assigned()), 0.0),
    "scattered": (
        lambda: Holder(w=torch.zeros(9).scatter_(0, torch.tensor([1, 3]), torch.randn(2))),
        0.0,
    ),
    "interpolated": (
        lambda: Holder(w=nn.functional.interpolate(torch.randn(1, 2, 6), size=9)),
        0.0,
    ),
    "lerp": (lambda: Holder(w=torch.lerp(torch.randn(9), torch.randn(9), 0.3)), 1e-6),
    "addcmul": (
        lambda: Holder(w=torch.addcmul(torch.randn(9), torch.randn(9), torch.randn(9))),
        1e-6,
    ),
    "outer": (lambda: Holder(w=torch.outer(torch.randn(9), torch.randn(5))), 0.0),
    "einsum": (lambda: Holder(w=torch.einsum("i,j->ij", torch.rand(9), torch.rand(5))), 1e-6),
    "kron": (lambda: Holder(w=torch.kron(torch.randn(3, 3), torch.ones(2, 2))), 0.0),
    "double_zero_dim": (
        lambda: Holder(w=torch.rand(40) * torch.rand((), dtype=torch.float64)),
        0.0,
    ),
    "half_sum": (lambda: Holder(w=torch.randn(40).half() + torch.rand(40).half()), 0.0),
    "set_": (lambda: Holder(w=torch.empty(20).set_(torch.randn(20))), 0.0),
    "resized": (lambda: Holder(w=torch.randn(20).resize_(4, 5)), 0.0),
    "rolled": (lambda: Holder(w=torch.randn(4, 5).roll(1, 0)), 0.0),
    "eye_times_draw": (lambda: Holder(w=torch.eye(300) * torch.randn(300)), 0.0),
    "swapped_data": (lambda: _swapped(), 0.0),
}


def _centred(w: torch.Tensor) -> torch.Tensor:
    return w - w.mean(1, keepdim=True)


def _over_norm(w: torch.Tensor, p: int) -> torch.Tensor:
    return w / w.norm(p=p, dim=1, keepdim=True)


def _forked() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        inside = torch.randn(20)
    return Holder(a=inside, b=torch.randn(20))


def _restored() -> nn.Module:
    state = torch.get_rng_state()
    first = torch.randn(20)
    torch.set_rng_state(state)
    return Holder(a=first, b=torch.randn(20))


def _restored_generator() -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    state = generator.get_state()
    first = torch.randn(20, generator=generator)
    generator.set_state(state)
    return Holder(a=first, b=torch.randn(20, generator=generator))


def _cloned_generator() -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    first = torch.randn(20, generator=generator)
    other = torch.Generator()
    other.set_state(generator.get_state())
    return Holder(a=first, b=torch.randn(20, generator=other))


def _rows_assigned() -> torch.Tensor:
    w = torch.randn(6, 5)
    w[[1, 4]] = torch.zeros(5)
    return w


def _swapped() -> nn.Module:
    a, b = nn.Linear(3, 3), nn.Linear(3, 3)
    a.weight.data, b.weight.data = b.weight.data, a.weight.data
    return nn.Sequential(a, b)


@pytest.mark.parametrize("name", UNSURE)
def test_right_or_named(name):
    build, tolerance = UNSURE[name]
    is_right_or_named(build, tolerance)


def test_on_the_meta_device():
    """What a constructor asks of the meta device is traced as if it were the CPU's."""

    def on_meta() -> nn.Module:
        with torch.device("meta"):
            return nn.Sequential(nn.Linear(4, 30), nn.Embedding(5, 6, padding_idx=0))

    def on_cpu() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 30), nn.Embedding(5, 6, padding_idx=0))

    recipe = traced(on_meta)
    assert_same(recipe.replay(3), built(on_cpu, 3))


def test_device_arguments():
    recipe = traced(lambda: nn.Linear(4, 30, device="cuda"))
    assert_same(recipe.replay(3), built(lambda: nn.Linear(4, 30), 3))


def test_tracing_draws_nothing():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    trace(lambda: nn.LSTM(5, 6, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_tracing_warns_of_nothing():
    """Not even torch's warnings that it gives once a process."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        trace(lambda: copy.deepcopy(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))))
    finally:
        torch.set_warn_always(before)


def test_a_constructor_that_fails_leaves_torch_as_it_was():
    def build() -> nn.Module:
        nn.Linear(3, 2)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        trace(build)
    assert type(torch.zeros(2)) is torch.Tensor
    assert torch.ones(2).sum().item() == 2
    assert_replays(lambda: nn.Linear(3, 2))


def test_values_applied_to_the_model():
    """recipe.with_values(recipe.replay(seed)) fills a module with PyTorch's own start."""
    import portinit
    import portinit_torch

    def build() -> nn.Module:
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(5, 4).bfloat16())
        model.register_buffer("mask", torch.ones(3, 3).tril().bool())
        return model

    recipe = traced(build)
    torch.manual_seed(1)
    model = build()
    portinit_torch.initialize(model, recipe.with_values(recipe.replay(6)), portinit.key(0))
    expected = built(build, 6)
    for name, tensor in tensors(model).items():
        assert words(tensor) == words(expected[name]), name


def test_a_replay_needs_a_trace():
    with pytest.raises(RecipeError, match="a replay needs a traced recipe"):
        Recipe([]).replay(0)


@pytest.mark.parametrize("version", ["two", "2", "2.x"])
def test_versions_that_are_none(version):
    recipe = traced(lambda: nn.Linear(3, 2))
    with pytest.raises(ValueError, match="a torch version must be such as"):
        recipe.replay(0, version)


def test_older_versions_differ_where_they_should():
    """bfloat16 draws changed in 2.13; float32 ones did not."""
    recipe = traced(lambda: nn.Sequential(nn.Embedding(9, 9), nn.Embedding(9, 9).bfloat16()))
    low = traced(lambda: nn.Embedding(9, 9, dtype=torch.bfloat16))
    new, old = recipe.replay(0), recipe.replay(0, "2.11")
    assert all(words(new[name]) == words(old[name]) for name in new)
    assert words(low.replay(0)["weight"]) != words(low.replay(0, "2.11")["weight"])
    assert words(low.replay(0)["weight"]) == words(low.replay(0, "2.13.0+cpu")["weight"])


def test_a_generator_of_ones_own_is_left_as_it_was():
    """Tracing draws nothing, from generators that the constructor only borrows either."""
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()

    def build() -> nn.Module:
        return Holder(w=torch.randn(20, generator=generator))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace(build)
    assert torch.equal(generator.get_state(), before)


# Long programs


def _rows_drawn(count: int) -> torch.Tensor:
    w = torch.zeros(count, 4)
    for i in range(count):
        w[i] = torch.randn(4) * (i + 1) ** -0.5
    return w


def _numbers_written(count: int) -> torch.Tensor:
    w = torch.zeros(count, 4)
    for i in range(count):
        w[i, i % 4] = math.sin(i)
    return w


def _multiplied(count: int) -> torch.Tensor:
    w = torch.rand(4)
    for _ in range(count):
        w = w * 1.001 + torch.rand(())
    return w


def _scaled(count: int) -> torch.Tensor:
    w = torch.rand(4)
    for _ in range(count):
        w = w * 1.001
    return w


def _grown(count: int) -> torch.Tensor:
    w = torch.rand(1, 4)
    for _ in range(count):
        w = torch.cat([w, torch.rand(1, 4)])
    return w


def _read_between_writes(count: int) -> torch.Tensor:
    """Each write is into a tensor whose value before is still needed."""
    w, total = torch.zeros(8, 4), torch.zeros(8, 4)
    for i in range(count):
        w[i % 8] = torch.rand(4)
        total = total + w
    return total


LONG = [_rows_drawn, _numbers_written, _multiplied, _scaled, _grown, _read_between_writes]


@pytest.mark.parametrize("count", [120, 450])
@pytest.mark.parametrize("make", LONG)
def test_long_programs(make, count):
    """Beyond the depth of Python's stack, and of what a recipe's text may nest."""
    import portinit
    import portinit_torch

    build = lambda: Holder(w=make(count))  # noqa: E731
    recipe = traced(build)
    assert_same(recipe.replay(3), built(build, 3))
    assert str(recipe)
    assert hash(recipe.rules[0].initializer) is not None
    portinit_torch.initialize(build(), recipe, portinit.key(0))
