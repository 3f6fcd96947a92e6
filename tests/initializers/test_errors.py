"""Errors: of the right type, saying what is allowed and what was received.

Each row is a call, its error type, what the message says is allowed, and what it says it got.
"""

import math
import re
import sys
from collections.abc import Callable
from typing import Any

import array_api_strict
import jax
import jax.extend.random as extend
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import portinit as pi
from portinit import Layout, layers
from portinit.arrays.dtypes import float_format, numpy_dtype
from portinit.arrays.grids import Grid
from portinit.initializers.expression import expression
from portinit.replay.program import Node
from portinit.replay.torch_rng.formats import native
from portinit.sampling.truncated_normal import TruncatedNormal

KEY = pi.key(0)
NAN, INF = math.nan, math.inf

# Arguments, refused when the initializer is built

ARGUMENTS: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: pi.uniform(1.0, 0.0), "a must be at most b", "a=1.0, b=0.0"),
    (lambda: pi.uniform(NAN, 1.0), "a must be a finite number", "nan"),
    (lambda: pi.uniform(0.0, INF), "b must be a finite number", "inf"),
    (lambda: pi.normal(std=-1.0), "std must be 0 or more", "-1.0"),
    (lambda: pi.normal(std=NAN), "std must be a finite number", "nan"),
    (lambda: pi.normal(mean=NAN), "mean must be a finite number", "nan"),
    (lambda: pi.normal(mean=-INF), "mean must be a finite number", "-inf"),
    (lambda: pi.trunc_normal(std=0.0), "std must be above 0", "0.0"),
    (lambda: pi.trunc_normal(std=-1.0), "std must be above 0", "-1.0"),
    (lambda: pi.trunc_normal(std=NAN), "std must be a finite number", "nan"),
    (lambda: pi.trunc_normal(mean=INF), "mean must be a finite number", "inf"),
    (lambda: pi.trunc_normal(a=2.0, b=-2.0), "a must be at most b", "a=2.0, b=-2.0"),
    (lambda: pi.trunc_normal(a=NAN), "a must be at most b", "a=nan"),
    (lambda: pi.trunc_normal(b=NAN), "a must be at most b", "b=nan"),
    (lambda: pi.truncated_normal(-1.0), "must be 0 or more", "-1.0"),
    (lambda: pi.truncated_normal(1.0, 2.0, 1.0), "at most", "2.0.*1.0"),
    (lambda: pi.xavier_uniform(-1.0), "gain must be a finite number, 0 or more", "-1.0"),
    (lambda: pi.xavier_uniform(NAN), "gain must be a finite number, 0 or more", "nan"),
    (lambda: pi.xavier_normal(INF), "gain must be a finite number, 0 or more", "inf"),
    (lambda: pi.kaiming_normal(mode="fan_avg"), "'fan_in' or 'fan_out'", "'fan_avg'"),
    (lambda: pi.kaiming_normal(nonlinearity="swish"), "leaky_relu", "'swish'"),
    (lambda: pi.kaiming_uniform(nonlinearity=-1.0), "finite number, 0 or more", "-1.0"),
    (lambda: pi.kaiming_uniform(nonlinearity=NAN), "finite number, 0 or more", "nan"),
    (lambda: pi.kaiming_uniform(a=NAN), "negative_slope must be a number", "nan"),
    (lambda: pi.variance_scaling(1.0, "fan_mean", "normal"), "'fan_geo_avg'", "'fan_mean'"),
    (lambda: pi.variance_scaling(1.0, "fan_in", "gauss"), "'truncated_normal'", "'gauss'"),
    (lambda: pi.variance_scaling(-1.0, "fan_in", "normal"), "0 or more", "-1.0"),
    (lambda: pi.variance_scaling(NAN, "fan_in", "normal"), "finite number", "nan"),
    (lambda: pi.orthogonal(NAN), "gain must be a finite number", "nan"),
    (lambda: pi.delta_orthogonal(INF), "scale must be a finite number", "inf"),
    (lambda: pi.dirac(0), "groups must be 1 or more", "0"),
    (lambda: pi.sparse(1.5), r"sparsity must be in \[0, 1\]", "1.5"),
    (lambda: pi.sparse(-0.1), r"sparsity must be in \[0, 1\]", "-0.1"),
    (lambda: pi.sparse(NAN), r"sparsity must be in \[0, 1\]", "nan"),
    (lambda: pi.sparse(0.5, -1.0), "std must be 0 or more", "-1.0"),
    (lambda: pi.scaled(pi.normal(), NAN), "factor must be a finite number", "nan"),
    (lambda: pi.blocks(()), "at least one initializer", "none"),
    (lambda: pi.blocks((pi.zeros, pi.ones), sizes=(1,)), "2 numbers, 0 or more", r"\(1,\)"),
    (lambda: pi.blocks((pi.zeros, pi.ones), sizes=(3, -1)), "2 numbers, 0 or more", r"\(3, -1\)"),
    (lambda: pi.where(np.s_[::2], pi.zeros, pi.ones), "no step", r"slice\(None, None, 2\)"),
    (lambda: pi.calculate_gain("swish"), "a callable or one of linear, .*leaky_relu", "'swish'"),
    (lambda: pi.calculate_gain("leaky_relu", NAN), "negative_slope must be a number", "nan"),
    (lambda: pi.calculate_gain(lambda z: 0 * z), "finite, positive", "0.0"),
    (lambda: pi.calculate_gain(lambda z: z + INF), "finite, positive", "inf"),
    (lambda: pi.calculate_gain(lambda z: z[:3]), "keep its input's shape", r"\(3,\)"),
    (lambda: pi.Layout(axis0=()), "at least one axis", r"\(\)|none"),
    (lambda: layers.fan_in_uniform(0), "fan_in must be 1 or more", "0"),
]

