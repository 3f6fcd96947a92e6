"""The command verify."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click.testing
import numpy as np
import pytest
import torch

from portinit.cli.commands import portinit as command
from portinit.verify import cases, devices, draws, runners, torch_modes, verify
from portinit.verify.devices import Device, chosen

SOME = [
    cell
    for cell in cases.cells()
    if (cell.dtype, cell.layout) == ("float32", "flax") and cell.case in ("normal", "eye")
]
EAGER = tuple(r for r in runners.RUNNERS if r.framework in ("numpy", "torch") and r.mode == "eager")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix of a few cells and modes; the whole one is test_matrix.py's."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(verify, "cells", lambda: SOME)
    monkeypatch.setattr(verify, "RUNNERS", EAGER)


@pytest.fixture
def call() -> Callable[..., click.testing.Result]:
    def run(*arguments: str) -> click.testing.Result:
        return click.testing.CliRunner().invoke(command, ["verify", *arguments])

    return run


def test_it_succeeds_and_writes_a_report(call: Any, tmp_path: Path) -> None:
    result = call("--devices", "cpu", "--out", str(tmp_path / "report.json"))
    assert result.exit_code == 0, result.output
    assert "4 of 4 cells bit-identical" in result.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["holds"] is True
    assert [(row["backend"], row["tried"]) for row in report["rows"]] == [
        ("numpy", 2),
        ("torch", 2),
    ]
    assert all(1e-6 < row["p"] < 1 for row in report["rows"])
    assert {"portinit", "numpy", "torch", "jax"} <= report["versions"].keys()
    assert [*tmp_path.iterdir()] == [tmp_path / "report.json"]


def test_a_flipped_bit_is_a_miss(call: Any, tmp_path: Path, monkeypatch: Any) -> None:
    def draw(device: Any, some: list[Any]) -> list[list[Any]]:
        [[array]] = EAGER[1].draw(device, some)
        changed = np.asarray(array).copy()
        changed.view(np.uint32)[0, 7] ^= 1
        return [[changed]]

    monkeypatch.setattr(verify, "RUNNERS", (EAGER[0], replace(EAGER[1], draw=draw)))
    result = call("--devices", "cpu", "--out", str(tmp_path / "report.json"))
    assert result.exit_code == 1
    assert "FAILED" in result.output
    assert "torch eager on cpu: normal, float32, flax: 1 ulp apart; element 7" in " ".join(
        result.output.split()
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["holds"] is False
    assert [miss["index"] for miss in report["rows"][1]["misses"]] == [7, 7]


def test_draws_that_do_not_fit_are_a_miss(call: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(verify, "worst_p", lambda *_: ("normal(), variance", 1e-9))
    result = call("--devices", "cpu")
    assert result.exit_code == 1
    assert "normal(), variance: a p-value of 1.0e-09" in result.output


def test_an_unknown_device_is_an_error(call: Any) -> None:
    result = call("--devices", "cpu,warp:3")
    assert result.exit_code == 2
    assert "a device must be one of those here" in " ".join(result.output.split())
    assert "warp:3" in result.output


def test_devices_are_chosen_by_name_or_kind() -> None:
    assert {device.kind for device in chosen(["cpu"])} == {"cpu"}
    assert {device.framework for device in chosen(None)} >= {"numpy", "torch", "jax"}


@pytest.mark.parametrize(
    ("platform", "version", "name"),
    [
        ("cpu", "", "cpu"),
        ("gpu", "cuda 12090", "cuda:3"),
        ("gpu", "PJRT ROCm 60300", "rocm:3"),
        ("tpu", "TFRT TPU v5", "tpu:3"),
    ],
)
def test_jaxs_devices_are_named_as_torch_names_its_own(
    platform: str, version: str, name: str
) -> None:
    client = SimpleNamespace(platform_version=version)
    device = SimpleNamespace(platform=platform, id=3, client=client)
    assert devices._jax_name(device) == name


def test_each_gpu_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    runtime = SimpleNamespace(getDeviceCount=lambda: 2, CUDARuntimeError=OSError)
    cuda = SimpleNamespace(runtime=runtime, Device=lambda number: ("cupy", number))
    monkeypatch.setitem(sys.modules, "cupy", cast(Any, SimpleNamespace(cuda=cuda)))
    names = ["cpu", "cuda:0", "cuda:1", "mps"]
    assert devices._torch_devices() == [(name, torch.device(name)) for name in names]
    assert devices._cupy_devices() == [("cuda:0", ("cupy", 0)), ("cuda:1", ("cupy", 1))]

    def no_driver() -> int:
        raise OSError("cudaErrorInsufficientDriver")

    runtime.getDeviceCount = no_driver
    assert devices._cupy_devices() == []


def test_a_compiler_is_asked_for_where_torch_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda, mps = (Device("torch", name) for name in ("cpu", "cuda:0", "mps"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(torch_modes, "installed", lambda name: name != "triton")
    assert torch_modes.no_compiler(cpu) == "needs a C++ compiler"
    assert torch_modes.no_compiler(cuda) == "needs triton"
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setattr(torch_modes, "installed", lambda name: True)
    assert [torch_modes.no_compiler(device) for device in (cpu, cuda, mps)] == [None] * 3


def test_without_scipy_the_draws_are_compared_and_not_fitted(
    call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(draws, "installed", lambda name: name != "scipy")
    assert call("--devices", "cpu", "--out", str(tmp_path / "report.json")).exit_code == 0
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert [row["p"] for row in rows] == [None, None]


def test_a_folder_that_is_not_there_is_refused_before_any_work(call: Any, tmp_path: Path) -> None:
    result = call("--out", str(tmp_path / "none" / "report.json"))
    assert result.exit_code == 2
    assert "no folder" in result.output


WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "jax", "cupy", "scipy", "equinox", "haiku"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from portinit.verify import cases, devices, verify
some = [c for c in cases.cells() if c.case == "normal" and c.layout == "flax"]
verify.cells = lambda: some
from portinit.cli import main
sys.argv = ["portinit", "verify"]
main()
"""


def test_frameworks_that_are_absent_are_named() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": "src:adapters", "PATH": "", "COLUMNS": "120"},
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("torch", "jax"):
        assert f"not tested: {name}: not installed" in done.stdout
    assert "array_api_strict" in done.stdout
