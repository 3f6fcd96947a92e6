"""Torch on devices that are not here: its operations, traced for CUDA with fake tensors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.backends.test_exactness import KEY
from tests.support import inexact
from tests.support.aten import aten_findings, traced

import portinit as pi
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import LAYOUTS
from portinit.backends.plan import is_hosted
from portinit.verify.table import CONVOLUTIONS, MATRICES, PLAIN

PLAIN_ROWS = {name: (row, (61, 67)) for name, row in PLAIN.items()}
MATRIX_ROWS = {name: (row, (60, 48)) for name, row in MATRICES.items()}
CONVOLUTION_ROWS = {name: (row, (3, 5, 12, 16)) for name, row in CONVOLUTIONS.items()}
ROWS = PLAIN_ROWS | MATRIX_ROWS | CONVOLUTION_ROWS
COMPUTED = {
    name: (initializer, shape)
    for name, (initializer, shape) in ROWS.items()
    if not is_hosted(initializer.plan(Grid.whole(shape, LAYOUTS["flax"]), "float32"))
}


def _sorts(initializer: pi.Initializer) -> bool:
    parts = (initializer, *initializer.parts())
    return any(isinstance(part, pi.sparse | pi.orthogonal | pi.delta_orthogonal) for part in parts)


def found_in(initializer: pi.Initializer, shape: tuple[int, ...], dtype: Any) -> list[Any]:
    # A sort asks CUDA itself for its strides.
    device = "cpu" if _sorts(initializer) else "cuda"
    graph = traced(lambda: initializer(KEY, shape, dtype, xp=torch, device=device))
    return aten_findings(graph)


@pytest.mark.parametrize(("initializer", "shape"), COMPUTED.values(), ids=COMPUTED)
def test_no_operation_of_torchs_may_differ(
    initializer: pi.Initializer, shape: tuple[int, ...]
) -> None:
    assert found_in(initializer, shape, torch.float32) == []


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float8_e5m2, torch.float64, torch.complex64]
)
@pytest.mark.parametrize("initializer", [pi.uniform(-0.3, 1.7), pi.normal(0.5, 0.3)], ids=str)
def test_no_operation_of_another_dtype_may_differ(initializer: pi.Initializer, dtype: Any) -> None:
    assert found_in(initializer, (61, 67), dtype) == []


MUTANTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "mean + std * z": (lambda z: 0.5 + 0.3 * z, inexact.FUSED),
    "add with alpha": (lambda z: torch.add(torch.ones_like(z), z, alpha=0.3), inexact.FUSED),
    "addcmul": (lambda z: torch.addcmul(z, z, z), inexact.FUSED),
    "a sum": (lambda z: z + 0.5, inexact.SUM),
    "two factors": (lambda z: z * 0.3 * 0.7, inexact.FOLDED),
    "z / 3": (lambda z: z / 3, inexact.QUOTIENT),
    "sqrt": (torch.sqrt, inexact.ROOT),
    "log": (torch.log, inexact.FUNCTION),
    "erfinv": (torch.erfinv, inexact.FUNCTION),
    "sum": (torch.sum, inexact.ORDER),
    "as an integer": (lambda z: z.to(torch.int32), inexact.TO_INTEGER),
    "of an integer": (lambda z: z.view(torch.int32).to(torch.bfloat16), inexact.TO_NARROW),
    "round": (torch.round, inexact.UNKNOWN),
    "torch's generator": (lambda z: torch.empty_like(z).normal_(), inexact.GENERATOR),
    "torch's uniform": (lambda z: torch.empty_like(z).uniform_(), inexact.GENERATOR),
}


@pytest.mark.parametrize(("function", "why"), MUTANTS.values(), ids=MUTANTS)
def test_what_two_devices_round_differently_is_found(
    function: Callable[[Any], Any], why: str
) -> None:
    graph = traced(lambda: function(torch.empty(8)))
    assert why in [finding.why for finding in aten_findings(graph)]
