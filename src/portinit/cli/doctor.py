"""The command doctor: what is installed, which devices are here, which fast paths are on."""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import click

from portinit import __version__
from portinit.backends.threads import find_numba, thread_count
from portinit.cli.app import CONSOLE, portinit
from portinit.cli.tables import print_rows
from portinit.replay.torch_math import mkl
from portinit.replay.torch_rng import LATEST
from portinit.verify.devices import found, installed

_MODULES = {  # where it differs from the package's name
    "array-api-compat": "array_api_compat",
    "dm-haiku": "haiku",
    "mlx": "mlx.core",
    "ml-dtypes": "ml_dtypes",
    "orbax-checkpoint": "orbax.checkpoint",
}
_NOT_MODULES = ("mkl",)  # a library, without a Python module
_NOT_LISTED = ("all", "test", "docs")  # made of the others, or for those who work on portinit


@dataclass(frozen=True)
class Need:
    """A package that portinit or one of its extras names."""

    package: str
    wanted: str
    extras: tuple[str, ...]  # none for what portinit cannot do without
    version: str | None
    problem: str | None = None

    @property
    def state(self) -> str:
        """Its version, or why there is none to use."""
        return self.problem or self.version or "not installed"


@dataclass(frozen=True)
class FastPath:
    """A fast path, whether it is on, and what it depends on."""

    name: str
    on: bool
    why: str


@dataclass(frozen=True)
class Findings:
    """All that the doctor looks at."""

    portinit: str
    python: str
    system: str
    threads: int
    needs: list[Need]
    devices: list[tuple[str, str]]
    paths: list[FastPath]

    @property
    def broken(self) -> list[Need]:
        """Packages that cannot be imported, and required ones that are missing."""
        return [need for need in self.needs if need.problem or not (need.version or need.extras)]


def examine() -> Findings:
    """Look at this machine; installed frameworks are imported."""
    needs = [*_needs()]
    return Findings(
        __version__,
        f"{platform.python_implementation()} {platform.python_version()}",
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        thread_count(),
        needs,
        [(device.framework, device.name) for device in _devices()],
        [*_paths()],
    )


def _needs() -> Iterator[Need]:
    wanted: dict[str, tuple[str, list[str]]] = {}
    for line in metadata.requires("portinit") or ():
        requirement, _, marker = line.partition(";")
        requirement = re.sub(r"\[[\w,]*\]", "", requirement)  # extras of the package
        name = re.match(r"[\w-]+", requirement)
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        if name and name[0] != "portinit" and (extra is None or extra[1] not in _NOT_LISTED):
            _, extras = wanted.setdefault(name[0], (requirement[name.end() :].strip(), []))
            extras += [extra[1]] if extra else []
    for package, (bounds, extras) in wanted.items():
        yield _need(package, bounds, tuple(extras))


def _need(package: str, wanted: str, extras: tuple[str, ...]) -> Need:
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        return Need(package, wanted, extras, None)
    if package in _NOT_MODULES:
        return Need(package, wanted, extras, version)
    try:
        importlib.import_module(_MODULES.get(package, package))
    except ModuleNotFoundError as error:
        if package == "keras":  # which looks for its backend when it is imported
            without = f"{version}, without its backend ({error}): set KERAS_BACKEND"
            return Need(package, wanted, extras, without)
        return Need(package, wanted, extras, version, _cannot(version, error))
    except Exception as error:  # whatever an installation that broke may raise
        return Need(package, wanted, extras, version, _cannot(version, error))
    return Need(package, wanted, extras, version)


def _cannot(version: str, error: Exception) -> str:
    return f"{version}, cannot be imported: {type(error).__name__}: {error}"


def _devices() -> list[Any]:
    try:
        return found()
    except Exception:  # a framework that cannot be imported is named among the packages
        return []


def _paths() -> Iterator[FastPath]:
    numba = find_numba()
    yield FastPath(
        "machine code on CPU (NumPy, torch)",
        numba is not None,
        "numba; loaded by the first array of 2**20 elements"
        if numba
        else "pip install 'portinit[fast]'",
    )
    yield _triton()
    yield _digits()
    x64 = installed("jax") and bool(importlib.import_module("jax").config.jax_enable_x64)
    yield FastPath("float64 in JAX", x64, "jax.config.update('jax_enable_x64', True)")


def _digits() -> FastPath:
    name = "PyTorch's own digits (replay)"
    version = ".".join(map(str, LATEST))
    library = mkl.find(LATEST)
    if library is not None:
        return FastPath(name, True, f"MKL {library.version} of torch {version}: {library.path}")
    if not mkl.is_supported():
        return FastPath(name, False, "MKL is for Linux on x86-64; exp, log, erfinv and QR are near")
    return FastPath(name, False, "pip install 'portinit[mkl]'; exp, log, erfinv and QR are near")


def _triton() -> FastPath:
    name = "one kernel on GPU (torch)"
    if not installed("torch"):
        return FastPath(name, False, "torch is not installed")
    if not importlib.import_module("torch").cuda.is_available():
        return FastPath(name, False, "torch sees no GPU")
    return FastPath(name, installed("triton"), "Triton, which torch brings for its GPUs")


@portinit.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for a bug report.")
def doctor(as_json: bool) -> None:
    """Say what is installed, which devices are here and which fast paths are on.

    A package that is installed and cannot be imported makes the exit status 1.
    """
    findings = examine()
    if as_json:
        click.echo(json.dumps(asdict(findings), indent=1))
    else:
        _print(findings)
    if findings.broken:
        raise SystemExit(1)


def _print(findings: Findings) -> None:
    CONSOLE.print(f"portinit {findings.portinit}, {findings.python}, {findings.system}")
    packages = [
        [need.package, need.wanted, ", ".join(need.extras) or "the core", need.state]
        for need in findings.needs
    ]
    print_rows(CONSOLE, "packages", ["package", "wanted", "for", "version"], packages)
    print_rows(CONSOLE, "devices", ["framework", "device"], [list(d) for d in findings.devices])
    paths = [[path.name, "on" if path.on else "off", path.why] for path in findings.paths]
    print_rows(CONSOLE, "fast paths", ["path", "", "how"], paths)
    for need in findings.broken:
        CONSOLE.print(f"[red]{need.package}[/] does not work: reinstall it", markup=True)
