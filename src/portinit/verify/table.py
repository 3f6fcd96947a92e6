"""The initializers of the matrix, by name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import portinit as pi
from portinit.initializers.base import Initializer

_INF = math.inf


def _given(dtype: str) -> np.ndarray[Any, np.dtype[Any]]:
    """Numbers that no power of two divides evenly, the same on every machine."""
    numbers = (np.arange(48 * 60) * 7919 % 4001 - 2000) / 1500.0
    return numbers.reshape(48, 60).astype(dtype)


PLAIN: dict[str, Initializer] = {
    "uniform": pi.uniform(),
    "uniform symmetric": pi.uniform(-0.3, 0.3),
    "uniform asymmetric": pi.uniform(-0.3, 1.7),
    "uniform far from 0": pi.uniform(1e6, 1e6 + 3),
    "uniform tiny interval": pi.uniform(1.0, math.nextafter(1.0, 2.0)),
    "uniform denormal": pi.uniform(-1e-41, 1e-41),
    "uniform huge": pi.uniform(-3e38, 3e38),
    "normal": pi.normal(),
    "normal std 0.02": pi.normal(std=0.02),
    "normal with mean": pi.normal(0.5, 0.3),
    "normal with mean much larger than std": pi.normal(-1e4, 1e-3),
    "normal denormal": pi.normal(std=1e-41),
    "normal almost denormal": pi.normal(std=1e-37),
    "normal huge": pi.normal(std=1e37),
    "normal past the last of eight bits": pi.normal(400.0, 100.0),
    "trunc_normal": pi.trunc_normal(),
    "trunc_normal asymmetric": pi.trunc_normal(0.1, 0.7, -0.3, 1.9),
    "trunc_normal from below": pi.trunc_normal(0.0, 1.0, 0.5, _INF),
    "trunc_normal from above": pi.trunc_normal(1.0, 2.0, -_INF, 0.0),
    "trunc_normal narrow tail": pi.trunc_normal(0.0, 1.0, 3.9, 4.0),
    "trunc_normal around a mean": pi.trunc_normal(2.0, 0.02, 1.96, 2.04),
    "trunc_normal of both signs": pi.trunc_normal(0.0, 1.0, -1.0, 3.0),
    "truncated_normal": pi.truncated_normal(),
    "truncated_normal asymmetric": pi.truncated_normal(0.5, -1.0, 3.0),
    "constant": pi.constant(0.1),
    "constant between float16's numbers": pi.constant(1 + 2**-11 + 2**-40),
    "constant between bfloat16's numbers": pi.constant(1 + 2**-8 + 2**-40),
    "zeros": pi.zeros,
    "ones": pi.ones,
    "minus zero": pi.constant(-0.0),
}

SCHEMES: dict[str, Initializer] = {
    "xavier_uniform": pi.xavier_uniform(),
    "xavier_uniform gain": pi.xavier_uniform(5 / 3),
    "xavier_normal": pi.xavier_normal(),
    "kaiming_uniform": pi.kaiming_uniform(),
    "kaiming_uniform of Linear": pi.kaiming_uniform(a=math.sqrt(5)),
    "kaiming_uniform fan_out relu": pi.kaiming_uniform(mode="fan_out", nonlinearity="relu"),
    "kaiming_normal": pi.kaiming_normal(),
    "kaiming_normal fan_out tanh": pi.kaiming_normal(mode="fan_out", nonlinearity="tanh"),
    "glorot_uniform": pi.glorot_uniform(),
    "glorot_normal": pi.glorot_normal(),
    "lecun_uniform": pi.lecun_uniform(),
    "lecun_normal": pi.lecun_normal(),
    "he_uniform": pi.he_uniform(),
    "he_normal": pi.he_normal(),
    "siren": pi.siren(),
    "siren first": pi.siren(first=True),
    "spectral": pi.spectral(),
    **{
        f"variance_scaling {mode} {distribution}": pi.variance_scaling(0.7, mode, distribution)
        for mode in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
        for distribution in ("truncated_normal", "normal", "uniform")
    },
}

MATRICES: dict[str, Initializer] = {
    "eye": pi.eye(),
    "sparse": pi.sparse(0.3),
    "blocks": pi.blocks((pi.xavier_uniform(), pi.normal(1.0, 0.1), pi.zeros)),
    "blocks of columns": pi.blocks((pi.he_normal(), pi.eye()), sizes=(10, 50), axis=1),
    "scaled": pi.scaled(pi.he_normal(), 1 / math.sqrt(24)),
    "scaled with mean": pi.scaled(pi.normal(0.5, 0.3), -1 / 3),
    "where": pi.where(0, pi.zeros, pi.normal()),
    "where columns": pi.where(np.s_[:, 4:8], pi.uniform(-1, 2), pi.xavier_normal()),
    "hadamard": pi.hadamard(),
    "progression": pi.progression(1.0, 1.0, log=True),
    "assign": pi.assign(_given("float64")),
    "assign float32": pi.assign(_given("float32")),
    "assign scaled": pi.scaled(pi.assign(_given("float64")), 1 / 3),
}

FACTORED_MATRICES: dict[str, Initializer] = {
    "orthogonal": pi.orthogonal(),
    "orthogonal gain": pi.orthogonal(math.sqrt(2)),
    "scaled orthogonal": pi.scaled(pi.orthogonal(), -0.5),
    "blocks of orthogonal": pi.blocks((pi.orthogonal(), pi.normal()), sizes=(24, 24)),
}

CONVOLUTIONS: dict[str, Initializer] = {
    "dirac": pi.dirac(),
    "dirac groups": pi.dirac(groups=4),
    "scaled dirac": pi.scaled(pi.dirac(), 0.1),
    "convolution": pi.kaiming_normal(mode="fan_out", nonlinearity="relu"),
    "convolution of JAX": pi.lecun_normal(),
    "hadamard convolution": pi.hadamard(),
    "icnr": pi.icnr(pi.kaiming_normal(), 2),
    "bilinear_upsampling": pi.bilinear_upsampling(),
}

FACTORED_CONVOLUTIONS: dict[str, Initializer] = {
    "orthogonal convolution": pi.orthogonal(),
    "delta_orthogonal": pi.delta_orthogonal(),
    "delta_orthogonal scale": pi.delta_orthogonal(0.7),
}

TABLE = PLAIN | SCHEMES | MATRICES | FACTORED_MATRICES | CONVOLUTIONS | FACTORED_CONVOLUTIONS

# A layout changes counters, coordinates and fans: one case of each kind sees that.
IN_EVERY_LAYOUT = {
    "normal",
    "uniform asymmetric",
    "kaiming_normal fan_out tanh",
    "lecun_uniform",
    *MATRICES.keys() - {"scaled", "scaled with mean", "assign float32"},
    *FACTORED_MATRICES.keys() - {"orthogonal gain"},
    *CONVOLUTIONS.keys() - {"scaled dirac"},
    *FACTORED_CONVOLUTIONS.keys() - {"delta_orthogonal scale"},
}

# One of each way through the arithmetic, for modes that compile for a second a case.
KINDS = {
    "uniform symmetric",
    "uniform asymmetric",
    "normal std 0.02",
    "normal with mean",
    "trunc_normal of both signs",
    "trunc_normal asymmetric",
    "constant",
    "variance_scaling fan_avg truncated_normal",
    "sparse",
    "blocks",
    "where columns",
    "scaled with mean",
    "assign scaled",
    "orthogonal",
    "dirac groups",
    "convolution",
    "delta_orthogonal",
}

FEW = {
    "uniform symmetric",
    "uniform asymmetric",
    "normal with mean",
    "trunc_normal of both signs",
    "sparse",
    "assign scaled",
    "orthogonal",
    "dirac groups",
}

FEWEST = {"uniform symmetric", "normal with mean", "trunc_normal of both signs", "sparse"}
