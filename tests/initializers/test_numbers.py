"""Numbers of any kind as arguments: each becomes its Python float or int, and bools are refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

import portinit as pi
from portinit import layers, recurrent
from portinit.arrays.dtypes import float_format
from portinit.initializers.numbers import as_float, as_number

KEY = pi.key(5)

FLOATS: dict[str, Callable[[Any], pi.Initializer]] = {
    "uniform a": lambda x: pi.uniform(x, 2.0),
    "uniform b": lambda x: pi.uniform(-1.0, x),
    "normal mean": lambda x: pi.normal(x, 1.0),
    "normal std": lambda x: pi.normal(std=x),
    "trunc_normal mean": lambda x: pi.trunc_normal(x),
    "trunc_normal std": lambda x: pi.trunc_normal(std=x),
    "trunc_normal a": lambda x: pi.trunc_normal(a=x),
    "trunc_normal b": lambda x: pi.trunc_normal(b=x),
    "truncated_normal stddev": lambda x: pi.truncated_normal(x),
    "truncated_normal lower": lambda x: pi.truncated_normal(1.0, x),
    "truncated_normal upper": lambda x: pi.truncated_normal(1.0, -1.0, x),
    "constant": pi.constant,
    "xavier_uniform": pi.xavier_uniform,
    "xavier_normal": pi.xavier_normal,
    "kaiming_uniform a": pi.kaiming_uniform,
    "kaiming_normal gain": lambda x: pi.kaiming_normal(nonlinearity=x),
    "variance_scaling": lambda x: pi.variance_scaling(x, "fan_in", "normal"),
    "orthogonal": pi.orthogonal,
    "sparse sparsity": pi.sparse,
    "sparse std": lambda x: pi.sparse(0.5, x),
    "scaled": lambda x: pi.scaled(pi.normal(), x),
    "delta_orthogonal": pi.delta_orthogonal,
    "chrono": recurrent.chrono,
    "log_uniform": recurrent.log_uniform,
}
INTS: dict[str, Callable[[Any], pi.Initializer]] = {
    "dirac": pi.dirac,
    "blocks axis": lambda x: pi.blocks((pi.normal(),), axis=x),
    "blocks sizes": lambda x: pi.blocks((pi.normal(),), sizes=(x,)),
    "where": lambda x: pi.where(x, pi.zeros, pi.normal()),
    "where's slice": lambda x: pi.where(slice(x, None), pi.zeros, pi.normal()),
    "shifted": lambda x: recurrent.shifted(pi.normal(), x),
    "fan_in": layers.fan_in_uniform,
    "in_axis": lambda x: pi.he_normal(in_axis=x),
    "batch_axis": lambda x: pi.he_normal(batch_axis=(x,)),
}
EACH_FLOAT = pytest.mark.parametrize("make", FLOATS.values(), ids=FLOATS)
EACH_INT = pytest.mark.parametrize("make", INTS.values(), ids=INTS)

KINDS: dict[str, Callable[[float], Any]] = {
    "np.float16": np.float16,
    "np.float32": np.float32,
    "np.float64": np.float64,
    "bfloat16": ml_dtypes.bfloat16,
    "array": lambda x: np.array(x, np.float32)[()],
    "torch": torch.tensor,
    "jax": jnp.float32,
    "Fraction": Fraction,
}


ABOVE_ONE = {recurrent.chrono, recurrent.log_uniform}


@EACH_FLOAT
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_number_of_any_kind_is_its_float(
    make: Callable[[Any], pi.Initializer], kind: Callable[[float], Any]
) -> None:
    number = kind(40.3 if make in ABOVE_ONE else 0.3)
    given, wanted = make(number), make(float(number))
    assert given == wanted
    assert hash(given) == hash(wanted)
    assert repr(given) == repr(wanted)
    assert pickle.dumps(given) == pickle.dumps(wanted)


@EACH_INT
@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int64, torch.tensor, jnp.int32])
def test_an_integer_of_any_kind_is_its_int(
    make: Callable[[Any], pi.Initializer], kind: Callable[[int], Any]
) -> None:
    assert repr(make(kind(1))) == repr(make(1))


def test_arithmetic_is_a_floats() -> None:
    """In float16 -0.1 and 0.1 leave no room; in float32 a gain gives other bounds."""
    h, g = np.float16(0.1), np.float32(1.3)
    assert (
        pi.uniform(-h, h)(KEY, (4,)).tolist() == pi.uniform(-float(h), float(h))(KEY, (4,)).tolist()
    )
    for n in range(1500, 1600):
        grid = (n, 700)
        mine, theirs = (pi.xavier_uniform(x).distribution_of(grid) for x in (g, float(g)))
        assert mine == theirs
        assert type(mine.b) is float  # type: ignore[union-attr]


REFUSED = {
    "bool": True,
    "np.bool": np.True_,
    "torch's bool": torch.tensor(True),
    "text": "1",
    "bytes": b"1",
    "complex": 1j,
    "np.complex64": np.complex64(1),
    "None": None,
    "array": np.array([0.5]),
    "list": [0.5],
}


@EACH_FLOAT
@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_what_is_no_real_number_is_refused(
    make: Callable[[Any], pi.Initializer], value: Any
) -> None:
    number = isinstance(value, complex | np.complexfloating) and make is pi.constant
    name = isinstance(value, str) and make is FLOATS["kaiming_normal gain"]
    if number:  # which a complex parameter takes
        assert make(value)(KEY, (2,), "complex64").tolist() == [complex(value)] * 2
        with pytest.raises(ValueError, match="val must be real for float32"):
            make(value)(KEY, (2,))
        return
    with pytest.raises(ValueError if name else TypeError):
        make(value)


@EACH_INT
@pytest.mark.parametrize("value", [True, np.True_, 1.0, "1"])
def test_what_is_no_integer_is_refused(make: Callable[[Any], pi.Initializer], value: Any) -> None:
    with pytest.raises(TypeError, match="must be an integer"):
        make(value)


def test_integers_past_a_float_are_refused() -> None:
    for make in (pi.constant, pi.orthogonal, lambda x: pi.normal(std=x)):
        with pytest.raises(ValueError, match="must be within"):
            make(10**400)


def test_a_constant_keeps_its_sign_and_its_digits() -> None:
    assert pi.constant(-0.0) != pi.constant(0.0)
    assert np.signbit(pi.constant(-0.0)(KEY, (2,))).all()
    assert not np.signbit(pi.constant(0.0)(KEY, (2,))).any()
    assert pi.constant(1) == pi.constant(1.0)
    assert hash(pi.constant(1)) == hash(pi.constant(1.0))
    assert pi.constant(float("nan")) == pi.constant(float("nan"))
    assert pi.constant(2**60 + 1)(KEY, (1,), "int64").tolist() == [2**60 + 1]
    assert pi.constant(2**60 + 1) != pi.constant(2**60)


def test_minus_zero_is_zero_elsewhere() -> None:
    assert str(as_float("x", -0.0)) == "0.0"
    assert str(as_number("x", -0.0)) == "-0.0"


# Past the largest number

FRAMEWORKS: dict[str, Callable[..., Any]] = {
    "numpy": lambda init, shape, dtype: init(KEY, shape, dtype),
    "torch": lambda init, shape, dtype: init(KEY, shape, dtype, xp=torch).double().numpy(),
    "jax": lambda init, shape, dtype: init(KEY, shape, dtype, xp=jnp),
}
TOO_LARGE = {
    "constant": (pi.scaled(pi.constant(10.0), -1e30), (3,)),
    "eye": (pi.scaled(pi.eye(), 1e30), (3, 3)),
    "dirac": (pi.scaled(pi.dirac(), 1e30), (2, 2, 3)),
    "orthogonal": (pi.orthogonal(1e30), (4, 3)),
    "scaled orthogonal": (pi.scaled(pi.orthogonal(), -1e30), (3, 4)),
    "delta_orthogonal": (pi.delta_orthogonal(1e30), (3, 2, 2)),
    "assign": (pi.assign([1e30, -1e30, 3.0]), (3,)),
    "scaled assign": (pi.scaled(pi.assign(np.float16([60000, -60000, 2])), 1e27), (3,)),
    "blocks": (pi.scaled(pi.blocks((pi.ones, pi.orthogonal())), 1e30), (4, 4)),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("dtype", ["float16", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_is_too_large_is_the_largest_number(name: str, dtype: str, framework: str) -> None:
    initializer, shape = TOO_LARGE[name]
    largest = float_format(dtype).largest
    found = np.asarray(FRAMEWORKS[framework](initializer, shape, dtype)).astype(np.float64)
    exact = initializer(KEY, shape, "float32").astype(np.float64)
    assert found.tolist() == np.clip(exact, -largest, largest).tolist()
    assert np.abs(found).max() == largest
