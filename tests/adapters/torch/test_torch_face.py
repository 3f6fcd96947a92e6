"""portinit_torch beside torch.nn.init: every call is made to both, or checked against the core."""

import inspect
import math
import warnings
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import torch
from scipy import stats
from tests.support.bits import bits, same_bits

import portinit
import portinit_torch

INIT = torch.nn.init
KEY = portinit.key(20240607)


class Fill(NamedTuple):
    """A function of torch.nn.init, arguments it accepts, and the core's name for the call."""

    name: str
    core: portinit.Initializer
    args: tuple[Any, ...] = ()
    shape: tuple[int, ...] = (12, 10)

    @property
    def random(self) -> bool:
        return "generator" in inspect.signature(getattr(INIT, self.name)).parameters

    def on(self, tensor: torch.Tensor, module: Any = portinit_torch, **how: Any) -> torch.Tensor:
        how = how if self.random else {}
        return getattr(module, self.name)(tensor, *self.args, **how)

    def filled(self, shape: tuple[int, ...] | None = None, **how: Any) -> torch.Tensor:
        return self.on(torch.empty(shape or self.shape, dtype=how.pop("dtype", None)), **how)


FILLS = (
    Fill("uniform_", portinit.uniform(-1.5, 2.0), (-1.5, 2.0)),
    Fill("normal_", portinit.normal(0.5, 0.3), (0.5, 0.3)),
    Fill("trunc_normal_", portinit.trunc_normal(0.0, 0.7, -0.5, 1.0), (0.0, 0.7, -0.5, 1.0)),
    Fill("constant_", portinit.constant(0.3), (0.3,)),
    Fill("ones_", portinit.ones),
    Fill("zeros_", portinit.zeros),
    Fill("eye_", portinit.eye()),
    Fill("dirac_", portinit.dirac(2), (2,), (8, 3, 3, 2)),
    Fill("xavier_uniform_", portinit.xavier_uniform(1.7), (1.7,), (6, 5, 3, 2)),
    Fill("xavier_normal_", portinit.xavier_normal(0.4), (0.4,)),
    Fill(
        "kaiming_uniform_",
        portinit.kaiming_uniform(math.sqrt(5), "fan_out"),
        (math.sqrt(5), "fan_out"),
        (6, 5, 3, 2),
    ),
    Fill(
        "kaiming_normal_",
        portinit.kaiming_normal(0, "fan_in", "relu"),
        (0, "FAN_IN", "relu"),
        (6, 5, 3, 2),
    ),
    Fill("orthogonal_", portinit.orthogonal(1.3), (1.3,), (6, 4, 2, 2)),
    Fill("sparse_", portinit.sparse(0.3, 0.1), (0.3, 0.1)),
)
RANDOM = tuple(row for row in FILLS if row.random)

every_fill = pytest.mark.parametrize("row", FILLS, ids=lambda row: row.name)
every_random = pytest.mark.parametrize("row", RANDOM, ids=lambda row: row.name)
Warned = list[tuple[type[Warning], str]]


