"""portinit_jax.initializers beside jax.nn.initializers: the same calls, made to both."""

import functools
import inspect
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.nn import initializers as theirs
from scipy import stats
from tests.support.bits import same_bits

import portinit
from portinit_jax import initializers as ours

KEY = jax.random.key(20240607)
PUBLIC = tuple(name for name in dir(theirs) if not name.startswith("_"))
SCHEMES = tuple(
    f"{family}_{law}" for family in ("glorot", "lecun", "he") for law in ("uniform", "normal")
)
ALIASES = {
    f"{alias}_{law}": f"{name}_{law}"
    for alias, name in (("xavier", "glorot"), ("kaiming", "he"))
    for law in ("uniform", "normal")
}

# One way to build each initializer, for both modules.
BUILDERS: dict[str, Callable[[ModuleType], Any]] = {
    "zeros": lambda m: m.zeros,
    "ones": lambda m: m.ones,
    "constant": lambda m: m.constant(0.3),
    "uniform": lambda m: m.uniform(0.5),
    "normal": lambda m: m.normal(0.3),
    "truncated_normal": lambda m: m.truncated_normal(0.3, lower=-1.0, upper=1.5),
    "variance_scaling": lambda m: m.variance_scaling(0.7, "fan_geo_avg", "normal"),
    **{name: lambda m, name=name: getattr(m, name)() for name in SCHEMES},
    "orthogonal": lambda m: m.orthogonal(1.3),
    "delta_orthogonal": lambda m: m.delta_orthogonal(0.9),
}
RANDOM = tuple(name for name in BUILDERS if name not in ("zeros", "ones", "constant"))
EXACT = tuple(name for name in BUILDERS if "orthogonal" not in name)
SHAPE = (3, 5, 8)

every = pytest.mark.parametrize("name", BUILDERS)
every_random = pytest.mark.parametrize("name", RANDOM)
every_exact = pytest.mark.parametrize("name", EXACT)


def build(name: str, module: ModuleType = ours) -> Any:
    return BUILDERS[name](module)


def close(a: Any, b: Any, name: str) -> bool:
    """The same bits; for orthogonal matrices within 1e-6, as promised."""
    if name in EXACT:
        return same_bits(a, b)
    return a.dtype == b.dtype and bool(np.allclose(a, b, rtol=0, atol=1e-6))


# The public face


def test_the_tables_name_everything_that_jax_has() -> None:
    assert {*BUILDERS, *ALIASES, "Initializer"} == set(PUBLIC)


@pytest.mark.parametrize("name", [n for n in PUBLIC if n != "Initializer"])
def test_signature(name: str) -> None:
    pair = [inspect.signature(getattr(module, name)).parameters for module in (ours, theirs)]
    mine, jaxs = ([(p.name, p.kind, p.default) for p in ps.values()] for ps in pair)
    assert mine == jaxs


@every
def test_call_signature_and_protocol(name: str) -> None:
    mine, jaxs = build(name), build(name, theirs)
    assert isinstance(mine, theirs.Initializer)
    pair = [inspect.signature(init).parameters for init in (mine, jaxs)]
    assert list(pair[0]) == list(pair[1])
    defaults = [[p.default for p in ps.values()] for ps in pair]
    assert defaults[0] == defaults[1]


def test_the_protocol_is_jaxs() -> None:
    assert ours.Initializer is theirs.Initializer


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases_are_jaxs(alias: str, name: str) -> None:
    assert getattr(theirs, alias) is getattr(theirs, name)
    assert same_bits(getattr(ours, alias)()(KEY, SHAPE), getattr(ours, name)()(KEY, SHAPE))


@every_random
def test_initializers_compare_hash_and_print(name: str) -> None:
    """What JAX's closures do not do: a static argument that is equal is compiled once."""
    assert build(name) == build(name)
    assert hash(build(name)) == hash(build(name))
    assert build(name) != ours.normal(123.0)
    assert "0x" not in repr(build(name))


# Shapes and dtypes


X64_NAMES = ("zeros", "constant", "normal")
DEFAULTS = [(name, False) for name in BUILDERS] + [(name, True) for name in X64_NAMES]


