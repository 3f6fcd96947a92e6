"""Instruction sets: a processor without FMA, AVX2 or AVX-512 draws the same bits.

Each framework is told to leave out instructions that the processor has. Expressions that are not
portable do change, where the processor has what is switched off.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
from tests.support import digests

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the switches are x86's"
)

SCRIPT = Path(digests.__file__)
CPU_LEVELS = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]


def without(*kept: str) -> str:
    """NumPy's dispatched features but those that are kept."""
    return " ".join(name for name in CPU_LEVELS if name not in kept)


# XLA, torch, NumPy, and numba, which compiles portinit's own loops where it is installed.
SWITCHES = ("XLA_FLAGS", "ATEN_CPU_CAPABILITY", "NPY_DISABLE_CPU_FEATURES", "NUMBA_CPU_NAME")
SETTINGS = {
    # XLA cannot compile float16 for less than AVX: conversion is a call that it does not find.
    "AVX": ("--xla_cpu_max_isa=AVX", "default", without(), "sandybridge"),
    "AVX2": ("--xla_cpu_max_isa=AVX2", "avx2", without("X86_V3", "AVX2", "FMA3"), "haswell"),
    "AVX-512": ("--xla_cpu_max_isa=AVX512", "avx512", "", ""),
    "not optimised": ("--xla_backend_optimization_level=0", "", "", "generic"),
}


def run(setting: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """The digests of a process with a setting."""
    chosen = {name: value for name, value in zip(SWITCHES, setting, strict=True) if value}
    others = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    result = subprocess.run(
        [sys.executable, str(SCRIPT)], env=others | chosen, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, dict[str, str]] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Future[dict[str, dict[str, str]]]]]:
    """Every setting's digests, two processes at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(run, setting) for name, setting in SETTINGS.items()}


@pytest.fixture(scope="module")
def here(running: object) -> dict[str, dict[str, str]]:
    """This process's digests, with all that the processor has."""
    return digests.digests()


@pytest.mark.parametrize("name", SETTINGS)
def test_an_instruction_set_changes_no_bit(name: str, running: dict, here: dict) -> None:
    found, expected = running[name].result()["initializers"], here["initializers"]
    assert found.keys() == expected.keys()
    assert [row for row in expected if found[row] != expected[row]] == []


# The comparison can fail

FMA = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
needs_fma = pytest.mark.skipif(not FMA, reason="this processor has no FMA to switch off")


@needs_fma
@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_a_product_and_a_sum_change_without_fma(framework: str, running: dict, here: dict) -> None:
    # XLA contracts 0.5 + 0.3 * z, and torch.add(alpha=) is contracted by hand.
    assert running["AVX"].result()["naive"][framework] != here["naive"][framework]
    assert running["AVX2"].result()["naive"][framework] == here["naive"][framework]


@pytest.mark.skipif(not CPU_LEVELS, reason="NumPy has nothing to switch off here")
def test_numpys_exponential_changes_without_avx(running: dict, here: dict) -> None:
    assert running["AVX"].result()["naive"]["numpy"] != here["naive"]["numpy"]
