"""The wheel and the sdist: what they hold, what they say, and that they install alone."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

import portinit

ROOT = Path(__file__).parents[2]
ADAPTERS = {
    *("portinit_torch", "portinit_jax", "portinit_flax", "portinit_keras"),
    *("portinit_equinox", "portinit_haiku", "portinit_mlx"),
}
PACKAGES = {"portinit", "portinit_examples", *ADAPTERS}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sources() -> list[str]:
    """The repository's files, new ones too, less what git ignores."""
    listed = run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard")
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist of a copy of the repository, and the wheel made out of the sdist."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in sources():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def test_linters_find_nothing(built: tuple[Path, Path]) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *built)
    run(sys.executable, "-m", "check_wheel_contents", "--toplevel", ",".join(PACKAGES), built[0])


def test_the_wheel_holds_the_packages_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = wheel.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == PACKAGES | {f"portinit-{portinit.__version__}.dist-info"}
    for package in PACKAGES - {"portinit_examples"}:
        assert f"{package}/py.typed" in names
    roots = ("src/", "adapters/", "examples/portinit_examples/")
    wanted = {name.partition("/")[2] for name in sources() if name.startswith(roots)}
    assert wanted <= set(names)


def test_the_metadata_are_complete(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        data = wheel.read(f"portinit-{portinit.__version__}.dist-info/METADATA")
    told = BytesParser().parsebytes(data)
    assert told["Version"] == portinit.__version__
    assert told["License-Expression"] == "Apache-2.0"
    assert set(told.get_all("Provides-Extra")) == set(EXTRAS)
    core = [line for line in told.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(line.split(">")[0] for line in core) == ["array-api-compat", "numpy"]


def test_the_sdist_can_run_the_tests(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"README.md", "LICENSE", "constraints.txt", "tests/conftest.py"} <= names
    assert {"adapters/portinit_torch/__init__.py", "docs/design.md"} <= names


def install(wheel: Path, folder: Path, extra: str = "") -> Path:
    """A fresh virtual environment's Python, with the wheel installed."""
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    target = f"portinit[{extra}] @ {wheel.as_uri()}" if extra else wheel
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", target)
    return python


BARE = """
import sys
import portinit
values = portinit.kaiming_normal()(portinit.key(0), (32, 64))
assert values.shape == (32, 64) and values.dtype == "float32"
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"torch", "jax", "flax", "numba", "click"}, loaded
print(values.T.tobytes().hex())
"""


@pytest.mark.network
def test_the_wheel_works_with_numpy_alone(built: tuple[Path, Path], tmp_path: Path) -> None:
    python = install(built[0], tmp_path / "venv")
    printed = run(python, "-W", "error", "-c", BARE)
    ours = portinit.kaiming_normal()(portinit.key(0), (32, 64))
    assert bytes.fromhex(printed.strip()) == ours.T.tobytes()
    command = subprocess.run(
        [python.parent / "portinit", "--version"], capture_output=True, text=True
    )
    assert command.returncode == 1
    assert "pip install 'portinit[cli]'" in command.stderr


PROBES = {
    "torch": "import portinit_torch as i, torch; i.kaiming_normal_(torch.empty(3, 2))",
    "jax": "from portinit_jax import initializers as i; import jax; i.he_normal()"
    "(jax.random.key(0), (3, 2))",
    "flax": "import portinit_flax, portinit, jax; portinit_flax.initialize("
    "{'a': {'kernel': jax.ShapeDtypeStruct((3, 2), 'float32')}},"
    " portinit.Recipe([('*', portinit.normal())]), portinit.key(0))",
    "keras": "from importlib.metadata import version; version('keras')",  # which needs a backend
    "equinox": "import portinit_equinox, portinit, equinox, jax; portinit_equinox.initialize("
    "equinox.nn.Linear(3, 2, key=jax.random.key(0)), portinit.Recipe([('*', portinit.normal())]),"
    " portinit.key(0))",
    "haiku": "import portinit_haiku, portinit, jax; portinit_haiku.initialize("
    "{'a': {'w': jax.ShapeDtypeStruct((3, 2), 'float32')}},"
    " portinit.Recipe([('*', portinit.normal())]), portinit.key(0))",
    "mlx": "import portinit_mlx, portinit, mlx.nn; portinit_mlx.initialize("
    "mlx.nn.Linear(3, 2), portinit.Recipe([('*', portinit.normal())]), portinit.key(0))",
    "cli": "import portinit.cli.commands",
    "fast": "import numba, portinit; portinit.normal()(portinit.key(0), (1 << 20,))",
    "proof": "import portinit.testing",
}


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("extra", EXTRAS)
def test_each_extra_installs_alone(built: tuple[Path, Path], tmp_path: Path, extra: str) -> None:
    python = install(built[0], tmp_path / "venv", extra)
    run(python, "-m", "pip", "check")
    run(python, "-c", PROBES.get(extra, "import portinit"))
    if "cli" in (extra, *EXTRAS[extra]) or extra == "all":
        run(python.parent / "portinit", "doctor")