@pytest.mark.parametrize(("name", "x64"), DEFAULTS)
def test_the_default_dtype_is_jaxs(name: str, x64: bool) -> None:
    with jax.enable_x64(x64):
        expected = build(name, theirs)(KEY, SHAPE)
        values = build(name)(KEY, SHAPE)
    assert isinstance(values, jax.Array)
    assert (values.dtype, values.shape) == (expected.dtype, SHAPE)
    assert values.dtype == (jnp.float64 if x64 else jnp.float32)
    assert values.weak_type == expected.weak_type


CORES = {
    "uniform": portinit.uniform(0.0, 0.5),
    "normal": portinit.normal(std=0.3),
    "truncated_normal": portinit.truncated_normal(0.3, -1.0, 1.5),
    "glorot_uniform": portinit.glorot_uniform(),
    "orthogonal": portinit.orthogonal(1.3),
}


@pytest.mark.parametrize("dtype", ["bfloat16", "float64", "complex64"])
@pytest.mark.parametrize("name", CORES)
def test_dtypes_and_the_numpy_core_agree(name: str, dtype: str) -> None:
    """The factory's dtype, or the call's; the values are those of NumPy, which has no x64."""
    with jax.enable_x64(True):
        values = build(name)(KEY, SHAPE, jnp.dtype(dtype))
        assert values.dtype == jnp.dtype(dtype)
        core = CORES[name](portinit.key(20240607), SHAPE, dtype)
        assert same_bits(values, core) if name in EXACT else np.allclose(values, core, atol=1e-6)


@pytest.mark.parametrize("name", ["normal", "variance_scaling", "he_uniform", "orthogonal"])
def test_the_factorys_dtype_is_the_default_and_the_calls_wins(name: str) -> None:
    factory = getattr(ours, name)
    args = (1.0, "fan_in", "normal") if name == "variance_scaling" else ()
    half = factory(*args, dtype=jnp.bfloat16)
    assert half(KEY, SHAPE).dtype == jnp.bfloat16
    assert half(KEY, SHAPE, jnp.float32).dtype == jnp.float32
    assert same_bits(half(KEY, SHAPE), factory(*args)(KEY, SHAPE, jnp.bfloat16))


DTYPE_SPELLINGS = [float, "float32", np.float32, jnp.float32, np.dtype("float32"), None]


@pytest.mark.parametrize("dtype", DTYPE_SPELLINGS, ids=repr)
@every
def test_spellings_of_float32(name: str, dtype: Any) -> None:
    assert same_bits(build(name)(KEY, SHAPE, dtype), build(name)(KEY, SHAPE, jnp.float32))


@pytest.mark.parametrize("shape", [[3, 5, 8], (np.int64(3), 5, np.int32(8))], ids=repr)
@every
def test_spellings_of_a_shape(name: str, shape: Any) -> None:
    assert same_bits(build(name)(KEY, shape), build(name)(KEY, SHAPE))


NO_FANS = ("zeros", "ones", "constant", "uniform", "normal", "truncated_normal")


@pytest.mark.parametrize("shape", [(), (0, 3), 5], ids=str)
@pytest.mark.parametrize("name", NO_FANS)
def test_any_shape_where_there_are_no_fans(name: str, shape: Any) -> None:
    assert build(name)(KEY, shape).shape == build(name, theirs)(KEY, shape).shape


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3)], ids=str)
def test_orthogonal_of_nothing_is_nothing(shape: tuple[int, ...]) -> None:
    assert same_bits(ours.orthogonal()(KEY, shape), theirs.orthogonal()(KEY, shape))


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_, jnp.float16, jnp.complex64, None])
@pytest.mark.parametrize("value", [3, -0.5, [1.0, 2.0], np.float32(2)], ids=repr)
def test_constants_are_jaxs(value: Any, dtype: Any) -> None:
    value = jnp.asarray(value) if isinstance(value, list) else value
    pair = [m.constant(value, dtype)(KEY, (3, 2)) for m in (ours, theirs)]
    assert same_bits(*pair)
    for name in ("zeros", "ones"):
        assert same_bits(
            getattr(ours, name)(None, (3, 2), dtype), getattr(theirs, name)(None, (3, 2), dtype)
        )


# Distributions

