"""The house: who may import whom, that the core loads no framework, and the style checks."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import portinit

ROOT = Path(__file__).parents[2]
CORE = ROOT / "src" / "portinit"

# A package imports only what stands to its left. CONTRIBUTING.md and docs/design.md quote this.
ORDER = [
    "random",
    "arrays",
    "sampling",
    "backends",
    "replay",
    "initializers",
    "layers",
    "recurrent",
    "recipes",
    "probes",
    "checkpoints",
    "testing",
    "verify",
    "report",
    "cli",
]
TOP = "recipes"
"""``portinit`` itself, which gathers the public names, stands right of this package."""

FRAMEWORKS = [
    "torch",
    "jax",
    "flax",
    "keras",
    "equinox",
    "haiku",
    "mlx",
    "scipy",
    "numba",
    "click",
    "rich",
    "ml_dtypes",
]
ADAPTERS = {
    *("portinit_torch", "portinit_jax", "portinit_flax", "portinit_keras"),
    *("portinit_equinox", "portinit_haiku", "portinit_mlx"),
}
OTHERS_NAMES = {"portinit_keras.initializers"}
"""Modules whose classes bear the names of another library's, which they stand in for."""
# Loaded when something of theirs is at hand, never by ``import portinit``.
LAZY = {*FRAMEWORKS, *ADAPTERS, "safetensors", "jsonschema", "matplotlib"}
DEPENDENCIES = {"numpy", "array_api_compat", "portinit"}


def sources() -> dict[str, Path]:
    """Every module of the core and the adapters by its dotted name, packages among them."""
    roots = [CORE, *(ROOT / "adapters" / name for name in ADAPTERS)]
    paths = (path for root in roots for path in root.rglob("*.py"))
    return {dotted(path): path for path in paths}


def dotted(path: Path) -> str:
    base = ROOT / ("src" if path.is_relative_to(CORE) else "adapters")
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


SOURCES = sources()
OF_THE_CORE = sorted(name for name in SOURCES if name.partition(".")[0] == "portinit")
BELOW_CLI = [name for name in OF_THE_CORE if not name.startswith("portinit.cli")]


def place_of(module: str) -> float:
    """The place of a module's package in the order."""
    _, _, within = module.partition(".")
    package = within.partition(".")[0]
    if not package:
        return ORDER.index(TOP) + 0.5
    if package not in ORDER:
        pytest.fail(f"{module} has no place: name {package!r} in ORDER, right of all it imports")
    return ORDER.index(package)


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of imported modules, those imported inside functions among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where a module stands"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in SOURCES else node.module or ""


def without_types(tree: ast.Module) -> ast.Module:
    """A module without what only a type checker imports."""
    body = [n for n in tree.body if not ast.unparse(n).startswith("if TYPE_CHECKING")]
    return ast.Module(body, tree.type_ignores)


def modules_in(source: str) -> set[str]:
    """Modules of the core and the adapters that a source imports when it runs."""
    return set(imports(without_types(ast.parse(source)))) & SOURCES.keys()


def import_time(tree: ast.Module) -> Iterator[str]:
    """Top-level names of what is imported when the module is, not in functions or for types."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (name.partition(".")[0] for name in imports(node))


@pytest.mark.parametrize("module", OF_THE_CORE)
def test_a_module_imports_only_what_stands_to_its_left(module: str) -> None:
    for other in modules_in(SOURCES[module].read_text("utf-8")) & set(OF_THE_CORE):
        if module.split(".")[1:2] != other.split(".")[1:2]:
            assert place_of(other) < place_of(module), f"{module} imports {other}"


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = {name: modules_in(path.read_text("utf-8")) for name, path in SOURCES.items()}
    tuple(TopologicalSorter(leaves_only(graph)).static_order())


def test_no_class_name_is_defined_twice() -> None:
    homes: dict[str, list[str]] = {}
    for name, path in SOURCES.items():
        if name in OTHERS_NAMES:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(name)
    assert not {name: modules for name, modules in homes.items() if len(modules) > 1}


def test_a_circle_is_found() -> None:
    with pytest.raises(CycleError):
        tuple(TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())


def leaves_only(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The graph of modules; a package's own file stands for what it gathers."""
    return {name: {other for other in others if other != name} for name, others in graph.items()}


@pytest.mark.parametrize("module", BELOW_CLI)
def test_a_module_needs_no_more_than_the_dependencies(module: str) -> None:
    needed = set(import_time(ast.parse(SOURCES[module].read_text("utf-8"))))
    foreign = needed - DEPENDENCIES - set(sys.stdlib_module_names)
    assert not foreign, f"{module} imports {foreign} when it is imported"


def test_the_folder_listing_is_the_order() -> None:
    listed = {path.stem for path in CORE.iterdir() if path.suffix in ("", ".py")}
    assert listed - {"__init__", "__pycache__"} == set(ORDER)
    assert len(ORDER) <= 16


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/design.md"])
def test_pages_quote_the_order(page: str) -> None:
    text = re.sub(r"\s+", " ", (ROOT / page).read_text("utf-8"))
    assert " < ".join(ORDER) in text


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import portinit.random.keys", {"portinit.random.keys"}),
        ("from portinit.random.keys import key", {"portinit.random.keys"}),
        ("from portinit import layers, key", {"portinit.layers", "portinit"}),
        ("def f():\n    import portinit.cli", {"portinit.cli"}),
        ("if TYPE_CHECKING:\n    import portinit.cli", set()),
        ("import numpy", set()),
    ],
)
def test_imports_are_found(source: str, found: set[str]) -> None:
    assert modules_in(source) == found


def test_the_public_names_are_all_there_is() -> None:
    assert dir(portinit) == sorted(portinit.__all__)
    for name in portinit.__all__:
        assert getattr(portinit, name) is not None


# What is loaded, seen from a fresh interpreter


def loaded_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = run(sys.executable, "-c", code)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_the_core_loads_no_framework() -> None:
    loaded = loaded_after(f"import {', '.join(BELOW_CLI)}")
    assert "numpy" in loaded
    assert not loaded & LAZY


def test_drawing_in_numpy_loads_no_framework() -> None:
    draw = "import portinit\nportinit.he_normal()(portinit.key(0), (3, 4), 'float16')"
    assert not loaded_after(draw) & LAZY


def test_the_core_loads_no_tool() -> None:
    code = "import portinit, sys; print(*sys.modules)"
    loaded = run(sys.executable, "-c", code).stdout.split()
    assert "portinit.recipes.recipe" in loaded
    tools = ("portinit.replay.torch_rng", "portinit.probes", "portinit.checkpoints")
    assert not [name for name in loaded if name.startswith(tools)]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_that_is_loaded_is_seen(framework: str) -> None:
    # The proof is itself proved: without this, a check that sees nothing would pass.
    assert framework in loaded_after(f"import portinit, {framework}")


# Style

TOOLS = {
    "ruff check": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "mypy": ["-m", "mypy"],
}


@pytest.mark.parametrize("command", TOOLS.values(), ids=TOOLS)
def test_the_code_passes(command: list[str]) -> None:
    result = run(sys.executable, *command)
    assert result.returncode == 0, result.stdout + result.stderr