def outcome(module: ModuleType, name: str, args: Any, how: Any) -> tuple[Any, Warned]:
    """The result of a call or the type of its error, and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = getattr(module, name)(*args, **how)
        except Exception as error:
            result = type(error)
    return result, [(w.category, str(w.message)) for w in caught]


# The public face


def test_every_public_function_of_torch_is_in_the_tables() -> None:
    """A name that torch adds is a name to add here."""
    current = {name for name in INIT.__all__ if name.endswith("_")}
    assert current == {row.name for row in FILLS}
    deprecated = set(INIT.__all__) - current - {"calculate_gain"}
    assert deprecated == {n.removesuffix("_") for n in current} - {"trunc_normal", "ones", "zeros"}


def parameters(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    found = inspect.signature(function).parameters.values()
    return {p.name: (p.kind, p.default) for p in found}


@pytest.mark.parametrize("name", INIT.__all__)
def test_signature(name: str) -> None:
    theirs, ours = parameters(getattr(INIT, name)), parameters(getattr(portinit_torch, name))
    key = ours.pop("key", None)
    assert list(ours.items()) == list(theirs.items())
    assert (key is not None) == ("generator" in theirs)
    assert key in (None, (inspect.Parameter.KEYWORD_ONLY, None))
    assert getattr(portinit_torch, name).__name__ == name


@pytest.mark.parametrize("name", [n for n in INIT.__all__ if n + "_" in INIT.__all__])
def test_deprecated_names_warn_in_torchs_words_and_fill(name: str) -> None:
    row = next(row for row in FILLS if row.name == name + "_")
    how = {"key": KEY} if row.random else {}
    result, warned = outcome(portinit_torch, name, (torch.empty(row.shape), *row.args), how)
    _, expected = outcome(INIT, name, (torch.empty(row.shape), *row.args), {})
    assert warned == expected
    assert [category for category, _ in warned] == [FutureWarning]
    assert same_bits(result, row.filled(key=KEY))


WARNED_CALLS = {
    "deprecated": ("uniform", (3, 3), ()),
    "mean below the bounds": ("trunc_normal_", (3, 3), (-5.0, 1.0)),
    "mean above the bounds": ("trunc_normal_", (3, 3), (5.0, 1.0)),
    "kaiming_uniform_ of nothing": ("kaiming_uniform_", (0, 3), ()),
    "kaiming_normal_ of nothing": ("kaiming_normal_", (3, 0), ()),
    "nothing, deprecated": ("kaiming_normal", (3, 0), ()),
    "nothing, and a bad mode": ("kaiming_normal_", (0,), (0, "neither")),
}


@pytest.mark.parametrize("call", WARNED_CALLS.values(), ids=WARNED_CALLS)
def test_warnings_are_torchs(call: tuple[str, tuple[int, ...], tuple[Any, ...]]) -> None:
    name, shape, args = call
    _, expected = outcome(INIT, name, (torch.zeros(shape), *args), {})
    _, warned = outcome(portinit_torch, name, (torch.zeros(shape), *args), {"key": KEY})
    assert expected
    assert warned == expected


@pytest.mark.parametrize(
    "case", ["deprecated", "mean above the bounds", "kaiming_normal_ of nothing"]
)
def test_warnings_point_at_the_caller(case: str) -> None:
    name, shape, args = WARNED_CALLS[case]
    with pytest.warns(Warning) as caught:  # noqa: PT030 (the text is compared above)
        getattr(portinit_torch, name)(torch.zeros(shape), *args)
    assert [w.filename for w in caught] == [__file__]


def test_mean_two_std_from_the_bounds_does_not_warn() -> None:
    portinit_torch.trunc_normal_(torch.empty(3), mean=4.0, std=1.0, key=KEY)


# What is filled, and what is left alone


@every_fill
def test_a_parameter_is_filled_outside_autograd(row: Fill) -> None:
    parameter = torch.nn.Parameter(torch.full(row.shape, 7.0))
    storage = parameter.data_ptr()
    assert row.on(parameter, key=KEY) is parameter
    assert parameter.requires_grad
    assert parameter.is_leaf
    assert parameter.grad_fn is None
    assert parameter.grad is None
    assert parameter.data_ptr() == storage
    assert same_bits(parameter.data, row.filled(key=KEY))


@every_fill
def test_autograd_sees_that_the_values_changed(row: Fill) -> None:
    """A tensor saved for backward and then filled must not go unnoticed."""
    parameter = torch.nn.Parameter(torch.ones(row.shape))
    loss = (parameter * parameter).sum()
    row.on(parameter, key=KEY)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def transposed(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    base = torch.full(shape[::-1], 7.0)
    return base, base.permute(*reversed(range(len(shape))))


def strided(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    base = torch.full(tuple(2 * n + 1 for n in shape), 7.0)
    return base, base[tuple(slice(1, None, 2) for _ in shape)]


def channels_last(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    four = (*shape, 1, 1)[:4]
    base = torch.full(four, 7.0).contiguous(memory_format=torch.channels_last)
    return base, base.reshape(shape) if len(shape) < 4 else base


@pytest.mark.parametrize("make", [transposed, strided, channels_last])
@every_fill
def test_strides_do_not_change_the_logical_values(row: Fill, make: Callable[..., Any]) -> None:
    base, view = make(row.shape)
    strides = view.stride()
    assert row.on(view, key=KEY) is view
    assert view.stride() == strides
    assert same_bits(view, row.filled(key=KEY))
    outside = base.numel() - view.numel()
    assert outside == int((base == 7.0).sum()), "an element outside the view was written"


@every_random
def test_expanded_tensors_are_refused_as_torch_refuses_them(row: Fill) -> None:
    errors = []
    for module in (INIT, portinit_torch):
        base = torch.full((row.shape[0], *(1 for _ in row.shape[1:])), 7.0)
        with pytest.raises(RuntimeError, match="more than one element") as error:
            row.on(base.expand(row.shape), module)
        errors.append((error.type, bool((base == 7.0).all())))
    assert errors[1] == (errors[0][0], True)


@pytest.mark.parametrize("row", FILLS[3:6], ids=lambda row: row.name)
def test_constants_fill_expanded_tensors_as_in_torch(row: Fill) -> None:
    target = row.on(torch.full((12, 1), 7.0).expand(12, 10))
    assert torch.equal(target, row.on(torch.full((12, 1), 7.0).expand(12, 10), INIT))


def test_an_expanded_axis_of_one_overlaps_nothing() -> None:
    target = torch.empty(5, 1).expand(5, 1)
    assert same_bits(
        portinit_torch.normal_(target, key=KEY), portinit_torch.normal_(torch.empty(5, 1), key=KEY)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@every_fill
def test_half_precision_is_float32_rounded_by_torch(row: Fill, dtype: torch.dtype) -> None:
    """A uniform may differ at its two ends only, where rounding leaves [a, b)."""
    filled, rounded = row.filled(dtype=dtype, key=KEY), row.filled(key=KEY).to(dtype)
    if "uniform" not in row.name:
        assert same_bits(filled, rounded)
    off = filled != rounded
    assert bool((filled[off].abs() < rounded[off].abs()).all())
    assert bool(((rounded == rounded.min()) | (rounded == rounded.max()))[off].all())


@every_fill
def test_a_bfloat16_default_dtype_changes_nothing(row: Fill) -> None:
    expected = row.filled(dtype=torch.float32, key=KEY)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert same_bits(row.filled(dtype=torch.float32, key=KEY), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@every_fill
def test_a_meta_device_context_changes_nothing(row: Fill) -> None:
    expected = row.filled(key=KEY)
    target = torch.empty(row.shape)
    with torch.device("meta"):
        row.on(target, key=KEY)
    assert same_bits(target, expected)


META_CALLS = {
    **{row.name: (row.name, row.args, torch.float32) for row in FILLS},
    "trunc_normal_ std 0": ("trunc_normal_", (0.0, 0.0), torch.float32),
    "trunc_normal_ mean outside": ("trunc_normal_", (9.0, 1.0), torch.float32),
    "uniform_ a > b": ("uniform_", (1.0, 0.0), torch.float32),
    "uniform_ int64": ("uniform_", (), torch.int64),
    "orthogonal_ int64": ("orthogonal_", (), torch.int64),
    "sparse_ int64": ("sparse_", (0.5,), torch.int64),
    "sparse_ NaN": ("sparse_", (math.nan,), torch.float32),
    "xavier_uniform_ gain -1": ("xavier_uniform_", (-1.0,), torch.float32),
}


@pytest.mark.parametrize("call", META_CALLS.values(), ids=META_CALLS)
def test_meta_tensors_are_returned_and_nothing_is_drawn(
    call: tuple[str, tuple[Any, ...], torch.dtype],
) -> None:
    name, args, dtype = call
    shape = next(row.shape for row in FILLS if row.name == name)
    target = torch.empty(shape, device="meta", dtype=dtype)
    assert outcome(INIT, name, (target, *args), {}) == (target, [])
    state = torch.get_rng_state()
    result, warned = outcome(portinit_torch, name, (target, *args), {})
    assert result is target
    assert warned == []
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 3, 3), (2, 0, 3), ()], ids=str)
@every_fill
def test_zero_elements_and_zero_dims_as_in_torch(row: Fill, shape: tuple[int, ...]) -> None:
    args = () if row.name == "dirac_" else row.args
    theirs, expected = outcome(INIT, row.name, (torch.zeros(shape), *args), {})
    target = torch.zeros(shape)
    ours, warned = outcome(portinit_torch, row.name, (target, *args), {})
    assert warned == expected
    if isinstance(theirs, torch.Tensor):
        assert ours is target
    else:
        assert ours is theirs


# Keys and generators


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64], ids=str
)
@every_fill
def test_a_key_gives_the_bytes_of_the_numpy_core(row: Fill, dtype: torch.dtype) -> None:
    """Orthogonal matrices are promised to 1e-6, the rest to the bit."""
    if row.name == "normal_" and dtype.is_complex:  # no promise for a complex mean in NumPy
        row = Fill("normal_", portinit.normal(0.0, 0.3), (0.0, 0.3))
    filled = row.filled(dtype=dtype, key=KEY)
    core = row.core(KEY, row.shape, dtype, layout="torch")
    assert isinstance(core, np.ndarray)
    if row.name == "orthogonal_":
        wide = np.complex128 if dtype.is_complex else np.float64
        tolerance = max(1e-6, torch.finfo(dtype).eps)
        np.testing.assert_allclose(
            filled.to(torch.complex128 if dtype.is_complex else torch.float64).numpy(),
            core.astype(wide),
            rtol=0,
            atol=tolerance,
        )
    else:
        assert bits(filled) == bits(core)


@every_random
def test_a_key_touches_no_generator(row: Fill) -> None:
    mine = torch.Generator().manual_seed(3)
    states = torch.get_rng_state(), mine.get_state()
    first = row.filled(key=KEY, generator=mine)
    assert same_bits(first, row.filled(key=KEY))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(mine.get_state(), states[1])
    assert not same_bits(first, row.filled(key=portinit.key(1)))


@every_random
def test_a_generator_decides_and_the_global_one_rests(row: Fill) -> None:
    state = torch.get_rng_state()
    one, other, again = (torch.Generator().manual_seed(seed) for seed in (5, 6, 5))
    first = row.filled(generator=one)
    assert same_bits(first, row.filled(generator=again))
    assert not same_bits(first, row.filled(generator=other))
    assert not same_bits(first, row.filled(generator=one)), "the generator did not move on"
    assert torch.equal(torch.get_rng_state(), state)


@every_random
def test_manual_seed_governs(row: Fill) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        first, second = row.filled(), row.filled()
        torch.manual_seed(11)
        assert same_bits(row.filled(), first)
        assert same_bits(row.filled(), second)
        assert not same_bits(first, second)


@every_random
def test_two_words_are_drawn_whatever_the_shape(row: Fill) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(12)
        torch.empty(2, dtype=torch.int64).random_(0, 1 << 32)
        expected = torch.get_rng_state()
        for shape in (row.shape, (40, 30)):
            torch.manual_seed(12)
            row.filled(shape)
            assert torch.equal(torch.get_rng_state(), expected)


@every_random
def test_the_generator_may_be_given_by_position(row: Fill) -> None:
    names = list(inspect.signature(getattr(INIT, row.name)).parameters)
    defaults = [inspect.signature(getattr(INIT, row.name)).parameters[n].default for n in names]
    args = [*row.args, *defaults[1 + len(row.args) : -1], torch.Generator().manual_seed(5)]
    result = getattr(portinit_torch, row.name)(torch.empty(row.shape), *args)
    assert same_bits(result, row.filled(generator=torch.Generator().manual_seed(5)))


KEY_KINDS = {
    "numpy": lambda: np.array(portinit.key(9).words, dtype=np.uint32),
    "jax raw": lambda: jax.random.PRNGKey(9),
    "jax typed": lambda: jax.random.key(9),
}


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_every_kind_of_key_is_taken(kind: str) -> None:
    """Everything that draws takes a portinit.Key, or a JAX key, typed or raw (DESIGN, Keys)."""
    expected = portinit_torch.normal_(torch.empty(8), key=portinit.key(9))
    assert same_bits(portinit_torch.normal_(torch.empty(8), key=KEY_KINDS[kind]()), expected)


@pytest.mark.parametrize("key", [3, "name", torch.tensor([0, 9]), np.zeros(3, np.uint32)], ids=type)
def test_other_keys_are_type_errors(key: Any) -> None:
    target = torch.full((3,), 7.0)
    with pytest.raises(TypeError, match=r"portinit\.Key"):
        portinit_torch.normal_(target, key=key)
    assert bool((target == 7.0).all())


# Bad calls

REAL, INT, BOOL = torch.float32, torch.int64, torch.bool
NAN, INF = math.nan, math.inf
Bad = tuple[str, tuple[int, ...], torch.dtype, tuple[Any, ...]]


def _bad_dtypes() -> dict[str, Bad]:
    return {
        f"{row.name} {dtype}": (row.name, row.shape, dtype, row.args)
        for row in RANDOM
        for dtype in (INT, BOOL)
    }


def _bad_dims() -> dict[str, Bad]:
    dims = {
        "xavier_uniform_": [(), (4,)],
        "xavier_normal_": [(), (4,)],
        "kaiming_uniform_": [(), (4,)],
        "kaiming_normal_": [(), (4,)],
        "orthogonal_": [(), (4,)],
        "sparse_": [(), (4,), (4, 3, 2)],
        "eye_": [(), (4,), (4, 3, 2)],
        "dirac_": [(4,), (4, 3), (4, 3, 2, 1, 1, 1)],
    }
    args = {"sparse_": (0.5,)}
    return {
        f"{name} {shape}": (name, shape, REAL, args.get(name, ()))
        for name, shapes in dims.items()
        for shape in shapes
    }


def _bad_numbers() -> dict[str, Bad]:
    numbers = {
        "uniform_": [
            (1, 0),
            (NAN, 1),
            (0, NAN),
            (-INF, INF),
            (0, INF),
            (0, 1e39),
            ("a", 1),
            (None,),
        ],
        "normal_": [(0, -1), (0, NAN), (0, -INF), ("a", 1), (0, None)],
        "trunc_normal_": [(0, 0), (0, 1, 2, 1), (0, 1, NAN, 1), (0, 1, 0, NAN), ("a",), (0, None)],
        "xavier_uniform_": [(-1,), (NAN,), (INF,), ("a",), (None,)],
        "xavier_normal_": [(-1,), (NAN,), ("a",), (None,)],
        "orthogonal_": [("a",), (None,)],
        "sparse_": [(NAN,), (INF,), ("a",), (None,), (0.5, -1), (0.5, NAN)],
        **dict.fromkeys(("kaiming_uniform_", "kaiming_normal_"), BAD_KAIMING),
    }
    return {
        f"{name} {args}": (name, (4, 4), REAL, args)
        for name, rows in numbers.items()
        for args in rows
    }


BAD_KAIMING: list[tuple[Any, ...]] = [
    (0, "neither"),
    (0, None),
    (0, 3),
    (0, "fan_in", "gelu"),
    (0, "fan_in", None),
    (0, "fan_in", 1.0),
    (0, "fan_in", ["relu"]),
    (True,),
    ("x",),
    (NAN,),
    (1e200,),
    (torch.tensor(1.0),),
]

BAD_CALLS: dict[str, Bad] = {
    **_bad_dtypes(),
    **_bad_dims(),
    **_bad_numbers(),
    "kaiming: dims come after the mode": ("kaiming_normal_", (4,), REAL, (0, "neither")),
    "kaiming: dims come before the gain": ("kaiming_normal_", (4,), REAL, (0, "fan_in", "gelu")),
    "dirac_ groups 3 of 4": ("dirac_", (4, 3, 3), REAL, (3,)),
    "dirac_ groups 0": ("dirac_", (4, 3, 3), REAL, (0,)),
    "dirac_ groups 2.0": ("dirac_", (4, 3, 3), REAL, (2.0,)),
}


@pytest.mark.parametrize("call", BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_calls_raise_torchs_types_and_leave_the_target(call: Bad) -> None:
    name, shape, dtype, args = call
    theirs, _ = outcome(INIT, name, (torch.ones(shape, dtype=dtype), *args), {})
    assert isinstance(theirs, type), "torch accepts this call: it has no place in the table"
    target = torch.ones(shape, dtype=dtype)
    state = torch.get_rng_state()
    ours, warned = outcome(portinit_torch, name, (target, *args), {})
    assert (ours, warned) == (theirs, [])
    assert torch.equal(target, torch.ones(shape, dtype=dtype))
    assert torch.equal(torch.get_rng_state(), state), "a refused call drew a key"


SAME_TEXT = {
    "fans": ("xavier_normal_", (4,), ()),
    "kaiming fans": ("kaiming_uniform_", (4,), ()),
    "mode": ("kaiming_normal_", (4, 4), (0, "neither")),
    "nonlinearity": ("kaiming_normal_", (4, 4), (0, "fan_in", "gelu")),
    "eye_": ("eye_", (4,), ()),
    "sparse_": ("sparse_", (4,), (0.5,)),
    "dirac_": ("dirac_", (4, 4), ()),
    "groups": ("dirac_", (4, 3, 3), (3,)),
    "orthogonal_": ("orthogonal_", (4,), ()),
}


@pytest.mark.parametrize("call", SAME_TEXT.values(), ids=SAME_TEXT)
def test_errors_of_torchs_own_python_keep_their_text(call: tuple[str, Any, Any]) -> None:
    name, shape, args = call
    texts = []
    for module in (INIT, portinit_torch):
        with pytest.raises(ValueError, match=r".") as error:
            getattr(module, name)(torch.ones(shape), *args)
        texts.append(str(error.value))
    assert texts[1] == texts[0]


STRICTER = {
    # torch fills the tensor with NaN or infinities, with garbage, or never returns.
    "normal_ mean NaN": ("normal_", (NAN, 1)),
    "normal_ mean inf": ("normal_", (INF, 1)),
    "normal_ std inf": ("normal_", (0, INF)),
    "trunc_normal_ std -1": ("trunc_normal_", (0, -1)),
    "trunc_normal_ std NaN": ("trunc_normal_", (0, NAN)),
    "trunc_normal_ mean NaN": ("trunc_normal_", (NAN, 1)),
    "xavier_normal_ gain inf": ("xavier_normal_", (INF,)),
    "orthogonal_ gain NaN": ("orthogonal_", (NAN,)),
    "sparse_ std inf": ("sparse_", (0.5, INF)),
}


@pytest.mark.parametrize("call", STRICTER.values(), ids=STRICTER)
def test_what_torch_fills_with_no_numbers_is_a_runtime_error(call: tuple[str, Any]) -> None:
    name, args = call
    target = torch.ones(4, 4)
    assert outcome(portinit_torch, name, (target, *args), {})[0] is RuntimeError
    assert torch.equal(target, torch.ones(4, 4))


ACCEPTED = {
    "uniform_ a == b": ("uniform_", (4, 4), (0.5, 0.5)),
    "normal_ std 0": ("normal_", (4, 4), (2.0, 0.0)),
    "trunc_normal_ a == b": ("trunc_normal_", (4, 4), (0.0, 1.0, 1.0, 1.0)),
    "xavier_normal_ gain 0": ("xavier_normal_", (4, 4), (0.0,)),
    "xavier_uniform_ gain 0": ("xavier_uniform_", (4, 4), (0.0,)),
    "kaiming_normal_ slope inf": ("kaiming_normal_", (4, 4), (INF,)),
    "orthogonal_ gain 0": ("orthogonal_", (4, 4), (0.0,)),
}


@pytest.mark.parametrize("call", ACCEPTED.values(), ids=ACCEPTED)
def test_degenerate_calls_give_torchs_constants(call: tuple[str, Any, Any]) -> None:
    name, shape, args = call
    expected = getattr(INIT, name)(torch.empty(shape), *args)
    filled = getattr(portinit_torch, name)(torch.empty(shape), *args, key=KEY)
    assert torch.equal(filled, expected)


@pytest.mark.parametrize("row", FILLS, ids=lambda row: row.name)
def test_uninitialized_parameters_are_refused_with_torchs_type(row: Fill) -> None:
    theirs, _ = outcome(INIT, row.name, (torch.nn.UninitializedParameter(), *row.args), {})
    ours, _ = outcome(portinit_torch, row.name, (torch.nn.UninitializedParameter(), *row.args), {})
    assert ours is theirs


# Values against torch's own


@pytest.mark.parametrize("name", ["eye_", "dirac_", "constant_", "ones_", "zeros_"])
@pytest.mark.parametrize(
    "dtype", [REAL, torch.float64, torch.bfloat16, torch.complex64, INT], ids=str
)
@pytest.mark.parametrize(
    "shape", [(5, 7), (7, 5), (8, 3, 4, 5), (4, 6, 1), (2, 2, 2, 3, 4)], ids=str
)
def test_what_is_not_random_is_torchs(
    name: str, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    args = (3,) if name == "constant_" else ()
    theirs, _ = outcome(INIT, name, (torch.empty(shape, dtype=dtype), *args), {})
    ours, _ = outcome(portinit_torch, name, (torch.empty(shape, dtype=dtype), *args), {})
    assert same_bits(ours, theirs) if isinstance(theirs, torch.Tensor) else ours is theirs


SIZE = (120, 100, 2)
# Both samples are fixed. Two samples of one law differ by more than 1.95 * sqrt(2 / n) once in a
# thousand draws; a wrong fan, gain or bound moves the statistic to many times that.
KS_LIMIT = 1.95 * math.sqrt(2 / math.prod(SIZE))
LAWS = {
    "uniform_": [(), (-2.0, 5.0)],
    "normal_": [(), (3.0, 0.1)],
    "trunc_normal_": [(), (0.0, 0.02), (1.0, 2.0, -1.0, 2.0), (0.0, 1.0, 1.5, 4.0)],
    "xavier_uniform_": [(), (3.0,)],
    "xavier_normal_": [(), (3.0,)],
    "kaiming_uniform_": [(), (0.5,), (math.sqrt(5), "fan_out"), (0, "fan_in", "tanh")],
    "kaiming_normal_": [(), (0.5,), (0, "fan_out", "relu"), (0, "fan_in", "selu")],
}


DRAWN = [
    (name, args, dtype)
    for name, rows in LAWS.items()
    for args in rows
    for dtype in (REAL, torch.float64, torch.complex64)
    if not (name == "trunc_normal_" and dtype.is_complex)  # torch has no complex one
]


@pytest.mark.parametrize(("name", "args", "dtype"), DRAWN, ids=str)
def test_distributions_are_torchs(name: str, args: tuple[Any, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    theirs = getattr(INIT, name)(torch.empty(SIZE, dtype=dtype), *args, generator=generator)
    ours = getattr(portinit_torch, name)(torch.empty(SIZE, dtype=dtype), *args, key=KEY)
    for part in (torch.real, torch.imag) if dtype.is_complex else (torch.clone,):
        pair = (part(ours).flatten().numpy(), part(theirs).flatten().numpy())
        assert stats.ks_2samp(*pair).statistic < KS_LIMIT


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (6, 6), (4, 3, 3), (30, 2, 3)], ids=str)
def test_orthogonal_is_orthonormal_where_torchs_is(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    theirs = INIT.orthogonal_(torch.empty(shape), 1.5, generator)
    ours = portinit_torch.orthogonal_(torch.empty(shape), 1.5, key=KEY)
    assert same_gram(ours.flatten(1), theirs.flatten(1))


def same_gram(a: torch.Tensor, b: torch.Tensor) -> bool:
    """The smaller side is orthonormal: its Gram matrix is the same for every draw."""
    small = (lambda m: m @ m.T) if a.shape[0] <= a.shape[1] else (lambda m: m.T @ m)
    return torch.allclose(small(a), small(b), rtol=0, atol=2e-6)


def test_orthogonal_is_haar_as_torchs() -> None:
    """The corner of 400 small matrices; without the sign correction its law is lopsided."""
    generator = torch.Generator().manual_seed(1)
    theirs = [INIT.orthogonal_(torch.empty(3, 3), 1, generator)[0, 0] for _ in range(400)]
    keys = KEY.split(400)
    ours = [portinit_torch.orthogonal_(torch.empty(3, 3), key=key)[0, 0] for key in keys]
    assert stats.ks_2samp(ours, theirs).statistic < 1.95 * math.sqrt(2 / 400)


@pytest.mark.parametrize("shape", [(10, 7), (7, 10), (1, 4), (0, 3), (3, 0)], ids=str)
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.35, 1.0, 1.5, -0.5, -1.0, -2.5])
def test_sparse_zeroes_as_many_of_each_column(sparsity: float, shape: tuple[int, int]) -> None:
    theirs = INIT.sparse_(torch.ones(shape), sparsity, 0.1)
    ours = portinit_torch.sparse_(torch.ones(shape), sparsity, 0.1, key=KEY)
    assert torch.equal((ours == 0).sum(0), (theirs == 0).sum(0))


def test_sparse_values_are_torchs_in_law_and_zeros_differ_by_column() -> None:
    theirs = INIT.sparse_(torch.empty(200, 100), 0.25, 0.1, torch.Generator().manual_seed(1))
    ours = portinit_torch.sparse_(torch.empty(200, 100), 0.25, 0.1, key=KEY)
    pair = (ours[ours != 0].numpy(), theirs[theirs != 0].numpy())
    assert stats.ks_2samp(*pair).statistic < 1.95 * math.sqrt(2 / 15000)
    assert len({bits(column == 0) for column in ours.T}) == 100
    # A row is zeroed 25 times of 100 on average, std 4.3: six of those on either side.
    assert int((ours == 0).sum(1).min()) > 0
    assert int((ours == 0).sum(1).max()) < 51


# Gains

GAIN_NAMES = (
    *("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"),
    *(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)),
)
SLOPES = (None, 0, 1, 0.2, -0.3, -2, 1e10, INF, True, "x", (), 1 + 0j, 1e200, np.float32(0.5))


@pytest.mark.parametrize("param", SLOPES, ids=repr)
@pytest.mark.parametrize("name", [*GAIN_NAMES, "gelu", "LINEAR", "", None, 3])
def test_gain_table_is_torchs(name: Any, param: Any) -> None:
    assert gain(portinit_torch, name, param) == gain(INIT, name, param)


def gain(module: ModuleType, *args: Any) -> Any:
    return outcome(module, "calculate_gain", args, {})[0]


def test_gain_of_a_list_of_names_is_torchs_error() -> None:
    assert gain(portinit_torch, ["relu"]) is gain(INIT, ["relu"])


def test_gain_of_a_slope_that_is_not_a_number_is_torchs() -> None:
    assert math.isnan(gain(INIT, "leaky_relu", NAN))
    assert math.isnan(gain(portinit_torch, "leaky_relu", NAN))


CALLABLES = {
    "relu": (torch.relu, math.sqrt(2)),
    "a module": (torch.nn.ReLU(), math.sqrt(2)),
    "identity": (torch.nn.Identity(), 1.0),
    "leaky_relu": (
        partial(torch.nn.functional.leaky_relu, negative_slope=0.2),
        INIT.calculate_gain("leaky_relu", 0.2),
    ),
    "abs": (torch.abs, 1.0),
}


@pytest.mark.parametrize(("function", "expected"), CALLABLES.values(), ids=CALLABLES)
def test_gain_of_a_callable(function: Any, expected: float) -> None:
    """Where the gain has a closed form; nine digits are kept."""
    assert portinit_torch.calculate_gain(function) == pytest.approx(expected, rel=1e-8)


SMOOTH = {"gelu": torch.nn.functional.gelu, "tanh": torch.tanh, "SiLU": torch.nn.SiLU()}


@pytest.mark.parametrize("function", SMOOTH.values(), ids=SMOOTH)
def test_gain_of_a_callable_keeps_the_second_moment(function: Any) -> None:
    """Against a million of torch's own normals: the moment's error is below 1% (six sigma)."""
    z = torch.randn(1_000_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moment = float((portinit_torch.calculate_gain(function) * function(z)).square().mean())
    assert moment == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_"])
def test_kaiming_takes_a_callable(name: str) -> None:
    fill = getattr(portinit_torch, name)
    by_name = fill(torch.empty(30, 20, dtype=torch.float64), nonlinearity="relu", key=KEY)
    by_call = fill(torch.empty(30, 20, dtype=torch.float64), nonlinearity=torch.relu, key=KEY)
    torch.testing.assert_close(by_call, by_name, rtol=1e-8, atol=0)