AXES = [
    ("fan_in", (3, 2, 40, 50), {}),
    ("fan_out", (250, 40), {"in_axis": -1, "out_axis": -2}),
    ("fan_in", (8, 10, 5, 30), {"in_axis": (0, 1), "out_axis": (2, 3)}),
    ("fan_out", (10, 20, 3, 20), {"in_axis": 1, "out_axis": [0, 3]}),
    ("fan_in", (12, 40, 30), {"batch_axis": 0}),
    ("fan_out", (4, 3, 40, 30), {"batch_axis": (0, 1)}),
    ("fan_in", (12000,), {"in_axis": 0, "out_axis": ()}),
]
DEFAULT_AXES = {"in_axis": -2, "out_axis": -1, "batch_axis": ()}


def ks_limit(n: int) -> float:
    """Exceeded once in a thousand pairs of one law; both samples are fixed, so never by chance."""
    return 1.95 * math.sqrt(2 / n)


def assert_same_law(mine: Any, jaxs: Any) -> None:
    """Two-sample KS; a fan off by 20% moves it to 0.04 and more, beyond the limit of 0.03."""
    for part in (np.real, np.imag) if jnp.iscomplexobj(mine) else (np.asarray,):
        pair = part(np.asarray(mine)).ravel(), part(np.asarray(jaxs)).ravel()
        assert stats.ks_2samp(*pair).statistic < ks_limit(mine.size)


@pytest.mark.parametrize("name", SCHEMES)
def test_schemes_have_jaxs_distribution(name: str) -> None:
    assert_same_law(*(build(name, module)(KEY, (3, 2, 40, 50)) for module in (ours, theirs)))


@pytest.mark.parametrize(("mode", "shape", "axes"), AXES, ids=str)
def test_axes_have_jaxs_meaning(mode: str, shape: Any, axes: Any) -> None:
    """One fan at a time; and each scheme passes its axes on."""
    pair = [m.variance_scaling(1.0, mode, "uniform", **axes)(KEY, shape) for m in (ours, theirs)]
    assert_same_law(*pair)
    for name in SCHEMES:
        init = getattr(ours, name)
        assert init(**axes) == init(*(axes.get(k, d) for k, d in DEFAULT_AXES.items()))
        assert (init(**axes) == init()) == (axes == {})


# Complex truncated and uniform draws of JAX's are disks, portinit's two independent parts: there
# only the variance is JAX's.
MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
VARIANCE_SCALINGS = [
    *((mode, "uniform", jnp.float32) for mode in MODES),
    ("fan_geo_avg", "truncated_normal", jnp.float32),
    ("fan_geo_avg", "normal", jnp.float32),
    ("fan_out", "normal", jnp.complex64),
]


@pytest.mark.parametrize(("mode", "law", "dtype"), VARIANCE_SCALINGS)
def test_variance_scaling_has_jaxs_distribution(mode: str, law: str, dtype: Any) -> None:
    pair = [m.variance_scaling(1.7, mode, law)(KEY, (30, 400), dtype) for m in (ours, theirs)]
    assert_same_law(*pair)


@pytest.mark.parametrize("law", ["truncated_normal", "normal", "uniform"])
def test_complex_variance_is_jaxs(law: str) -> None:
    """Of 40,000 numbers: the ratio of variances has a standard error of 1% at most."""
    pair = [
        m.variance_scaling(1.7, "fan_in", law)(KEY, (100, 400), jnp.complex64)
        for m in (ours, theirs)
    ]
    mine, jaxs = (float(jnp.mean(jnp.abs(x) ** 2)) for x in pair)
    assert mine == pytest.approx(jaxs, rel=0.05)


PLAIN: dict[str, Callable[[ModuleType], Any]] = {
    "uniform()": lambda m: m.uniform(),
    "uniform(3)": lambda m: m.uniform(3),
    "normal()": lambda m: m.normal(),
    "normal(2.5)": lambda m: m.normal(stddev=2.5),
    "normal(array)": lambda m: m.normal(jnp.array(2.5)),
    "truncated_normal()": lambda m: m.truncated_normal(),
    "truncated_normal(asymmetric)": lambda m: m.truncated_normal(3.0, lower=-0.5, upper=2.0),
    "truncated_normal(tail)": lambda m: m.truncated_normal(0.1, None, 1.0, 3.0),
    "normal(0)": lambda m: m.normal(0.0),
    "uniform(0)": lambda m: m.uniform(0.0),
}


@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
def test_plain_distributions_are_jaxs(make: Callable[[ModuleType], Any]) -> None:
    assert_same_law(make(ours)(KEY, (12000,)), make(theirs)(KEY, (12000,)))