# Shapes and options, refused when it is called


def call(initializer: pi.Initializer, shape: Any, **kw: Any) -> Callable[[], Any]:
    return lambda: initializer(KEY, shape, **kw)


CALLS: list[tuple[Callable[[], Any], str, str]] = [
    (call(pi.xavier_uniform(), (3,)), "at least 2 dimensions", r"1: \(3,\)"),
    (call(pi.kaiming_normal(), ()), "at least 2 dimensions", r"0: \(\)"),
    (call(pi.he_normal(), (3,)), "at least 2 dimensions", r"1: \(3,\)"),
    (call(pi.glorot_uniform(in_axis=2), (3, 4)), "axis 2 need a shape that has it", r"\(3, 4\)"),
    (call(pi.xavier_normal(), (3, 0)), "sizes of 1 or more", r"\(0, 3\)|\(3, 0\)"),
    (call(pi.kaiming_uniform(), (0, 3)), "sizes of 1 or more", r"\(0, 3\)|\(3, 0\)"),
    (call(pi.lecun_normal(), (3, 0)), "sizes of 1 or more", r"\(0, 3\)|\(3, 0\)"),
    (call(pi.orthogonal(), (3,)), "at least 2 dimensions", r"\(3,\)"),
    (call(pi.delta_orthogonal(), (3, 3)), "3.* 4.* 5 dimensions", r"\(3, 3\)"),
    (call(pi.delta_orthogonal(), (3, 4, 2)), "as many outputs as inputs", "4 inputs and 2 outputs"),
    (call(pi.eye(), (3,)), "2 dimensions", r"\(3,\)"),
    (call(pi.eye(), (3, 3, 3)), "2 dimensions", r"\(3, 3, 3\)"),
    (call(pi.dirac(), (3, 3)), "3.* 4.* 5 dimensions", r"\(3, 3\)"),
    (call(pi.dirac(2), (3, 4, 5)), "groups must divide axis 0", r"2 for \(5, 4, 3\)"),
    (call(pi.sparse(0.1), (3,)), "2 dimensions", r"\(3,\)"),
    (call(pi.sparse(0.1), (3, 3, 3)), "2 dimensions", r"\(3, 3, 3\)"),
    (call(pi.blocks((pi.zeros, pi.ones)), (4, 5)), "2 equal blocks must fill axis 0", "5"),
    (call(pi.blocks((pi.zeros, pi.ones), (2, 2)), (4, 5)), r"\(2, 2\) must fill axis 0", "5"),
    (call(pi.blocks((pi.zeros,), axis=2), (4, 5)), "axis 2 need that axis", r"\(5, 4\)"),
    (call(pi.where(9, pi.zeros, pi.ones), (4, 5)), "out of bounds", "9.* 5"),
    (call(pi.where((0, 0, 0), pi.zeros, pi.ones), (4, 5)), "too long", r"3 axes.*\(5, 4\)"),
    (call(pi.assign([1.0, 2.0]), (3,)), r"given values .*shape.*\(3,\)", r"\(2,\)"),
    (call(pi.normal(), (-1, 3)), "must not have negative sizes", r"\(-1, 3\)"),
    (call(pi.normal(), (3, 3), layout="tf"), "'flax'", "'tf'"),
    (call(pi.normal(), (3,), layout=3), "a portinit.Layout or one of", "3"),
    (call(pi.normal(), (3, 3), layout=pi.Layout((0,), (2,))), r"array of 2 axes", r"\(0, 2\)"),
    (call(pi.normal(), (3, 3), layout=pi.Layout((0,), (-2,))), "each axis once", r"\(0, -2\)"),
    (call(layers.fan_in_uniform(), (3,)), "needs its kernel's fan_in", "none"),
]


