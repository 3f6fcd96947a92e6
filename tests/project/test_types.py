"""The types of the public API: typical user code passes, its typos fail, line by line."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = Path(__file__).with_name("typed_code.py")
PATHS = [str(ROOT / "src"), str(ROOT / "adapters")]


def typos() -> set[int]:
    lines = CODE.read_text("utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# typo")}


def test_mypy_accepts_the_code_and_rejects_its_typos(tmp_path: Path) -> None:
    options = ["--strict", "--config-file=", "--ignore-missing-imports", "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--cache-dir", str(tmp_path), str(CODE)],
        env={**os.environ, "MYPYPATH": os.pathsep.join(PATHS)},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = re.findall(rf"{CODE.name}:(\d+): error: (.*)", done.stdout)
    assert {int(number) for number, _ in errors} == typos(), done.stdout + done.stderr


@pytest.mark.skipif(
    None in map(shutil.which, ("pyright", "node")), reason="pyright or Node.js is not installed"
)
def test_pyright_accepts_the_code_and_rejects_its_typos(tmp_path: Path) -> None:
    shutil.copy(CODE, tmp_path)
    settings = {"include": [CODE.name], "extraPaths": PATHS}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = ["pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}
    assert errors == typos(), done.stdout