ZERO_SCALE: dict[str, Callable[[ModuleType], Any]] = {
    **{
        f"variance_scaling {law}": lambda m, law=law: m.variance_scaling(0.0, "fan_in", law)
        for law in ("normal", "uniform", "truncated_normal")
    },
    "truncated_normal": lambda m: m.truncated_normal(0.0),
    "orthogonal": lambda m: m.orthogonal(0.0),
}


@pytest.mark.parametrize("make", ZERO_SCALE.values(), ids=ZERO_SCALE)
def test_a_scale_of_zero_gives_zeros_as_in_jax(make: Callable[[ModuleType], Any]) -> None:
    """The last layer of a residual block is often begun so."""
    assert not np.any(make(theirs)(KEY, (4, 3)))
    assert not np.any(make(ours)(KEY, (4, 3)))


# Orthogonal matrices


def columns(values: Any, axis: int) -> np.ndarray[Any, Any]:
    """JAX's reading: the named axis against the others."""
    moved = np.moveaxis(np.asarray(values, np.complex128), axis, -1)
    return moved.reshape(-1, moved.shape[-1])


ORTHOGONAL = [
    ((9, 4), 0, jnp.float32),
    ((4, 9), -2, jnp.complex64),
    ((2, 3, 5), -1, jnp.float32),
    ((5, 3, 2), 1, jnp.float32),
    ((5, 3, 2), -1, jnp.complex64),
]


@pytest.mark.parametrize(("shape", "axis", "dtype"), ORTHOGONAL)
def test_orthogonal_is_orthonormal_where_jaxs_is(shape: Any, axis: int, dtype: Any) -> None:
    pair = [columns(m.orthogonal(1.5, axis)(KEY, shape, dtype), axis) for m in (ours, theirs)]
    assert pair[0].shape == pair[1].shape
    rows, cols = pair[0].shape
    grams = [m @ m.conj().T if rows < cols else m.conj().T @ m for m in pair]
    np.testing.assert_allclose(grams[0], grams[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 4, 4), (3, 2, 4, 5), (1, 2, 3, 3, 4)], ids=str)
def test_delta_orthogonal_is_jaxs_but_for_the_matrix(shape: tuple[int, ...]) -> None:
    pair = [np.asarray(m.delta_orthogonal(1.5)(KEY, shape)) for m in (ours, theirs)]
    np.testing.assert_array_equal(pair[0] != 0, pair[1] != 0)
    flat = [np.sum(x, axis=tuple(range(len(shape) - 2))) for x in pair]
    np.testing.assert_allclose(flat[0] @ flat[0].T, flat[1] @ flat[1].T, rtol=0, atol=1e-5)


def test_orthogonal_is_haar_as_jaxs() -> None:
    keys = jax.random.split(KEY, 400)
    pair = [jax.vmap(lambda k, m=m: m.orthogonal()(k, (3, 3))[0, 0])(keys) for m in (ours, theirs)]
    assert_same_law(*pair)


# Errors

Bad = Callable[[ModuleType], Any]
BATCH = jax.random.split(KEY, 3)


def vs(mode: Any = "fan_in", law: Any = "normal", shape: Any = (3, 4, 5), **axes: Any) -> Bad:
    return lambda m: m.variance_scaling(1.0, mode, law, **axes)(KEY, shape)


def called(name: str, *args: Any) -> Bad:
    return lambda m: BUILDERS[name](m)(*args)


