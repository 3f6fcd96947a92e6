"""portinit doctor and portinit completion."""

import json
import os
import subprocess
from importlib import metadata

import click.testing
import numpy as np
import pytest
import torch

from portinit.cli import doctor
from portinit.cli.commands import portinit as command


def run(*arguments):
    return click.testing.CliRunner().invoke(command, arguments, prog_name="portinit")


@pytest.fixture(scope="module")
def findings():
    result = run("doctor", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_it_lists_what_is_installed(findings):
    versions = {need["package"]: need["version"] for need in findings["needs"]}
    assert versions["numpy"] == np.__version__
    assert versions["torch"] == torch.__version__
    assert versions["flax"] == metadata.version("flax")
    extras = {need["package"]: need["extras"] for need in findings["needs"]}
    assert extras["numpy"] == []
    assert extras["numba"] == ["fast"]
    assert "pytest" not in versions


def test_it_lists_the_devices(findings):
    assert ["torch", "cpu"] in findings["devices"]
    assert ["jax", "cpu"] in findings["devices"]


def test_it_says_which_fast_paths_are_on(findings):
    paths = {path["name"]: path["on"] for path in findings["paths"]}
    assert paths["machine code on CPU (NumPy, torch)"]
    assert paths["one kernel on GPU (torch)"] == torch.cuda.is_available()


REQUIRED = (
    "numpy>=2.1",
    'equinox>=0.13; extra == "equinox"',
    "portinit[jax] ; extra == 'equinox'",
    "dm-haiku>=0.0.14; extra == 'haiku'",
    "mlx[cpu]>=0.29; (sys_platform != 'win32') and extra == 'mlx'",
)


def test_packages_are_imported_by_the_names_of_their_modules(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: REQUIRED)
    found = {need.package: need for need in doctor.examine().needs}
    assert {name: need.extras for name, need in found.items()} == {
        "numpy": (),
        "equinox": ("equinox",),
        "dm-haiku": ("haiku",),
        "mlx": ("mlx",),
    }
    assert found["mlx"].wanted == ">=0.29"
    assert not any(need.problem for need in found.values())
    assert found["mlx"].version == metadata.version("mlx")


def test_it_prints_tables():
    shown = run("doctor")
    assert shown.exit_code == 0
    assert all(text in shown.output for text in ("packages", "devices", "fast paths", "numpy"))


def test_a_package_that_breaks_on_import_is_named(monkeypatch):
    real = doctor.importlib.import_module

    def broken(name, *rest):
        if name == "safetensors":
            raise OSError("libsafe.so: file too short")
        return real(name, *rest)

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    result = run("doctor")
    assert result.exit_code == 1
    assert "safetensors does not work" in result.output


def test_keras_without_its_backend_is_no_fault(monkeypatch):
    real = doctor.importlib.import_module

    def without(name, *rest):
        if name == "keras":
            raise ModuleNotFoundError("No module named 'tensorflow'")
        return real(name, *rest)

    monkeypatch.setattr(doctor.importlib, "import_module", without)
    need = doctor._need("keras", ">=3.5", ("keras",))
    assert need.problem is None
    assert "without its backend (No module named 'tensorflow'): set KERAS_BACKEND" in need.state


def test_a_missing_extra_is_no_fault(monkeypatch):
    real = metadata.version

    def version(name):
        if name == "matplotlib":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    result = run("doctor")
    assert result.exit_code == 0
    assert "not installed" in result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell):
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_PORTINIT_COMPLETE" in result.output


def test_bash_completes_a_command():
    script = run("completion", "bash").output
    typed = "COMP_WORDS=(portinit repl); COMP_CWORD=1; _portinit_completion portinit"
    done = subprocess.run(
        ["bash", "-c", f'{script}\n{typed}; echo "$COMPREPLY"'],
        capture_output=True, text=True, timeout=60, env=os.environ,
    )  # fmt: skip
    assert done.stdout.strip() == "replay", done.stderr