@pytest.mark.parametrize(("build", "allowed", "received"), ARGUMENTS + CALLS)
def test_a_bad_value_is_a_value_error(
    build: Callable[[], Any], allowed: str, received: str
) -> None:
    with pytest.raises(ValueError, match=allowed) as caught:
        build()
    assert_match(received, str(caught.value))


def assert_match(pattern: str, message: str) -> None:
    assert re.search(pattern, message), f"{pattern!r} is not in {message!r}"


KINDS: list[tuple[Callable[[], Any], str, str]] = [
    (call(pi.normal(), (3,), dtype="int32"), "dtype must be one of float32", "int32"),
    (call(pi.normal(), (3,), dtype=np.int64), "dtype must be one of float32", "int64"),
    (call(pi.uniform(), (3,), dtype=torch.int32, xp=torch), "one of float32", "int32"),
    (call(pi.uniform(), (3,), dtype=jnp.int8, xp=jnp), "one of float32", "int8"),
    (call(pi.uniform(), (3,), dtype=bool), "one of float32", "bool"),
    (call(pi.orthogonal(), (3, 3), dtype="int32"), "one of float32", "int32"),
    (call(pi.sparse(0.5), (3, 3), dtype="int32"), "one of float32", "int32"),
    (call(pi.trunc_normal(1.0), (3,), dtype="complex64"), "must have mean 0", "1.0"),
    (call(pi.normal(), (3,), xp="torch"), "xp must be an array namespace", "'torch'"),
    (call(pi.normal(), (3,), out_sharding="x"), "out_sharding is for JAX", "'x'"),
    (lambda: pi.scaled(np.tanh, 2.0), "a portinit initializer is needed", "ufunc"),
    (lambda: pi.blocks((pi.zeros, 1.0)), "a portinit initializer is needed", "float"),
    (lambda: pi.where(0, 0.0, pi.zeros), "a portinit initializer is needed", "float"),
    (lambda: pi.assign(["a"]), "values must be numbers", "dtype <U1"),
]


@pytest.mark.parametrize(("build", "allowed", "received"), KINDS)
def test_a_value_of_the_wrong_kind_is_a_type_error(
    build: Callable[[], Any], allowed: str, received: str
) -> None:
    with pytest.raises(TypeError) as caught:
        build()
    assert_match(allowed, str(caught.value))
    assert_match(f"got .*{received}", str(caught.value))


def halves(z: Any) -> Any:
    return z[::2]


def none_of(z: Any) -> Any:
    raise TypeError(f"not of {type(z).__name__}")