BAD_CALLS: dict[str, Bad] = {
    "invalid mode": vs(mode="neither"),
    "mode in capitals": vs(mode="FAN_IN"),
    "mode None": vs(mode=None),
    "invalid distribution": vs(law="cauchy"),
    "distribution None": vs(law=None),
    "dims before the mode": vs(mode="neither", shape=(3,)),
    "in_axis beyond the shape": vs(in_axis=5),
    "out_axis beyond the shape": vs(out_axis=-4),
    "batch_axis beyond the shape": vs(batch_axis=(0, 7)),
    "in_axes beyond the shape": vs(in_axis=(0, 1), out_axis=(), shape=(3,)),
    "out_axis of a scalar": vs(in_axis=(), shape=()),
    "a 0 among the sizes": vs(shape=(3, 0)),
    "a 0 in the receptive field": vs(shape=(0, 3, 4)),
    **{f"{name} {s}": called(name, KEY, s) for name in SCHEMES for s in [(), (5,), (0, 3)]},
    **{f"orthogonal {s}": called("orthogonal", KEY, s) for s in [(), (5,)]},
    "orthogonal column_axis 3": lambda m: m.orthogonal(column_axis=3)(KEY, (3, 4, 5)),
    **{
        f"delta_orthogonal {s}": called("delta_orthogonal", KEY, s)
        for s in [(), (5,), (4, 5), (1, 1, 1, 1, 4, 5), (3, 5, 4)]
    },
    **{
        f"{name} {dtype.__name__}": called(name, KEY, SHAPE, dtype)
        for name in RANDOM
        for dtype in (jnp.int32, jnp.bool_)
    },
    **{f"{name} dtype foo": called(name, KEY, SHAPE, "foo") for name in BUILDERS},
    **{f"{name} float sizes": called(name, KEY, (3.0, 4, 5)) for name in EXACT},
    **{f"{name} key None": called(name, None, SHAPE) for name in RANDOM},
    **{f"{name} key 3": called(name, 3, SHAPE) for name in RANDOM},
    **{f"{name} int32 key": called(name, jnp.zeros(2, jnp.int32), SHAPE) for name in RANDOM},
    "out_sharding 3": lambda m: m.normal()(KEY, SHAPE, None, 3),
    "zeros out_sharding 3": lambda m: m.zeros(KEY, SHAPE, None, 3),
    "constant out_sharding 3": lambda m: m.constant(1.0)(KEY, SHAPE, None, 3),
}


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
@pytest.mark.parametrize("call", BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_calls_raise_jaxs_types(call: Bad) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011 (whatever JAX raises)
        call(theirs)
    with pytest.raises(expected.type):
        call(ours)


@pytest.mark.parametrize("name", [*SCHEMES, "variance_scaling"])
@pytest.mark.parametrize("shape", [(), (5,)], ids=str)
def test_too_few_dims_are_refused_in_jaxs_words(name: str, shape: tuple[int, ...]) -> None:
    texts = []
    for module in (ours, theirs):
        with pytest.raises(ValueError, match="default in_axis") as error:
            build(name, module)(KEY, shape)
        texts.append(str(error.value))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("arguments", [("neither", "normal"), ("fan_in", "cauchy")])
def test_modes_and_distributions_are_looked_at_when_called(arguments: tuple[str, str]) -> None:
    assert callable(ours.variance_scaling(1.0, *arguments))


STRICTER: dict[str, Bad] = {
    # JAX fills with NaN.
    "scale -1": lambda m: m.variance_scaling(-1.0, "fan_in", "normal")(KEY, (3, 4)),
    "scale NaN": lambda m: m.variance_scaling(math.nan, "fan_in", "normal")(KEY, (3, 4)),
    "stddev NaN": lambda m: m.normal(math.nan)(KEY, (3, 4)),
    "upper NaN": lambda m: m.truncated_normal(1.0, upper=math.nan)(KEY, (3, 4)),
    "orthogonal NaN": lambda m: m.orthogonal(math.nan)(KEY, (3, 4)),
}


@pytest.mark.parametrize("call", STRICTER.values(), ids=STRICTER)
def test_what_jax_fills_with_no_numbers_is_a_value_error(call: Bad) -> None:
    assert bool(jnp.isnan(call(theirs)).any())
    with pytest.raises(ValueError, match="must be"):
        call(ours)


# What each module does, JAX first: an error's type, or the dtype of the values. These differences
# are kept on purpose.
DIFFERENT: dict[str, tuple[Bad, type[Exception] | str, type[Exception] | str]] = {
    # A batch is a key of the wrong kind. JAX counts its axes and calls that a wrong value.
    "batch of keys": (called("normal", BATCH, SHAPE), ValueError, TypeError),
    "batch of raw keys": (
        called("normal", jax.random.key_data(BATCH), SHAPE),
        ValueError,
        TypeError,
    ),
    # A size is no shape where fans are needed. JAX counts its axes.
    "a shape of an int": (vs(shape=5), ValueError, TypeError),
    # None is the default.
    "orthogonal column_axis None": (
        lambda m: m.orthogonal(column_axis=None)(KEY, (3, 4)),
        TypeError,
        "float32",
    ),
    # It is taken for JAX's sake and changes no value.
    "delta column_axis 2": (
        lambda m: m.delta_orthogonal(column_axis=2)(KEY, (3, 4, 5)),
        IndexError,
        "float32",
    ),
    # An initializer is data: its numbers are hashed, printed and written into recipes.
    # float64 is float32 where x64 is off, in both; only JAX warns.
    "float64 without x64": (called("normal", KEY, SHAPE, jnp.float64), UserWarning, "float32"),
}


def outcome(call: Bad, module: ModuleType) -> type[Exception] | str:
    try:
        return str(call(module).dtype)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize(("call", "jaxs", "portinits"), DIFFERENT.values(), ids=DIFFERENT)
def test_differences_kept_on_purpose(call: Bad, jaxs: Any, portinits: Any) -> None:
    assert (outcome(call, theirs), outcome(call, ours)) == (jaxs, portinits)


# Keys


@every_random
def test_typed_raw_and_portinit_keys_agree(name: str) -> None:
    expected = build(name)(KEY, SHAPE)
    for key in (jax.random.key_data(KEY), np.asarray(jax.random.key_data(KEY))):
        assert close(build(name)(key, SHAPE), expected, name)
    assert close(build(name)(portinit.key(20240607), SHAPE), expected, name)
    assert not close(build(name)(jax.random.key(1), SHAPE), expected, name)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
@pytest.mark.parametrize("name", ["normal", "glorot_uniform", "orthogonal"])
def test_keys_of_rbg_are_taken_by_their_first_two_words(name: str, impl: str) -> None:
    expected = build(name)(portinit.key(20240607), SHAPE)
    key = jax.random.key(20240607, impl=impl)
    for each in (key, jax.random.key_data(key)):
        assert close(build(name)(each, SHAPE), expected, name)


@every
def test_a_child_of_a_jax_key_is_the_cores_child(name: str) -> None:
    child = jax.random.fold_in(jax.random.split(KEY)[1], 3)
    expected = portinit.key(20240607).split()[1].fold_in(3)
    assert close(build(name)(child, SHAPE), build(name)(expected, SHAPE), name)


# Transformations


TRANSFORMED = ("constant", "normal", "truncated_normal", "glorot_uniform", "orthogonal")
every_kind = pytest.mark.parametrize("name", TRANSFORMED)


@every_kind
def test_jit(name: str) -> None:
    init = build(name)
    jitted = jax.jit(init, static_argnums=(1, 2))(KEY, SHAPE, jnp.float32)
    assert close(jitted, init(KEY, SHAPE), name)


@pytest.mark.parametrize("name", TRANSFORMED[1:])
def test_an_initializer_is_a_static_argument(name: str) -> None:
    compiled = []

    @functools.partial(jax.jit, static_argnums=0)
    def draw(init: Any, key: Any) -> Any:
        compiled.append(init)
        return init(key, SHAPE)

    draw(build(name), KEY)
    draw(build(name), jax.random.key(1))
    assert len(compiled) == 1


@every_kind
def test_vmap_over_keys(name: str) -> None:
    init = build(name)
    expected = jnp.stack([init(key, SHAPE) for key in BATCH])
    assert close(jax.vmap(lambda key: init(key, SHAPE))(BATCH), expected, name)
    assert close(jax.jit(jax.vmap(lambda key: init(key, SHAPE)))(BATCH), expected, name)


@pytest.mark.parametrize("name", TRANSFORMED[1:])
def test_vmap_over_raw_keys(name: str) -> None:
    init, raw = build(name), jax.random.key_data(BATCH)
    expected = jax.vmap(lambda key: init(key, SHAPE))(BATCH)
    assert close(jax.vmap(lambda key: init(key, SHAPE))(raw), expected, name)


@every
def test_eval_shape(name: str) -> None:
    for key in (KEY, jax.eval_shape(lambda: KEY)):
        result = jax.eval_shape(lambda k: build(name)(k, SHAPE, jnp.bfloat16), key)
        assert (result.shape, result.dtype) == (SHAPE, jnp.bfloat16)


@every_kind
def test_checkpoint(name: str) -> None:
    init = build(name)
    expected = init(KEY, SHAPE)
    assert close(jax.checkpoint(lambda key: init(key, SHAPE))(KEY), expected, name)
    loss = jax.checkpoint(lambda x: jnp.sum(x * init(KEY, SHAPE)))
    assert close(jax.grad(loss)(jnp.ones(SHAPE)), expected, name)


@every_kind
def test_scan(name: str) -> None:
    init = build(name)
    _, stacked = jax.lax.scan(lambda c, key: (c, init(key, SHAPE)), None, BATCH)
    assert close(stacked, jnp.stack([init(key, SHAPE) for key in BATCH]), name)


ARITHMETIC: dict[str, Callable[[Any], Any]] = {
    "times 3": lambda x: x * 3,
    "plus 1": lambda x: x + 1,
    "times 3 plus 1": lambda x: x * 3 + 1,
    "over 7": lambda x: x / 7,
    "widened": lambda x: x.astype(jnp.float32) * 1.5,
    "minus itself widened": lambda x: x - x.astype(jnp.float32),
    "transposed": lambda x: x.T + 1,
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("uniform", jnp.float32),
        ("normal", jnp.float32),
        ("normal", jnp.bfloat16),
        ("glorot_normal", jnp.float32),
    ],
)
def test_arithmetic_in_the_same_jit_sees_the_same_bits(name: str, dtype: Any) -> None:
    """As if the values had been fetched first: no compiler may reach into their computation.

    A multiplication joined with the initializer's own, or fused with an addition, changes bits.
    """
    init, shape = build(name), (33, 17)

    def after(values: Any) -> dict[str, Any]:
        return {label: f(values) for label, f in ARITHMETIC.items()}

    eager = init(KEY, shape, dtype)
    together = jax.jit(lambda key: (init(key, shape, dtype), after(init(key, shape, dtype))))(KEY)
    assert same_bits(together[0], eager)
    fixed = jax.jit(after)(eager)
    assert [label for label in ARITHMETIC if not same_bits(together[1][label], fixed[label])] == []


