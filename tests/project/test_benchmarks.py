"""The benchmarks run and report; how fast anything is, is not a test's business."""

import importlib
import inspect
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import on_gpu
from benchmarks.case import Options
from benchmarks.cases import all_cases
from benchmarks.limits import H200, OPERATIONS, zen5
from benchmarks.measure import Side, Wall, measure, spread
from benchmarks.running import chosen
from benchmarks.tables import duration

ROOT = Path(__file__).parents[2]
DEVICES = ["cpu", "cuda"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_a_quick_run_reports_ratios(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    only = "numpy/normal*", "numpy-plain", "torch/", "jax/normal*", "import"
    done = run("--quick", *(f"--only={pattern}" for pattern in only), "--out", str(out))
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text("utf-8"))
    assert set(report) == {"version", "machine", "options", "results"}
    assert {"processor", "versions", "load before", "load after"} <= set(report["machine"])
    rows = report["results"]
    assert [row["group"] for row in rows] == ["numpy", "numpy-plain", "torch", "jax", "import"]
    for row in rows:
        assert "skipped" not in row, row
        check_row(row)
        assert row["group"] in done.stdout
    jax = next(row for row in rows if row["group"] == "jax")
    assert jax["ours"]["compile"] > 0
    assert jax["theirs"]["compile"] > 0


def check_row(row: dict) -> None:
    assert row["threads"] == 1
    assert row["bytes"] == 4 * row["elements"]
    for times in (row["ours"]["seconds"], row["theirs"]["seconds"], row["ratio"]):
        assert set(times) == {"lower", "median", "upper"}
        assert all(0 < value < math.inf for value in times.values())


@pytest.mark.parametrize(
    "arguments", [("--only", "no such case"), ("--sizes", "0"), ("--threads", "two")]
)
def test_what_cannot_be_run_is_refused(arguments: tuple[str, str]) -> None:
    done = run("--quick", *arguments)
    assert done.returncode == 2
    assert arguments[1] in done.stderr


@pytest.mark.parametrize("device", DEVICES)
def test_names_differ_and_arguments_fit(device: str) -> None:
    cases = all_cases(Options(device=device))
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        module, _, name = case.make.partition(":")
        function = getattr(importlib.import_module(f"benchmarks.{module}"), name)
        inspect.signature(function).bind(**case.arguments)


def test_a_pattern_chooses() -> None:
    groups = chosen(Options(), ("torch/normal_/*", "jax-sizes/uniform/1e+03"))
    names = [case.name for cases in groups.values() for case in cases]
    assert names == [
        "torch/normal_/float32",
        "torch/normal_/bfloat16",
        "jax-sizes/uniform/1e+03",
    ]


def test_sides_are_interleaved_and_the_first_round_is_dropped() -> None:
    calls = []

    def clock(name: str, times: list[float]) -> float:
        calls.append(name)
        return times.pop(0)

    ours, theirs = [100.0, 1.0, 2.0, 3.0], [1.0, 8.0, 8.0, 6.0]
    sides = Side(lambda: clock("ours", ours)), Side(lambda: clock("theirs", theirs), {"peak": 1})
    found = measure(sides, 3)
    assert calls == ["ours", "theirs"] * 4
    assert found["ours"]["seconds"] == {"lower": 1.5, "median": 2.0, "upper": 2.5}
    assert found["ratio"] == {"lower": 3.0, "median": 4.0, "upper": 6.0}
    assert found["theirs"]["peak"] == 1


def test_a_short_function_is_called_often_enough() -> None:
    calls = []
    seconds = Wall(lambda: calls.append(0))()
    assert len(calls) > 1000
    assert 0 < seconds < 1e-4


def test_spread_of_one_value() -> None:
    assert spread([2.0]) == {"lower": 2.0, "median": 2.0, "upper": 2.0}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5, "2.5 s"), (0.01234, "12.3 ms"), (4.6e-6, "4.6 µs"), (3e-10, "0.3 ns")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_limits_follow_from_operations() -> None:
    assert OPERATIONS["word"] < OPERATIONS["uniform"] < OPERATIONS["normal"]
    assert zen5(2, 4e9).nanoseconds("word") == zen5(1, 4e9).nanoseconds("word") / 2
    assert H200.nanoseconds("uniform") == pytest.approx(1e9 * 77 / (64 * 132 * 1.98e9))


def test_a_rank_of_many_holds_its_part_of_a_large_model() -> None:
    command = [sys.executable, "-m", "benchmarks.scale", "--ranks", "64", "--rank", "3"]
    done = subprocess.run([*command, "--layers", "1", "--width", "96"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    matrices = 2 * 128256 * 96 + (4 + 3 * 4) * 96 * 96
    assert found["parameters"] == matrices + 3 * 96
    # Of 96 rows over 64 ranks a rank has 2, of 384 it has 6, of 128256 it has 2004.
    assert found["elements here"] == (2 * 2004 + 4 * 2 + 2 * 6) * 96 + 2 * 384 + 3 * 2


def test_a_step_on_a_gpu_says_how_it_ended() -> None:
    write = "import sys; print('seen'); open(sys.argv[2], 'w').write('[1]'); sys.exit(3)"
    done = on_gpu.run([sys.executable, "-c", write], 60)
    assert (done["status"], done["report"], done["printed"]) == ("exit status 3", [1], ["seen"])
    late = on_gpu.run([sys.executable, "-c", "import time; time.sleep(60)"], 1)
    assert (late["status"], late["report"]) == ("stopped after 1 s", None)


@pytest.mark.slow
def test_the_script_for_a_gpu_runs_to_its_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.on_gpu", "--device", "cpu", "--quick"]
    out = str(tmp_path / "gpu")
    done = subprocess.run([*command, "--out", out], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(Path(f"{out}.json").read_text("utf-8"))
    assert not any(row["misses"] for row in found["steps"]["verify"]["report"]["rows"])
    page = Path(f"{out}.md").read_text("utf-8")
    assert "verify: exit status 0" in page
    assert "| case |" in page
