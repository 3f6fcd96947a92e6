"""Devices that are not here: what JAX would hand to their compilers has nothing to disagree on."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import export, lax
from tests.backends.test_exactness import TABLE
from tests.support import inexact
from tests.support.inexact import Finding
from tests.support.lowered import PLATFORMS, findings, initializer_findings, lowered

import portinit as pi
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import LAYOUTS
from portinit.verify.table import SCHEMES

NARROW = ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"]
# TPUs have no float64, and ROCm's is lowered as CUDA's.
DOUBLE = ["cpu", "cuda"]


def rows(dtype: str) -> Iterator[Any]:
    """The initializers that a dtype can hold; a scheme is a distribution, seen in float32."""
    for name, initializer, shape in TABLE:
        if dtype != "float32" and name in SCHEMES:
            continue
        try:
            initializer.plan(Grid.whole(shape, LAYOUTS["flax"]), dtype)
        except (ValueError, TypeError):
            continue
        yield pytest.param(initializer, shape, dtype, id=f"{dtype}-{name}")


@pytest.mark.parametrize(
    ("initializer", "shape", "dtype"),
    [row for dtype in ("float32", *NARROW, "complex64") for row in rows(dtype)],
)
def test_no_initializer_leaves_a_compiler_a_choice(
    initializer: pi.Initializer, shape: tuple[int, ...], dtype: str
) -> None:
    assert initializer_findings(initializer, shape, dtype) == []


@pytest.mark.parametrize(
    ("initializer", "shape", "dtype"),
    [row for dtype in ("float64", "complex128") for row in rows(dtype)],
)
def test_no_float64_initializer_leaves_a_compiler_a_choice(
    initializer: pi.Initializer, shape: tuple[int, ...], dtype: str
) -> None:
    with jax.enable_x64(True):
        assert initializer_findings(initializer, shape, dtype, DOUBLE) == []


@pytest.mark.parametrize("initializer", [pi.orthogonal(), pi.delta_orthogonal()], ids=str)
def test_a_factorisation_is_seen(initializer: pi.Initializer) -> None:
    # The normals that go in are those of pi.normal, which passes; Q is not promised.
    shape = (8, 8) if initializer == pi.orthogonal() else (3, 3, 8, 8)
    seen = initializer_findings(initializer, shape, platforms=["cpu"])
    assert Finding("stablehlo.custom_call", inexact.FOREIGN) in seen
    assert any(finding.op == "f64" for finding in seen)


# The module that is checked is the one that is exported

UNIFORM = pi.uniform(-0.3, 0.3)
EXPORTED = [
    (pi.normal(0.5, 0.3), (300, 200), "bfloat16"),
    (UNIFORM, (61, 67), "float32"),
    (pi.trunc_normal(0.1, 0.7, -0.3, 1.9), (61, 67), "float16"),
    (pi.sparse(0.3), (60, 48), "float32"),
]
KEY = jax.ShapeDtypeStruct((2,), jnp.uint32)
OPERATION = re.compile(r"\b(?:stablehlo|chlo)\.\w+")


def operations(text: str) -> Counter[str]:
    """How often each operation is written; an export writes equal constants once."""
    return Counter(name for name in OPERATION.findall(text) if name != "stablehlo.constant")


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(("initializer", "shape", "dtype"), EXPORTED, ids=lambda x: str(x))
def test_an_export_holds_the_operations_that_are_checked(
    initializer: pi.Initializer, shape: tuple[int, ...], dtype: str, platform: str
) -> None:
    function = jax.jit(lambda key: initializer(key, shape, dtype))
    exported = export.export(function, platforms=[platform])(KEY).mlir_module()
    checked = lowered(function, [KEY], [platform])
    assert findings(checked, dtype) == []
    assert operations(exported) == operations(str(checked))
    # One module serves four platforms at once. Only a normal's quantile is in it twice: looked up
    # for the CPU, and computed for all others.
    together = operations(str(lowered(function, [KEY])))
    assert (
        together > operations(exported)
        if initializer != UNIFORM
        else together == operations(exported)
    )


# The check can fail

X = jax.ShapeDtypeStruct((8,), jnp.float32)
Z = jax.ShapeDtypeStruct((8,), jnp.complex64)
N = jax.ShapeDtypeStruct((8,), jnp.int32)
RBG = jax.ShapeDtypeStruct((4,), jnp.uint32)


def through_bits(x: Any) -> Any:
    return lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.int32), jnp.float32)


def box_muller(words: Any) -> Any:
    u, v = words.astype(jnp.float32) * 2.0**-32
    return jnp.sqrt(-2.0 * jnp.log(u)) * jnp.cos(2 * math.pi * v)


def random_normal(key: Any) -> Any:
    return jax.random.normal(jax.random.wrap_key_data(key), (8,))


MUTANTS: dict[str, tuple[Callable[..., Any], Any, str, str]] = {
    "mean + std * z": (lambda z: 0.5 + 0.3 * z, X, "add", inexact.FUSED),
    "lo + (hi - lo) * u": (lambda u: -0.3 + 2.0 * u, X, "add", inexact.FUSED),
    "std * z - mean": (lambda z: 0.3 * z - 0.5, X, "subtract", inexact.FUSED),
    "a sum behind a barrier": (
        lambda z: lax.optimization_barrier(0.3 * z) + 0.5,
        X,
        "add",
        inexact.FUSED,
    ),
    "a sum behind the bits": (lambda z: through_bits(0.3 * z) + 0.5, X, "add", inexact.FUSED),
    "a sum of what was chosen": (
        lambda z: jnp.where(z > 0, 0.3 * z, z) + 0.5,
        X,
        "add",
        inexact.FUSED,
    ),
    "a sum behind a reshape": (lambda z: (0.3 * z).reshape(2, 4).T + 0.5, X, "add", inexact.FUSED),
    "a sum outside of a function": (
        lambda z: jax.jit(lambda y: 0.3 * y)(z) + 0.5,
        X,
        "add",
        inexact.FUSED,
    ),
    "a sum with no product": (lambda z: z + 0.5, X, "add", inexact.SUM),
    "a sum behind a maximum": (lambda z: lax.max(0.3 * z, -3e38) + 0.5, X, "add", inexact.SUM),
    "two factors": (lambda z: (z * 0.3) * 0.7, X, "multiply", inexact.FOLDED),
    "a square's multiple": (lambda z: z * z * 0.7, X, "multiply", inexact.FOLDED),
    "a product of complex numbers": (lambda z: z * (1 + 2j), Z, "multiply", inexact.COMPLEX),
    "x / 3": (lambda z: z / 3, X, "divide", inexact.QUOTIENT),
    "x / y": (lambda z: 1 / z, X, "divide", inexact.QUOTIENT),
    "sqrt": (jnp.sqrt, X, "sqrt", inexact.ROOT),
    "1 / sqrt": (lax.rsqrt, X, "rsqrt", inexact.ROOT),
    "sum": (jnp.sum, X, "reduce", inexact.ORDER),
    "cumsum": (jnp.cumsum, X, "reduce_window", inexact.ORDER),
    "dot": (lambda z: z @ z, X, "dot_general", inexact.ORDER),
    "log": (jnp.log, X, "log", inexact.FUNCTION),
    "exp": (jnp.exp, X, "exponential", inexact.FUNCTION),
    "erf_inv": (jax.scipy.special.erfinv, X, "chlo.erf_inv", inexact.FUNCTION),
    "Box-Muller's log": (box_muller, jax.ShapeDtypeStruct((2, 8), jnp.uint32), "log", "each"),
    "Box-Muller's cos": (box_muller, jax.ShapeDtypeStruct((2, 8), jnp.uint32), "cosine", "each"),
    "Box-Muller's sqrt": (box_muller, jax.ShapeDtypeStruct((2, 8), jnp.uint32), "sqrt", "not"),
    "jax.random.normal": (random_normal, KEY, "chlo.erf_inv", inexact.FUNCTION),
    "jax.random.normal's affine map": (random_normal, KEY, "add", inexact.FUSED),
    "a device's own generator": (
        lambda key: jax.random.bits(jax.random.wrap_key_data(key, impl="rbg"), (8,)),
        RBG,
        "rng_bit_generator",
        inexact.GENERATOR,
    ),
    "a product in a loop": (
        lambda z: lax.fori_loop(0, 4, lambda _, c: c * 0.3, z),
        X,
        "while",
        inexact.LOOP,
    ),
    "a rounding, widened": (
        lambda z: (z * 0.3).astype(jnp.bfloat16).astype(jnp.float32),
        X,
        "convert",
        inexact.WIDENED,
    ),
    "an integer as bfloat16": (
        lambda n: n.astype(jnp.bfloat16),
        N,
        "convert",
        inexact.TO_NARROW,
    ),
    "a float as an integer": (lambda z: z.astype(jnp.int32), X, "convert", inexact.TO_INTEGER),
    "a denormal factor": (lambda z: z * 1e-41, X, "multiply", inexact.DENORMAL),
    "a denormal bound": (lambda z: lax.max(z, 1e-41), X, "maximum", inexact.DENORMAL),
    "an unstable sort": (
        lambda n: lax.sort((n, n[::-1]), is_stable=False, num_keys=1),
        N,
        "sort",
        inexact.UNSTABLE,
    ),
    "an operation that is not listed": (jnp.round, X, "round_nearest_even", inexact.UNKNOWN),
}


@pytest.mark.parametrize(("function", "argument", "op", "why"), MUTANTS.values(), ids=MUTANTS)
def test_what_two_devices_round_differently_is_found(
    function: Callable[..., Any], argument: Any, op: str, why: str
) -> None:
    name = op if "." in op else f"stablehlo.{op}"
    found = findings(lowered(function, [argument]))
    assert any(f.op == name and f.why.startswith(why) for f in found), [*map(str, found)]


def test_float64_on_the_way_is_found() -> None:
    with jax.enable_x64(True):
        module = lowered(lambda z: (z.astype("float64") * 0.3).astype("float32"), [X], ["cpu"])
        assert findings(module, "float32") == [Finding("f64", inexact.WIDE.format(dtype="float32"))]
        assert findings(module, "float64") == []


EXACT: dict[str, Callable[[Any], Any]] = {
    "one product": lambda z: z * 0.3,
    "a product, halved": lambda z: (z * 0.3) * 0.5,
    "a product, clipped, negated, moved": lambda z: -jnp.clip(z * 0.3, -1.0, 1.0).reshape(2, 4).T,
    "a product, rounded": lambda z: (z * 0.3).astype(jnp.bfloat16),
    "two products, side by side": lambda z: jnp.where(z > 0, z * 0.3, z * 0.7),
    "a choice by a product": lambda z: jnp.where(z * 0.3 > 0.1, z * 0.7, z),
}


@pytest.mark.parametrize("function", EXACT.values(), ids=EXACT)
def test_what_cannot_differ_is_left_alone(function: Callable[[Any], Any]) -> None:
    assert findings(lowered(function, [X])) == []


def test_a_finding_prints_as_a_line() -> None:
    assert str(findings(lowered(jnp.log, [X]))[0]) == f"stablehlo.log: {inexact.FUNCTION}"