# Sharding: a machine of eight devices, in a process of its own

SHARDED = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
sys.path.insert(0, sys.argv[1])
from tests.adapters.jax import test_jax_face as t

def same_and_sharded(values, expected, sharding, name):
    assert t.close(np.asarray(values), np.asarray(expected), name), "other values"
    assert values.sharding.is_equivalent_to(sharding, values.ndim), f"placed {values.sharding}"

SHAPE, SPEC, KEY = (2, 8, 16), P(None, "a", "b"), t.KEY
auto = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
explicit = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Explicit,) * 2)

def out_shardings(name):
    init, sharding = t.build(name), NamedSharding(auto, SPEC)
    values = jax.jit(lambda k: init(k, SHAPE), out_shardings=sharding)(KEY)
    same_and_sharded(values, init(KEY, SHAPE), sharding, name)

def under_auto_mesh(name):
    init, sharding = t.build(name), NamedSharding(auto, SPEC)
    expected = init(KEY, SHAPE)
    with jax.set_mesh(auto):
        constrain = jax.lax.with_sharding_constraint
        values = jax.jit(lambda k: constrain(init(k, SHAPE), SPEC))(KEY)
    same_and_sharded(values, expected, sharding, name)

def explicit_argument(name, argument, jitted):
    init, sharding = t.build(name), NamedSharding(explicit, SPEC)
    expected = init(KEY, SHAPE)
    draw = lambda k: init(k, SHAPE, jnp.float32, argument)
    with jax.set_mesh(explicit):
        values = (jax.jit(draw) if jitted else draw)(KEY)
    same_and_sharded(values, expected, sharding, name)

