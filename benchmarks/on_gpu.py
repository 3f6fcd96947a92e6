"""For a machine with an NVIDIA GPU: every draw compared with NumPy, and CUDA's times.

    python -m benchmarks.on_gpu --out gpu

takes less than ten minutes. It runs ``portinit verify --devices cuda`` and the benchmarks of torch
and JAX on the GPU, and writes ``gpu.json`` and, for people, ``gpu.md``. A step that fails or takes
too long is named in both, and the exit status is 1.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from benchmarks import machine
from benchmarks.markdown import table
from benchmarks.running import ROOT

_CARD = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
_CASES = ("torch/*normal*", "torch/*uniform*", "jax/*normal*", "jax/*uniform*")


def steps(device: str, quick: bool) -> dict[str, list[str]]:
    """Each step's command, without the file that it writes."""
    only = [f"--only={pattern}" for pattern in _CASES]
    rounds = ["--quick"] if quick else ["--rounds=5"]
    command_line = "from portinit.cli import main; main()"
    return {
        "verify": [sys.executable, "-c", command_line, "verify", "--devices", device, "--quick"],
        "benchmarks": [
            *(sys.executable, "-m", "benchmarks", "--device", device, "--threads", "1"),
            *(*only, *rounds),
        ],
    }


def run(command: list[str], seconds: float) -> dict[str, Any]:
    """A step's report, its exit status and the end of what it printed."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        try:
            done = subprocess.run(
                [*command, "--out", str(out)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=max(1.0, seconds),
            )
            status, text = f"exit status {done.returncode}", done.stdout
        except subprocess.TimeoutExpired:
            status, text = f"stopped after {seconds:.0f} s", ""
        report = json.loads(out.read_text("utf-8")) if out.exists() else None
    return {
        "status": status,
        "seconds": round(time.monotonic() - start, 1),
        "report": report,
        "printed": text.splitlines()[-200:],
    }


def card() -> str:
    """The GPU, its driver and its memory, by ``nvidia-smi``."""
    try:
        done = subprocess.run(_CARD, stdout=subprocess.PIPE, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "no NVIDIA GPU"
    return "; ".join(done.stdout.splitlines())


def markdown(found: dict[str, Any]) -> Iterator[str]:
    """The results for people."""
    versions = ", ".join(f"{k} {v}" for k, v in found["machine"]["versions"].items())
    yield f"# On {found['card']}\n\n{found['date']}; {versions}\n"
    for name, step in found["steps"].items():
        yield f"- {name}: {step['status']}, {step['seconds']} s"
    yield "\n## Every draw, compared with NumPy\n\n```text"
    yield from found["steps"]["verify"]["printed"]
    yield "```\n\n## Times\n"
    results = (found["steps"]["benchmarks"]["report"] or {"results": []})["results"]
    rows = [row for row in results if "skipped" not in row]
    for group, members in groupby(rows, key=lambda row: row["group"]):
        yield f"### {group}\n"
        yield from table([*members])
        yield ""
    for row in results:
        if "skipped" in row:
            yield f"- {row['name']}: skipped, {row['skipped']}"


@click.command()
@click.option("--out", required=True, help="Write this name with .json and with .md.")
@click.option("--minutes", default=9.0, type=click.FloatRange(0, min_open=True), help="At most.")
@click.option("--device", default="cuda", type=click.Choice(["cuda", "cpu"]))
@click.option("--quick", is_flag=True, help="Tiny arrays: a test of the script.")
def main(out: str, minutes: float, device: str, quick: bool) -> None:
    """Verify every draw on a GPU and time it, in one command."""
    end = time.monotonic() + 60 * minutes
    found: dict[str, Any] = {
        "version": 1,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "card": card(),
        "machine": machine.facts(),
        "steps": {},
    }
    for name, command in steps(device, quick).items():
        click.echo(f"{name}: at most {end - time.monotonic():.0f} s")
        found["steps"][name] = run(command, end - time.monotonic())
        # After each step, so that what is measured is not lost.
        Path(f"{out}.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    Path(f"{out}.md").write_text("\n".join(markdown(found)) + "\n", "utf-8")
    click.echo(f"wrote {out}.json and {out}.md")
    failed = [n for n, step in found["steps"].items() if step["status"] != "exit status 0"]
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}; {out}.md tells more")


if __name__ == "__main__":
    main()