# Word for word: what the two halves above may leave out.
GAINS = "linear, conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d"
NARROW = TruncatedNormal(1.0, 2.0, 3.0, 3.0000001)
MESSAGES: list[tuple[Callable[[], Any], str]] = [
    (lambda: pi.key(-1), "a seed must be in [0, 2**64), got -1"),
    (lambda: pi.Key(0, -1), "a key word must be in [0, 2**32), got -1"),
    (lambda: KEY.split(-1), "num must be 0 or more, got -1"),
    (lambda: KEY.fold_in(-1), "fold_in takes an int in [0, 2**32), got -1"),
    (lambda: KEY.fold_in(1.0), "fold_in takes an int or a str, got float"),
    (lambda: pi.uniform(NAN, 1.0), "a must be a finite number, got nan"),
    (lambda: pi.uniform(1.0, INF), "b must be a finite number, got inf"),
    (lambda: pi.uniform(1.0, 0.0), "a must be at most b, got a=1.0, b=0.0"),
    (lambda: pi.normal(INF), "mean must be a finite number, got inf"),
    (lambda: pi.normal(0.0, -1.0), "std must be 0 or more, got -1.0"),
    (lambda: TruncatedNormal(NAN, 1, 0, 1), "mean must be a finite number, got nan"),
    (lambda: TruncatedNormal(0, INF, 0, 1), "std must be a finite number, got inf"),
    (lambda: TruncatedNormal(0, -1.0, 0, 1), "std must be 0 or more, got -1.0"),
    (lambda: TruncatedNormal(0, 1, 2.0, 1.0), "a must be at most b, got a=2.0, b=1.0"),
    (lambda: TruncatedNormal(0, 1, NAN, 1.0), "a must be at most b, got a=nan, b=1.0"),
    (lambda: TruncatedNormal(0, 1, 2.0, NAN), "a must be at most b, got a=2.0, b=nan"),
    (
        call(pi.uniform(0.0, 7e4), (3,), dtype="float16"),
        "bounds must be within 65504 for float16, got a=0.0, b=70000.0",
    ),
    (
        call(pi.normal(0.0, 7e4), (3,), dtype="float16"),
        "mean and std must be within 65504 for float16, got mean=0.0, std=70000.0",
    ),
    (
        call(pi.trunc_normal(a=7e4, b=8e4), (3,), dtype="float16"),
        "bounds must let numbers within 65504 through for float16, got a=70000.0, b=80000.0",
    ),
    (
        call(pi.constant(7e4), (3,), dtype="float16"),
        "val must be within 65504 for float16, got 70000.0",
    ),
    (
        call(pi.normal(), (3,), dtype="bfloat16", xp=array_api_strict),
        "array_api_strict has no dtype bfloat16",
    ),
    (
        lambda: NARROW.check(float_format("float32")),
        "the bounds must hold at least 2**-24 of the distribution, "
        "got a=3.0, b=3.0000001 for mean=1.0, std=2.0",
    ),
    (NARROW.complex_parts, "a complex truncated normal must have mean 0, got 1.0"),
    (
        lambda: pi.torch_fans((3,)),
        "fan_in and fan_out need a shape of at least 2 dimensions, got 1: (3,)",
    ),
    (
        lambda: pi.jax_fans([3]),
        "fans on axis -2 need a shape that has it "
        "(the default axes need at least 2 dimensions), got 1: (3,)",
    ),
    (lambda: pi.jax_fans([3, 0]), "fans need sizes of 1 or more, got shape (3, 0)"),
    (
        lambda: pi.calculate_gain("swish"),
        f"nonlinearity must be a callable or one of {GAINS}, sigmoid, tanh, relu, selu, "
        "leaky_relu; got 'swish'",
    ),
    (
        lambda: pi.calculate_gain("leaky_relu", NAN),
        "negative_slope must be a number, got nan",
    ),
    (
        lambda: pi.calculate_gain(np.zeros_like),
        f"a gain needs a finite, positive E[f(z)^2], got 0.0 for {np.zeros_like}",
    ),
    (
        lambda: pi.calculate_gain(halves),
        "a nonlinearity must keep its input's shape, got (2048,)",
    ),
    (
        lambda: pi.calculate_gain(none_of),
        "a nonlinearity must take arrays, tensors or numbers: "
        "not of ndarray; not of Tensor; not of float",
    ),
]