def refusal(name, argument, mesh):
    kinds = []
    for module in (t.ours, t.theirs):
        try:
            with jax.set_mesh(mesh):
                t.build(name, module)(KEY, SHAPE, jnp.float32, argument)
            kinds.append(None)
        except Exception as error:
            kinds.append(type(error).__name__)
    assert kinds[0] == kinds[1], f"portinit {kinds[0]}, JAX {kinds[1]}"

def report(check, *arguments):
    try:
        check(*arguments)
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:400]

results = {}
for name in t.SHARDED_NAMES:
    results[f"{name} out_shardings"] = report(out_shardings, name)
    results[f"{name} auto mesh"] = report(under_auto_mesh, name)
    label, named = f"{name} explicit", NamedSharding(explicit, SPEC)
    results[f"{label} spec eager"] = report(explicit_argument, name, SPEC, False)
    results[f"{label} named jit"] = report(explicit_argument, name, named, True)
for name in ("normal", "zeros", "ones", "constant"):
    results[f"{name} refuses auto spec"] = report(refusal, name, SPEC, auto)
    results[f"{name} refuses a device"] = report(
        refusal, name, jax.sharding.SingleDeviceSharding(jax.devices()[3]), explicit)
print(json.dumps(results))
"""

CHECKS = ("out_shardings", "auto mesh", "explicit spec eager", "explicit named jit")
REFUSALS = ("auto spec", "a device")

SHARDED_NAMES = ("zeros", "ones", "constant", "normal", "glorot_uniform", "orthogonal")


@pytest.fixture(scope="module")
def sharded() -> dict[str, str]:
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-c", SHARDED, str(Path(__file__).parents[3])],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return results


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", SHARDED_NAMES)
def test_sharding(sharded: dict[str, str], name: str, check: str) -> None:
    assert sharded[f"{name} {check}"] == ""


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("name", ["normal", "zeros", "ones", "constant"])
def test_shardings_that_jax_refuses(sharded: dict[str, str], name: str, refusal: str) -> None:
    assert sharded[f"{name} refuses {refusal}"] == ""


TRACED = {
    "normal": lambda module, s: module.normal(s),
    "uniform": lambda module, s: module.uniform(s),
    "truncated_normal": lambda module, s: module.truncated_normal(s),
    "variance_scaling": lambda module, s: module.variance_scaling(s, "fan_in", "normal"),
    "orthogonal": lambda module, s: module.orthogonal(s),
    "delta_orthogonal": lambda module, s: module.delta_orthogonal(s),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", TRACED)
def test_scales_may_be_traced(name, dtype):
    shape = (3, 4, 8, 8)
    make = TRACED[name]

    def draw(scale):
        return make(ours, scale)(jax.random.key(0), shape, dtype)

    traced, known = jax.jit(draw)(0.375), draw(0.375)
    assert traced.dtype == known.dtype == dtype
    eps = float(jnp.finfo(dtype).eps)
    close = {"rtol": 2 * eps, "atol": 2 * eps * eps}
    got, want = (np.asarray(x, np.float64) for x in (traced, known))
    np.testing.assert_allclose(got, want, **close)
    assert jax.grad(lambda s: draw(s).astype("float32").sum())(0.375) != 0
    power = jax.jit(draw)(0.25)  # a power of two rounds nothing
    assert bool((power == draw(0.25)).all()) or name == "variance_scaling"


def test_scales_may_be_arrays():
    scales = jnp.asarray([0.5, 2.0, 4.0])
    values = ours.normal(scales)(jax.random.key(0), (1000, 3))
    unit = ours.normal(1.0)(jax.random.key(0), (1000, 3))
    assert bool((values == unit * scales[None]).all())
    with pytest.raises(TypeError, match="lower must be a number"):
        ours.truncated_normal(1.0, lower=scales)


FLOAT8 = ["e3m4", "e4m3", "e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e4m3b11fnuz"]


@pytest.mark.parametrize("kind", FLOAT8)
@pytest.mark.parametrize("name", ["normal", "uniform", "truncated_normal", "he_normal"])
def test_every_signed_float8_is_drawn(name, kind):
    dtype = f"float8_{kind}"
    make = {
        "normal": lambda m: m.normal(0.3),
        "uniform": lambda m: m.uniform(0.7),
        "truncated_normal": lambda m: m.truncated_normal(0.3),
        "he_normal": lambda m: m.he_normal(),
    }[name]
    values = make(ours)(jax.random.key(0), (40, 50), dtype)
    single = make(ours)(jax.random.key(0), (40, 50), "float32")
    assert values.dtype == dtype
    got = np.asarray(values, np.float32)
    want = np.asarray(single).astype(values.dtype).astype(np.float32)
    bound = {"uniform": 0.7, "truncated_normal": 0.6}.get(name, np.inf)
    assert abs(got).max() <= bound
    limit = abs(got).max() if name in ("uniform", "truncated_normal") else np.inf
    assert np.array_equal(got, np.clip(want, -limit, limit))  # within bounds after rounding


def test_symbolic_sizes_are_refused_in_words() -> None:
    (size,) = export.symbolic_shape("b")
    words = jax.ShapeDtypeStruct((2,), jnp.uint32)
    rows = jax.ShapeDtypeStruct((size,), jnp.float32)
    draw = jax.jit(lambda key, x: ours.normal()(key, (x.shape[0], 3)))
    with pytest.raises(TypeError, match=r"a shape must be of integers.*got.*b.*one size at a time"):
        export.export(draw)(words, rows)
