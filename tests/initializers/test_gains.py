"""Gains: PyTorch's table by name, and for any function the integral that defines them."""

import math
import sys
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

import portinit as pi

NAMES = [
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "selu",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_have_pytorchs_gains(name: str) -> None:
    assert pi.calculate_gain(name) == torch.nn.init.calculate_gain(name)


@pytest.mark.parametrize("slope", [0, 0.01, 0.2, 1, -0.5, math.sqrt(5)])
def test_leaky_relu_has_pytorchs_gain_at_any_slope(slope: float) -> None:
    assert pi.calculate_gain("leaky_relu", slope) == torch.nn.init.calculate_gain(
        "leaky_relu", slope
    )


def gelu(z: Any) -> Any:
    return z * special.ndtr(z)


def silu(z: Any) -> Any:
    return z * special.expit(z)


def elu(z: Any) -> Any:
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


def leaky(z: Any) -> Any:
    return np.where(z > 0, z, 0.2 * z)


def softplus(z: Any) -> Any:
    return np.logaddexp(0, z)


def relu(z: Any) -> Any:
    return np.maximum(z, 0)


def refused(z: Any) -> Any:
    raise TypeError(f"no {type(z).__name__}")


def hard_tanh(z: Any) -> Any:
    return np.clip(z, -1, 1)


def by_quadrature(function: Callable[[Any], Any]) -> float:
    """1 / sqrt(E[f(z)^2]) by adaptive quadrature, split where activations have their kinks."""
    moment, _ = integrate.quad(
        lambda z: float(function(z)) ** 2 * stats.norm.pdf(z),
        -12,
        12,
        points=[-1, 0, 1],
        epsabs=1e-13,
        epsrel=1e-12,
        limit=200,
    )
    return 1 / math.sqrt(moment)


NINE_DIGITS = 5.01e-9  # a computed gain is rounded to so many
FUNCTIONS = [relu, gelu, silu, np.tanh, elu, leaky, softplus, special.erf, np.sin]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_functions_gain_is_the_integral(function: Callable[[Any], Any]) -> None:
    assert pi.calculate_gain(function) == pytest.approx(by_quadrature(function), rel=NINE_DIGITS)


def normal_cdf(x: float) -> float:
    return float(special.ndtr(x))


def clipped(limit: float) -> tuple[Callable[[Any], Any], float]:
    """A clip at +-limit: E = P(|z| < l) - 2 l pdf(l) + 2 l^2 P(z < -l)."""
    inside = 2 * normal_cdf(limit) - 1 - 2 * limit * float(stats.norm.pdf(limit))
    moment = inside + 2 * limit**2 * normal_cdf(-limit)
    return lambda z: np.clip(z, -limit, limit), 1 / math.sqrt(moment)


def staircase(steps: int) -> tuple[Callable[[Any], Any], float]:
    """floor(steps * z) / steps: a sum over the steps."""
    k = np.arange(-40 * steps, 40 * steps)
    moment = np.sum((k / steps) ** 2 * (special.ndtr((k + 1) / steps) - special.ndtr(k / steps)))
    return lambda z: np.floor(steps * z) / steps, 1 / math.sqrt(moment)


SHARP: dict[str, tuple[Callable[[Any], Any], float]] = {
    "hardtanh": (hard_tanh, clipped(1.0)[1]),
    "clip at 0.7": clipped(0.7),
    "clip at 5.91": clipped(5.91),
    "step at 1": (lambda z: (z > 1) * 1.0, normal_cdf(-1) ** -0.5),
    "step at 0.3": (lambda z: z > 0.3, normal_cdf(-0.3) ** -0.5),
    "step at -6.02": (lambda z: z < -6.02, normal_cdf(-6.02) ** -0.5),
    "sin(100 z)": (lambda z: np.sin(100 * z), math.sqrt(2)),
    "sin(1000 z)": (lambda z: np.sin(1000 * z), math.sqrt(2)),
    "seven steps a unit": staircase(7),
    "a hundred steps a unit": staircase(100),
    "a spike": (
        lambda z: np.where(abs(z - 0.3) < 1e-3, 100.0, 1.0),
        (1 + 9999 * (normal_cdf(0.301) - normal_cdf(0.299))) ** -0.5,
    ),
    "a weak pole": (
        lambda z: abs(z) ** -0.125,  # E|z|^(-1/4) = 2^(-1/8) gamma(3/8) / sqrt(pi)
        (2**-0.125 * special.gamma(0.375) / math.sqrt(math.pi)) ** -0.5,
    ),
    "heavy tails": (lambda z: np.exp(0.24 * z * z), 0.04**0.25),  # E exp(a z^2) = (1 - 2a)^(-1/2)
    "a power": (lambda z: z**20, float(special.factorial2(39)) ** -0.5),
}


@pytest.mark.parametrize("case", SHARP)
def test_kinks_steps_oscillations_and_tails_cost_no_digits(case: str) -> None:
    function, gain = SHARP[case]
    assert pi.calculate_gain(function) == pytest.approx(gain, rel=NINE_DIGITS)


def test_a_step_of_float32_is_as_fine_as_float32() -> None:
    def step(z: Any) -> Any:
        return jax.numpy.where(jax.numpy.asarray(z, "float32") > 0.3, 1.0, 0.0)

    assert pi.calculate_gain(step) == pytest.approx(normal_cdf(-0.3) ** -0.5, rel=1e-6)


def noise(z: Any) -> Any:
    return np.random.default_rng(0).normal(size=np.shape(z))


@pytest.mark.parametrize(
    "function",
    [np.reciprocal, np.tan, noise, lambda z: np.sin(1e6 * z), lambda z: np.floor(1e5 * z)],
    ids=["1/z", "tan", "noise", "sin(1e6 z)", "1e5 steps a unit"],
)
def test_an_integral_that_does_not_converge_is_an_error(function: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match=r"does not converge|finite, positive"):
        pi.calculate_gain(function)


@pytest.mark.parametrize(
    "function",
    [lambda z: np.exp(z * z / 4), lambda z: math.exp(z * z), lambda z: np.exp(z * z)],
    ids=["exp(z^2/4)", "math.exp(z^2)", "exp(z^2)"],
)
def test_an_infinite_moment_is_an_error(function: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match=r"finite, positive .*, got inf"):
        pi.calculate_gain(function)


@pytest.mark.parametrize(
    ("function", "gain"),
    [
        (relu, math.sqrt(2)),  # He: E[relu(z)^2] = 1/2
        (lambda z: z, 1.0),
        (lambda z: -3.0 * z, 1 / 3),
        (abs, 1.0),
        (leaky, math.sqrt(2 / 1.04)),
        (np.exp, math.exp(-1)),  # E[exp(2z)] = e^2
        (np.sin, math.sqrt(2 / (1 - math.exp(-2)))),  # E[sin(z)^2] = (1 - e^-2) / 2
    ],
)
def test_known_gains(function: Callable[[Any], Any], gain: float) -> None:
    assert pi.calculate_gain(function) == pytest.approx(gain, rel=NINE_DIGITS)


def test_a_functions_gain_keeps_the_second_moment() -> None:
    z = np.random.default_rng(0).normal(size=10**6)
    moment = np.mean((pi.calculate_gain(silu) * silu(z)) ** 2)
    assert abs(moment - 1) < 0.02  # the sum's standard error is 0.003


@pytest.mark.parametrize(
    ("function", "same"),
    [
        (torch.tanh, np.tanh),
        (torch.nn.functional.gelu, gelu),
        (torch.nn.functional.silu, silu),
        (torch.nn.ReLU(), relu),
        (torch.nn.SiLU(), silu),
        (torch.nn.functional.softplus, softplus),
        (math.tanh, np.tanh),
        (math.erf, special.erf),
    ],
)
def test_functions_of_tensors_and_of_numbers_serve(function: Any, same: Any) -> None:
    assert pi.calculate_gain(function) == pytest.approx(pi.calculate_gain(same), rel=2e-8)


@pytest.mark.parametrize(
    ("function", "same"),
    [(jax.nn.silu, silu), (jax.numpy.tanh, np.tanh), (nn.relu, relu), (nn.softplus, softplus)],
)
def test_functions_of_jax_serve(function: Any, same: Any) -> None:
    # JAX computes in float32 unless told: seven digits.
    assert pi.calculate_gain(function) == pytest.approx(pi.calculate_gain(same), rel=1e-6)


def test_narrow_values_are_squared_in_double_precision() -> None:
    def narrow(z: Any) -> Any:
        return (300 * np.sin(z)).astype(np.float16)  # squares are beyond float16

    assert pi.calculate_gain(narrow) == pytest.approx(pi.calculate_gain(np.sin) / 300, rel=1e-4)


def test_single_precision_behind_a_double_serves() -> None:
    def single(z: Any) -> Any:
        return np.tanh(z.astype(np.float32)).astype(np.float64)

    assert pi.calculate_gain(single) == pytest.approx(pi.calculate_gain(np.tanh), rel=1e-7)


def test_a_module_with_float32_parameters_serves() -> None:
    slope = torch.nn.PReLU().weight.item()
    expected = pi.calculate_gain("leaky_relu", slope)
    assert pi.calculate_gain(torch.nn.PReLU()) == pytest.approx(expected, rel=1e-6)


def test_without_torch_a_functions_errors_are_told_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(ValueError, match=r": no ndarray; torch is not loaded; no float$"):
        pi.calculate_gain(refused)


def test_an_initializer_takes_a_function_a_name_or_a_number() -> None:
    by_function = pi.kaiming_normal(nonlinearity=relu)
    by_number = pi.kaiming_normal(nonlinearity=pi.calculate_gain(relu))
    assert by_function == by_number
    assert hash(by_function) == hash(by_number)
    weight = pi.kaiming_uniform(nonlinearity=2.0)(pi.key(0), (100, 300))
    bound = 2.0 * math.sqrt(3 / 100)  # gain * sqrt(3 / fan_in)
    assert bound * 0.999 < abs(weight).max() <= bound


@pytest.mark.parametrize("name", ["swish", "", "ReLU", None])
def test_an_unknown_name_lists_the_known_ones(name: Any) -> None:
    with pytest.raises(ValueError, match=r"must be a callable or one of .*relu.*; got") as caught:
        pi.calculate_gain(name)
    assert repr(name) in str(caught.value)
    assert all(known in str(caught.value) for known in NAMES)


@pytest.mark.parametrize("slope", [True, "0.2", math.nan])
def test_a_slope_must_be_a_number(slope: Any) -> None:
    with pytest.raises(ValueError, match="must be a number, got") as caught:
        pi.calculate_gain("leaky_relu", slope)
    assert repr(slope) in str(caught.value)


@pytest.mark.parametrize(
    "function",
    [np.zeros_like, lambda z: np.full_like(z, np.inf), lambda z: np.full_like(z, np.nan)],
)
def test_a_function_without_a_second_moment_has_no_gain(function: Any) -> None:
    with pytest.raises(ValueError, match=r"finite, positive .*, got (0|inf|nan)"):
        pi.calculate_gain(function)