@pytest.mark.parametrize(("build", "message"), MESSAGES, ids=range(len(MESSAGES)))
def test_a_message_says_this_and_no_more(build: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        build()
    assert str(caught.value) == message


# Made when they are needed: JAX starts threads with its first array.
KEYS: dict[str, tuple[Callable[[], Any], str]] = {
    "a number": (lambda: 0, "int"),
    "none": (lambda: None, "NoneType"),
    "a float array": (lambda: np.zeros(2, np.float32), r"dtype float32 and shape \(2,\)"),
    "an int64 array": (lambda: np.zeros(2, np.int64), r"dtype int64 and shape \(2,\)"),
    "three words": (lambda: np.zeros(3, np.uint32), r"shape \(3,\)"),
    "words of a tuple": (lambda: (0, 7), "tuple"),
    "a NumPy generator": (lambda: np.random.default_rng(0), "Generator"),
    "a torch generator": (lambda: torch.Generator(), "Generator"),
    "a tensor": (lambda: torch.zeros(2, dtype=torch.uint32), r"Tensor.*\(2,\)"),
    "a JAX float array": (lambda: jnp.zeros(2), r"dtype float32, shape \(2,\)"),
    "several JAX keys": (lambda: jax.random.split(jax.random.key(0), 3), r"shape \(3, 2\)"),
}


@pytest.mark.parametrize(("make", "received"), KEYS.values(), ids=KEYS)
def test_what_is_no_key_is_a_type_error(make: Callable[[], Any], received: str) -> None:
    with pytest.raises(TypeError, match=r"a key must be a .*JAX.*raw uint32.*; got") as caught:
        pi.normal()(make(), (3,))
    assert_match(f"got .*{received}", str(caught.value))


def test_a_key_of_another_generator_is_told_how_to_convert() -> None:
    own = extend.define_prng_impl(
        key_shape=(2,),
        seed=lambda seed: jnp.zeros(2, jnp.uint32),
        split=lambda key, shape: jnp.zeros((*shape, 2), jnp.uint32),
        random_bits=lambda key, width, shape: jnp.zeros(shape, f"uint{width}"),
        fold_in=lambda key, data: key,
        name="butterfry",  # no threefry
        tag="fry",
    )
    key = jax.random.key(0, impl=own)
    with pytest.raises(
        TypeError, match=r"must be a threefry2x32, rbg or.*got one of fry"
    ) as caught:
        pi.normal()(key, (3,))
    advice = str(caught.value).partition("Convert it: ")[2]
    assert advice
    converted = eval(advice, {"jax": jax, "key": key})  # the advice must run
    assert pi.normal()(converted, (3,)).shape == (3,)


def test_double_precision_in_jax_says_which_mode_it_needs() -> None:
    with pytest.raises(TypeError, match=r"float64 in JAX needs 64-bit mode.*jax_enable_x64"):
        pi.normal()(KEY, (3,), "float64", xp=jnp)


@pytest.mark.parametrize("dtype_of", [numpy_dtype, native])
def test_what_numpy_lacks_is_asked_for_by_name(
    dtype_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert dtype_of("float16") == np.float16
    with pytest.raises(ImportError, match=r"^bfloat16 in NumPy needs .*pip install ml_dtypes$"):
        dtype_of("bfloat16")


def test_an_error_inside_jit_is_the_same_error() -> None:
    with pytest.raises(ValueError, match=r"at least 2 dimensions\)?, got 1: \(3,\)"):
        jax.jit(lambda key: pi.he_normal()(key, (3,)))(jax.random.key(0))


def test_an_error_leaves_no_warning_behind(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(ValueError, match="sizes of 1 or more"):
        pi.xavier_normal()(KEY, (0, 0))
    assert not recwarn.list


def test_an_expression_is_checked_node_by_node() -> None:
    unfinished = expression((Node("normal", (), (2, 2), "float32", {"mean": 0.0}),))
    with pytest.raises(ValueError, match="a normal needs mean, std; got no std"):
        unfinished.plan(Grid.whole((2, 2), Layout()), "float32")
    unknown = expression((Node("opaque", (), (2,), "float32"),))
    with pytest.raises(ValueError, match="a draw must be one of uniform, normal"):
        unknown.plan(Grid.whole((2,), Layout()), "float32")


def test_a_constant_beyond_floats_is_refused_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="val must be within"):
        pi.constant(10**400)


def test_gates_of_a_parameter_without_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="1 dimension or more"):
        pi.layers.per_gate(pi.zeros).bound(pi.Parameter("a", (), fan_in=3))


def test_minus_zero_is_printed() -> None:
    assert str(pi.constant(-0.0)) == "constant(val=-0.0)"
    assert str(pi.uniform(-0.0, 2)) == "uniform(b=2.0)"  # nothing else changes


@pytest.mark.parametrize(
    "name",
    [
        *("linear_weight", "conv_weight", "linear_bias", "conv_bias", "recurrent"),
        *("attention_in_proj", "embedding", "prelu"),
    ],
)
def test_an_initializer_of_a_layer_without_parentheses(name: str) -> None:
    with pytest.raises(TypeError, match=rf"write kernel_init=portinit.layers.{name}\(\) with"):
        getattr(layers, name)(pi.key(0), (3, 4), "float32")
